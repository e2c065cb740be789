"""Elements that are a fold over other elements: reductions, pooling, and any product or convolution.

Every function writes its loops where the element is needed and returns the result, so a fold can stand
anywhere in a group. Fast nests for large products are elsewhere (`codegen/gemm.py`); this is the general one.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf, prod

import numpy as np

from ourcompiler.codegen.element import Elements, Index, Lane, NotInLanesError
from ourcompiler.ir.graph import ABSENT, Node
from ourcompiler.ir.index import Affine, constant
from ourcompiler.ir.index_map import Guard
from ourcompiler.ir.types import FLOATS, DType
from ourcompiler.kernel.ir import (
    FLAG,
    Apply,
    Assign,
    Expr,
    Kind,
    Name,
    Number,
    apply,
    index,
    splat,
)
from ourcompiler.ops.table import Facts
from ourcompiler.ops.window import output_sizes

Term = Callable[[Elements, tuple[Affine, ...]], Expr]
"""What is folded: an element for each index of the axes that are folded."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Over `extents`, from `start`, with a scalar function of two."""

    extents: tuple[int, ...]
    function: str
    start: float | int
    dtype: DType
    term: Term


def wide(dtype: DType) -> DType:
    """The type that sums of a type are kept in."""
    return DType.F32 if dtype in (DType.F16, DType.BF16) else dtype


def converted(value: Expr, dtype: DType) -> Expr:
    """The value in another element type."""
    if value.kind.dtype is dtype:
        return value
    return Apply("cast", (value,), Kind(dtype, value.kind.lanes))


def fold(elements: Elements, what: Fold) -> Expr:
    """The loops, and the result: with lanes when the caller's elements have lanes; else in lanes along the
    innermost folded axis where that can be done.
    """
    if elements.guards:
        return _guarded(elements, what)
    if elements.lane is not None:
        return _accumulate(elements, what, elements.lane.count)
    lanes = elements.vector_lanes
    if what.extents and lanes > 1 and what.extents[-1] >= lanes and what.dtype is DType.F32:
        try:
            with elements.scope.attempt():
                return _in_lanes(elements, what, lanes)
        except NotInLanesError:
            pass
    return _accumulate(elements, what, 1)


def _guarded(elements: Elements, what: Fold) -> Expr:
    """Only where the guards hold: elsewhere the operand may be read outside. In lanes all of them hold for
    all, or it is computed one by one.
    """
    lanes = elements.lane.count if elements.lane is not None else 1
    total = elements.scope.variable(splat(Number(what.start, Kind(what.dtype)), lanes))
    condition = elements.guards[0]
    for one in elements.guards[1:]:
        condition = apply("and", condition, one)
    with elements.scope.when(condition):
        found = fold(elements.inside(elements.lane), what)
        elements.scope.emit(Assign(total.name, splat(found, lanes)))
    return total


def _accumulate(elements: Elements, what: Fold, lanes: int) -> Expr:
    """One accumulator; every folded axis is a loop."""
    scope = elements.scope
    if lanes > 1 and what.dtype is not DType.F32:
        raise NotInLanesError
    total = scope.variable(splat(Number(what.start, Kind(what.dtype)), lanes))
    with ExitStack() as loops:
        axes = tuple(loops.enter_context(scope.axis(extent, "r")) for extent in what.extents)
        _fold_in(elements.inside(elements.lane), what, total, axes)
    return total


def _fold_in(elements: Elements, what: Fold, total: Name, axes: tuple[Affine, ...]) -> None:
    term = splat(converted(what.term(elements, axes), what.dtype), total.kind.lanes)
    elements.scope.emit(Assign(total.name, Apply(what.function, (total, term), total.kind)))


def _in_lanes(elements: Elements, what: Fold, lanes: int) -> Expr:
    """Lanes along the innermost axis; what does not fill a vector follows one by one."""
    scope, last = elements.scope, what.extents[-1]
    whole = last - last % lanes
    start = Number(what.start, Kind(what.dtype))
    total = scope.variable(splat(start, lanes))
    rest = scope.variable(start) if whole < last else None
    with ExitStack() as loops:
        outer = [loops.enter_context(scope.axis(extent, "r")) for extent in what.extents[:-1]]
        with scope.loop(index(0), index(whole), lanes, "r") as name:
            dim = scope.dim(last, name)
            lane = Lane(len(scope.extents) - 1, lanes)
            _fold_in(elements.inside(lane), what, total, (*outer, dim))
        if rest is not None:
            with scope.loop(index(whole), index(last), 1, "r") as name:
                _fold_in(elements.inside(None), what, rest, (*outer, scope.dim(last, name)))
    found: Expr = Apply(f"lanes_{what.function}", (total,), Kind(what.dtype))
    if rest is not None:
        found = Apply(what.function, (found, rest), found.kind)
    return scope.let(found)


def _limits(dtype: DType) -> tuple[float | int, float | int]:
    if dtype in FLOATS:
        return -inf, inf
    if dtype is DType.BOOL:
        return False, True
    facts = np.iinfo(dtype.numpy)
    return int(facts.min), int(facts.max)


def _placed(shape: tuple[int, ...], axes: Sequence[int], keep: bool, place: Index, inner: Index) -> Index:
    """The index in the operand of a reduction."""
    found, outer, folded = [], iter(place), iter(inner)
    for axis in range(len(shape)):
        if axis in axes:
            found.append(next(folded))
            if keep:
                next(outer)
        else:
            found.append(next(outer))
    return tuple(found)


def _reduction(
    function: str, *, before: str = "", after: str = ""
) -> Callable[[Elements, Node, Index], Expr]:
    def made(elements: Elements, node: Node, place: Index) -> Expr:
        one = elements.body.types[node.inputs[0]]
        axes = tuple(sorted(axis % one.rank for axis in node["axes"]))
        dtype = wide(one.dtype)
        start = {"add": 0, "mul": 1, "max": _limits(dtype)[0], "min": _limits(dtype)[1]}[function]

        def term(inner: Elements, folded: Index) -> Expr:
            at = _placed(one.shape, axes, node["keepdims"], place, folded)
            return BEFORE[before](converted(inner.at(node.inputs[0], at), dtype))

        extents = tuple(one.shape[axis] for axis in axes)
        total = fold(elements, Fold(extents, function, start, dtype, term))
        return converted(AFTER[after](total, prod(extents)), one.dtype)

    return made


def _mean(total: Expr, count: int) -> Expr:
    lanes = total.kind.lanes
    if total.kind.dtype in FLOATS:
        return apply("div", total, splat(Number(count, Kind(total.kind.dtype)), lanes))
    return apply("div", total, Number(max(count, 1), total.kind))


BEFORE: Mapping[str, Callable[[Expr], Expr]] = {
    "": lambda x: x,
    "abs": lambda x: apply("abs", x),
    "square": lambda x: apply("mul", x, x),
}
AFTER: Mapping[str, Callable[[Expr, int], Expr]] = {
    "": lambda x, count: x,
    "mean": _mean,
    "sqrt": lambda x, count: _in_float("sqrt", x),
    "log": lambda x, count: _in_float("log", x),
}


def _in_float(function: str, value: Expr) -> Expr:
    """Whole numbers by way of doubles."""
    if value.kind.dtype in FLOATS:
        return apply(function, value)
    return converted(apply(function, converted(value, DType.F64)), value.kind.dtype)


def _log_sum_exp(elements: Elements, node: Node, place: Index) -> Expr:
    """Relative to the greatest, so that no power overflows."""
    one = elements.body.types[node.inputs[0]]
    axes = tuple(sorted(axis % one.rank for axis in node["axes"]))
    extents = tuple(one.shape[axis] for axis in axes)
    dtype = wide(one.dtype) if one.dtype in FLOATS else DType.F64

    def read(inner: Elements, folded: Index) -> Expr:
        at = _placed(one.shape, axes, node["keepdims"], place, folded)
        return converted(inner.at(node.inputs[0], at), dtype)

    peak = fold(elements, Fold(extents, "max", -inf, dtype, read))
    infinite = apply("less", apply("abs", peak), splat(Number(inf, Kind(dtype)), peak.kind.lanes))
    finite = Apply(
        "where",
        (
            Apply("less", infinite.arguments, Kind(DType.BOOL, peak.kind.lanes)),
            peak,
            splat(Number(0, Kind(dtype)), peak.kind.lanes),
        ),
        peak.kind,
    )
    base = elements.scope.let(finite)

    def term(inner: Elements, folded: Index) -> Expr:
        value = read(inner, folded)
        return apply("exp", apply("sub", value, splat(base, value.kind.lanes)))

    total = fold(elements, Fold(extents, "add", 0, dtype, term))
    return converted(apply("add", apply("log", total), base), one.dtype)


def _arg(less: bool) -> Callable[[Elements, Node, Index], Expr]:
    def made(elements: Elements, node: Node, place: Index) -> Expr:
        if elements.lane is not None:
            raise NotInLanesError
        scope, one = elements.scope, elements.body.types[node.inputs[0]]
        axis = node["axis"] % one.rank
        least, most = _limits(one.dtype)
        best = scope.variable(Number(most if less else least, Kind(one.dtype)))
        where = scope.variable(index(0))
        with scope.axis(one.shape[axis], "r") as along:
            inner = elements.inside(None)
            at = _placed(one.shape, (axis,), node["keepdims"], place, (along,))
            value = scope.let(inner.at(node.inputs[0], at))
            pair = (value, best) if less else (best, value)
            better = Apply("less_equal" if node["last"] else "less", pair, FLAG)
            # The first element always counts, were it the least that there is.
            with scope.when(apply("or", better, apply("equal", scope.place(along), index(0), kind=FLAG))):
                scope.emit(Assign(best.name, value))
                scope.emit(Assign(where.name, scope.place(along)))
        return where

    return made


def _matmul(elements: Elements, node: Node, place: Index) -> Expr:
    left, right = (elements.body.types[name] for name in node.inputs)
    dtype = wide(left.dtype)
    batch = place[:-2]

    def aligned(shape: tuple[int, ...]) -> Index:
        own = batch[len(batch) - (len(shape) - 2) :] if len(shape) > 2 else ()
        return tuple(one if size > 1 else constant(0) for one, size in zip(own, shape[:-2], strict=True))

    def term(inner: Elements, folded: Index) -> Expr:
        (k,) = folded
        one = converted(inner.at(node.inputs[0], (*aligned(left.shape), place[-2], k)), dtype)
        other = converted(inner.at(node.inputs[1], (*aligned(right.shape), k, place[-1])), dtype)
        lanes = max(one.kind.lanes, other.kind.lanes)
        return apply("mul", splat(one, lanes), splat(other, lanes))

    total = fold(elements, Fold((left.shape[-1],), "add", 0, dtype, term))
    return converted(total, left.dtype)


def windowed(
    elements: Elements, source: str, place: Index, tap: Index, facts: Facts, fill: float | int
) -> tuple[Index, tuple[Guard, ...]]:
    """Where a tap of a window lies in the image, and the guards that say whether it is inside."""
    space, shape = elements.scope.space, elements.body.types[source].shape
    strides, dilations, pads = (facts[name] for name in ("strides", "dilations", "pads"))
    at, guards = [], []
    for axis, size in enumerate(shape[2:]):
        where = space.add(
            space.multiply(place[axis], strides[axis]),
            space.multiply(tap[axis], dilations[axis]),
            constant(-pads[axis]),
        )
        at.append(where)
        guards.append(Guard(where, size))
    return tuple(at), tuple(guards)


def _conv(elements: Elements, node: Node, place: Index) -> Expr:
    image, weight = (elements.body.types[name] for name in node.inputs[:2])
    facts: Facts = dict(node.attributes)
    dtype = wide(image.dtype)
    per_group = weight.shape[0] // facts["group"]
    extents = (*weight.shape[2:], weight.shape[1])

    def term(inner: Elements, folded: Index) -> Expr:
        space = inner.scope.space
        *tap, channel = folded
        group = space.quotient(place[1], per_group) if facts["group"] > 1 else constant(0)
        at, guards = windowed(inner, node.inputs[0], place[2:], tuple(tap), facts, 0.0)
        where = (place[0], space.add(space.multiply(group, weight.shape[1]), channel), *at)
        value = converted(inner.within(node.inputs[0], where, guards, 0), dtype)
        factor = converted(inner.at(node.inputs[1], (place[1], channel, *tap)), dtype)
        lanes = max(value.kind.lanes, factor.kind.lanes)
        return apply("mul", splat(value, lanes), splat(factor, lanes))

    total = fold(elements, Fold(extents, "add", 0, dtype, term))
    return converted(biased(elements, node, total, place[1], dtype), image.dtype)


def biased(elements: Elements, node: Node, total: Expr, channel: Affine, dtype: DType) -> Expr:
    """Plus the bias of the channel, where there is one."""
    if len(node.inputs) < 3 or node.inputs[2] == ABSENT:
        return total
    bias = converted(elements.at(node.inputs[2], (channel,)), dtype)
    lanes = max(total.kind.lanes, bias.kind.lanes)
    return apply("add", splat(total, lanes), splat(bias, lanes))


def _conv_transpose(elements: Elements, node: Node, place: Index) -> Expr:
    """For each output the taps that reach it: those where the way to the input is a whole number of steps."""
    image, weight = (elements.body.types[name] for name in node.inputs[:2])
    facts: Facts = dict(node.attributes)
    dtype = wide(image.dtype)
    per_group, inputs = weight.shape[1], image.shape[1] // facts["group"]
    extents = (*weight.shape[2:], inputs)

    def term(inner: Elements, folded: Index) -> Expr:
        *tap, channel = folded
        space = inner.scope.space
        group = space.quotient(place[1], per_group) if facts["group"] > 1 else constant(0)
        at, guards = [], []
        for axis, size in enumerate(image.shape[2:]):
            stride = facts["strides"][axis]
            way = space.add(
                place[2 + axis],
                constant(facts["pads"][axis]),
                space.multiply(tap[axis], -facts["dilations"][axis]),
            )
            at.append(space.quotient(way, stride))
            guards.append(Guard(at[-1], size))
            if stride > 1:
                guards.append(Guard(space.remainder(way, stride), 1))
        source = space.add(space.multiply(group, inputs), channel)
        value = converted(inner.within(node.inputs[0], (place[0], source, *at), tuple(guards), 0), dtype)
        own = space.remainder(place[1], per_group) if facts["group"] > 1 else place[1]
        factor = converted(inner.at(node.inputs[1], (source, own, *tap)), dtype)
        lanes = max(value.kind.lanes, factor.kind.lanes)
        return apply("mul", splat(value, lanes), splat(factor, lanes))

    total = fold(elements, Fold(extents, "add", 0, dtype, term))
    return converted(biased(elements, node, total, place[1], dtype), image.dtype)


def _pool(elements: Elements, node: Node, place: Index) -> Expr:
    image = elements.body.types[node.inputs[0]]
    facts: Facts = dict(node.attributes)
    kernel = tuple(facts["kernel"])
    dtype = image.dtype if node.op == "MaxPool" else wide(image.dtype)
    fill = _limits(dtype)[0] if node.op == "MaxPool" else 0

    def term(inner: Elements, folded: Index) -> Expr:
        at, guards = windowed(inner, node.inputs[0], place[2:], folded, facts, fill)
        value = converted(inner.within(node.inputs[0], (*place[:2], *at), guards, fill), dtype)
        if node.op == "LpPool":
            power = splat(Number(facts["p"], Kind(dtype)), value.kind.lanes)
            return apply("pow", apply("abs", value), power)
        return value

    if node.op == "MaxPool":
        return fold(elements, Fold(kernel, "max", fill, dtype, term))
    total = fold(elements, Fold(kernel, "add", 0, dtype, term))
    if node.op == "LpPool":
        power = splat(Number(1 / facts["p"], Kind(dtype)), total.kind.lanes)
        return converted(apply("pow", total, power), image.dtype)
    counts = converted(_window_count(elements, image.shape[2:], kernel, place[2:], facts), dtype)
    return converted(apply("div", total, splat(counts, total.kind.lanes)), image.dtype)


def _window_count(
    elements: Elements,
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    place: Index,
    facts: Facts,
) -> Expr:
    """How many elements the mean is over: known for each position along each axis, so a product of tables."""
    space, found = elements.scope.space, None
    for axis, one in enumerate(window_counts(sizes, kernel, facts)):
        if len(set(one)) == 1:
            factor: Expr = index(one[0])
        else:
            if elements.step(place[axis]):
                raise NotInLanesError
            factor = elements.scope.place(space.entry(one, place[axis]))
        found = factor if found is None else apply("mul", found, factor)
    assert found is not None
    return elements.scope.let(found)


def window_counts(sizes: tuple[int, ...], kernel: tuple[int, ...], facts: Facts) -> list[tuple[int, ...]]:
    """For each axis and position: the taps that count, which are those on the image, or on its border too."""
    strides, dilations, pads = (tuple(facts[name]) for name in ("strides", "dilations", "pads"))
    counts = output_sizes(sizes, kernel, facts)
    found = []
    for axis, size in enumerate(sizes):
        low, high = (-pads[axis], size + pads[axis + len(sizes)]) if facts["count_border"] else (0, size)
        found.append(
            tuple(
                sum(
                    low <= position * strides[axis] - pads[axis] + tap * dilations[axis] < high
                    for tap in range(kernel[axis])
                )
                for position in range(counts[axis])
            )
        )
    return found


def _max_place(elements: Elements, node: Node, place: Index) -> Expr:
    """Where in the whole operand the greatest element of the window stands."""
    if elements.lane is not None:
        raise NotInLanesError
    scope, image = elements.scope, elements.body.types[node.inputs[0]]
    facts: Facts = dict(node.attributes)
    best = scope.variable(Number(_limits(image.dtype)[0], Kind(image.dtype)))
    where = scope.variable(index(0))
    with ExitStack() as loops:
        tap = tuple(loops.enter_context(scope.axis(extent, "r")) for extent in facts["kernel"])
        inner = elements.inside(None)
        at, guards = windowed(inner, node.inputs[0], place[2:], tap, facts, 0)
        value = scope.let(inner.within(node.inputs[0], (*place[:2], *at), guards, _limits(image.dtype)[0]))
        shape = image.shape
        order = list(range(2, len(shape)))
        if facts["column_major"]:
            order.reverse()
        flat = scope.space.linear(
            [*place[:2], *(at[axis - 2] for axis in order)], [*shape[:2], *(shape[axis] for axis in order)]
        )
        with scope.when(Apply("less", (best, value), FLAG)):
            scope.emit(Assign(best.name, value))
            scope.emit(Assign(where.name, scope.place(flat)))
    return where


FOLDS: Mapping[str, Callable[[Elements, Node, Index], Expr]] = {
    "ReduceSum": _reduction("add"),
    "ReduceMean": _reduction("add", after="mean"),
    "ReduceMax": _reduction("max"),
    "ReduceMin": _reduction("min"),
    "ReduceProd": _reduction("mul"),
    "ReduceL1": _reduction("add", before="abs"),
    "ReduceL2": _reduction("add", before="square", after="sqrt"),
    "ReduceSumSquare": _reduction("add", before="square"),
    "ReduceLogSum": _reduction("add", after="log"),
    "ReduceLogSumExp": _log_sum_exp,
    "ArgMax": _arg(less=False),
    "ArgMin": _arg(less=True),
    "MatMul": _matmul,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool,
    "MaxPool.1": _max_place,
    "AveragePool": _pool,
    "LpPool": _pool,
}
"""Operators whose elements are folds."""
