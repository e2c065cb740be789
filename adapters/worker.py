"""The process that holds one loaded network: `python -m adapters.worker`, one JSON line a request, one a
reply.

Requests (`do`): `convert`, `load`, `run`, `outputs`, `profile`, `probe`, `memory`, `quit`. A reply is
`{"ok": true, …}` or `{"ok": false, "kind": "failed" | "oom" | "refused" | "crashed", "error": …}`. Replies
go to the process's original stdout; file descriptor 1 is pointed at stderr before any framework is loaded, so
that what a framework prints is never taken for a reply. The same program runs on this machine and on a phone;
it converts here only.
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from adapters.catalogue import adapter
from adapters.mailbox import Mailbox
from adapters.placement import CALLER_SHARE, confine, spread, threads_now
from adapters.protocol import Crashed, Prepared, Session, Setting, Unsupported

PLACE_UNTIL_NS = 300_000_000
"""Processor time of runs after which every thread that works has shown itself."""

MAILBOX_OPTION = "--mailbox"
OUT_OF_MEMORY_TEXTS = (
    "bad_alloc",
    "out of memory",
    "cannot allocate memory",
    "failed to allocate",
    "memoryerror",
)


def now_nanoseconds() -> int:
    """Monotonic clock that no time service adjusts."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)


class Worker:
    """The requests, one method each; holds the session, its inputs and nothing else."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._inputs: Mapping[str, Any] = {}
        self._cores: tuple[int, ...] = ()
        self._threads_before: frozenset[int] = frozenset()
        self._placement = ""
        self._cpu_ns = 0

    def convert(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Convert the network `source` into `folder`; the file to load and its options are the reply."""
        limit_memory(request.get("memory_limit_bytes"))
        start = now_nanoseconds()
        source, folder = Path(request["source"]), Path(request["folder"])
        converted = adapter(request["framework"]).convert(source, folder, setting_of(request))
        if not (folder / converted.file).exists():  # converters were seen to fail with exit code 0
            raise RuntimeError(f"the converter left no file {converted.file!r}: see its last lines")
        return {**asdict(converted), "convert_ns": now_nanoseconds() - start, **memory_facts()}

    def load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Import the framework, load the network and its inputs; load time and memory are the reply."""
        import numpy as np

        limit_memory(request.get("memory_limit_bytes"))
        with np.load(request["inputs"], allow_pickle=False) as archive:
            self._inputs = {name: archive[name] for name in archive.files}
        setting = setting_of(request)
        prepared = Prepared(path=Path(request["path"]), options=request.get("options", {}))
        self._cores, self._threads_before = tuple(request.get("cores", ())), threads_now()
        confine(self._cores)
        start = now_nanoseconds()
        self._session = adapter(request["framework"]).load(prepared, setting)
        load_ns = now_nanoseconds() - start
        gc.freeze()  # what a framework imported stays: collections before each block need not look at it
        return {"load_ns": load_ns, "facts": dict(self._session.describe()), **memory_facts()}

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run `rewarm` untimed and `iterations` timed inferences; raw nanoseconds of each are the reply."""
        session = self._loaded()
        cpu_start, caller_start = time.process_time_ns(), time.thread_time_ns()
        with _no_garbage_collection():
            rewarm_ns = rewarm(session, self._inputs, int(request.get("rewarm", 0)))
            run_ns, input_ns = time_iterations(session, self._inputs, int(request["iterations"]))
        cpu_ns = time.process_time_ns() - cpu_start
        equal_share = cpu_ns / max(len(self._cores), 1)
        caller_works = time.thread_time_ns() - caller_start >= CALLER_SHARE * equal_share
        if self._cpu_ns < PLACE_UNTIL_NS:  # only now: some frameworks start their threads with the first runs
            self._placement = spread(self._cores, self._threads_before, caller_works=caller_works)
        self._cpu_ns += cpu_ns
        times = {"run_ns": run_ns, "input_ns": input_ns, "cpu_ns": cpu_ns, "rewarm_ns": rewarm_ns}
        return {**times, "placement": self._placement}

    def outputs(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Write the outputs of the last run to the file `path` (npz)."""
        import numpy as np

        arrays = {name: np.asarray(value) for name, value in self._loaded().outputs().items()}
        with Path(request["path"]).open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        return {"path": request["path"]}

    def profile(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run with the framework's own profiler; the entries of one inference are the reply."""
        return asdict(self._loaded().profile(self._inputs, int(request["inferences"])))

    def probe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """What the machine can do at most with `threads` threads on `cores`; no network is needed."""
        confine(tuple(request.get("cores", ())))  # before the libraries count the cores
        from adapters.probe import probe

        return probe(int(request["threads"]), float(request["seconds"]))

    def memory(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Peak and present resident memory of this process, in bytes."""
        return memory_facts()

    def _loaded(self) -> Session:
        if self._session is None:
            raise RuntimeError("no network is loaded: send `load` first")
        return self._session


def rewarm(session: Session, inputs: Mapping[str, Any], iterations: int) -> int:
    """Run untimed inferences that refill the caches after another framework's turn; returns what they
    cost.
    """
    start = now_nanoseconds()
    for _ in range(iterations):
        session.feed(inputs)
        session.run()
    return now_nanoseconds() - start


def time_iterations(
    session: Session, inputs: Mapping[str, Any], iterations: int
) -> tuple[list[int], list[int]]:
    """Time every inference and, apart from it, every input copy: raw nanoseconds of both.

    Inputs are copied in before *every* run, because some runtimes reuse the input buffer for intermediate
    values: their second run would otherwise compute garbage.
    """
    run_ns, input_ns = [0] * iterations, [0] * iterations
    for index in range(iterations):
        start = now_nanoseconds()
        session.feed(inputs)
        fed = now_nanoseconds()
        session.run()
        run_ns[index] = now_nanoseconds() - fed
        input_ns[index] = fed - start
    return run_ns, input_ns


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect now and not again until the end: a collection takes milliseconds and empties the caches."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def memory_facts() -> dict[str, int]:
    """Read peak and present resident memory from the kernel (bytes); `ru_maxrss` would inherit the
    parent's peak.
    """
    facts = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        if name in {"VmHWM", "VmRSS"}:
            facts["memory_peak_bytes" if name == "VmHWM" else "memory_now_bytes"] = (
                int(rest.split()[0]) * 1024
            )
    return facts


def limit_memory(limit_bytes: int | None) -> None:
    """Bound private memory, so that a greedy framework gets a failed allocation, not the machine's memory
    killer.
    """
    if limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def setting_of(request: Mapping[str, Any]) -> Setting:
    """How a request asks to run."""
    threads, target = int(request["threads"]), request.get("target", "host")
    return Setting(threads, request["precision"], bool(request.get("profile")), target)


def _failure(error: BaseException) -> dict[str, Any]:
    """Turn an exception into a reply; refusing and running out of memory are told apart because they are
    statuses of their own.
    """
    if isinstance(error, Unsupported):
        return {"ok": False, "kind": "refused", "error": str(error)[:4000]}
    text = str(error) if isinstance(error, Crashed) else f"{type(error).__name__}: {error}".strip()
    memory = isinstance(error, MemoryError) or any(word in text.lower() for word in OUT_OF_MEMORY_TEXTS)
    traceback.print_exception(error)
    kind = "oom" if memory else "crashed" if isinstance(error, Crashed) else "failed"
    return {"ok": False, "kind": kind, "error": text[:4000]}


def answer(worker: Worker, line: str) -> dict[str, Any] | None:
    """One request line to one reply; None means: end the process."""
    actions: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "convert": worker.convert,
        "load": worker.load,
        "run": worker.run,
        "outputs": worker.outputs,
        "profile": worker.profile,
        "probe": worker.probe,
        "memory": worker.memory,
    }
    try:
        request = json.loads(line)
        if request["do"] == "quit":
            return None
        return {"ok": True, **actions[request["do"]](request)}
    except Exception as error:
        return _failure(error)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the harness dies, so that a killed run leaves no worker behind."""
    set_parent_death_signal = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _private_stdout() -> TextIO:
    """Keep the original stdout for replies and point descriptor 1 at stderr for everything else."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _serve(mailbox: Mailbox) -> None:
    """As `main`, for an asker who may be away for a while."""
    worker = Worker()
    for line in mailbox.requests():
        reply = answer(worker, line)
        mailbox.reply(json.dumps(reply or {"ok": True}))
        if reply is None:
            return


def main(make: Callable[[], Worker] = Worker) -> None:
    """Answer requests until `quit` or the end of stdin; with `--mailbox FOLDER`, requests in files."""
    if MAILBOX_OPTION in sys.argv:
        _serve(Mailbox(Path(sys.argv[sys.argv.index(MAILBOX_OPTION) + 1])))
        return
    if "--stay" not in sys.argv:
        _die_with_parent()
    replies = _private_stdout()
    worker = make()
    for line in sys.stdin:
        reply = answer(worker, line)
        if reply is None:
            return
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
