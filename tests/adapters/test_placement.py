"""Threads of a worker on cores of their own."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

SCRIPT = """
import os, sys, threading, time
from adapters.placement import confine, spread, threads_now
cores, count = eval(sys.argv[1]), int(sys.argv[2])
before = threads_now()
confine(cores)
done = threading.Event()
def work():
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        sum(range(1000))
    done.wait()
working = int(sys.argv[3])
threads = [threading.Thread(target=work if index < working else done.wait) for index in range(count)]
for thread in threads:
    thread.start()
if working:
    time.sleep(0.2)
print(spread(cores, before, caller_works=sys.argv[4] == "True"))
print([sorted(os.sched_getaffinity(task)) for task in (0, *sorted(thread.native_id for thread in threads))])
done.set()
"""
CORES = sorted(os.sched_getaffinity(0), reverse=True)[:2]

needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="two cores are needed to tell placements apart")


def placed(
    cores: Sequence[int], threads: int, working: int = 0, *, caller_works: bool = False
) -> tuple[str, list[list[int]]]:
    """What `spread` says, and the cores of the main thread and of each other one, in a process of its own."""
    command = [sys.executable, "-c", SCRIPT, repr(list(cores)), str(threads), str(working)]
    command.append(str(caller_works))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    words, masks = done.stdout.splitlines()
    return words, eval(masks)


@needs_two_cores
def test_the_caller_and_one_fewer_threads_get_a_core_each() -> None:
    words, masks = placed(CORES, 1, caller_works=True)
    assert masks == [[CORES[0]], [CORES[1]]]
    assert words == f"one thread a core: {CORES[0]}, {CORES[1]}; 1 threads of the framework"


@needs_two_cores
def test_as_many_threads_as_cores_get_one_each() -> None:
    assert placed(CORES, 2)[1] == [[CORES[0]], [CORES[0]], [CORES[1]]]


@needs_two_cores
def test_two_pools_beside_a_working_caller_are_left_to_the_scheduler() -> None:
    """One thread of either pool would spin on the caller's core."""
    words, masks = placed(CORES, 2, working=2, caller_works=True)
    assert words == f"within cores {CORES[0]}, {CORES[1]}; 2 threads of the framework"
    assert masks == [sorted(CORES)] * 3


@needs_two_cores
def test_any_other_number_stays_within_the_cores() -> None:
    words, masks = placed(CORES[:1], 3)
    assert masks == [CORES[:1]] * 4
    assert words == f"within cores {CORES[0]}; 3 threads of the framework"


@needs_two_cores
def test_of_many_threads_those_that_work_get_a_core_each() -> None:
    words, masks = placed(CORES, 4, working=2)
    assert words == f"one thread a core: {CORES[0]}, {CORES[1]}; 4 threads of the framework, 2 of them work"
    assert masks == [[CORES[0]], [CORES[0]], [CORES[1]], sorted(CORES), sorted(CORES)]


@needs_two_cores
def test_too_many_that_work_are_left_to_the_scheduler() -> None:
    words, masks = placed(CORES, 4, working=4)
    assert words == f"within cores {CORES[0]}, {CORES[1]}; 4 threads of the framework"
    assert masks == [sorted(CORES)] * 5


def test_no_cores_leave_it_to_the_scheduler() -> None:
    words, masks = placed([], 1)
    assert masks == [sorted(os.sched_getaffinity(0))] * 2
    assert words == "scheduler's choice; 1 threads of the framework"
