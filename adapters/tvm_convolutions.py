"""Convolutions in channels-last layout as register tiles: dense, grouped and depthwise, one or two axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np

from adapters.tvm_kernels import (
    DEPTHWISE_STAGE,
    PAD_STAGE,
    TILE_STAGE,
    Array,
    Tile,
    lanes_of,
    unravel,
    write_rows,
)


@dataclass(frozen=True, slots=True)
class Window:
    """Sizes of a convolution along its spatial axes, one entry an axis; `after` is padding at the end."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    def output(self, sizes: Sequence[int]) -> list[int]:
        """Spatial sizes of the output for those of the input."""
        return [
            (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation, before, after in zip(
                sizes, self.kernel, self.strides, self.dilation, self.before, self.after, strict=True
            )
        ]


def merged_groups(groups: int, group_outputs: int, lanes: int) -> int | None:
    """How many groups to compute as one: narrow groups fill a vector together, with zeros between them.

    None where no number of groups makes a multiple of half a vector.
    """
    merge = 1
    while group_outputs * merge < lanes or group_outputs * merge % (lanes // 2):
        if merge == groups or groups % (2 * merge):
            return groups if merge == groups else None
        merge *= 2
    return merge


def pack_filters(weight: Array, groups: int, merge: int, tile: Tile) -> Array:
    """`[O, spatial…, I]` filters as `[panels, spatial…, I × merge, columns]`; merged groups are blocks on a
    diagonal.
    """
    outputs, *kernel, inputs = weight.shape
    group_outputs = outputs // groups
    wide = np.zeros((groups // merge, *kernel, inputs * merge, group_outputs * merge), weight.dtype)
    split = weight.reshape(groups // merge, merge, group_outputs, *kernel, inputs)
    for part in range(merge):
        block = np.moveaxis(split[:, part], 1, -1)  # [groups / merge, spatial…, I, O of one group]
        rows = slice(part * inputs, (part + 1) * inputs)
        columns = slice(part * group_outputs, (part + 1) * group_outputs)
        wide[..., rows, columns] = block
    width = group_outputs * merge
    panels = ceil(width / tile.columns)
    padded = np.zeros((*wide.shape[:-1], panels * tile.columns), weight.dtype)
    padded[..., :width] = wide
    split_panels = padded.reshape(*wide.shape[:-1], panels, tile.columns)
    ordered = np.moveaxis(split_panels, -2, 1)  # [groups / merge, panels, spatial…, I, columns]
    return np.ascontiguousarray(ordered.reshape(-1, *kernel, inputs * merge, tile.columns))


def convolution(data: Any, packed: Any, *, window: Window, outputs: int, groups: int, tile: Tile) -> Any:
    """`data[batch, spatial…, C]` with packed filters: `[batch, spatial…, outputs]`; merged `groups`."""
    from tvm import te, tirx

    batch, *sizes, _ = (int(size) for size in data.shape)
    spatial = window.output(sizes)
    rows, panels_a_group = prod(spatial), int(packed.shape[0]) // groups
    padded = pad(data, window)
    depth = int(packed.shape[-2])
    taps = [te.reduce_axis((0, size), name=f"tap{axis}") for axis, size in enumerate(window.kernel)]
    c = te.reduce_axis((0, depth), name="c")

    def sums(n: Any, mo: Any, no: Any, mi: Any, ni: Any) -> Any:
        pixel = unravel(tirx.min(mo * tile.rows + mi, rows - 1), spatial)
        at = _window_at(pixel, taps, window)
        channel = c if groups == 1 else (no // panels_a_group) * depth + c
        return te.sum(padded(n, *at, channel) * packed(no, *taps, c, ni), axis=[*taps, c])

    shape = (batch, ceil(rows / tile.rows), int(packed.shape[0]), tile.rows, tile.columns)
    acc = te.compute(shape, sums, name=TILE_STAGE, attrs=lanes_of(tile))
    return write_rows(acc, (batch,), spatial, outputs, tile)


def depthwise(data: Any, filters: Any, *, window: Window, tile: Tile) -> Any:
    """`data[batch, spatial…, C]` with `filters[spatial…, C]`, a channel each; `tile.rows` pixels of the last
    spatial axis at a time.
    """
    from tvm import te, tirx

    batch, *sizes, channels = (int(size) for size in data.shape)
    *lead, last = window.output(sizes)
    padded = pad(data, window)
    taps = [te.reduce_axis((0, size), name=f"tap{axis}") for axis, size in enumerate(window.kernel)]

    def sums(n: Any, *at: Any) -> Any:
        *pixel, mo, no, mi, ni = at
        column = tirx.min(mo * tile.rows + mi, last - 1)
        channel = no * tile.columns + ni
        where = _window_at([*pixel, column], taps, window)
        return te.sum(padded(n, *where, channel) * filters(*taps, channel), axis=taps)

    shape = (batch, *lead, ceil(last / tile.rows), channels // tile.columns, tile.rows, tile.columns)
    acc = te.compute(shape, sums, name=DEPTHWISE_STAGE, attrs=lanes_of(tile))
    return write_rows(acc, (batch, *lead), [last], channels, tile)


def pad(data: Any, window: Window) -> Any:
    """`data` with zeros around its spatial axes, or itself where there are none to add."""
    from tvm import te, tirx

    if not any((*window.before, *window.after)):
        return data
    batch, *sizes, channels = (int(size) for size in data.shape)
    grown = [
        size + before + after for size, before, after in zip(sizes, window.before, window.after, strict=True)
    ]

    def padded(n: Any, *at: Any) -> Any:
        *pixel, c = at
        moved = [index - before for index, before in zip(pixel, window.before, strict=True)]
        inside = [tirx.all(index >= 0, index < size) for index, size in zip(moved, sizes, strict=True)]
        return tirx.if_then_else(tirx.all(*inside), data(n, *moved, c), tirx.const(0, data.dtype))

    return te.compute((batch, *grown, channels), padded, name=PAD_STAGE)


def _window_at(pixel: Sequence[Any], taps: Sequence[Any], window: Window) -> list[Any]:
    return [
        index * stride + tap * dilation
        for index, tap, stride, dilation in zip(pixel, taps, window.strides, window.dilation, strict=True)
    ]
