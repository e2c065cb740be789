"""Which core each thread of a worker runs on.

Left to the scheduler, a worker's threads may share one core for minutes while another worker's are spread:
two workers of the same framework were seen 1.9 times apart, each for hundreds of blocks. So every framework
of a group gets the same cores, one thread each.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

TASKS = Path("/proc/self/task")
WORKING_SHARE = 0.1
CALLER_SHARE = 0.5
"""A calling thread that used less than this part of an equal share waited for the others."""


def threads_now() -> frozenset[int]:
    """Ids of this process's threads."""
    return frozenset(int(task.name) for task in TASKS.iterdir())


def confine(cores: Sequence[int]) -> None:
    """Keep this process, and the threads it will make, on these cores; nothing to do for none."""
    if cores:
        os.sched_setaffinity(0, cores)


def spread(cores: Sequence[int], before: frozenset[int], *, caller_works: bool) -> str:
    """Give the calling thread and the framework's working threads one core each; returns what was done, in
    words.

    `before` are the threads that existed before the framework was loaded. A framework computes with the
    calling thread and one fewer of its own (`caller_works`), or with as many of its own as there are cores
    while the caller waits. Where it made more threads than that, those count that have worked; if even these
    are too many or too few, all is left to the scheduler, inside the cores: a thread that spins on the
    caller's core, waiting for it, was seen to take 24 times as long (tflite-runtime, which has two pools).
    """
    own = sorted(threads_now() - before)
    if not cores:
        return f"scheduler's choice; {len(own)} threads of the framework"
    wanted = len(cores) - 1 if caller_works else len(cores)
    working = own if len(own) == wanted else _working(own)
    threads = f"{len(own)} threads of the framework"
    if len(working) != wanted:
        return f"within cores {_listed(cores)}; {threads}"
    os.sched_setaffinity(0, cores[:1])
    for thread, core in zip(working, cores[len(cores) - len(working) :], strict=True):
        _place(thread, core)
    idle = "" if working == own else f", {len(working)} of them work"
    return f"one thread a core: {_listed(cores)}; {threads}{idle}"


def _working(threads: Sequence[int]) -> list[int]:
    """The threads that have run for at least a tenth as long as the one that ran longest."""
    ran_ns = {thread: _ran_ns(thread) for thread in threads}
    least = WORKING_SHARE * max(ran_ns.values(), default=0)
    return [thread for thread, ran in ran_ns.items() if ran and ran >= least]


def _ran_ns(thread: int) -> int:
    """Time that a thread has spent on a processor; 0 for one that is gone, or where the kernel keeps none."""
    try:
        return int((TASKS / str(thread) / "schedstat").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _place(thread: int, core: int) -> None:
    """Give a thread its core; one that ended meanwhile needs none."""
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(thread, (core,))


def _listed(cores: Sequence[int]) -> str:
    return ", ".join(map(str, cores))
