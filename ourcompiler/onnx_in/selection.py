"""Masks, indices and borders: what is kept, moved or filled in."""

from collections.abc import Sequence
from math import prod

import numpy as np

from ourcompiler.ir.graph import Attribute
from ourcompiler.ir.types import DType
from ourcompiler.onnx_in.neural import integers_of
from ourcompiler.onnx_in.site import Convert, Site, element_type
from ourcompiler.onnx_in.value import Value, along, constant, names, operand, optional
from ourcompiler.ops.table import axis_of


def _triangle(site: Site) -> Sequence[str]:
    """One half of each matrix; the other becomes 0, whatever was there."""
    x = operand(site, 0)
    if x.rank < 2:
        raise site.error(f"a triangle of {x.shape}", "an operand has 2 axes or more")
    ahead = int(site.known(1, "its diagonal").reshape(-1)[0]) if site.has(1) else 0
    ones = np.ones(x.shape[-2:], bool)
    kept = np.triu(ones, ahead) if site.attribute("upper", 1) else np.tril(ones, ahead)
    return names(constant(site, kept).choose(x, 0))


def _one_hot(site: Site) -> Sequence[str]:
    """Which place an index names; indices from behind count, those outside name none."""
    indices, values = operand(site, 0).cast(DType.I64), operand(site, 2)
    depth = int(site.known(1, "its depth").reshape(-1)[0])
    if depth < 1:
        raise site.error(f"a depth of {depth}", "1 or more")
    axis = axis_of(site.attribute("axis", -1), indices.rank + 1)
    wide = indices.reshape(*indices.shape[:axis], 1, *indices.shape[axis:])
    places = indices.constant(along(np.arange(depth), axis, wide.rank))
    found = wide.less(0).choose(wide + depth, wide).equal(places)
    return names(found.choose(values.at(0, 1), values.at(0, 0)))


def _compress(site: Site) -> Sequence[str]:
    """A known condition is a table of places."""
    x, axis = operand(site, 0), site.attribute("axis")
    if axis is None:
        x, axis = x.reshape(x.type.element_count), 0
    axis = axis_of(axis, x.rank)
    places = np.flatnonzero(site.known(1, "the shape of its result"))
    if places.size and places[-1] >= x.shape[axis]:
        raise site.error(
            f"a condition of {places[-1] + 1} elements on an axis of {x.shape[axis]}", "no longer"
        )
    return names(x.take(axis, places))


def _non_zero(site: Site) -> Sequence[str]:
    """Of a constant."""
    found = np.array(np.nonzero(site.known(0, "the shape of its result")), np.int64)
    return (site.builder.constant(found),)


def _reverse_sequence(site: Site) -> Sequence[str]:
    """The first elements along one axis, as many as each of the batch has, in reverse."""
    x = operand(site, 0)
    time, batch = (
        axis_of(site.attribute(name, usual), x.rank) for name, usual in (("time_axis", 0), ("batch_axis", 1))
    )
    if time == batch:
        raise site.error(f"time and batch on one axis, {time}", "two different ones")
    lengths = operand(site, 1).cast(DType.I64)
    lengths = lengths.reshape(*[x.shape[batch] if axis == batch else 1 for axis in range(x.rank)])
    places = lengths.constant(along(np.arange(x.shape[time]), time, x.rank))
    turned = places.less(lengths).choose(lengths - 1 - places, places)
    return names(x.apply("GatherElements", turned.expand(*x.shape), axis=time))


def _center_crop_pad(site: Site) -> Sequence[str]:
    """The middle, or the whole with a border of 0 around; of an odd rest the larger half is behind."""
    x = operand(site, 0)
    axes = [axis_of(axis, x.rank) for axis in site.attribute("axes", range(x.rank))]
    sizes = site.integers(1, "shape")
    if len(sizes) != len(axes):
        raise site.error(f"{len(sizes)} sizes for {len(axes)} axes", "one for each axis")
    for axis, size in zip(axes, sizes, strict=True):
        rest = size - x.shape[axis]
        before = abs(rest) // 2
        x = x.pad(axis, before, rest - before) if rest > 0 else x.part(axis, before, before + size)
    return names(x)


def _columns_to_image(site: Site) -> Sequence[str]:
    """Patches added where they overlap: a transposed convolution whose weights pick each place of a patch."""
    x = operand(site, 0)
    image, block = site.integers(1, "image_shape"), site.integers(2, "block_shape")
    rank, places = len(image), prod(block)
    if x.rank != 3 or x.shape[1] % places or len(block) != rank:
        raise site.error(
            f"columns of {x.shape} in blocks of {block} of an image of {image}",
            "(batch, channels · block, blocks)",
        )
    facts: dict[str, Attribute] = {
        name: tuple(site.attribute(name, (1,) * rank)) for name in ("strides", "dilations")
    }
    pads = tuple(site.attribute("pads", (0,) * (2 * rank)))
    counts, extra = [], []
    for axis, (stride, dilation) in enumerate(
        zip(integers_of(facts, "strides"), integers_of(facts, "dilations"), strict=True)
    ):
        free = image[axis] + pads[axis] + pads[axis + rank] - dilation * (block[axis] - 1) - 1
        counts.append(free // stride + 1)
        extra.append(free % stride)
    channels = x.shape[1] // places
    if prod(counts) != x.shape[2]:
        raise site.error(f"{x.shape[2]} blocks where {counts} fit", "see pads, strides and dilations")
    weight = x.constant(np.eye(places).reshape(places, 1, *block))
    facts |= {"pads": pads, "group": 1, "output_padding": tuple(extra)}
    patches = x.reshape(x.shape[0] * channels, places, *counts)
    found = Value(site, site.emit("ConvTranspose", (patches.name, weight.name, ""), **facts))
    return names(found.reshape(x.shape[0], channels, *image))


def _max_unpool(site: Site) -> Sequence[str]:
    """Maxima back to where they were; the rest is 0."""
    x, indices = operand(site, 0), operand(site, 1)
    kernel = site.attribute("kernel_shape")
    rank = len(kernel)
    strides, pads = site.attribute("strides", (1,) * rank), site.attribute("pads", (0,) * (2 * rank))
    sizes = [
        (x.shape[axis + 2] - 1) * strides[axis] - pads[axis] - pads[axis + rank] + kernel[axis]
        for axis in range(rank)
    ]
    shape = (*x.shape[:2], *sizes)
    zeros = constant(site, np.zeros(prod(shape), x.dtype.numpy))
    count = x.type.element_count
    facts: dict[str, Attribute] = {"axis": 0, "reduction": "none"}
    found = zeros.apply("ScatterElements", indices.reshape(count), x.reshape(count), **facts).reshape(*shape)
    if site.has(2):
        for axis, size in enumerate(site.integers(2, "output_shape")):
            found = found.pad(axis, 0, size - found.shape[axis])
    return names(found)


def _tensor_scatter(site: Site) -> Sequence[str]:
    """An update written into a cache, from its own place for each of the batch."""
    cache, update, starts = operand(site, 0), operand(site, 1), optional(site, 2)
    axis = axis_of(site.attribute("axis", -2), cache.rank)
    mode = site.attribute("mode", "linear")
    if axis == 0 or mode not in ("linear", "circular"):
        raise site.error(f"the mode {mode!r} along axis {axis}", "linear or circular, not along the batch")
    places = constant(site, along(np.arange(update.shape[axis], dtype=np.int64), axis, cache.rank))
    if starts is not None:
        first = starts.cast(DType.I64).reshape(
            *[cache.shape[0] if one == 0 else 1 for one in range(cache.rank)]
        )
        places = places + first
    if mode == "circular":
        places = places % cache.shape[axis]
    facts: dict[str, Attribute] = {"axis": axis, "reduction": "none"}
    return names(cache.apply("ScatterElements", places.expand(*update.shape), update, **facts))


def _bit_cast(site: Site) -> Sequence[str]:
    x, target = operand(site, 0), element_type(site.attribute("to"), site.where)
    if target.byte_count != x.dtype.byte_count:
        hint = "both types have the same number of bytes"
        raise site.error(f"the bits of {x.dtype.value} as {target.value}", hint)
    return names(x.apply("BitCast", to=target.value))


ROWS: dict[str, Convert] = {
    "Trilu": _triangle,
    "OneHot": _one_hot,
    "Compress": _compress,
    "NonZero": _non_zero,
    "ReverseSequence": _reverse_sequence,
    "CenterCropPad": _center_crop_pad,
    "Col2Im": _columns_to_image,
    "MaxUnpool": _max_unpool,
    "TensorScatter": _tensor_scatter,
    "BitCast": _bit_cast,
}
