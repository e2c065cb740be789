"""One way to run every kind of kernel on a CPU, without tuning: register tiles, rows, or plain loops."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from adapters.tvm_database import Record, from_record, kernel_key
from adapters.tvm_kernels import DEPTHWISE_STAGE, PACK_STAGE, PAD_STAGE, TILE_STAGE
from adapters.tvm_machine import VectorUnit

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


def _blocks(schedule: Any) -> list[Any]:
    return list(schedule.get_child_blocks(schedule.get_sblock("root")))


def _name(schedule: Any, block: Any) -> str:
    return str(schedule.get(block).name_hint)


def _extents(schedule: Any, loops: list[Any]) -> list[int]:
    return [int(schedule.get(loop).extent) for loop in loops]


def _inline(schedule: Any, blocks: list[Any], kept: Callable[[str], bool]) -> None:
    """Inline every block that allows it, but those whose names are to be kept."""
    from tvm import s_tir

    for block in blocks:
        if kept(_name(schedule, block)):
            continue
        try:
            schedule.compute_inline(block)
        except s_tir.ScheduleError:
            continue


def tiles(schedule: Any, unit: VectorUnit) -> Any:
    """Matrix products and convolutions: sums stay in registers, what was fused behind runs on each tile."""
    names = [_name(schedule, block) for block in _blocks(schedule)]
    sums_name = next((name for name in names if name.startswith((TILE_STAGE, DEPTHWISE_STAGE))), None)
    if sums_name is None:
        return None
    stages = (TILE_STAGE, DEPTHWISE_STAGE, PACK_STAGE, PAD_STAGE)
    _inline(schedule, _blocks(schedule), lambda name: name.startswith(stages))
    batch_axes = len(schedule.get(schedule.get_sblock(sums_name)).writes[0].source.shape) - 4
    schedule = _rows_as_one_axis(schedule, _name(schedule, _blocks(schedule)[-1]), batch_axes)
    blocks = {_name(schedule, block): block for block in _blocks(schedule)}
    packs = [block for name, block in blocks.items() if name.startswith(PACK_STAGE)]
    for name, block in blocks.items():
        if name.startswith(PAD_STAGE):
            rows_of_channels(schedule, block)
    sums = blocks[sums_name]
    is_depthwise = sums_name.startswith(DEPTHWISE_STAGE)
    lanes = int(schedule.get(sums).annotations["bench.lanes"])
    parallel, at, column = _tile_loops(schedule, sums, list(blocks.values())[-1], is_depthwise, bool(packs))
    schedule.compute_at(sums, at, preserve_unit_loops=True)
    schedule.parallel(parallel)
    for block in packs:
        schedule.compute_at(block, parallel)
    _sums_in_registers(schedule, sums, lanes, is_depthwise)
    _vectorize(schedule, column, lanes)
    return schedule


def _tile_loops(
    schedule: Any, sums: Any, last: Any, is_depthwise: bool, is_packed: bool
) -> tuple[Any, Any, Any]:
    """Split the last stage into tiles: the loop to run in parallel, the one of a tile, that of its columns.

    A panel of columns stays in the cache while the rows go by.
    """
    rows_count, columns_count = (int(size) for size in schedule.get(sums).writes[0].source.shape[-2:])
    *batch, row, column = schedule.get_loops(last)
    row_tile, row_in = schedule.split(row, [None, rows_count])
    column_tile, column_in = schedule.split(column, [None, columns_count])
    if is_depthwise:
        schedule.reorder(row_tile, column_tile, row_in, column_in)
        outer = [*batch, row_tile, column_tile]
    else:
        schedule.reorder(column_tile, row_tile, row_in, column_in)
        outer = [*batch, column_tile, *([] if is_packed else [row_tile])]
    parallel = schedule.fuse(*outer) if len(outer) > 1 else outer[0]
    return parallel, row_tile if is_packed else parallel, column_in


def _rows_as_one_axis(schedule: Any, name: str, batch_axes: int) -> Any:
    """Make one axis of all between the batch and the columns: then TVM sees which tile a row reads."""
    from tvm import s_tir, tirx

    block = schedule.get_sblock(name)
    extents = _extents(schedule, schedule.get_loops(block))

    def joined(*at: Any) -> list[Any]:
        row: Any = 0
        for index, extent in zip(at[batch_axes:-1], extents[batch_axes:-1], strict=True):
            row = row * extent + index
        return [*at[:batch_axes], row, at[-1]]

    index_map = tirx.IndexMap.from_func(joined, ndim=len(extents), index_dtype="int32")
    schedule.transform_block_layout(block, index_map)
    return s_tir.Schedule(tirx.transform.StmtSimplify()(schedule.mod))


def _sums_in_registers(schedule: Any, sums: Any, lanes: int, is_depthwise: bool) -> None:
    schedule.set_scope(sums, 0, "local")
    iterators = schedule.get(sums).iter_vars
    reductions = sum(1 for iterator in iterators if iterator.iter_type == 2)
    loops = schedule.get_loops(sums)
    taps = loops[len(loops) - reductions :]
    row, column = loops[len(loops) - reductions - 2 : len(loops) - reductions]
    schedule.reorder(*taps, row, column)
    _vectorize(schedule, column, lanes)
    schedule.unroll(row)
    if is_depthwise:
        schedule.unroll(taps[-1])
    schedule.decompose_reduction(sums, taps[0])


def _vectorize(schedule: Any, loop: Any, lanes: int) -> None:
    vectors, lane = schedule.split(loop, [None, lanes])
    schedule.unroll(vectors)
    schedule.vectorize(lane)


def rows_of_channels(schedule: Any, block: Any) -> None:
    """Parallel over all axes but the last one."""
    *outer, _ = schedule.get_loops(block)
    schedule.parallel(schedule.fuse(*outer) if len(outer) > 1 else outer[0])


def elementwise(schedule: Any, unit: VectorUnit) -> Any:
    """Kernels without sums: one loop nest."""
    _inline(schedule, _blocks(schedule), lambda name: False)
    blocks = _blocks(schedule)
    if any(_is_reduction(schedule, block) for block in blocks):
        return None
    for block in blocks:
        _one_nest(schedule, block, unit)
    return schedule


def _is_reduction(schedule: Any, block: Any) -> bool:
    return any(iterator.iter_type == 2 for iterator in schedule.get(block).iter_vars)


def _one_nest(schedule: Any, block: Any, unit: VectorUnit) -> None:
    loops = schedule.get_loops(block)
    if not loops:
        return
    extents = _extents(schedule, loops)
    count = prod(extents)
    if _reads_as_it_writes(schedule.get(block)):
        width = next((size for size in (2 * unit.lanes, unit.lanes) if count % size == 0), 0)
        fused = schedule.fuse(*loops) if len(loops) > 1 else loops[0]
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
    _inline(schedule, _blocks(schedule), lambda name: False)
    blocks = _blocks(schedule)
    if not any(_sums_last_axis(schedule, block) for block in blocks if _is_reduction(schedule, block)):
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
    _inline(schedule, _blocks(schedule), lambda name: False)
    blocks = _blocks(schedule)
    if not any(_is_reduction(schedule, block) for block in blocks):
        return None
    for block in blocks:
        loops = schedule.get_loops(block)
        kinds = [iterator.iter_type for iterator in schedule.get(block).iter_vars]
        if len(kinds) != len(loops):
            return None
        if 2 not in kinds:
            _one_nest(schedule, block, unit)
            continue
        spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 0]
        sums = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 2]
        if not spatial or _extents(schedule, spatial)[-1] < unit.lanes:
            return None
        _next_to_each_other(schedule, block, spatial, sums, unit)
    return schedule


def _next_to_each_other(
    schedule: Any, block: Any, spatial: list[Any], sums: list[Any], unit: VectorUnit
) -> None:
    size = _extents(schedule, spatial)[-1]
    width = next(
        (n for n in (4 * unit.lanes, 2 * unit.lanes, unit.lanes) if size % n == 0), min(size, 4 * unit.lanes)
    )
    chunk, lane = schedule.split(spatial[-1], [None, width])
    schedule.reorder(*spatial[:-1], chunk, *sums, lane)
    outer = [*spatial[:-1], chunk]
    schedule.parallel(schedule.fuse(*outer) if len(outer) > 1 else outer[0])
    if size % width == 0:
        schedule.vectorize(lane)
    schedule.decompose_reduction(block, sums[0])


def _sums_last_axis(schedule: Any, block: Any) -> bool:
    """Whether the last axis of what a block reads is one that it sums over."""
    iterators = schedule.get(block).iter_vars
    summed = {str(iterator.var) for iterator in iterators if iterator.iter_type == 2}
    return any(str(read.region[-1].min) in summed for read in schedule.get(block).reads if read.region)


def _shared(schedule: Any, block: Any, last: Any) -> int:
    """How many of a block's first axes are the last block's too: not summed, and of the same size."""
    count = 0
    for mine, its in zip(schedule.get(block).iter_vars, schedule.get(last).iter_vars, strict=False):
        same = int(mine.dom.extent) == int(its.dom.extent)
        if mine.iter_type == 2 or its.iter_type == 2 or not same:
            break
        count += 1
    return count


def separate_nests(schedule: Any, unit: VectorUnit) -> Any:
    """Anything else, a stage at a time: parallel over its first axes."""
    from tvm import s_tir

    for block in _blocks(schedule):
        kinds = [iterator.iter_type for iterator in schedule.get(block).iter_vars]
        loops = schedule.get_loops(block)
        outer = loops[: next((axis for axis, kind in enumerate(kinds) if kind != 0), len(loops))]
        if len(kinds) != len(loops) or not outer:
            continue
        if len(outer) == len(loops) and len(outer) > 1:
            outer = outer[:-1]
        try:
            schedule.parallel(schedule.fuse(*outer) if len(outer) > 1 else outer[0])
        except s_tir.ScheduleError:
            continue
    return schedule


RULES: tuple[Callable[[Any, VectorUnit], Any], ...] = (tiles, elementwise, rows, columns, separate_nests)
