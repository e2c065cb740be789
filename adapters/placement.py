"""Which core each thread of a worker runs on.

Left to the scheduler, a worker's threads may share one core for minutes while another worker's are spread:
two workers of the same framework were seen 1.9 times apart, each for hundreds of blocks. So every framework
of a group gets the same cores, one thread each.
"""

import os
from collections.abc import Sequence
from pathlib import Path

TASKS = Path("/proc/self/task")


def threads_now() -> frozenset[int]:
    """Ids of this process's threads."""
    return frozenset(int(task.name) for task in TASKS.iterdir())


def confine(cores: Sequence[int]) -> None:
    """Keep this process, and the threads it will make, on these cores; nothing to do for none."""
    if cores:
        os.sched_setaffinity(0, cores)


def spread(cores: Sequence[int], before: frozenset[int]) -> str:
    """Give the calling thread and the framework's own threads one core each; returns what was done, in words.

    `before` are the threads that existed before the framework was loaded. A framework computes with the
    calling thread and one fewer of its own, or with as many of its own as there are cores; any other number
    of threads is left to the scheduler, inside the cores.
    """
    own = sorted(threads_now() - before)
    if not cores:
        return f"scheduler's choice; {len(own)} threads of the framework"
    if len(own) not in (len(cores) - 1, len(cores)):
        return f"within cores {_listed(cores)}; {len(own)} threads of the framework"
    os.sched_setaffinity(0, cores[:1])
    for thread, core in zip(own, cores[len(cores) - len(own) :], strict=True):
        os.sched_setaffinity(thread, (core,))
    return f"one thread a core: {_listed(cores)}; {len(own)} threads of the framework"


def _listed(cores: Sequence[int]) -> str:
    return ", ".join(map(str, cores))
