"""Operators that read or write where other operands say: gathers, scatters, and joining."""

from itertools import product
from typing import Any

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
    axis_of,
    f32,
    given,
)

INDEX_TYPES = frozenset({DType.I32, DType.I64})
FOLDS = ("none", "add", "mul", "min", "max")


def _indices(types: Types, number: int) -> TensorType:
    found = given(types, number)
    if found.dtype not in INDEX_TYPES:
        raise ValueError(f"indices of type {found.dtype.value}")
    return found


def i64(*shape: int) -> TensorType:
    """The type of indices."""
    return TensorType(DType.I64, shape)


def checked(indices: Array, size: int) -> Array:
    """Indices counted from the front; raises ValueError for one outside."""
    if indices.size and not (-size <= int(indices.min()) and int(indices.max()) < size):
        raise ValueError(f"an index outside of an axis of {size}")
    return np.where(indices < 0, indices + size, indices).astype(np.int64)


def _infer_gather(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source, indices = given(types, 0), _indices(types, 1)
    if not source.rank:
        raise ValueError("elements of a scalar")
    axis = axis_of(facts["axis"], source.rank)
    return (TensorType(source.dtype, (*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :])),)


def _gather(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x, axis = operand(arrays, 0), facts["axis"]
    return (np.take(x, checked(operand(arrays, 1), x.shape[axis]), axis=axis),)


def _infer_gather_elements(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source, indices = given(types, 0), _indices(types, 1)
    axis = axis_of(facts["axis"], source.rank)
    if not _fits(indices.shape, source.shape, axis):
        raise ValueError(f"indices of {indices.shape} into {source.shape}")
    return (TensorType(source.dtype, indices.shape),)


def _fits(indices: tuple[int, ...], source: tuple[int, ...], axis: int) -> bool:
    """Whether there are no more indices than elements, but along their axis."""
    pairs = zip(indices, source, strict=False)
    return len(indices) == len(source) > 0 and all(
        few <= many or number == axis for number, (few, many) in enumerate(pairs)
    )


def _gather_elements(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x, axis = operand(arrays, 0), facts["axis"] % operand(arrays, 0).ndim
    indices = checked(operand(arrays, 1), x.shape[axis])
    grid: list[Any] = list(np.indices(indices.shape, sparse=True))
    grid[axis] = indices
    return (x[tuple(grid)],)


def _all_checked(indices: Array, sizes: tuple[int, ...]) -> Array:
    """Rows of indices, one for each of the first axes, counted from the front."""
    columns = [checked(indices[..., axis], sizes[axis]) for axis in range(indices.shape[-1])]
    return np.stack(columns, axis=-1) if columns else indices


def _infer_gather_nd(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source, indices = given(types, 0), _indices(types, 1)
    batch = facts["batch_dims"]
    depth = indices.shape[-1] if indices.shape else -1
    if depth < 0 or batch + depth > source.rank or source.shape[:batch] != indices.shape[:batch]:
        raise ValueError(f"indices of {indices.shape} into {source.shape}, {batch} axes in common")
    return (TensorType(source.dtype, (*indices.shape[:-1], *source.shape[batch + depth :])),)


def _gather_nd(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x, batch = operand(arrays, 0), facts["batch_dims"]
    indices = _all_checked(operand(arrays, 1), x.shape[batch:])
    out = np.empty((*indices.shape[:-1], *x.shape[batch + indices.shape[-1] :]), x.dtype)
    for place in product(*map(range, indices.shape[:-1])):
        out[place] = x[(*place[:batch], *(int(one) for one in indices[place]))]
    return (out,)


def _infer_scatter_elements(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source, indices, updates = given(types, 0), _indices(types, 1), given(types, 2)
    axis = axis_of(facts["axis"], source.rank)
    fits = indices.shape == updates.shape and _fits(indices.shape, source.shape, axis)
    if not fits or updates.dtype is not source.dtype:
        raise ValueError(f"updates of {updates} at {indices.shape} in {source}")
    return (source,)


def _folded(old: Any, new: Any, fold: str) -> Any:
    match fold:
        case "add":
            return old + new
        case "mul":
            return old * new
        case "min":
            return np.minimum(old, new)
        case "max":
            return np.maximum(old, new)
    return new


def _scatter_elements(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    out, updates = operand(arrays, 0).copy(), operand(arrays, 2)
    axis = facts["axis"] % out.ndim
    indices = checked(operand(arrays, 1), out.shape[axis])
    for place in product(*map(range, indices.shape)):
        where = (*place[:axis], int(indices[place]), *place[axis + 1 :])
        out[where] = _folded(out[where], updates[place], facts["reduction"])
    return (out,)


def _infer_scatter_nd(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source, indices, updates = given(types, 0), _indices(types, 1), given(types, 2)
    depth = indices.shape[-1] if indices.shape else source.rank + 1
    if depth > source.rank or updates.dtype is not source.dtype:
        raise ValueError(f"updates of {updates} at {indices.shape} in {source}")
    if updates.shape != (*indices.shape[:-1], *source.shape[depth:]):
        raise ValueError(f"updates of {updates.shape} at {indices.shape} in {source.shape}")
    return (source,)


def _scatter_nd(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    out, updates = operand(arrays, 0).copy(), operand(arrays, 2)
    indices = _all_checked(operand(arrays, 1), out.shape)
    for place in product(*map(range, indices.shape[:-1])):
        where = tuple(int(one) for one in indices[place])
        out[where] = _folded(out[where], updates[place], facts["reduction"])
    return (out,)


def _infer_concat(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    first = given(types, 0)
    axis = axis_of(facts["axis"], first.rank)
    total = 0
    for number in range(len(types)):
        one = given(types, number)
        rest = (*one.shape[:axis], *one.shape[axis + 1 :])
        if one.dtype is not first.dtype or one.rank != first.rank:
            raise ValueError(f"{one} joined with {first}")
        if rest != (*first.shape[:axis], *first.shape[axis + 1 :]):
            raise ValueError(f"{one.shape} joined with {first.shape} along axis {axis}")
        total += one.shape[axis]
    return (TensorType(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :])),)


def _concat(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    return (np.concatenate([operand(arrays, number) for number in range(len(arrays))], facts["axis"]),)


def _row(
    name: str, mapping: Mapping5, layout: LayoutClass, infer: Any, reference: Any, samples: tuple[Sample, ...]
) -> OpDef:
    template = name.lower()
    return OpDef(
        name, mapping, layout, infer, reference, Template(template), samples, tuple(samples[0].facts)
    )


ROWS = (
    _row(
        "Gather",
        Mapping5.ONE_TO_MANY,
        LayoutClass.INDEPENDENT_FIXED,
        _infer_gather,
        _gather,
        (
            Sample((f32(5, 4), i64(2, 3)), {"axis": 0}, values={1: [[0, 4, -1], [2, 2, 1]]}),
            Sample((f32(3, 7, 2), i64(4)), {"axis": 1}, values={1: [6, 0, -7, 3]}),
            Sample((f32(9, 33), i64()), {"axis": 0}, values={1: 5}),
        ),
    ),
    _row(
        "GatherElements",
        Mapping5.ONE_TO_MANY,
        LayoutClass.INDEPENDENT_FIXED,
        _infer_gather_elements,
        _gather_elements,
        (Sample((f32(3, 4), i64(3, 2)), {"axis": 1}, values={1: [[0, -1], [3, 3], [1, 0]]}),),
    ),
    _row(
        "GatherND",
        Mapping5.ONE_TO_MANY,
        LayoutClass.INDEPENDENT_FIXED,
        _infer_gather_nd,
        _gather_nd,
        (
            Sample((f32(3, 4, 5), i64(2, 2)), {"batch_dims": 0}, values={1: [[0, 3], [-1, 1]]}),
            Sample((f32(2, 3, 4), i64(2, 1)), {"batch_dims": 1}, values={1: [[2], [0]]}),
        ),
    ),
    _row(
        "ScatterElements",
        Mapping5.MANY_TO_MANY,
        LayoutClass.INDEPENDENT_FIXED,
        _infer_scatter_elements,
        _scatter_elements,
        tuple(
            Sample(
                (f32(3, 4), i64(2, 2), f32(2, 2)),
                {"axis": 1, "reduction": fold},
                values={1: [[0, 3], [1, -2]]},
            )
            for fold in FOLDS
        ),
    ),
    _row(
        "ScatterND",
        Mapping5.MANY_TO_MANY,
        LayoutClass.INDEPENDENT_FIXED,
        _infer_scatter_nd,
        _scatter_nd,
        tuple(
            Sample((f32(4, 3), i64(2, 1), f32(2, 3)), {"reduction": fold}, values={1: [[3], [0]]})
            for fold in FOLDS
        ),
    ),
    _row(
        "Concat",
        Mapping5.ONE_TO_ONE,
        LayoutClass.INDEPENDENT_FIXED,
        _infer_concat,
        _concat,
        (
            Sample((f32(2, 3), f32(2, 5)), {"axis": 1}),
            Sample((f32(1, 4, 4), f32(3, 4, 4), f32(2, 4, 4)), {"axis": 0}),
            Sample((f32(7),), {"axis": -1}),
        ),
    ),
)
