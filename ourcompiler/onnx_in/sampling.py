"""Elements between elements, at places that are computed: GridSample, RoiAlign and DeformConv as gathers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from math import prod

import numpy as np

from ourcompiler.ir.graph import Array
from ourcompiler.ir.types import DType
from ourcompiler.onnx_in.neural import integers_of, window_facts
from ourcompiler.onnx_in.site import Convert, Site
from ourcompiler.onnx_in.value import Value, along, names, operand, optional

CUBIC = -0.75
OLD_MODES = {"bilinear": "linear", "bicubic": "cubic"}
FIRST_OPSET_WITH_HALF_PIXELS = 16
"""Of RoiAlign; before it, the middle of a pixel was its corner."""
PADDINGS = ("zeros", "border", "reflection")


@dataclass(frozen=True, slots=True)
class Tap:
    """Places along one axis that are read, how much they weigh, and where there is nothing to read."""

    index: Value
    weight: Value | None
    inside: Value | None


@dataclass(frozen=True, slots=True)
class Edge:
    """What is read beyond the ends of an axis, which lie in the middle of its last elements if `aligned`."""

    size: int
    padding: str
    aligned: bool

    @property
    def period(self) -> int:
        """Twice its length: after it a reflection repeats."""
        return 2 * (self.size - 1) if self.aligned else 2 * self.size

    def tap(self, index: Value, weight: Value | None) -> Tap:
        """One place, an integer, which may lie beyond the ends still."""
        last, inside = self.size - 1, None
        if self.padding == "zeros":
            inside = index.constant(0).at_most(index) & index.at_most(last)
        elif self.padding == "reflection" and self.period:
            around = index % self.period
            index = around.apply("Min", (self.period if self.aligned else self.period - 1) - around)
        return Tap(index.clip(0, last), weight, inside)


def _linear(part: Value) -> list[tuple[int, Value]]:
    return [(0, 1.0 - part), (1, part)]


def _cubic(part: Value) -> list[tuple[int, Value]]:
    """Of the four elements around."""
    other = 1.0 - part

    def near(far: Value) -> Value:
        return ((CUBIC + 2) * far - (CUBIC + 3)) * far * far + 1.0

    def away(far: Value) -> Value:
        return ((CUBIC * far - 5 * CUBIC) * far + 8 * CUBIC) * far - 4 * CUBIC

    return [(-1, away(part + 1.0)), (0, near(part)), (1, near(other)), (2, away(other + 1.0))]


KERNELS: Mapping[str, Callable[[Value], list[tuple[int, Value]]]] = {"linear": _linear, "cubic": _cubic}


def _taps(place: Value, mode: str, edge: Edge) -> list[Tap]:
    """What is read along one axis."""
    if mode == "nearest":
        return [edge.tap(place.apply("Round").cast(DType.I64), None)]
    below = place.apply("Floor")
    first = below.cast(DType.I64)
    return [edge.tap(first + step, weight) for step, weight in KERNELS[mode](place - below)]


def _together(parts: Sequence[Value | None], fold: Callable[[Value, Value], Value]) -> Value | None:
    given = [one for one in parts if one is not None]
    return reduce(fold, given) if given else None


def _sampled(x: Value, taps: Sequence[Sequence[Tap]]) -> Value:
    """Elements of (batch, channels, *image) at places (batch, points): (batch, channels, points)."""
    batch, channels, *image = x.shape
    flat = x.reshape(batch, channels, prod(image))
    total: Value | None = None
    for chosen in product(*taps):
        index = chosen[0].index
        for size, tap in zip(image[1:], chosen[1:], strict=True):
            index = index * size + tap.index
        points = index.shape[1]
        found = flat.apply(
            "GatherElements", index.reshape(batch, 1, points).expand(batch, channels, points), axis=2
        )
        inside = _together([tap.inside for tap in chosen], Value.__and__)
        weight = _together([tap.weight for tap in chosen], Value.__mul__)
        found = found if inside is None else inside.reshape(batch, 1, points).choose(found, 0)
        found = found if weight is None else found * weight.reshape(batch, 1, points).cast(x.dtype)
        total = found if total is None else total + found
    assert total is not None
    return total


def _grid_sample(site: Site) -> Sequence[str]:
    x, grid = operand(site, 0), operand(site, 1)
    mode = site.attribute("mode", "linear")
    mode, padding = OLD_MODES.get(mode, mode), site.attribute("padding_mode", "zeros")
    rank = x.rank - 2
    if mode not in ("nearest", *KERNELS) or padding not in PADDINGS:
        raise site.error(
            f"the mode {mode!r} with padding {padding!r}", "nearest, linear, cubic; zeros, border, reflection"
        )
    if rank < 1 or grid.rank != rank + 2 or grid.shape[-1] != rank or grid.shape[0] != x.shape[0]:
        raise site.error(f"a grid of {grid.shape} for {x.shape}", "(batch, *places, axes)")
    wide = grid if grid.dtype is DType.F64 else grid.cast(DType.F32)
    aligned, points = bool(site.attribute("align_corners", 0)), prod(grid.shape[1:-1])
    taps = []
    for axis, size in enumerate(x.shape[2:]):
        along_axis = wide.at(wide.rank - 1, rank - 1 - axis).reshape(x.shape[0], points) + 1.0
        place = along_axis / 2.0 * (size - 1) if aligned else (along_axis * size - 1.0) / 2.0
        taps.append(_taps(place, mode, Edge(size, padding, aligned)))
    return names(_sampled(x, taps).reshape(*x.shape[:2], *grid.shape[1:-1]))


def _affine_grid(site: Site) -> Sequence[str]:
    """Places of an image, from −1 to 1, turned by a matrix for each of the batch."""
    matrices, sizes = operand(site, 0), site.integers(1, "size")[2:]
    rank = len(sizes)
    if matrices.rank != 3 or matrices.shape[1:] != (rank, rank + 1):
        raise site.error(f"matrices of {matrices.shape} for {rank} axes", "(batch, axes, axes + 1)")
    lines = [_line(size, bool(site.attribute("align_corners", 0))) for size in sizes]
    places = np.meshgrid(*lines, indexing="ij")
    ones = np.ones(sizes)
    flat = np.stack([*reversed(places), ones], axis=-1).reshape(-1, rank + 1)
    found = matrices.constant(flat) @ matrices.swapped(1, 2)
    return names(found.reshape(matrices.shape[0], *sizes, rank))


def _line(size: int, aligned: bool) -> Array:
    count = np.arange(size, dtype=np.float64)
    if aligned:
        return -1 + 2 * count / (size - 1) if size > 1 else count
    return -1 + (2 * count + 1) / size


def _roi_align(site: Site) -> Sequence[str]:
    """Every region cut into cells, and of a few samples in each the mean or the greatest."""
    x, regions, owners = (operand(site, number) for number in range(3))
    rows, columns = site.attribute("output_height", 1), site.attribute("output_width", 1)
    samples, mode = site.attribute("sampling_ratio", 0), site.attribute("mode", "avg")
    if samples < 1:
        raise site.error("as many samples as the data asks for", "export with a sampling_ratio above 0")
    if x.rank != 4 or mode not in ("avg", "max"):
        raise site.error(f"the mode {mode!r} for {x.shape}", "avg or max, on an image of 4 axes")
    count, size = regions.shape[0], (rows * samples, columns * samples)
    (down, row_inside), (across, column_inside) = (
        _cells(site, regions, axis, cells, samples) for axis, cells in ((0, rows), (1, columns))
    )
    pixels = x.transpose(0, 2, 3, 1).reshape(x.shape[0] * x.shape[2] * x.shape[3], x.shape[1])
    first = owners.cast(DType.I64).reshape(count, 1, 1) * (x.shape[2] * x.shape[3])
    parts = []
    for low, high in product(down, across):
        assert low.weight is not None
        assert high.weight is not None
        index = (
            first + low.index.reshape(count, size[0], 1) * x.shape[3] + high.index.reshape(count, 1, size[1])
        )
        weight = low.weight.reshape(count, size[0], 1, 1) * high.weight.reshape(count, 1, size[1], 1)
        parts.append(pixels.apply("Gather", index, axis=0) * weight.cast(x.dtype))
    whole = reduce(Value.__add__ if mode == "avg" else _greater, parts)
    inside = row_inside.reshape(count, size[0], 1, 1) & column_inside.reshape(count, 1, size[1], 1)
    cells = inside.choose(whole, 0).reshape(count, rows, samples, columns, samples, x.shape[1])
    folded = cells.reduce("ReduceMean" if mode == "avg" else "ReduceMax", (2, 4), keep=False)
    return names(folded.transpose(0, 3, 1, 2))


def _greater(left: Value, right: Value) -> Value:
    return left.apply("Max", right)


def _cells(site: Site, regions: Value, axis: int, cells: int, samples: int) -> tuple[list[Tap], Value]:
    """Taps of the samples along one axis, (regions, cells · samples), and whether they lie in the image."""
    image = site.type(0).shape[2 + axis]
    usual = "half_pixel" if site.opset >= FIRST_OPSET_WITH_HALF_PIXELS else "output_half_pixel"
    half = site.attribute("coordinate_transformation_mode", usual) == "half_pixel"
    ends = regions * site.attribute("spatial_scale", 1.0) - (0.5 if half else 0.0)
    start, stop = ends.part(1, 1 - axis, 2 - axis), ends.part(1, 3 - axis, 4 - axis)
    length = stop - start if half else (stop - start).apply("Max", 1.0)
    centres = np.arange(cells).repeat(samples) + (np.tile(np.arange(samples), cells) + 0.5) / samples
    place = start + length / float(cells) * length.constant(centres.reshape(1, -1))
    inside = place.constant(-1.0).at_most(place) & place.at_most(float(image))
    return _taps(place.clip(0.0, float(image - 1)), "linear", Edge(image, "border", aligned=True)), inside


def _deformed_conv(site: Site) -> Sequence[str]:
    """A convolution that reads beside its window, by an offset for every element of it."""
    x, weight, offset = (operand(site, number) for number in range(3))
    bias, mask = optional(site, 3), optional(site, 4)
    if x.rank != 4 or weight.rank != 4:
        raise site.error(f"an image of {x.shape}", "it has 4 axes")
    groups, owners = site.attribute("group", 1), site.attribute("offset_group", 1)
    batch, channels, window, out = x.shape[0], x.shape[1], weight.shape[2:], offset.shape[2:]
    reach, points = prod(window), prod(out)
    if channels % owners or channels != weight.shape[1] * groups or offset.shape[1] != owners * reach * 2:
        hint = "offsets are (batch, groups · window · 2, *places)"
        raise site.error(f"offsets of {offset.shape}, weights of {weight.shape}, {channels} channels", hint)
    moves = offset.reshape(batch * owners, reach, 2, points)
    taps = [
        _taps(
            (moves.at(2, axis) + base).reshape(batch * owners, reach * points),
            "linear",
            Edge(size, "zeros", True),
        )
        for axis, (size, base) in enumerate(zip(x.shape[2:], _window_places(site, window, out), strict=True))
    ]
    found = _sampled(x.reshape(batch * owners, channels // owners, *x.shape[2:]), taps)
    if mask is not None:
        found = found * mask.reshape(batch * owners, 1, reach * points)
    columns = found.reshape(batch, groups, channels // groups * reach, points)
    product_of = weight.reshape(groups, weight.shape[0] // groups, channels // groups * reach) @ columns
    whole = product_of.reshape(batch, weight.shape[0], *out)
    return names(whole if bias is None else whole + bias.reshape(bias.shape[0], 1, 1))


def _window_places(site: Site, window: Sequence[int], out: Sequence[int]) -> list[Array]:
    """Where each element of the window stands without an offset, (window, places), along both axes."""
    facts = window_facts(site, 2)
    pads = site.attribute("pads", (0, 0, 0, 0))
    found = []
    for axis in range(2):
        stride, dilation = integers_of(facts, "strides")[axis], integers_of(facts, "dilations")[axis]
        within = along(np.arange(window[axis]) * dilation, axis, 4)
        start = along(np.arange(out[axis]) * stride - pads[axis], 2 + axis, 4)
        whole = np.broadcast_to(within + start, (*window, *out)).astype(np.float64)
        found.append(whole.reshape(prod(window), prod(out)))
    return found


ROWS: dict[str, Convert] = {
    "GridSample": _grid_sample,
    "AffineGrid": _affine_grid,
    "RoiAlign": _roi_align,
    "DeformConv": _deformed_conv,
}
