"""The worker of this machine for a program of the user's own: `python -m adapters.external_worker`.

The same requests and replies as `adapters/worker.py`; the program is started anew for every `run`, or stays
and is asked by lines.
"""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from adapters.catalogue import adapter
from adapters.external import (
    LAST_WORDS,
    LEAST_WARM_UP,
    Ended,
    External,
    Given,
    answer_of,
    line_of,
    load_reply,
    run_reply,
    why_unchecked,
)
from adapters.external_files import interface_of, read_outputs, write_inputs
from adapters.interface import Interface
from adapters.placement import confine
from adapters.protocol import Crashed
from adapters.runners import existing_files
from adapters.worker import Worker, limit_memory, main, now_nanoseconds, setting_of

MODE = 0o755
MOST_SAID_BYTES = 4_000_000
VERSION_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Loaded:
    """One network in one program, in a folder of its own."""

    given: Given
    interface: Interface
    folder: Path
    placement: str


class Talk:
    """A program that stays: a line to it, a line back. Its stderr is the worker's."""

    def __init__(self, one: Loaded) -> None:
        self._child = _popen(one.given.command("", ""), one, subprocess.PIPE)

    def read(self) -> str:
        """The next line; raises `Crashed` when it ended."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if line:
            return line.decode("utf-8", errors="replace")
        code = self._child.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise Crashed(f"the program ended with {how} and did not answer: see its last lines")

    def ask(self, line: str) -> str:
        """The answer to a line; raises `Crashed`."""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(line.encode() + b"\n")
            self._child.stdin.flush()
        return self.read()


class ExternalWorker(Worker):
    """The requests that differ for a program of its own."""

    _loaded_program: Loaded | None = None
    _talk: Talk | None = None

    def load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Lay out files and inputs, ask for the version, start the program once."""
        framework = adapter(request["framework"])
        assert isinstance(framework, External)
        limit_memory(request.get("memory_limit_bytes"))
        self._cores = tuple(request.get("cores", ()))
        confine(self._cores)  # what it starts inherits it
        self._loaded_program = one = _laid_out(framework, request, self._cores)
        version = _said_version(one)
        if framework.program.times is None:
            self._talk = Talk(one)
            facts = one.given.facts(framework.fingerprint, version, one.placement)
            return {"facts": facts, **answer_of(request, self._talk.read(), one.placement)}
        ended = _started(one, runs=1, warmup=LEAST_WARM_UP)
        facts = one.given.facts(framework.fingerprint, version, one.placement)
        return load_reply(framework.program, ended, facts)

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Start the program with so many runs."""
        one, runs = self._program(), int(request["iterations"])
        if self._talk is not None:
            return answer_of(request, self._talk.ask(line_of(request)), one.placement)
        ended = _started(one, runs, max(LEAST_WARM_UP, int(request.get("rewarm", 0))))
        return run_reply(one.given.program, ended, runs, one.placement)

    def outputs(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Write what the program wrote last as npz; without outputs there is nothing to be judged."""
        one = self._program()
        if why_unchecked(one.given.program):
            return {"recorded_error": None}
        if self._talk is not None:
            path = one.folder / "outputs"
            answer_of(request, self._talk.ask(line_of({**request, "path": path})), one.placement)
            return self._written(request["path"], path.read_bytes() if path.is_file() else b"")
        missing = [path for path in one.given.outputs if not Path(path).is_file()]
        if missing:
            raise Crashed(f"{one.given.program.name} left no {Path(missing[0]).name}")
        raw = b"".join(Path(path).read_bytes() for path in one.given.outputs)
        return self._written(request["path"], raw)

    def memory(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What a program that stays tells; not known where it has ended."""
        if self._talk is not None:
            return answer_of(request, self._talk.ask(line_of(request)), "")
        return {"memory_peak_bytes": 0, "memory_now_bytes": 0}

    def _written(self, path: str, raw: bytes) -> dict[str, Any]:
        import numpy as np

        arrays = read_outputs(self._program().interface, raw)
        with Path(path).open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        return {"path": path}

    def _program(self) -> Loaded:
        if self._loaded_program is None:
            raise RuntimeError("no network is loaded: send `load` first")
        return self._loaded_program


def _laid_out(framework: External, request: Mapping[str, Any], cores: tuple[int, ...]) -> Loaded:
    folder = Path(tempfile.mkdtemp(prefix="runner-", dir=Path.cwd()))
    files = folder / "files"
    files.mkdir()
    for one in existing_files(framework.program):
        shutil.copy(one, files / one.name)
        (files / one.name).chmod(MODE)
    model = Path(request["path"])
    interface = interface_of(framework.program, model)
    given = Given(
        program=framework.program,
        files=str(files),
        model=str(model),
        setting=setting_of(request),
        cores=cores,
        inputs=tuple(map(str, write_inputs(interface, Path(request["inputs"]), folder))),
        outputs=tuple(str(folder / f"output-{number}") for number in range(len(interface.outputs))),
    )
    listed = ", ".join(map(str, cores))
    return Loaded(given, interface, folder, f"within cores {listed}" if cores else "scheduler's choice")


def _said_version(one: Loaded) -> str:
    words = one.given.version()
    if not words:
        return ""
    ended = _run(words, one, VERSION_TIMEOUT_S)
    if ended.code:
        raise Crashed(f"`version` ended with code {ended.code}: {ended.said[-LAST_WORDS:].strip()}")
    return next(iter(ended.said.strip().splitlines()), "")


def _started(one: Loaded, runs: int, warmup: int) -> Ended:
    for path in one.given.outputs:
        Path(path).unlink(missing_ok=True)
    return _run(one.given.command(str(runs), str(warmup)), one, None)


def _run(words: list[str], one: Loaded, timeout_s: float | None) -> Ended:
    """Start, wait, read; the harness ends program and worker together when it takes too long."""
    said = one.folder / "said"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = now_nanoseconds()
    with said.open("wb") as stream:
        code = _popen(words, one, stream).wait(timeout_s)
    wall_ns = now_nanoseconds() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    text = said.read_bytes()[-MOST_SAID_BYTES:].decode("utf-8", errors="replace")
    if code:
        print(text[-LAST_WORDS:], file=sys.stderr, flush=True)
    return Ended(code, text, wall_ns, round(cpu_s * 1e9))


def _popen(words: list[str], one: Loaded, stdout: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start it in its folder. With a pipe it is asked by lines, else all that it says goes to `stdout`."""
    asked = stdout == subprocess.PIPE
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE if asked else subprocess.DEVNULL,
            stdout=stdout,
            stderr=None if asked else subprocess.STDOUT,
            cwd=one.folder,
            env={**os.environ, **one.given.environment()},
        )
    except OSError as error:
        raise Crashed(f"{words[0]} cannot be started: {error.strerror}") from error


if __name__ == "__main__":
    main(ExternalWorker)
