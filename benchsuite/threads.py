"""What the threads of a worker do, seen from outside: CPU time of each, the cores they were on, where they
are.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchsuite.isa import Bytes, Encoding, nearest
from benchsuite.ptrace import Tracer, TraceRefused

POLL_SECONDS = 0.005
NANO = 1_000_000_000
BUSY_SHARE = 0.05
"""A thread that used less than this share of the time does housekeeping, not the network."""
WINDOW_BYTES = 256
"""Code looked at on each side of an instruction pointer: a multiply-add kernel's loop is that near."""
IDLE_SECONDS = 1.0
SPINNING_SHARE = 0.02
RUNNING_STATE = "R"
STATE_FIELD, TIME_FIELDS, CORE_FIELD = 0, slice(11, 13), 36
"""Of /proc/PID/task/TID/stat, after the name in parentheses."""


@dataclass(frozen=True, slots=True)
class ThreadUse:
    """What the threads of a process did in `wall_ns`: CPU nanoseconds by thread, cores on which they were
    seen while running.
    """

    wall_ns: int
    cpu_ns: Mapping[int, int]
    cores: Mapping[int, frozenset[int]] = field(default_factory=dict)

    @property
    def busy(self) -> tuple[int, ...]:
        """Threads that computed."""
        return tuple(thread for thread, used in self.cpu_ns.items() if used >= BUSY_SHARE * self.wall_ns)

    @property
    def cores_used(self) -> float:
        """CPU time of all threads ÷ wall time."""
        return sum(self.cpu_ns.values()) / self.wall_ns if self.wall_ns else 0.0

    @property
    def busy_cores(self) -> frozenset[int]:
        """Numbers of the cores that computed."""
        return frozenset().union(*(self.cores.get(thread, frozenset()) for thread in self.busy))


@dataclass(frozen=True, slots=True)
class CodeSamples:
    """Where busy threads were: samples by instruction set of the nearest multiply-add ("" for none near), by
    the file that held the code ("" for code made at run time); `refused` says why there are none.
    """

    by_isa: Mapping[str, int] = field(default_factory=dict)
    by_file: Mapping[str, int] = field(default_factory=dict)
    refused: str = ""

    @property
    def total(self) -> int:
        """Samples taken."""
        return sum(self.by_isa.values())

    @property
    def multiply_adds(self) -> int:
        """Samples near any multiply-add."""
        return self.total - self.by_isa.get("", 0)

    def part(self, isa: str) -> float:
        """Part of the samples near a multiply-add that were near one of that instruction set."""
        return self.by_isa.get(isa, 0) / self.multiply_adds if self.multiply_adds else 0.0

    def share(self, isa: str) -> float:
        """Part of all samples near a multiply-add of that instruction set."""
        return self.by_isa.get(isa, 0) / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class CodeMapping:
    """One executable mapping: addresses from `start` to `end`, path of the file or ""."""

    start: int
    end: int
    path: str


def executable_mappings(process: int) -> tuple[CodeMapping, ...]:
    """Executable memory of a process, from /proc/PID/maps; raises OSError when it is gone."""
    found = []
    for line in Path(f"/proc/{process}/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        span, rights, _, _, _, *path = line.split(maxsplit=5)
        if "x" in rights and not (path and path[0].startswith("[v")):  # vdso, vsyscall
            start, end = (int(part, 16) for part in span.split("-"))
            found.append(CodeMapping(start, end, _file(path[0]) if path else ""))
    return tuple(found)


def _file(path: str) -> str:
    """The path, or "" for what is no file that can be opened: memory shared or named, a file that is gone."""
    is_file = path.startswith("/") and not path.startswith(("/memfd:", "/dev/"))
    return path if is_file and not path.endswith(" (deleted)") else ""


def code_made_at_run_time(process: int) -> tuple[Bytes, ...]:
    """Executable memory that no file holds (compiled at run time); what cannot be read is left out."""
    pieces = []
    for one in executable_mappings(process):
        if one.path:
            continue
        with suppress(OSError), Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            memory.seek(one.start)
            pieces.append(np.frombuffer(memory.read(one.end - one.start), np.uint8))
    return tuple(pieces)


def thread_times_ns(process: int) -> dict[int, int]:
    """CPU nanoseconds of every thread since it began; steps of 10 ms where there is no schedstat."""
    times = {}
    for thread, folder in _threads(process):
        with suppress(OSError, IndexError, ValueError):
            times[thread] = _time_ns(folder)
    return times


def _time_ns(folder: Path) -> int:
    exact = folder / "schedstat"
    if exact.exists():
        return int(exact.read_text().split()[0])
    fields = _stat(folder)
    return sum(map(int, fields[TIME_FIELDS])) * NANO // os.sysconf("SC_CLK_TCK")


def _stat(folder: Path) -> list[str]:
    """Fields after the thread's name, which may hold anything."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def watch(process: int, is_over: Callable[[], bool]) -> ThreadUse:
    """Follow the threads until `is_over`; returns what each used and where it ran."""
    before, start = thread_times_ns(process), time.monotonic_ns()
    cores: dict[int, set[int]] = {}
    while not is_over():
        for thread, state, core in _states(process):
            if state == RUNNING_STATE:
                cores.setdefault(thread, set()).add(core)
        time.sleep(POLL_SECONDS)
    return _use(process, before, start, cores)


def watch_idle(process: int, seconds: float = IDLE_SECONDS) -> ThreadUse:
    """What the threads use while nobody asks the process for anything."""
    before, start = thread_times_ns(process), time.monotonic_ns()
    time.sleep(seconds)
    return _use(process, before, start, {})


def sample_code(process: int, is_over: Callable[[], bool], encodings: tuple[Encoding, ...]) -> CodeSamples:
    """Stop running threads every few milliseconds and look at the code around them, until `is_over`."""
    by_isa, by_file = Counter[str](), Counter[str]()
    try:
        with Tracer(process) as tracer:
            maps = executable_mappings(process)
            while not is_over():
                for thread, state, _ in _states(process):
                    if state == RUNNING_STATE and (pointer := tracer.instruction_pointer(thread)) is not None:
                        isa, path = _around(tracer, pointer, maps, encodings)
                        by_isa[isa] += 1
                        by_file[path] += 1
                time.sleep(POLL_SECONDS)
    except TraceRefused as refusal:
        return CodeSamples(refused=str(refusal))
    except OSError as error:
        return CodeSamples(by_isa, by_file, f"the process is gone: {error.strerror}")
    return CodeSamples(by_isa, by_file)


def _around(
    tracer: Tracer, pointer: int, maps: tuple[CodeMapping, ...], encodings: tuple[Encoding, ...]
) -> tuple[str, str]:
    """Instruction set near the pointer and the file of its code."""
    home = next((one for one in maps if one.start <= pointer < one.end), None)
    low = pointer - WINDOW_BYTES
    if home is not None:
        low = max(low, home.start)
    code = tracer.read(low, pointer + WINDOW_BYTES - low)
    return nearest(code, pointer - low, encodings) or "", home.path if home else ""


def _use(process: int, before: Mapping[int, int], start: int, cores: Mapping[int, set[int]]) -> ThreadUse:
    after = thread_times_ns(process)
    used = {thread: now - before.get(thread, 0) for thread, now in after.items()}
    seen = {thread: frozenset(where) for thread, where in cores.items()}
    return ThreadUse(time.monotonic_ns() - start, used, seen)


def _threads(process: int) -> Iterator[tuple[int, Path]]:
    for folder in Path(f"/proc/{process}/task").iterdir():
        yield int(folder.name), folder


def _states(process: int) -> Iterator[tuple[int, str, int]]:
    """Thread, its state and the core it was last on."""
    for thread, folder in _threads(process):
        try:
            fields = _stat(folder)
            found = thread, fields[STATE_FIELD], int(fields[CORE_FIELD])
        except (OSError, IndexError, ValueError):
            continue
        yield found
