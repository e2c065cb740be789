"""Elementwise operators on the bits of integers, and what bits mean in another type."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ourcompiler.ir.graph import Array
from ourcompiler.ir.scalar import Scalar, apply, where
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.elementwise import INTEGERS, pointwise
from ourcompiler.ops.table import (
    Arrays,
    Facts,
    LayoutClass,
    Mapping5,
    OpDef,
    Pointwise,
    Sample,
    Types,
    given,
)


def _shifted(x: Array, by: Array, direction: str, bits: int) -> Any:
    """By fewer than none or more than all bits: only copies of the sign are left, or zeros."""
    within = (by >= 0) & (by < bits)
    safe = np.where(within, by, 0).astype(x.dtype)
    if direction == "LEFT":
        return np.where(within, np.left_shift(x, safe), np.zeros_like(x))
    signs = -(x < 0).astype(x.dtype) if x.dtype.kind == "i" else np.zeros_like(x)
    return np.where(within, np.right_shift(x, safe), signs)


def _shift_code(x: Scalar, by: Scalar, direction: str, bits: int) -> Scalar:
    within = apply("and", apply("less_equal", 0, by), by < bits)
    if direction == "LEFT":
        return where(within, apply("shift_left", x, by), 0)
    return where(within, apply("shift_right", x, by), where(x < 0, -1, 0))


SHIFT = pointwise(
    "BitShift",
    2,
    _shifted,
    _shift_code,
    allowed=INTEGERS,
    attributes={"direction": "LEFT", "bits": 32},
    domain=(0.0, 7.0),
)
I8 = TensorType(DType.I8, (3, 4))
BEYOND = tuple(
    Sample((I8, I8), {"direction": direction, "bits": 8}, (-9.0, 9.0)) for direction in ("LEFT", "RIGHT")
)


def _infer_bits(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source, target = given(types, 0), DType(facts["to"])
    if target.byte_count != source.dtype.byte_count:
        raise ValueError(f"the bits of {source.dtype.value} as {target.value}")
    return (TensorType(target, source.shape),)


def _bits(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    if arrays[0] is None:
        raise ValueError("an operand is missing")
    return (arrays[0].view(DType(facts["to"]).numpy),)


BIT_CAST = OpDef(
    name="BitCast",
    mapping=Mapping5.ONE_TO_ONE,
    layout=LayoutClass.INDEPENDENT_VARIABLE,
    infer=_infer_bits,
    reference=_bits,
    code=Pointwise(lambda x, to: Scalar("bit_cast", (x,), dtype=DType(to))),
    samples=tuple(
        Sample((TensorType(one, (2, 9)),), {"to": to.value})
        for one, to in (
            (DType.F32, DType.I32),
            (DType.I32, DType.F32),
            (DType.F64, DType.U64),
            (DType.F16, DType.I16),
            (DType.I8, DType.U8),
            (DType.BOOL, DType.U8),
        )
    ),
    attributes=("to",),
)

ROWS = (
    pointwise("BitwiseNot", 1, np.bitwise_not, partial(apply, "bit_not"), allowed=INTEGERS),
    *(
        pointwise(f"Bitwise{name}", 2, reference, partial(apply, function), allowed=INTEGERS)
        for name, reference, function in (
            ("And", np.bitwise_and, "bit_and"),
            ("Or", np.bitwise_or, "bit_or"),
            ("Xor", np.bitwise_xor, "bit_xor"),
        )
    ),
    replace(SHIFT, samples=(*SHIFT.samples, *BEYOND)),
    BIT_CAST,
)
