"""One way to run every kind of kernel on a CPU, without tuning: register tiles, rows, or plain loops."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from adapters.tvm_blocks import SPATIAL, SUMMED, blocks_of, extents_of, fuse, inline, is_reduction
from adapters.tvm_database import Record, from_record, kernel_key
from adapters.tvm_machine import VectorUnit
from adapters.tvm_tiles import tiles

SCHEDULED = "tirx.is_scheduled"
LEAST_PARALLEL_ELEMENTS = 4096
"""Less work than this is done before the other threads have woken up."""


def schedule_kernels(module: Any, unit: VectorUnit, records: Mapping[str, Record]) -> Any:
    """The module with a schedule for every kernel that has none yet: a tuned one where there is one."""
    from tvm import tirx

    changed = {}
    for variable, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and not _is_scheduled(function):
            record = records.get(kernel_key(function)) if records else None
            if record is not None and record.trace is not None:
                changed[variable] = from_record(function, record)
            else:
                changed[variable] = scheduled(function, unit)
    for variable, function in changed.items():
        module[variable] = function
    return module


def scheduled(function: Any, unit: VectorUnit) -> Any:
    """The kernel with the first schedule that fits it; itself when none does."""
    from tvm import s_tir

    for rule in RULES:
        schedule = s_tir.Schedule(function, debug_mask="none")
        try:
            done = rule(schedule, unit)
        except (s_tir.ScheduleError, ValueError):
            continue  # the rule's assumptions do not hold for this kernel: the next is more general
        if done is not None:
            return done.mod["main"].with_attr(SCHEDULED, True)
    return function


def _is_scheduled(function: Any) -> bool:
    return bool(function.attrs) and bool(function.attrs.get(SCHEDULED, False))


def elementwise(schedule: Any, unit: VectorUnit) -> Any:
    """Kernels without sums: one loop nest."""
    inline(schedule, blocks_of(schedule), lambda name: False)
    blocks = blocks_of(schedule)
    if any(is_reduction(schedule, block) for block in blocks):
        return None
    for block in blocks:
        _one_nest(schedule, block, unit)
    return schedule


def _one_nest(schedule: Any, block: Any, unit: VectorUnit) -> None:
    loops = schedule.get_loops(block)
    if not loops:
        return
    extents = extents_of(schedule, loops)
    count = prod(extents)
    if _reads_as_it_writes(schedule.get(block)):
        width = next((size for size in (2 * unit.lanes, unit.lanes) if count % size == 0), 0)
        fused = fuse(schedule, loops)
        if width:
            outer, inner = schedule.split(fused, [None, width])
            schedule.vectorize(inner)
            _parallel(schedule, outer, count)
        else:
            _parallel(schedule, schedule.split(fused, [None, 64])[0], count)
        return
    while len(loops) > 1 and extents[-1] == 1:
        loops, extents = loops[:-1], extents[:-1]
    if len(loops) > 1:
        _parallel(schedule, schedule.fuse(*loops[:-1]) if len(loops) > 2 else loops[0], count)


def _parallel(schedule: Any, loop: Any, elements: int) -> None:
    if elements >= LEAST_PARALLEL_ELEMENTS:
        schedule.parallel(loop)


def _reads_as_it_writes(block: Any) -> bool:
    """Whether every operand is read at the very place that is written, so that all axes are one."""
    written = block.writes[0]
    where = [str(axis.min) for axis in written.region]
    shape = [int(size) for size in written.source.shape]
    for read in block.reads:
        if len(read.source.shape) == 0 or all(int(size) == 1 for size in read.source.shape):
            continue
        if [int(size) for size in read.source.shape] != shape:
            return False
        if [str(axis.min) for axis in read.region] != where:
            return False
    return True


def rows(schedule: Any, unit: VectorUnit) -> Any:
    """Sums along the last axes (softmax, normalisation, means): a row at a time, all stages on it."""
    inline(schedule, blocks_of(schedule), lambda name: False)
    blocks = blocks_of(schedule)
    if not any(_sums_last_axis(schedule, block) for block in blocks if is_reduction(schedule, block)):
        return None
    last = blocks[-1]
    shared = min(_shared(schedule, block, last) for block in blocks)
    loops = schedule.get_loops(last)
    if not shared or shared > len(loops):
        return None
    row = schedule.fuse(*loops[:shared]) if shared > 1 else loops[0]
    for block in reversed(blocks[:-1]):
        schedule.compute_at(block, row)
    schedule.parallel(row)
    return schedule


def columns(schedule: Any, unit: VectorUnit) -> Any:
    """Sums along other than the last axis (pooling, means of pixels): many next to each other at once."""
    inline(schedule, blocks_of(schedule), lambda name: False)
    blocks = blocks_of(schedule)
    if not any(is_reduction(schedule, block) for block in blocks):
        return None
    for block in blocks:
        loops = schedule.get_loops(block)
        kinds = [iterator.iter_type for iterator in schedule.get(block).iter_vars]
        if len(kinds) != len(loops):
            return None
        if SUMMED not in kinds:
            _one_nest(schedule, block, unit)
            continue
        spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == SPATIAL]
        sums = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == SUMMED]
        if not spatial or extents_of(schedule, spatial)[-1] < unit.lanes:
            return None
        _next_to_each_other(schedule, block, spatial, sums, unit)
    return schedule


def _next_to_each_other(
    schedule: Any, block: Any, spatial: list[Any], sums: list[Any], unit: VectorUnit
) -> None:
    size = extents_of(schedule, spatial)[-1]
    width = next(
        (n for n in (4 * unit.lanes, 2 * unit.lanes, unit.lanes) if size % n == 0), min(size, 4 * unit.lanes)
    )
    chunk, lane = schedule.split(spatial[-1], [None, width])
    schedule.reorder(*spatial[:-1], chunk, *sums, lane)
    outer = [*spatial[:-1], chunk]
    schedule.parallel(fuse(schedule, outer))
    if size % width == 0:
        schedule.vectorize(lane)
    schedule.decompose_reduction(block, sums[0])


def _sums_last_axis(schedule: Any, block: Any) -> bool:
    """Whether the last axis of what a block reads is one that it sums over."""
    iterators = schedule.get(block).iter_vars
    summed = {str(iterator.var) for iterator in iterators if iterator.iter_type == SUMMED}
    return any(str(read.region[-1].min) in summed for read in schedule.get(block).reads if read.region)


def _shared(schedule: Any, block: Any, last: Any) -> int:
    """How many of a block's first axes are the last block's too: not summed, and of the same size."""
    count = 0
    for mine, its in zip(schedule.get(block).iter_vars, schedule.get(last).iter_vars, strict=False):
        same = int(mine.dom.extent) == int(its.dom.extent)
        if mine.iter_type == SUMMED or its.iter_type == SUMMED or not same:
            break
        count += 1
    return count


def separate_nests(schedule: Any, unit: VectorUnit) -> Any:
    """Anything else, a stage at a time: parallel over its first axes."""
    from tvm import s_tir

    for block in blocks_of(schedule):
        kinds = [iterator.iter_type for iterator in schedule.get(block).iter_vars]
        loops = schedule.get_loops(block)
        outer = loops[: next((axis for axis, kind in enumerate(kinds) if kind != SPATIAL), len(loops))]
        if len(kinds) != len(loops) or not outer:
            continue
        if len(outer) == len(loops) and len(outer) > 1:
            outer = outer[:-1]
        try:
            schedule.parallel(fuse(schedule, outer))
        except s_tir.ScheduleError:
            continue
    return schedule


RULES: tuple[Callable[[Any, VectorUnit], Any], ...] = (tiles, elementwise, rows, columns, separate_nests)
