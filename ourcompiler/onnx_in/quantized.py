"""Integers that stand for numbers: scales are rows in float32, products are exact in int32."""

from collections.abc import Sequence
from math import prod

import numpy as np

from ourcompiler.ir.index import Space
from ourcompiler.ir.index_map import index_map
from ourcompiler.ir.types import DType
from ourcompiler.onnx_in.neural import borders, integers_of, window_facts
from ourcompiler.onnx_in.site import Convert, Site, element_type
from ourcompiler.onnx_in.value import Value, names, operand, optional
from ourcompiler.ops.table import axis_of
from ourcompiler.ops.window import output_sizes

QUANTIZED = frozenset({DType.I8, DType.U8, DType.I16, DType.U16})
STEPS = 255.0
"""Of an unsigned byte."""


def _placed(x: Value, like: Value) -> Value:
    """A scale or zero point for everything, for each place of an axis, or for blocks along it."""
    site, block = x.site, x.site.attribute("block_size", 0)
    if x.type.element_count == 1:
        return x.reshape()
    axis = axis_of(site.attribute("axis", 1), like.rank)
    if block:
        wide = x.take(axis, np.arange(like.shape[axis]) // block)
        if wide.shape != like.shape:
            raise site.error(
                f"scales of {x.shape} for blocks of {block} of {like.shape}", "one for each block"
            )
        return wide
    if x.shape != (like.shape[axis],):
        raise site.error(f"scales of {x.shape} along axis {axis} of {like.shape}", "one for each place")
    return x.reshape(*[x.shape[0] if one == axis else 1 for one in range(like.rank)])


def _saturated(x: Value, zero: Value | None, target: DType) -> Value:
    """To the nearest integer, halves to even, moved by the zero point, within what the type holds."""
    if target not in QUANTIZED:
        raise x.site.error(f"quantized to {target.value}", f"there are {', '.join(_names())}")
    rounded = x.apply("Round")
    moved = rounded if zero is None else rounded + zero.cast(DType.F32)
    bounds = np.iinfo(target.numpy)
    return moved.clip(float(bounds.min), float(bounds.max)).cast(target)


def _names() -> list[str]:
    return sorted(one.value for one in QUANTIZED)


def _quantize(site: Site) -> Sequence[str]:
    x, scale, zero = operand(site, 0), operand(site, 1), optional(site, 2)
    code, precision = site.attribute("output_dtype", 0), site.attribute("precision", 0)
    target = element_type(code, site.where) if code else zero.dtype if zero else DType.U8
    if zero is not None and zero.dtype is not target:
        raise site.error(f"a zero point of {zero.dtype.value} for {target.value}", "they have the same type")
    dtype = element_type(precision, site.where) if precision else scale.dtype
    quotient = x.cast(dtype) / _placed(scale, x).cast(dtype)
    moved = None if zero is None else _placed(zero, x)
    return names(_saturated(quotient.cast(DType.F32), moved, target))


def _dequantize(site: Site) -> Sequence[str]:
    x, scale, zero = operand(site, 0), operand(site, 1), optional(site, 2)
    code = site.attribute("output_dtype", 0)
    target = element_type(code, site.where) if code else scale.dtype
    wide = x.cast(DType.F32)
    if zero is not None:
        wide = wide - _placed(zero, x).cast(DType.F32)
    return names((wide * _placed(scale, x).cast(DType.F32)).cast(target))


def _quantize_by_extremes(site: Site) -> Sequence[str]:
    """To unsigned bytes, so that 0 and both extremes are among them."""
    x = operand(site, 0)
    every = range(x.rank)
    high = x.reduce("ReduceMax", every, keep=False).apply("Max", 0.0)
    low = x.reduce("ReduceMin", every, keep=False).apply("Min", 0.0)
    span = high - low
    scale = span.equal(0.0).choose(1.0, span) / STEPS
    zero = (0.0 - low / scale).clip(0.0, STEPS).apply("Round")
    found = ((x / scale).apply("Round") + zero).clip(0.0, STEPS)
    return names(found.cast(DType.U8), scale, zero.cast(DType.U8))


def _wide(x: Value, zero: Value | None) -> Value:
    """As int32, around 0."""
    return x.cast(DType.I32) if zero is None else x.cast(DType.I32) - zero.cast(DType.I32)


def _for_rows(x: Value) -> Value:
    """One number for each row of a matrix."""
    return x.reshape(*x.shape, 1) if x.rank == 1 and x.shape[0] > 1 else x


def _matmul_integer(site: Site) -> Sequence[str]:
    left_zero, right_zero = optional(site, 2), optional(site, 3)
    left = _wide(operand(site, 0), None if left_zero is None else _for_rows(left_zero))
    return names(left @ _wide(operand(site, 1), right_zero))


def _quantized_matmul(site: Site) -> Sequence[str]:
    left, left_scale, left_zero, right, right_scale, right_zero, scale, zero = (
        operand(site, number) for number in range(8)
    )
    product = _wide(left, _for_rows(left_zero)) @ _wide(right, right_zero)
    scales = [one.cast(DType.F32) for one in (_for_rows(left_scale), right_scale, scale)]
    found = product.cast(DType.F32) * (scales[0] * scales[1] / scales[2])
    return names(_saturated(found, zero, zero.dtype))


def _for_channels(x: Value, rank: int) -> Value:
    """One number for each first axis of a weight."""
    return x.reshape() if x.type.element_count == 1 else x.reshape(x.shape[0], *[1] * (rank - 1))


def _convolved(image: Value, weight: Value) -> Value:
    """A convolution as a product of matrices, exact in the integers: the patches are a view."""
    site, rank, groups = image.site, image.rank - 2, image.site.attribute("group", 1)
    batch, channels, kernel = image.shape[0], image.shape[1], weight.shape[2:]
    if weight.rank != image.rank or channels != weight.shape[1] * groups or weight.shape[0] % groups:
        hint = "the weights are (outputs, channels / groups, window)"
        raise site.error(f"{channels} channels, weights of {weight.shape}, {groups} groups", hint)
    facts = window_facts(site, rank)
    pads = borders(site, image.shape[2:], kernel, facts)
    for axis in range(rank):
        image = image.pad(axis + 2, pads[axis], pads[axis + rank])
    facts["pads"] = (0,) * (2 * rank)
    out = output_sizes(image.shape[2:], kernel, facts)
    shape = (batch, groups, channels // groups, *kernel, *out)
    space = Space(shape)
    dims = space.dims()
    steps = zip(integers_of(facts, "strides"), integers_of(facts, "dilations"), strict=True)
    places = [
        space.add(space.multiply(dims[3 + rank + axis], stride), space.multiply(dims[3 + axis], dilation))
        for axis, (stride, dilation) in enumerate(steps)
    ]
    channel = space.add(space.multiply(dims[1], channels // groups), dims[2])
    patches = image.seen(index_map(shape, image.shape, [dims[0], channel, *places]))
    inner = prod(weight.shape[1:])
    columns = patches.reshape(batch, groups, inner, prod(out))
    found = weight.reshape(groups, weight.shape[0] // groups, inner) @ columns
    return found.reshape(batch, weight.shape[0], *out)


def _conv_integer(site: Site) -> Sequence[str]:
    image, weight, zero = operand(site, 0), operand(site, 1), optional(site, 3)
    wide = _wide(weight, None if zero is None else _for_channels(zero, weight.rank))
    return names(_convolved(_wide(image, optional(site, 2)), wide))


def _quantized_conv(site: Site) -> Sequence[str]:
    image, image_scale, image_zero, weight, weight_scale, weight_zero, scale, zero = (
        operand(site, number) for number in range(8)
    )
    found = _convolved(_wide(image, image_zero), _wide(weight, _for_channels(weight_zero, weight.rank)))
    bias = optional(site, 8)
    if bias is not None:
        found = found + _for_channels(bias, weight.rank - 1)
    of_weight = weight_scale.reshape() if weight_scale.type.element_count == 1 else weight_scale
    factor = image_scale.reshape() * of_weight / scale.reshape()
    found = found.cast(DType.F32) * _for_channels(factor, weight.rank - 1).cast(DType.F32)
    return names(_saturated(found, zero.reshape(), zero.dtype))


ROWS: dict[str, Convert] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _quantize_by_extremes,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _quantized_matmul,
    "ConvInteger": _conv_integer,
    "QLinearConv": _quantized_conv,
}
