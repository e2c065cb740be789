"""Operators that fold axes: sums, extremes and their places, running sums, softmax."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ourcompiler.ir.graph import Array
from ourcompiler.ir.types import FLOATS, DType, TensorType
from ourcompiler.ops.table import (
    Arrays,
    Facts,
    LayoutClass,
    Mapping5,
    OpDef,
    Sample,
    Template,
    Types,
    axes_of,
    axis_of,
    f32,
    given,
)

Fold = Callable[..., Any]


def operand(arrays: Arrays, number: int = 0) -> Array:
    """An operand that must be there; raises ValueError when it is not."""
    found = arrays[number] if number < len(arrays) else None
    if found is None:
        raise ValueError(f"operand {number} is missing")
    return found


def reduced(shape: tuple[int, ...], axes: tuple[int, ...], keep: bool) -> tuple[int, ...]:
    """The shape without these axes, or with 1 in their places."""
    if keep:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _infer_reduce(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source = given(types, 0)
    axes = axes_of(facts["axes"], source.rank)
    return (TensorType(source.dtype, reduced(source.shape, axes, facts["keepdims"])),)


def _reduce(
    name: str, fold: Fold, *, tolerance: float = 1e-5, domain: tuple[float, float] = (-3, 3)
) -> OpDef:
    def compute(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
        x = operand(arrays)
        wide = x.astype(np.float64) if x.dtype.kind in "fV" else x  # V: bfloat16
        with np.errstate(all="ignore"):
            found = fold(wide, axis=tuple(facts["axes"]), keepdims=bool(facts["keepdims"]))
        return (np.asarray(found).astype(x.dtype),)

    cases = (
        (f32(2, 3, 5), (1,), True),
        (f32(4, 33), (-1,), False),
        (f32(7, 31), (0, 1), False),
        (f32(2, 9, 3, 5), (1, 3), True),
        (f32(3, 4), (), False),
        (TensorType(DType.I64, (4, 6)), (0,), False),
    )
    return OpDef(
        name=name,
        mapping=Mapping5.MANY_TO_MANY,
        layout=LayoutClass.DEPENDENT_VARIABLE,
        infer=_infer_reduce,
        reference=compute,
        code=Template("reduce"),
        samples=tuple(Sample((one,), {"axes": axes, "keepdims": keep}, domain) for one, axes, keep in cases),
        attributes=("axes", "keepdims"),
        tolerance=tolerance,
    )


def _log_sum_exp(x: Any, axis: Any, keepdims: bool) -> Any:
    peak = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    peak = np.where(np.isfinite(peak), peak, 0)
    total = np.log(np.sum(np.exp(x - peak), axis=axis, keepdims=True)) + peak
    return total if keepdims else np.squeeze(total, axis=axis)


def _greatest(x: Any, axis: Any, keepdims: bool) -> Any:
    least = False if x.dtype == bool else -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    return np.max(x, axis=axis, keepdims=keepdims, initial=least)


def _least(x: Any, axis: Any, keepdims: bool) -> Any:
    most = True if x.dtype == bool else np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).max
    return np.min(x, axis=axis, keepdims=keepdims, initial=most)


REDUCTIONS = (
    _reduce("ReduceSum", np.sum),
    _reduce("ReduceMean", np.mean),
    _reduce("ReduceMax", _greatest),
    _reduce("ReduceMin", _least),
    _reduce("ReduceProd", np.prod, tolerance=1e-4, domain=(0.5, 1.5)),
    _reduce("ReduceL1", lambda x, **how: np.sum(np.abs(x), **how)),
    _reduce("ReduceL2", lambda x, **how: np.sqrt(np.sum(np.square(x), **how))),
    _reduce("ReduceSumSquare", lambda x, **how: np.sum(np.square(x), **how)),
    _reduce("ReduceLogSum", lambda x, **how: np.log(np.sum(x, **how)), domain=(0.1, 3)),
    _reduce("ReduceLogSumExp", lambda x, **how: _log_sum_exp(x.astype(np.float64), **how)),
)


def _infer_place(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source = given(types, 0)
    axis = axis_of(facts["axis"], source.rank)
    return (TensorType(DType.I64, reduced(source.shape, (axis,), facts["keepdims"])),)


def _place(find: Fold) -> Callable[[Arrays, Facts], tuple[Array, ...]]:
    def compute(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
        x, axis = operand(arrays), facts["axis"]
        if facts["last"]:
            found = x.shape[axis] - 1 - find(np.flip(x, axis), axis=axis, keepdims=bool(facts["keepdims"]))
        else:
            found = find(x, axis=axis, keepdims=bool(facts["keepdims"]))
        return (np.asarray(found, np.int64),)

    return compute


def _place_row(name: str, find: Fold) -> OpDef:
    cases = (((4, 33), 1, True, False), ((5, 7), 0, False, False), ((2, 3, 9), -1, False, True))
    return OpDef(
        name=name,
        mapping=Mapping5.MANY_TO_MANY,
        layout=LayoutClass.DEPENDENT_VARIABLE,
        infer=_infer_place,
        reference=_place(find),
        code=Template("arg_reduce"),
        samples=tuple(
            Sample((f32(*shape),), {"axis": axis, "keepdims": keep, "last": last})
            for shape, axis, keep, last in cases
        ),
        attributes=("axis", "keepdims", "last"),
    )


def _infer_float_same(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source = given(types, 0)
    if source.dtype not in FLOATS:
        raise ValueError(f"elements of type {source.dtype.value}")
    axis_of(facts["axis"], source.rank)
    return (source,)


def _softmax(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x, axis = operand(arrays), facts["axis"]
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        powers = np.exp(wide - np.max(wide, axis=axis, keepdims=True))
        return ((powers / np.sum(powers, axis=axis, keepdims=True)).astype(x.dtype),)


def _log_softmax(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x, axis = operand(arrays), facts["axis"]
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        return ((wide - _log_sum_exp(wide, axis, keepdims=True)).astype(x.dtype),)


def _hardmax(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    x, axis = operand(arrays), facts["axis"]
    out = np.zeros_like(x)
    np.put_along_axis(out, np.argmax(x, axis=axis, keepdims=True), 1, axis)
    return (out,)


def _softmax_row(name: str, reference: Callable[[Arrays, Facts], tuple[Array, ...]]) -> OpDef:
    cases = (((4, 33), -1), ((3, 7, 5), 1), ((6,), 0), ((2, 49, 49), 2))
    return OpDef(
        name=name,
        mapping=Mapping5.MANY_TO_MANY,
        layout=LayoutClass.DEPENDENT_VARIABLE,
        infer=_infer_float_same,
        reference=reference,
        code=Template("softmax"),
        samples=tuple(Sample((f32(*shape),), {"axis": axis}) for shape, axis in cases),
        attributes=("axis",),
    )


def _infer_running(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source = given(types, 0)
    axis_of(facts["axis"], source.rank)
    return (source,)


def _running(fold: Any, start: int) -> Callable[[Arrays, Facts], tuple[Array, ...]]:
    def compute(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
        x, axis = operand(arrays), facts["axis"]
        if facts["reverse"]:
            x = np.flip(x, axis)
        found = fold(x, axis=axis)
        if facts["exclusive"]:
            first = np.full_like(np.take(x, [0], axis), start)
            found = np.concatenate([first, np.delete(found, -1, axis)], axis)
        return ((np.flip(found, axis) if facts["reverse"] else found).astype(x.dtype),)

    return compute


def _running_row(name: str, fold: Any, start: int) -> OpDef:
    cases = (
        ((4, 9), 1, False, False),
        ((4, 9), 0, True, False),
        ((5,), 0, False, True),
        ((5,), 0, True, True),
    )
    return OpDef(
        name=name,
        mapping=Mapping5.MANY_TO_MANY,
        layout=LayoutClass.DEPENDENT_VARIABLE,
        infer=_infer_running,
        reference=_running(fold, start),
        code=Template("running"),
        samples=tuple(
            Sample((f32(*shape),), {"axis": axis, "exclusive": exclusive, "reverse": reverse})
            for shape, axis, exclusive, reverse in cases
        ),
        attributes=("axis", "exclusive", "reverse"),
    )


def _infer_top(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    source = given(types, 0)
    axis = axis_of(facts["axis"], source.rank)
    if not 0 <= facts["k"] <= source.shape[axis]:
        raise ValueError(f"the first {facts['k']} of an axis of {source.shape[axis]}")
    shape = (*source.shape[:axis], facts["k"], *source.shape[axis + 1 :])
    return TensorType(source.dtype, shape), TensorType(DType.I64, shape)


def _top(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    """Of equal elements the one with the lower index comes first, as the standard says."""
    x, axis = operand(arrays), facts["axis"]
    if facts["largest"]:
        order = np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    first = np.take(order, np.arange(facts["k"]), axis=axis)
    return np.take_along_axis(x, first, axis), first.astype(np.int64)


TOP = OpDef(
    name="TopK",
    mapping=Mapping5.MANY_TO_MANY,
    layout=LayoutClass.DEPENDENT_VARIABLE,
    infer=_infer_top,
    reference=_top,
    code=Template("top"),
    samples=tuple(
        Sample((one,), {"axis": axis, "k": k, "largest": largest})
        for one, axis, k, largest in (
            (f32(3, 17), -1, 4, True),
            (f32(5, 3), 0, 2, False),
            (f32(2, 9, 3), 1, 9, True),
            (f32(7, 49), 1, 16, True),
            (f32(33, 4), 0, 5, False),
            (f32(2, 40), 1, 2, False),
            (TensorType(DType.I64, (4, 8)), 1, 3, True),
        )
    ),
    attributes=("axis", "k", "largest"),
)

ROWS = (
    *REDUCTIONS,
    _place_row("ArgMax", np.argmax),
    _place_row("ArgMin", np.argmin),
    _softmax_row("Softmax", _softmax),
    _softmax_row("LogSoftmax", _log_softmax),
    _softmax_row("Hardmax", _hardmax),
    _running_row("CumSum", np.cumsum, 0),
    _running_row("CumProd", np.cumprod, 1),
    TOP,
)
