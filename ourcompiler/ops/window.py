"""Arithmetic of windows that slide over the spatial axes: convolution and pooling share it."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from ourcompiler.ir.graph import Array
from ourcompiler.ops.table import Facts


def span(kernel: int, dilation: int) -> int:
    """How far a dilated window reaches."""
    return dilation * (kernel - 1) + 1


def output_sizes(sizes: Sequence[int], kernel: Sequence[int], facts: Facts) -> tuple[int, ...]:
    """Positions of the window along each spatial axis; raises ValueError when it does not fit once.

    `facts` has `strides`, `dilations` and `pads` (all befores, then all afters); with `ceil` a last window
    may begin inside the image or its front border and reach beyond.
    """
    rank, pads = len(sizes), facts["pads"]
    found = []
    for axis, size in enumerate(sizes):
        before, after = pads[axis], pads[axis + rank]
        stride, reach = facts["strides"][axis], span(kernel[axis], facts["dilations"][axis])
        free = size + before + after - reach
        if free < 0:
            raise ValueError(f"a window of {reach} on an axis of {size} with borders {before} and {after}")
        count = free // stride + 1
        if facts.get("ceil") and free % stride and count * stride < size + before:
            count += 1
        found.append(count)
    return tuple(found)


def check_window(rank: int, facts: Facts) -> None:
    """Raises ValueError unless strides, dilations and pads fit `rank` spatial axes and are positive."""
    for name, count, least in (("strides", rank, 1), ("dilations", rank, 1), ("pads", 2 * rank, None)):
        values = facts[name]
        if len(values) != count:
            raise ValueError(f"{name} {tuple(values)} for {rank} spatial axes")
        if least is not None and min(values, default=least) < least:
            raise ValueError(f"{name} {tuple(values)} below {least}")


def bordered(x: Array, facts: Facts, fill: float, extra: int = 0) -> Array:
    """The image with its border, and `extra` more behind, where a last window may reach."""
    rank = x.ndim - 2
    pads = facts["pads"]
    spatial = [
        slice(max(-pads[axis], 0), x.shape[axis + 2] - max(-pads[axis + rank], 0)) for axis in range(rank)
    ]
    cut = (slice(None), slice(None), *spatial)
    border = [(0, 0), (0, 0)] + [
        (max(pads[axis], 0), max(pads[axis + rank], 0) + extra) for axis in range(rank)
    ]
    return np.pad(x[cut], border, constant_values=x.dtype.type(fill))


def taps(kernel: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every place in the window, row-major."""
    return product(*map(range, kernel))


def shifted(image: Array, tap: Sequence[int], out: Sequence[int], facts: Facts) -> Array:
    """What one place of the window sees at every position: a strided part of the image with its border."""
    parts = [slice(None), slice(None)]
    for place, count, stride, dilation in zip(tap, out, facts["strides"], facts["dilations"], strict=True):
        start = place * dilation
        parts.append(slice(start, start + stride * (count - 1) + 1, stride))
    return image[tuple(parts)]
