"""Small words for TVM's schedules: the stages of a kernel, their loops, fusing and inlining."""

from collections.abc import Callable
from typing import Any

SPATIAL, SUMMED = 0, 2
"""TVM's kinds of an axis of a stage: one that its result has, one that it sums over."""


def blocks_of(schedule: Any) -> list[Any]:
    """The stages of a kernel, in order."""
    return list(schedule.get_child_blocks(schedule.get_sblock("root")))


def name_of(schedule: Any, block: Any) -> str:
    """The name of a stage."""
    return str(schedule.get(block).name_hint)


def extents_of(schedule: Any, loops: list[Any]) -> list[int]:
    """How often each loop runs."""
    return [int(schedule.get(loop).extent) for loop in loops]


def inline(schedule: Any, blocks: list[Any], kept: Callable[[str], bool]) -> None:
    """Inline every block that allows it, but those whose names are to be kept."""
    from tvm import s_tir

    for block in blocks:
        if kept(name_of(schedule, block)):
            continue
        try:
            schedule.compute_inline(block)
        except s_tir.ScheduleError:
            continue


def vectorize(schedule: Any, loop: Any, lanes: int) -> None:
    """Run a loop as vectors, next to each other; its length is a multiple of the lanes, or has a guard."""
    vectors, lane = schedule.split(loop, [None, lanes])
    schedule.unroll(vectors)
    schedule.vectorize(lane)


def is_reduction(schedule: Any, block: Any) -> bool:
    """Whether a stage sums over anything."""
    return any(iterator.iter_type == SUMMED for iterator in schedule.get(block).iter_vars)


def fuse(schedule: Any, loops: list[Any]) -> Any:
    """One loop out of one or more."""
    return schedule.fuse(*loops) if len(loops) > 1 else loops[0]
