"""Resize and Upsample: along each axis a known table of source places, and known weights between them.

Nearest is a view and nothing else. Linear and cubic are sums of views times weights, one axis after another.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isclose, isfinite
from typing import Any

import numpy as np

from ourcompiler.ir.graph import Array
from ourcompiler.ir.types import DType
from ourcompiler.onnx_in.site import Convert, Site
from ourcompiler.onnx_in.value import Value, along, names, operand
from ourcompiler.ops.table import axis_of

FIRST_OPSET_WITH_REGION = 11
"""Before it, the second operand is the scales, and there are neither cubic nor coordinate modes."""
RADIUS = {"linear": 1, "cubic": 2}
"""How far an element reaches, in elements."""

ROUNDINGS: Mapping[str, Callable[[Array], Any]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """How a node resizes, the same along every axis."""

    mode: str
    transformation: str
    rounding: str = "floor"
    coefficient: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False
    fill: float = 0.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """One axis: its size, the wanted size, output elements for one of the source, the region of interest as a
    part of the whole, and whether a scale was given in place of a size.
    """

    source: int
    count: int
    scale: float
    start: float = 0.0
    stop: float = 1.0
    is_scaled: bool = False

    @property
    def width(self) -> float:
        """The wanted size before it was rounded."""
        return self.scale * self.source

    @property
    def changes_nothing(self) -> bool:
        """Whether the axis stays as it is."""
        whole = isclose(self.start, 0.0, abs_tol=1e-9) and isclose(self.stop, 1.0)
        return whole and self.count == self.source and isclose(self.scale, 1.0)


def coordinates(axis: Stretch, transformation: str, *, short: bool = False) -> Array:
    """Where each output element lies on the axis of the source, in float32 if `short`.

    Raises KeyError for an unknown rule.
    """
    out: Array = np.arange(axis.count, dtype=np.float32 if short else np.float64)
    last = axis.source - 1
    alone = axis.width == 1
    centres = (out + 0.5) / axis.scale - 0.5
    match transformation:
        case "half_pixel":
            return centres
        case "pytorch_half_pixel":
            return centres if axis.width > 1 else np.zeros_like(out)
        case "half_pixel_symmetric":
            return centres + axis.source / 2 * (1 - axis.count / axis.width)
        case "asymmetric":
            return out / axis.scale
        case "tf_half_pixel_for_nn":
            return (out + 0.5) / axis.scale
        case "align_corners":
            return np.zeros_like(out) if alone else out * last / (axis.width - 1)
        case "tf_crop_and_resize":
            part = axis.stop - axis.start
            inner = np.full_like(out, part * last / 2) if alone else out * part * last / (axis.width - 1)
            return inner + axis.start * last
    raise KeyError(transformation)


def taps(axis: Stretch, rule: Rule) -> tuple[Array, Array]:
    """Places in the source and their weights: a row for each output element."""
    place = coordinates(axis, rule.transformation)[:, None]
    shrink = min(axis.scale, 1.0) if rule.antialias else 1.0
    half = ceil(RADIUS[rule.mode] / shrink)
    found = np.ceil(place).astype(np.int64) - 1 + np.arange(1 - half, half + 1)
    weights = _kernel(np.abs(found - place) * shrink, rule)
    if rule.antialias:
        weights = weights / weights.sum(axis=1, keepdims=True)
    if rule.exclude_outside:
        weights = np.where((found < 0) | (found >= axis.source), 0.0, weights)
        total = weights.sum(axis=1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)
    return np.clip(found, 0, axis.source - 1), weights


def _kernel(far: Array, rule: Rule) -> Array:
    """The weight of an element at this distance."""
    if rule.mode == "linear":
        return np.asarray(np.clip(1 - far, 0, 1))
    a = rule.coefficient
    near = ((a + 2) * far - (a + 3)) * far * far + 1
    away = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
    return np.where(far <= 1, near, np.where(far < 2, away, 0.0))


def nearest(axis: Stretch, rule: Rule) -> Array:
    """The place in the source for each output element.

    With scales in float32 as they are: what is halfway between two elements there is not in float64.
    """
    place = coordinates(axis, rule.transformation, short=axis.is_scaled)
    rounded = ROUNDINGS[rule.rounding](place)
    return np.asarray(np.clip(rounded, 0, axis.source - 1), np.int64)


def resized(x: Value, stretches: Mapping[int, Stretch], rule: Rule) -> Value:
    """The value with some axes stretched."""
    found = x
    if rule.mode != "nearest" and x.dtype not in (DType.F32, DType.F64):
        found = x.cast(DType.F32)
    for number, axis in stretches.items():
        if axis.changes_nothing:
            continue
        table = nearest(axis, rule) if rule.mode == "nearest" else None
        whole = found.take(number, table) if table is not None else _weighted(found, number, axis, rule)
        found = _with_fill(whole, number, axis, rule)
    if found.dtype is x.dtype:
        return found
    if not x.dtype.is_float:
        bounds = np.iinfo(x.dtype.numpy)
        found = found.apply("Round").clip(float(bounds.min), float(bounds.max))
    return found.cast(x.dtype)


def _weighted(x: Value, number: int, axis: Stretch, rule: Rule) -> Value:
    """A sum of views; one whose weights are all nothing is left out, as nothing times infinity is not 0."""
    places, weights = taps(axis, rule)
    total: Value | None = None
    for place, weight in zip(places.T, weights.T, strict=True):
        if not weight.any():
            continue
        part = x.take(number, place) * along(weight, number, x.rank)
        total = part if total is None else total + part
    assert total is not None  # weights sum to 1
    return total


def _with_fill(x: Value, number: int, axis: Stretch, rule: Rule) -> Value:
    if rule.transformation != "tf_crop_and_resize":
        return x
    place = coordinates(axis, rule.transformation)
    outside = (place < 0) | (place > axis.source - 1)
    if not outside.any():
        return x
    mask = along(outside, number, x.rank)
    return Value(x.site, x.site.builder.constant(mask)).choose(rule.fill, x)


def _resize(site: Site) -> Sequence[str]:
    if site.opset < FIRST_OPSET_WITH_REGION:
        return _upsample(site)
    rule = Rule(
        mode=site.attribute("mode", "nearest"),
        transformation=site.attribute("coordinate_transformation_mode", "half_pixel"),
        rounding=site.attribute("nearest_mode", "round_prefer_floor"),
        coefficient=site.attribute("cubic_coeff_a", -0.75),
        antialias=bool(site.attribute("antialias", 0)),
        exclude_outside=bool(site.attribute("exclude_outside", 0)),
        fill=site.attribute("extrapolation_value", 0.0),
    )
    return names(_checked(site, _stretches(site, rule), rule))


def _upsample(site: Site) -> Sequence[str]:
    """Before coordinates had modes."""
    scales = site.known(1, "its scales") if site.has(1) else site.attribute("scales")
    if scales is None:
        raise site.error("its scales are missing", "give them as a constant")
    rank = site.type(0).rank
    rule = Rule(mode=site.attribute("mode", "nearest"), transformation="asymmetric")
    return names(_checked(site, _by_scales(site, range(rank), np.asarray(scales).reshape(-1)), rule))


def _checked(site: Site, stretches: Mapping[int, Stretch], rule: Rule) -> Value:
    x = operand(site, 0)
    if rule.mode not in ("nearest", *RADIUS):
        raise site.error(f"the mode {rule.mode!r}", f"there are nearest, {', '.join(RADIUS)}")
    if rule.rounding not in ROUNDINGS:
        raise site.error(f"the rounding {rule.rounding!r}", f"there are {', '.join(ROUNDINGS)}")
    if rule.mode == "nearest" and rule.antialias:
        raise site.error("antialias of the nearest element", "use linear or cubic, or leave it out")
    if rule.mode != "nearest" and x.dtype is DType.BOOL:
        raise site.error("a mean of booleans", "use the mode nearest, or cast them")
    for number, axis in stretches.items():
        if axis.count < 1 or axis.source < 1:
            raise site.error(
                f"axis {number} of {axis.source} resized to {axis.count}", "no axis may be empty"
            )
    try:
        return resized(x, stretches, rule)
    except KeyError as error:
        raise site.error(f"the coordinate transformation {error}", "see the standard's Resize") from error


def _stretches(site: Site, rule: Rule) -> dict[int, Stretch]:
    shape = site.type(0).shape
    axes = [axis_of(axis, len(shape)) for axis in site.attribute("axes", range(len(shape)))]
    sizes = site.integers(3, "sizes") if site.has(3) else ()
    if sizes:
        found = _by_sizes(site, axes, sizes)
    elif site.has(2) and site.type(2).element_count:
        found = _by_scales(site, axes, site.known(2, "its scales").reshape(-1))
    else:
        raise site.error("neither scales nor sizes", "give one of them as a constant")
    if rule.transformation != "tf_crop_and_resize":
        return found
    region = site.known(1, "its region of interest").reshape(-1).astype(np.float64)
    if len(region) != 2 * len(axes):
        raise site.error(f"a region of {len(region)} numbers for {len(axes)} axes", "starts, then ends")
    return {
        axis: replace(one, start=region[number], stop=region[number + len(axes)])
        for number, (axis, one) in enumerate(found.items())
    }


def _by_sizes(site: Site, axes: Sequence[int], sizes: Sequence[int]) -> dict[int, Stretch]:
    shape, policy = site.type(0).shape, site.attribute("keep_aspect_ratio_policy", "stretch")
    if len(sizes) != len(axes):
        raise site.error(f"{len(sizes)} sizes for {len(axes)} axes", "one for each axis")
    ratios = [size / shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    if policy == "stretch":
        pairs = zip(axes, sizes, ratios, strict=True)
        return {axis: Stretch(shape[axis], size, ratio) for axis, size, ratio in pairs}
    if policy not in ("not_larger", "not_smaller"):
        raise site.error(f"the policy {policy!r}", "there are stretch, not_larger, not_smaller")
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return {axis: Stretch(shape[axis], int(scale * shape[axis] + 0.5), scale) for axis in axes}


def _by_scales(site: Site, axes: Sequence[int], scales: Array) -> dict[int, Stretch]:
    shape = site.type(0).shape
    if len(scales) != len(axes):
        raise site.error(f"{len(scales)} scales for {len(axes)} axes", "one for each axis")
    found = {}
    for axis, scale in zip(axes, scales.tolist(), strict=True):
        if not (isfinite(scale) and scale > 0):
            raise site.error(f"a scale of {scale}", "scales are above 0")
        count = int(np.float32(scale) * np.float32(shape[axis]))  # as the standard's shape inference does
        found[axis] = Stretch(shape[axis], count, scale, is_scaled=True)
    return found


ROWS: dict[str, Convert] = {"Resize": _resize, "Upsample": _upsample}
