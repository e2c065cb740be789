"""Matrix products and convolutions as tensor expressions in the shape of register tiles.

`acc[batch…, mo, no, mi, ni]` holds the products, a tile of `mi × ni` at a time; a second stage writes it out
row by row, and whatever TVM fuses behind it happens there, tile by tile. Rows beyond the last are computed
again from the last row (a clamped index costs nothing), columns beyond the last meet weights of zero. The
schedule (`adapters.tvm_schedule`) finds the stages by their names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.tvm_machine import VectorUnit

TILE_STAGE = "bench_tile"
DEPTHWISE_STAGE = "bench_depthwise"
PACK_STAGE = "bench_pack"
PAD_STAGE = "bench_pad"
OUT_STAGE = "bench_out"
MOST_ROWS = 14
LEAST_CYCLES = 4.0
"""Latency of a fused multiply-add: with fewer cycles of independent work a step waits for the last one."""

FLOAT_BYTES = 4
PANEL_BYTES = 512 * 1024
"""A panel of weights is read again for each tile of rows; half a typical second-level cache keeps it near."""
NEAR_BYTES_A_CYCLE, FAR_BYTES_A_CYCLE = 32.0, 8.0
RAGGED = 1.15
"""Columns that are no multiple of a vector are written one by one."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Tile:
    """`rows` × `columns` sums held in registers, `columns` in vectors of `lanes`."""

    rows: int
    columns: int
    lanes: int


def choose_tile(rows: int, columns: int, depth: int, unit: VectorUnit, *, exact: bool = False) -> Tile:
    """The tile that computes `rows` × `columns` sums of `depth` products in the fewest cycles, waste at the
    edges counted.

    `exact` wants tiles that divide the columns, which must be a multiple of half a vector.
    """
    candidates = [
        Tile(height, vectors * lanes, lanes)
        for lanes in _lane_counts(columns, unit.lanes)
        for vectors in range(unit.vectors, 0, -1)
        for height in range(1, MOST_ROWS + 1)
        if height * vectors + vectors + 1 <= unit.registers and not (exact and columns % (vectors * lanes))
    ]
    return min(candidates, key=lambda tile: _cycles(tile, rows, columns, depth))


def _cycles(tile: Tile, rows: int, columns: int, depth: int) -> float:
    """A step takes as long as its multiply-adds (two a cycle), its loads (two a cycle), the latency of one or
    the way of the panel from its cache, whichever is longest.
    """
    vectors = tile.columns / tile.lanes
    step_bytes = FLOAT_BYTES * tile.columns
    bandwidth = NEAR_BYTES_A_CYCLE if depth * step_bytes <= PANEL_BYTES else FAR_BYTES_A_CYCLE
    adds, loads = tile.rows * vectors / 2, (tile.rows + vectors) / 2
    step = max(adds, loads, LEAST_CYCLES, step_bytes / bandwidth)
    ragged = RAGGED if columns % tile.lanes else 1.0
    return ceil(rows / tile.rows) * ceil(columns / tile.columns) * step * ragged


def _lane_counts(columns: int, lanes: int) -> list[int]:
    """The full vector and, where it divides the columns and the full one does not, half of it."""
    half = lanes // 2
    return [lanes, half] if columns % lanes and half >= 4 and columns % half == 0 else [lanes]


def pack_columns(weight: Array, tile: Tile) -> Array:
    """`[K, N]` weights as `[N / columns, K, columns]`, padded with zeros."""
    depth, width = weight.shape
    padded = np.zeros((depth, ceil(width / tile.columns) * tile.columns), weight.dtype)
    padded[:, :width] = weight
    return np.ascontiguousarray(padded.reshape(depth, -1, tile.columns).transpose(1, 0, 2))


def product_with_weights(a: Any, packed: Any, *, width: int, tile: Tile) -> Any:
    """`a[…, K]` times packed weights: `[…, N]`; all leading axes are rows."""
    from tvm import te, tirx

    *lead, depth = (int(size) for size in a.shape)
    rows = prod(lead)
    k = te.reduce_axis((0, depth), name="k")

    def sums(mo: Any, no: Any, mi: Any, ni: Any) -> Any:
        row = tirx.min(mo * tile.rows + mi, rows - 1)
        return te.sum(a(*unravel(row, lead), k) * packed[no, k, ni], axis=k)

    shape = (ceil(rows / tile.rows), int(packed.shape[0]), tile.rows, tile.columns)
    acc = te.compute(shape, sums, name=TILE_STAGE, attrs=lanes_of(tile))
    return write_rows(acc, (), lead, width, tile)


def product_of_two(a: Any, b: Any, *, b_transposed: bool, tile: Tile) -> Any:
    """Batched `a[…, M, K]` times `b[…, K, N]` (or `b[…, N, K]`), batch axes broadcast."""
    from tvm import te, tirx

    *a_batch, rows, depth = (int(size) for size in a.shape)
    *b_batch, b_first, b_last = (int(size) for size in b.shape)
    width = b_first if b_transposed else b_last
    batch = [int(size) for size in np.broadcast_shapes(tuple(a_batch), tuple(b_batch))]
    k = te.reduce_axis((0, depth), name="k")
    value = _packed_at_run_time(b, b_batch, depth, width, b_transposed, tile)

    def sums(*at: Any) -> Any:
        *where, mo, no, mi, ni = at
        row = tirx.min(mo * tile.rows + mi, rows - 1)
        left = a(*_broadcast(where, a_batch), row, k)
        return te.sum(left * value(_broadcast(where, b_batch), no, k, ni), axis=k)

    shape = (*batch, ceil(rows / tile.rows), ceil(width / tile.columns), tile.rows, tile.columns)
    acc = te.compute(shape, sums, name=TILE_STAGE, attrs=lanes_of(tile))
    return write_rows(acc, tuple(batch), [rows], width, tile)


def _packed_at_run_time(
    b: Any, batch: Sequence[int], depth: int, width: int, transposed: bool, tile: Tile
) -> Callable[..., Any]:
    """How to read column `ni` of panel `no`: in place where that is contiguous, else from a packed copy."""
    from tvm import te, tirx

    if not transposed and width % tile.columns == 0:
        return lambda where, no, k, ni: b(*where, k, no * tile.columns + ni)

    def copied(*at: Any) -> Any:
        *where, no, k, ni = at
        column = no * tile.columns + ni
        if width % tile.columns == 0:
            return b(*where, column, k)
        inside = tirx.min(column, width - 1)  # columns beyond the last are never written out
        return b(*where, inside, k) if transposed else b(*where, k, inside)

    packed = te.compute((*batch, ceil(width / tile.columns), depth, tile.columns), copied, name=PACK_STAGE)
    return lambda where, no, k, ni: packed(*where, no, k, ni)


def write_rows(acc: Any, batch: Sequence[int], lead: Sequence[int], width: int, tile: Tile) -> Any:
    """The stage `[batch…, lead…, width]` that reads each value from its tile."""
    from tvm import te

    def written(*at: Any) -> Any:
        where, rest, n = at[: len(batch)], at[len(batch) : -1], at[-1]
        m = _ravel(rest, lead)
        return acc(*where, m // tile.rows, n // tile.columns, m % tile.rows, n % tile.columns)

    return te.compute((*batch, *lead, width), written, name=OUT_STAGE)


def lanes_of(tile: Tile) -> dict[str, int]:
    """What a stage tells the schedule."""
    return {"bench.lanes": tile.lanes}


def _broadcast(where: Sequence[Any], batch: Sequence[int]) -> list[Any]:
    aligned = where[len(where) - len(batch) :]
    return [0 if size == 1 else index for index, size in zip(aligned, batch, strict=True)]


def unravel(flat: Any, shape: Sequence[int]) -> list[Any]:
    """Indices into `shape` of a flat row number."""
    indices: list[Any] = []
    for axis, size in enumerate(shape):
        below = prod(shape[axis + 1 :])
        index = flat if below == 1 else flat // below
        indices.append(0 if size == 1 else (index if axis == 0 or prod(shape[:axis]) == 1 else index % size))
    return indices


def _ravel(indices: Sequence[Any], shape: Sequence[int]) -> Any:
    flat: Any = 0
    for index, size in zip(indices, shape, strict=True):
        flat = flat * size + index
    return flat
