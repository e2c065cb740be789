"""Normalisation: a mean and a variance over some axes, then scale and bias."""

from collections.abc import Callable

import numpy as np

from ourcompiler.ir.graph import Array
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
    axis_of,
    f32,
    given,
)

TOLERANCE = 2e-5


def _float(types: Types) -> TensorType:
    source = given(types, 0)
    if source.dtype not in FLOATS:
        raise ValueError(f"elements of type {source.dtype.value}")
    return source


def _infer_layer(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    """Scale and bias have the shape of the normalised axes, or broadcast to it."""
    source = _float(types)
    axis = axis_of(facts["axis"], source.rank)
    for number in (1, 2):
        one = types[number] if number < len(types) else None
        if one is not None and np.broadcast_shapes(one.shape, source.shape[axis:]) != source.shape[axis:]:
            raise ValueError(f"a scale or bias of {one.shape} for {source.shape[axis:]}")
    return (source,)


def _layer(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x = operand(arrays)
    wide = x.astype(np.float64)
    axes = tuple(range(axis_of(facts["axis"], x.ndim), x.ndim))
    centred = wide - wide.mean(axis=axes, keepdims=True)
    found = centred / np.sqrt(np.mean(centred**2, axis=axes, keepdims=True) + facts["epsilon"])
    return (_scaled(found, arrays, 1).astype(x.dtype),)


def _rms(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x = operand(arrays)
    wide = x.astype(np.float64)
    axes = tuple(range(axis_of(facts["axis"], x.ndim), x.ndim))
    found = wide / np.sqrt(np.mean(wide**2, axis=axes, keepdims=True) + facts["epsilon"])
    return (_scaled(found, arrays, 1).astype(x.dtype),)


def _scaled(found: Array, arrays: Arrays, number: int) -> Array:
    """Times the scale, plus the bias, where they are given."""
    scale = arrays[number] if number < len(arrays) else None
    bias = arrays[number + 1] if number + 1 < len(arrays) else None
    found = found if scale is None else found * scale.astype(np.float64)
    return found if bias is None else found + bias.astype(np.float64)


def _infer_group(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source = _float(types)
    if source.rank < 2 or facts["groups"] < 1 or source.shape[1] % facts["groups"]:
        raise ValueError(f"{facts['groups']} groups of the channels of {source.shape}")
    for number in (1, 2):
        one = types[number] if number < len(types) else None
        if one is not None and one.shape != (source.shape[1],):
            raise ValueError(f"a scale or bias of {one.shape} for {source.shape[1]} channels")
    return (source,)


def _group(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x = operand(arrays)
    wide = x.astype(np.float64).reshape(x.shape[0], facts["groups"], -1)
    centred = wide - wide.mean(axis=2, keepdims=True)
    found = centred / np.sqrt(np.mean(centred**2, axis=2, keepdims=True) + facts["epsilon"])
    column = (-1, *[1] * (x.ndim - 2))
    rest = [None if one is None else one.reshape(column) for one in arrays[1:]]
    return (_scaled(found.reshape(x.shape), (x, *rest), 1).astype(x.dtype),)


def _layer_row(name: str, reference: Callable[[Arrays, Facts], tuple[Array, ...]], operands: int) -> OpDef:
    cases = (((4, 33), (33,), -1), ((2, 7, 96), (96,), 2), ((3, 4, 5), (4, 5), 1), ((2, 8), (1,), 1))
    samples = [
        Sample((f32(*shape), *[f32(*scale)] * (operands - 1)), {"axis": axis, "epsilon": 1e-5})
        for shape, scale, axis in cases
    ]
    plain: tuple[TensorType | None, ...] = (f32(5, 16), *[None] * (operands - 1))
    samples.append(Sample(plain, {"axis": -1, "epsilon": 1e-5}))
    return OpDef(
        name=name,
        mapping=Mapping5.MANY_TO_MANY,
        layout=LayoutClass.DEPENDENT_VARIABLE,
        infer=_infer_layer,
        reference=reference,
        code=Template("normalize"),
        samples=tuple(samples),
        attributes=("axis", "epsilon"),
        tolerance=TOLERANCE,
    )


GROUP = OpDef(
    name="GroupNorm",
    mapping=Mapping5.MANY_TO_MANY,
    layout=LayoutClass.DEPENDENT_VARIABLE,
    infer=_infer_group,
    reference=_group,
    code=Template("normalize"),
    samples=(
        Sample((f32(1, 8, 5, 7), f32(8), f32(8)), {"groups": 2, "epsilon": 1e-5}),
        Sample((f32(2, 6, 9), f32(6), f32(6)), {"groups": 6, "epsilon": 1e-5}),
        Sample((f32(2, 4, 3, 3), None, None), {"groups": 1, "epsilon": 1e-6}),
    ),
    attributes=("groups", "epsilon"),
    tolerance=TOLERANCE,
)

ROWS = (_layer_row("LayerNorm", _layer, 3), _layer_row("RMSNorm", _rms, 2), GROUP)
