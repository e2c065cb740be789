"""Convolution over any number of spatial axes, and its transpose."""

from typing import Any

import numpy as np

from ourcompiler.ir.graph import Array, Attribute
from ourcompiler.ir.types import FLOATS, TensorType
from ourcompiler.ops.reduce import operand
from ourcompiler.ops.table import (
    Arrays,
    Facts,
    LayoutClass,
    Mapping5,
    OpDef,
    Sample,
    Template,
    Types,
    f32,
    given,
)
from ourcompiler.ops.window import bordered, check_window, output_sizes, shifted, span, taps


def _operands(types: Types) -> tuple[TensorType, TensorType]:
    image, weight = given(types, 0), given(types, 1)
    if image.dtype not in FLOATS or image.dtype is not weight.dtype:
        raise ValueError(f"a convolution of {image.dtype.value} with {weight.dtype.value}")
    if image.rank < 3 or weight.rank != image.rank:
        raise ValueError(f"an image of {image.shape} and weights of {weight.shape}")
    return image, weight


def _check_bias(types: Types, channels: int) -> None:
    bias = types[2] if len(types) > 2 else None
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"a bias of {bias.shape} for {channels} channels")


def _infer(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    image, weight = _operands(types)
    check_window(image.rank - 2, facts)
    groups, channels = facts["group"], weight.shape[0]
    if groups < 1 or image.shape[1] != weight.shape[1] * groups or channels % groups:
        raise ValueError(f"{image.shape[1]} channels, weights of {weight.shape}, {groups} groups")
    _check_bias(types, channels)
    sizes = output_sizes(image.shape[2:], weight.shape[2:], facts)
    return (TensorType(image.dtype, (image.shape[0], channels, *sizes)),)


def _convolve(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    """A product of matrices for each place of the window."""
    x, weight = operand(arrays, 0), operand(arrays, 1)
    groups, kernel = facts["group"], weight.shape[2:]
    out = output_sizes(x.shape[2:], kernel, facts)
    image = bordered(x.astype(np.float64), facts, 0.0)
    split: Any = weight.astype(np.float64).reshape(groups, -1, *weight.shape[1:])
    total = np.zeros((x.shape[0], groups, split.shape[1], int(np.prod(out))))
    for tap in taps(kernel):
        seen = shifted(image, tap, out, facts).reshape(x.shape[0], groups, weight.shape[1], -1)
        total += np.einsum("goc,ngcp->ngop", split[(..., *tap)], seen, optimize=True)
    total = total.reshape(x.shape[0], weight.shape[0], *out)
    bias = arrays[2] if len(arrays) > 2 else None
    if bias is not None:
        total += bias.astype(np.float64).reshape(-1, *[1] * len(kernel))
    return (total.astype(x.dtype),)


def _infer_transposed(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    image, weight = _operands(types)
    rank = image.rank - 2
    check_window(rank, facts)
    groups = facts["group"]
    if groups < 1 or image.shape[1] != weight.shape[0] or weight.shape[0] % groups:
        raise ValueError(f"{image.shape[1]} channels, weights of {weight.shape}, {groups} groups")
    _check_bias(types, weight.shape[1] * groups)
    sizes = transposed_sizes(image.shape[2:], weight.shape[2:], facts)
    return (TensorType(image.dtype, (image.shape[0], weight.shape[1] * groups, *sizes)),)


def transposed_sizes(sizes: tuple[int, ...], kernel: tuple[int, ...], facts: Facts) -> tuple[int, ...]:
    """Spatial sizes of the output; raises ValueError for an empty one."""
    rank, pads = len(sizes), facts["pads"]
    if min(pads, default=0) < 0:
        raise ValueError(f"pads {tuple(pads)} below 0")
    found = tuple(
        facts["strides"][axis] * (sizes[axis] - 1)
        + facts["output_padding"][axis]
        + span(kernel[axis], facts["dilations"][axis])
        - pads[axis]
        - pads[axis + rank]
        for axis in range(rank)
    )
    if min(found) < 1:
        raise ValueError(f"an output of {found}")
    return found


def _convolve_transposed(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    """Every input element is spread over the window, and what meets is added."""
    x, weight = operand(arrays, 0), operand(arrays, 1)
    groups, kernel = facts["group"], weight.shape[2:]
    rank, batch, sizes = len(kernel), x.shape[0], x.shape[2:]
    wide: Any = x.astype(np.float64).reshape(batch, groups, -1, *sizes)
    split: Any = weight.astype(np.float64).reshape(groups, -1, *weight.shape[1:])
    out = transposed_sizes(sizes, kernel, facts)
    pads = facts["pads"]
    reach = [
        facts["strides"][axis] * (sizes[axis] - 1) + span(kernel[axis], facts["dilations"][axis])
        for axis in range(rank)
    ]
    whole = tuple(max(size + pads[axis] + pads[axis + rank], reach[axis]) for axis, size in enumerate(out))
    total = np.zeros((batch, groups, weight.shape[1], *whole))
    for tap in taps(kernel):
        spread = np.einsum("gco,ngc...->ngo...", split[(..., *tap)], wide, optimize=True)
        place = tuple(
            slice(start * dilation, start * dilation + stride * (size - 1) + 1, stride)
            for start, dilation, stride, size in zip(
                tap, facts["dilations"], facts["strides"], sizes, strict=True
            )
        )
        total[(slice(None), slice(None), slice(None), *place)] += spread
    cut = tuple(slice(pads[axis], pads[axis] + size) for axis, size in enumerate(out))
    found = total[(slice(None), slice(None), slice(None), *cut)].reshape(batch, -1, *out)
    bias = arrays[2] if len(arrays) > 2 else None
    if bias is not None:
        found = found + bias.astype(np.float64).reshape(-1, *[1] * rank)
    return (found.astype(x.dtype),)


def conv_facts(
    rank: int,
    *,
    strides: int = 1,
    dilations: int = 1,
    pads: int = 0,
    group: int = 1,
    output_padding: int | None = None,
) -> dict[str, Attribute]:
    """Attributes that are the same along every spatial axis."""
    found: dict[str, Attribute] = {
        "strides": (strides,) * rank,
        "dilations": (dilations,) * rank,
        "pads": (pads,) * (2 * rank),
        "group": group,
    }
    if output_padding is not None:
        found["output_padding"] = (output_padding,) * rank
    return found


CONV = OpDef(
    name="Conv",
    mapping=Mapping5.MANY_TO_MANY,
    layout=LayoutClass.DEPENDENT_VARIABLE,
    infer=_infer,
    reference=_convolve,
    code=Template("conv"),
    samples=(
        Sample((f32(1, 3, 9, 7), f32(8, 3, 3, 3), f32(8)), conv_facts(2, pads=1)),
        Sample((f32(2, 16, 6, 6), f32(33, 16, 1, 1), None), conv_facts(2)),
        Sample((f32(1, 8, 11, 9), f32(8, 1, 7, 7), f32(8)), conv_facts(2, pads=3, group=8)),
        Sample((f32(1, 8, 8, 8), f32(12, 2, 3, 3), None), conv_facts(2, pads=1, group=4)),
        Sample((f32(2, 16, 9, 70), f32(16, 1, 3, 3), f32(16)), conv_facts(2, pads=1, group=16)),
        Sample((f32(1, 32, 9, 11), f32(32, 4, 3, 3), f32(32)), conv_facts(2, strides=2, pads=1, group=8)),
        Sample((f32(1, 16, 5, 6), f32(16, 2, 3, 3), None), conv_facts(2, group=8)),
        Sample((f32(1, 32, 9, 7), f32(32, 8, 3, 3), f32(32)), conv_facts(2, dilations=2, pads=2, group=4)),
        Sample((f32(2, 24, 90), f32(24, 1, 31), f32(24)), conv_facts(1, pads=15, group=24)),
        Sample((f32(1, 8, 4, 5, 6), f32(8, 1, 3, 3, 3), f32(8)), conv_facts(3, pads=1, group=8)),
        Sample((f32(1, 8, 3, 2), f32(8, 1, 2, 2), None), conv_facts(2, dilations=900, pads=450, group=8)),
        Sample((f32(1, 3, 15, 15), f32(5, 3, 3, 3), f32(5)), conv_facts(2, strides=2, dilations=2, pads=2)),
        Sample((f32(1, 4, 31), f32(6, 4, 5), f32(6)), conv_facts(1, pads=2)),
        Sample((f32(2, 3, 24, 21), f32(20, 3, 8, 18), f32(20)), conv_facts(2, strides=2, pads=5)),
        Sample((f32(1, 2, 12, 12), f32(5, 2, 4, 4), None), conv_facts(2, strides=4)),
        Sample((f32(1, 3, 5, 6, 7), f32(4, 3, 3, 3, 3), f32(4)), conv_facts(3, pads=1)),
        Sample(
            (f32(1, 2, 7, 8), f32(3, 2, 2, 3), None),
            {**conv_facts(2), "pads": (0, 1, 2, 0), "strides": (1, 2)},
        ),
    ),
    attributes=("strides", "dilations", "pads", "group"),
)

CONV_TRANSPOSE = OpDef(
    name="ConvTranspose",
    mapping=Mapping5.MANY_TO_MANY,
    layout=LayoutClass.DEPENDENT_VARIABLE,
    infer=_infer_transposed,
    reference=_convolve_transposed,
    code=Template("conv_transpose"),
    samples=(
        Sample((f32(1, 3, 5, 4), f32(3, 6, 2, 2), f32(6)), conv_facts(2, strides=2, output_padding=0)),
        Sample(
            (f32(1, 4, 5, 5), f32(4, 3, 3, 3), None),
            conv_facts(2, strides=2, pads=1, group=2, output_padding=1),
        ),
        Sample((f32(2, 3, 9), f32(3, 2, 4), f32(2)), conv_facts(1, strides=3, dilations=2, output_padding=0)),
    ),
    attributes=("strides", "dilations", "pads", "group", "output_padding"),
)

ROWS = (CONV, CONV_TRANSPOSE)
