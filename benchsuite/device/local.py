"""The machine that bench itself runs on: workers are child processes in a process group of their own."""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import adapters
import models
from adapters.environments import interpreter
from adapters.protocol import MAIN_ENVIRONMENT
from benchsuite.device.frameworks import OnThisMachine
from benchsuite.device.host import host_cores, host_facts, host_telemetry, kernel_memory_kills
from benchsuite.device.protocol import Ending, Facts, Process, Silence, Telemetry
from benchsuite.device.scratch import make_scratch

LOG_TAIL_BYTES = 4000
LONGEST_LINE_BYTES = 64 * 1024 * 1024
NOTHING: Mapping[str, str] = {}


class LocalDevice(OnThisMachine):
    """The machine that bench runs on, with a private scratch folder for the time of one run."""

    name = "local"

    def __init__(self) -> None:
        self._scratch = make_scratch()

    @property
    def scratch_folder(self) -> Path:
        """The folder that is removed at the end."""
        return self._scratch

    def facts(self) -> Facts:
        """Processor, caches, memory, kernel, governor, virtualisation, Python."""
        return host_facts()

    def push(self, path: Path, companions: Sequence[Path] = ()) -> str:
        """Nothing to move: the worker reads the same disk."""
        return str(path.resolve())

    def pull(self, remote: str, path: Path) -> None:
        """Move a file out of the scratch folder."""
        shutil.move(remote, path)

    def scratch(self, name: str) -> str:
        """Path of a file inside this run's scratch folder; `name` is reduced to its last component."""
        return str(self._scratch / Path(name).name)

    def cores(self) -> tuple[int, ...]:
        """Cores that this process may use, by capacity; the first core, which serves interrupts, after its
        equals.
        """
        return host_cores()

    def spawn(self, module: str, environment: str) -> Process:
        """Start `python -m module` with the environment's interpreter, in a session of its own: Ctrl-C
        reaches the harness only.
        """
        code = code_folder(self._scratch, environment)
        return LocalProcess([str(interpreter(environment)), "-m", module], self._scratch, code)

    def expect_telemetry(self) -> None:
        """Nothing to be saved."""

    def telemetry(self) -> Telemetry:
        """Clock, temperature, load and memory from /proc and /sys."""
        return host_telemetry()

    def close(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self._scratch, ignore_errors=True)


class LocalProcess:
    """A child process whose output lines are collected by a thread, so that every wait has a limit."""

    def __init__(
        self, command: list[str], folder: Path, code: Path | None = None, extra: Mapping[str, str] = NOTHING
    ) -> None:
        """Start the command in a folder; `extra` are more variables of its environment."""
        self._memory_kills_before = kernel_memory_kills()
        self._log: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed in `end`)
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=folder,
            env={**_environment(code or _own_code()), **extra},
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._collect, daemon=True).start()
        self._ending: Ending | None = None

    @property
    def pid(self) -> int:
        """The process's number, for those who look at it from outside."""
        return self._child.pid

    def send(self, line: str) -> None:
        """Write one line; a broken pipe is left for `receive` to report as the end of output."""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._child.stdin.write(line.encode() + b"\n")
            self._child.stdin.flush()

    def receive(self, timeout_seconds: float) -> str | None:
        """Next line, None at the end of output; raises `Silence`."""
        try:
            return self._lines.get(timeout=timeout_seconds)
        except queue.Empty:
            raise Silence from None

    def end(self, *, grace_seconds: float = 0.0) -> Ending:
        """Close stdin, wait for the grace, kill the whole process group, collect the exit code and the
        log's tail.
        """
        if self._ending is None:
            self._ending = self._end(grace_seconds)
        return self._ending

    def _end(self, grace_seconds: float) -> Ending:
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=max(grace_seconds, 0.001))
        forced = self._child.poll() is None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        code = self._child.wait()
        tail = self._log_tail()
        self._log.close()
        killed = code == -signal.SIGKILL and not forced and kernel_memory_kills() > self._memory_kills_before
        return Ending(exit_code=None if forced else code, log_tail=tail, killed_for_memory=killed)

    def _collect(self) -> None:
        stream = self._child.stdout
        assert stream is not None
        with stream:
            while line := stream.readline(LONGEST_LINE_BYTES):
                self._lines.put(line.decode("utf-8", errors="replace").rstrip("\n"))
        self._lines.put(None)

    def _log_tail(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - LOG_TAIL_BYTES))
        return self._log.read().decode("utf-8", errors="replace").strip()


def code_folder(scratch: Path, environment: str) -> Path:
    """A folder from which a worker imports the very packages that this process runs, installed or not.

    For another environment it holds nothing else: beside an installed bench lie this environment's packages,
    and they would hide the other's.
    """
    if environment == MAIN_ENVIRONMENT:
        return _own_code()
    code = scratch / "code"
    code.mkdir(exist_ok=True)
    for package in (adapters, models):
        link = code / package.__name__
        if not link.exists():
            link.symlink_to(package.__path__[0], target_is_directory=True)
    return code


def _own_code() -> Path:
    return Path(adapters.__path__[0]).parent


def _environment(code: Path) -> dict[str, str]:
    """The user's environment without what would change a framework's threads behind the setting's back."""
    dropped = {"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_AFFINITY", "MKL_NUM_THREADS", "TVM_NUM_THREADS"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    paths = [str(code), os.environ.get("PYTHONPATH", "")]
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
