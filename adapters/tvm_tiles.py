"""The schedule of matrix products and convolutions: sums in registers, a tile at a time."""

from typing import Any

from adapters.tvm_blocks import SUMMED, blocks_of, extents_of, fuse, inline, name_of, vectorize
from adapters.tvm_kernels import DEPTHWISE_STAGE, PACK_STAGE, PAD_STAGE, TILE_STAGE
from adapters.tvm_machine import VectorUnit


def tiles(schedule: Any, unit: VectorUnit) -> Any:
    """Matrix products and convolutions: sums stay in registers, what was fused behind runs on each tile."""
    names = [name_of(schedule, block) for block in blocks_of(schedule)]
    sums_name = next((name for name in names if name.startswith((TILE_STAGE, DEPTHWISE_STAGE))), None)
    if sums_name is None:
        return None
    stages = (TILE_STAGE, DEPTHWISE_STAGE, PACK_STAGE, PAD_STAGE)
    inline(schedule, blocks_of(schedule), lambda name: name.startswith(stages))
    batch_axes = len(schedule.get(schedule.get_sblock(sums_name)).writes[0].source.shape) - 4
    schedule = _rows_as_one_axis(schedule, name_of(schedule, blocks_of(schedule)[-1]), batch_axes)
    blocks = {name_of(schedule, block): block for block in blocks_of(schedule)}
    packs = [block for name, block in blocks.items() if name.startswith(PACK_STAGE)]
    for block in (block for name, block in blocks.items() if name.startswith(PAD_STAGE)):
        schedule.parallel(fuse(schedule, schedule.get_loops(block)[:-1]))
    sums = blocks[sums_name]
    is_depthwise = sums_name.startswith(DEPTHWISE_STAGE)
    lanes = int(schedule.get(sums).annotations["bench.lanes"])
    parallel, at, column = _tile_loops(schedule, sums, list(blocks.values())[-1], is_depthwise, bool(packs))
    schedule.compute_at(sums, at, preserve_unit_loops=True)
    schedule.parallel(parallel)
    for block in packs:
        schedule.compute_at(block, parallel)
    _sums_in_registers(schedule, sums, lanes, is_depthwise)
    vectorize(schedule, column, lanes)
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
    parallel = fuse(schedule, outer)
    return parallel, row_tile if is_packed else parallel, column_in


def _rows_as_one_axis(schedule: Any, name: str, batch_axes: int) -> Any:
    """Make one axis of all between the batch and the columns: then TVM sees which tile a row reads."""
    from tvm import s_tir, tirx

    block = schedule.get_sblock(name)
    extents = extents_of(schedule, schedule.get_loops(block))

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
    reductions = sum(1 for iterator in iterators if iterator.iter_type == SUMMED)
    loops = schedule.get_loops(sums)
    taps = loops[len(loops) - reductions :]
    row, column = loops[len(loops) - reductions - 2 : len(loops) - reductions]
    schedule.reorder(*taps, row, column)
    vectorize(schedule, column, lanes)
    schedule.unroll(row)
    if is_depthwise:
        schedule.unroll(taps[-1])
    schedule.decompose_reduction(sums, taps[0])
