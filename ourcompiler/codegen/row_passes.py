"""Softmax and normalisation: what is done in each pass over a row."""

from collections.abc import Callable, Mapping, Sequence
from math import inf

from ourcompiler.codegen.fold import converted
from ourcompiler.codegen.row import Rows, Spot
from ourcompiler.ir.graph import ABSENT
from ourcompiler.ir.index import Affine
from ourcompiler.kernel.ir import (
    FLAG,
    Apply,
    Assign,
    Expr,
    Kind,
    Number,
    apply,
    index,
    splat,
)


def _like(value: Expr, other: Expr) -> Expr:
    """The number in as many lanes."""
    return splat(value, other.kind.lanes)


def _number(value: float, like: Expr) -> Expr:
    return splat(Number(value, Kind(like.kind.dtype)), like.kind.lanes)


def _softmax(rows: Rows, outer: Sequence[Affine]) -> None:
    peak = rows.total("max", -inf)

    def first(spot: Spot) -> None:
        value = rows.scope.let(spot.source())
        if not rows.is_stored:
            spot.keep(value)
        peak.add(spot.full(value))

    rows.sweep(outer, first)
    top = peak.result(rows.along)
    total = rows.total("add", 0.0)

    def second(spot: Spot) -> None:
        value = spot.full(spot.again())
        power = rows.scope.let(apply("exp", apply("sub", value, _like(top, value))))
        if rows.node.op == "Softmax":
            spot.keep(power)
        total.add(power)

    rows.sweep(outer, second, total)
    found = total.result(rows.along)
    if rows.node.op == "Softmax":
        inverse = rows.scope.let(apply("div", _number(1.0, found), found), "t")
        rows.sweep(outer, lambda spot: spot.write(apply("mul", kept := spot.kept(), _like(inverse, kept))))
    else:
        base = rows.scope.let(apply("add", apply("log", found), top), "t")
        rows.sweep(
            outer,
            lambda spot: spot.write(apply("sub", value := spot.full(spot.again()), _like(base, value))),
        )


def _normalized(rows: Rows, outer: Sequence[Affine]) -> None:
    centred = rows.node.op != "RMSNorm"
    mean: Expr | None = None
    if centred or not rows.is_stored:
        total = rows.total("add", 0.0)

        def first(spot: Spot) -> None:
            value = rows.scope.let(spot.full(spot.source()))
            if not rows.is_stored:
                spot.keep(value)
            if centred:
                total.add(value)

        rows.sweep(outer, first, *([total] if centred else []))
        if centred:
            found = total.result(rows.along)
            mean = rows.scope.let(apply("mul", found, _number(1.0 / max(rows.length, 1), found)), "t")
    squares = rows.total("add", 0.0)

    def second(spot: Spot) -> None:
        value = _from_mean(spot, mean)
        squares.add(apply("mul", value, value))

    rows.sweep(outer, second, squares)
    found = squares.result(rows.along)
    variance = apply("mul", found, _number(1.0 / max(rows.length, 1), found))
    root = apply("sqrt", apply("add", variance, _number(rows.node["epsilon"], found)))
    inverse = rows.scope.let(apply("div", _number(1.0, found), root), "t")

    def third(spot: Spot) -> None:
        value = _from_mean(spot, mean)
        spot.write(_scaled(spot, apply("mul", value, _like(inverse, value))))

    rows.sweep(outer, third)


def _from_mean(spot: Spot, mean: Expr | None) -> Expr:
    value = spot.full(spot.again())
    if mean is not None:
        value = apply("sub", value, _like(mean, value))
    return spot.rows.scope.let(value)


def _scaled(spot: Spot, value: Expr) -> Expr:
    """Times the scale, plus the bias, where they are given."""
    node, elements = spot.rows.node, spot.elements
    for number, function in ((1, "mul"), (2, "add")):
        name = node.inputs[number] if number < len(node.inputs) else ABSENT
        if name == ABSENT:
            continue
        place = (spot.place[1],) if node.op == "GroupNorm" else elements.aligned(name, spot.place)
        other = converted(elements.at(name, place), spot.rows.dtype)
        lanes = max(value.kind.lanes, other.kind.lanes)
        value = apply(function, splat(value, lanes), splat(other, lanes))
    return value


def _hardmax(rows: Rows, outer: Sequence[Affine]) -> None:
    """1 at the first of the greatest, 0 elsewhere."""
    scope = rows.scope
    best = scope.variable(Number(-inf, Kind(rows.dtype)))
    where = scope.variable(index(0))

    def first(spot: Spot) -> None:
        value = scope.let(spot.source())
        with scope.when(Apply("less", (best, value), FLAG)):
            scope.emit(Assign(best.name, value))
            scope.emit(Assign(where.name, scope.place(spot.flat)))

    rows.sweep(outer, first)
    one, zero = Number(1.0, Kind(rows.dtype)), Number(0.0, Kind(rows.dtype))

    def second(spot: Spot) -> None:
        is_best = apply("equal", scope.place(spot.flat), where, kind=FLAG)
        spot.write(Apply("where", (is_best, one, zero), one.kind))

    rows.sweep(outer, second)


PASSES: Mapping[str, Callable[[Rows, Sequence[Affine]], None]] = {
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Hardmax": _hardmax,
    "LayerNorm": _normalized,
    "RMSNorm": _normalized,
    "GroupNorm": _normalized,
}
"""Operators that go over rows."""
