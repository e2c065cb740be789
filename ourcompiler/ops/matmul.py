"""Products of matrices, batched and broadcast."""

import numpy as np

from ourcompiler.ir.graph import Array
from ourcompiler.ir.types import DType, TensorType
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
    broadcast,
    f32,
    given,
)


def _infer(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    left, right = given(types, 0), given(types, 1)
    if left.dtype is not right.dtype or left.dtype is DType.BOOL:
        raise ValueError(f"a product of {left.dtype.value} and {right.dtype.value}")
    if left.rank < 2 or right.rank < 2 or left.shape[-1] != right.shape[-2]:
        raise ValueError(f"a product of {left.shape} and {right.shape}")
    batch = broadcast([left.shape[:-2], right.shape[:-2]])
    return (TensorType(left.dtype, (*batch, left.shape[-2], right.shape[-1])),)


def _product(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    left, right = operand(arrays, 0), operand(arrays, 1)
    if left.dtype.kind in "fV":
        with np.errstate(all="ignore"):
            return (np.matmul(left.astype(np.float64), right.astype(np.float64)).astype(left.dtype),)
    return (np.matmul(left, right),)


MATMUL = OpDef(
    name="MatMul",
    mapping=Mapping5.MANY_TO_MANY,
    layout=LayoutClass.DEPENDENT_VARIABLE,
    infer=_infer,
    reference=_product,
    code=Template("matmul"),
    samples=tuple(
        Sample(types)
        for types in (
            (f32(5, 7), f32(7, 9)),
            (f32(33, 64), f32(64, 31)),
            (f32(2, 1, 4, 8), f32(3, 8, 5)),
            (f32(1, 127), f32(127, 1)),
            (f32(3, 49, 32), f32(3, 32, 49)),
            (TensorType(DType.I32, (3, 4)), TensorType(DType.I32, (4, 2))),
        )
    ),
)

ROWS = (MATMUL,)
