"""Softmax and normalisation: every row is gone over several times, and what follows them rides along.

The lanes run along the row where its innermost axis is the fastest in memory, else over neighbouring rows.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf, prod

from ourcompiler.codegen.accumulate import Total
from ourcompiler.codegen.element import Elements, Index, Lane, NotInLanesError
from ourcompiler.codegen.fold import converted, wide
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.nest import (
    Spread,
    cut,
    lanes_for,
    merged,
    store,
    task_rows,
    vector_end,
)
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.graph import ABSENT, Node
from ourcompiler.ir.index import Affine, Dim, Space
from ourcompiler.ir.index import times as times_affine
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    FLAG,
    Apply,
    Assign,
    Expr,
    Kernel,
    Kind,
    Load,
    Name,
    Number,
    Phase,
    Store,
    apply,
    index,
    plus,
    splat,
)

PASS_WORK = 12
LONGEST_SUM = 256
"""Elements that one accumulator adds up before it is added to another."""


@dataclass(frozen=True, slots=True)
class RowSpace:
    """A value seen as rows: `outer` extents number the rows, `inner` the elements of a row."""

    outer: tuple[int, ...]
    inner: tuple[int, ...]
    spread: Spread


def row_space(node: Node, shape: tuple[int, ...]) -> RowSpace:
    """How the operator cuts its operand into rows."""
    if node.op == "GroupNorm":
        groups = node["groups"]
        count = shape[1] // groups

        def spread(space: Space, dims: Sequence[Affine]) -> Index:
            return (dims[0], space.add(space.multiply(dims[1], count), dims[2]), *dims[3:])

        return RowSpace((shape[0], groups), (count, *shape[2:]), spread)
    axis = node["axis"] % len(shape)
    if node.op in ("LayerNorm", "RMSNorm"):
        return RowSpace(shape[:axis], shape[axis:], lambda space, dims: tuple(dims))

    def around(space: Space, dims: Sequence[Affine]) -> Index:
        return (*dims[:axis], dims[-1], *dims[axis:-1])

    return RowSpace((*shape[:axis], *shape[axis + 1 :]), (shape[axis],), around)


@dataclass
class Rows:
    """Writes the code of one kernel."""

    group: Group
    node: Node
    scope: Scope
    space: RowSpace
    order: list[list[int]]  # merged dimensions: outer ones, then inner ones
    lanes: int
    along: bool  # lanes run along the row, not over rows
    lane: Lane | None = None  # over rows, while such lanes are written
    scratch: str = ""
    sink: "Callable[[Spot, Expr], None] | None" = None  # where results go, if not to the group's

    @property
    def dtype(self) -> DType:
        return wide(self.group.dtype(self.node.inputs[0]))

    @property
    def is_stored(self) -> bool:
        """Whether the row lies in memory as it is, so that reading it again costs nothing."""
        return self.node.inputs[0] in self.group.read and self.dtype is self.group.dtype(self.node.inputs[0])

    @property
    def inner_groups(self) -> list[list[int]]:
        return [axes for axes in self.order if axes[0] >= len(self.space.outer)]

    @property
    def inner_extents(self) -> list[int]:
        extents = (*self.space.outer, *self.space.inner)
        return [prod(extents[axis] for axis in axes) for axes in self.inner_groups]

    @property
    def length(self) -> int:
        return prod(self.space.inner)

    def place(self, dims: Sequence[Affine]) -> Index:
        """The index in the operand, from the merged dimensions."""
        extents = (*self.space.outer, *self.space.inner)
        found: dict[int, Affine] = {}
        for axes, dim in zip(self.order, dims, strict=True):
            parts = self.scope.space.delinear(dim, [extents[axis] for axis in axes])
            found.update(zip(axes, parts, strict=True))
        return self.space.spread(self.scope.space, [found[axis] for axis in range(len(extents))])

    def sweep(self, outer: Sequence[Affine], visit: "Visit", *totals: Total) -> None:
        """Once over the row: whole vectors first where lanes run along it. The totals of a long row are those
        of its parts: a single sum of a million elements would lose three digits.
        """
        scope, extents = self.scope, self.inner_extents
        part = LONGEST_SUM * self.lanes * extents[0] // max(self.length, 1)
        if not totals or len(extents) < 2 or part >= extents[0]:
            with ExitStack() as stack:
                dims = [stack.enter_context(scope.axis(extent, "r")) for extent in extents[:-1]]
                self._along(outer, dims, visit)
            return
        step = max(part, 1)
        with scope.loop(index(0), index(extents[0]), step, "c") as begin:
            parts = [total.begin() for total in totals]
            saved = [(total.name, total.rest) for total in totals]
            for total, own in zip(totals, parts, strict=True):
                total.name, total.rest = own.name, own.rest
            end = scope.let(apply("min", plus(begin, index(step)), index(extents[0])), "p")
            with scope.loop(begin, end, 1, "r") as name, ExitStack() as stack:
                dims = [scope.dim(extents[0], name)]
                dims += [stack.enter_context(scope.axis(extent, "r")) for extent in extents[1:-1]]
                self._along(outer, dims, visit)
            for total, own, (name_before, rest) in zip(totals, parts, saved, strict=True):
                total.name, total.rest = name_before, rest
                total.end(own)

    def _along(self, outer: Sequence[Affine], dims: Sequence[Affine], visit: "Visit") -> None:
        """The innermost loop."""
        scope, last = self.scope, self.inner_extents[-1]
        start: Expr = index(0)
        if self.along and self.lanes > 1:
            stop = vector_end(scope, start, index(last), self.lanes)
            with scope.loop(start, stop, self.lanes, "r") as name:
                dim = scope.dim(last, name)
                self._visit(visit, (*outer, *dims, dim), Lane(len(scope.extents) - 1, self.lanes))
            start = stop
        if start != index(last):
            with scope.loop(start, index(last), 1, "r") as name:
                self._visit(visit, (*outer, *dims, scope.dim(last, name)), self.lane)

    def _visit(self, visit: "Visit", dims: tuple[Affine, ...], lane: Lane | None) -> None:
        inner = dims[len(dims) - len(self.inner_extents) :]
        flat = self.scope.space.linear(inner, self.inner_extents)
        elements = self.group.elements(self.scope, lane=lane)
        visit(Spot(self, elements, self.place(dims), flat, lane))

    def total(self, function: str, start: float) -> "Total":
        """Accumulators for a fold along the row."""
        first = Number(start, Kind(self.dtype))
        if not self.along:
            lanes = self.lane.count if self.lane else 1
            return Total(self.scope, function, first, self.scope.variable(splat(first, lanes)), None)
        vector = self.scope.variable(splat(first, self.lanes)) if self.lanes > 1 else None
        rest = None
        if vector is None or self.inner_extents[-1] % self.lanes:
            rest = self.scope.variable(first)
        return Total(self.scope, function, first, vector or rest, rest if vector else None)


@dataclass
class Spot:
    """One element of the row, or one for each lane."""

    rows: Rows
    elements: Elements
    place: Index
    flat: Affine
    lane: Lane | None

    def source(self) -> Expr:
        """The operand's element, as the row computes it."""
        return converted(self.elements.at(self.rows.node.inputs[0], self.place), self.rows.dtype)

    def again(self) -> Expr:
        """The same in a later pass."""
        return self.source() if self.rows.is_stored else self.kept()

    def kept(self) -> Expr:
        """What `keep` wrote."""
        lanes = self.lane.count if self.lane else 1
        return Load(self.rows.scratch, self._where(), Kind(self.rows.dtype, lanes))

    def keep(self, value: Expr) -> None:
        """Write to the thread's own row."""
        lanes = self.lane.count if self.lane else 1
        self.rows.scope.emit(Store(self.rows.scratch, self._where(), splat(value, lanes)))

    def _where(self) -> Expr:
        scale = 1 if self.rows.along or self.lane is None else self.lane.count
        return self.rows.scope.place(times_affine(self.flat, scale))

    def full(self, value: Expr) -> Expr:
        """The value in every lane."""
        return splat(value, self.lane.count if self.lane else 1)

    def write(self, value: Expr) -> None:
        """The operator's result, on through what follows it in the group, to memory."""
        rows, group = self.rows, self.rows.group
        if rows.sink is not None:
            rows.sink(self, value)
            return
        own = converted(value, group.dtype(rows.node.output))

        def ready(place: Index) -> Expr:
            assert place == self.place, "what follows a row is element by element"
            return own

        self.elements.ready = {rows.node.output: ready}
        for name in group.written:
            found = self.elements.at(name, self.place)
            where = group.storages[name].at(rows.scope.space, self.place)
            store(rows.scope, group.stored[name].buffer, where, found, self.elements.step(where), self.lane)


Visit = Callable[[Spot], None]


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


def write_row(
    group: Group,
    node: Node,
    scope: Scope,
    outer: Sequence[Affine],
    sink: Callable[[Spot, Expr], None],
) -> None:
    """One row of a normalisation along the last axis, inside of another kernel."""
    shape = group.body.types[node.inputs[0]].shape
    order = [[axis] for axis in range(len(shape))]
    for in_lanes in (True, False):
        lanes = lanes_for(group.target.lanes, shape[-1]) if in_lanes else 1
        rows = Rows(group, node, scope, row_space(node, shape), order, lanes, along=True, sink=sink)
        rows.scratch = "" if rows.is_stored else scope.local(rows.dtype, rows.length)
        try:
            with scope.attempt():
                PASSES[node.op](rows, outer)
            return
        except NotInLanesError:
            if lanes == 1:
                raise


def lower(group: Group, node: Node, name: str) -> Kernel:
    """The kernel: in lanes where that can be done, else one by one."""
    for in_lanes in (True, False):
        try:
            return _lowered(group, node, name, in_lanes)
        except NotInLanesError:
            if not in_lanes:
                raise
    raise AssertionError("unreachable")


def _lowered(group: Group, node: Node, name: str, in_lanes: bool) -> Kernel:
    shape = group.body.types[node.inputs[0]].shape
    space = row_space(node, shape)
    outer_count = len(space.outer)
    extents = (*space.outer, *space.inner)
    places, dims = _dry_run(group, node, space)
    order = _loop_order(group, space, dims)
    outer = [axis for axis in order if axis < outer_count]
    inner = [axis for axis in order if axis >= outer_count]
    groups = [
        *(merged(places, dims, extents, outer) or []),
        *merged(places, dims, extents, inner),
    ]
    scope = Scope()
    along = not outer or order[-1] >= outer_count or extents[order[-1]] < 4
    rows = Rows(group, node, scope, space, groups, 1, along)
    is_f32 = group.dtype(node.inputs[0]) is DType.F32 and node.op != "Hardmax"
    if in_lanes and is_f32:
        axis_extent = (
            rows.inner_extents[-1]
            if along
            else prod(extents[axis] for axis in groups[-1 - len(rows.inner_extents)])
        )
        rows.lanes = lanes_for(group.target.lanes, axis_extent)
    rows.scratch = scope.local(rows.dtype, rows.length * (1 if along else rows.lanes))
    with scope.block() as body:
        tasks = _write(rows)
    return group.kernel(name, [scope], [Phase(tasks, tuple(body))])


def _dry_run(group: Group, node: Node, space: RowSpace) -> tuple[list[Affine], list[Affine]]:
    """Places of the operand and of all that follows."""
    stand_in = Number(0.0, Kind(group.dtype(node.output)))
    scope = Scope()
    extents = (*space.outer, *space.inner)
    dims = [scope.dim(extent, Name(f"d{axis}", index(0).kind)) for axis, extent in enumerate(extents)]
    place = space.spread(scope.space, dims)
    group.elements(scope).at(node.inputs[0], place)
    after = group.elements(scope, {node.output: lambda place: stand_in})
    for value in group.written:
        after.at(value, place)
        scope.place(group.storages[value].at(scope.space, place))
    for number in (1, 2):
        name = node.inputs[number] if number < len(node.inputs) else ABSENT
        if name != ABSENT:
            after.at(name, (place[1],) if node.op == "GroupNorm" else after.aligned(name, place))
    return scope.places, dims


def _loop_order(group: Group, space: RowSpace, dims: Sequence[Affine]) -> list[int]:
    """The dimensions from the slowest to the fastest in the result's memory."""
    extents = (*space.outer, *space.inner)
    whole = Space(tuple(extent for extent in extents if extent > 1))
    place = group.storages[group.written[0]].at(whole, space.spread(whole, dims))
    if any(not isinstance(atom, Dim) for atom, _ in place.terms):
        return list(range(len(extents)))
    steps = [abs(place.coefficient(next(iter(dim.terms))[0])) if dim.terms else 0 for dim in dims]
    return sorted(range(len(extents)), key=lambda axis: (extents[axis] > 1, -steps[axis]))


def _write(rows: Rows) -> int:
    """The loops over the rows; returns the number of tasks."""
    outer_groups = rows.order[: len(rows.order) - len(rows.inner_groups)]
    extents = (*rows.space.outer, *rows.space.inner)
    outer = [prod(extents[axis] for axis in axes) for axes in outer_groups]
    work = rows.length * PASS_WORK
    code = PASSES[rows.node.op]
    if rows.along or rows.lanes == 1:
        loops = cut([*outer, 1], work, 1)
        with task_rows(rows.scope, loops) as (dims, _):
            code(rows, dims)
        return loops.tasks
    loops = cut(outer, work, rows.lanes)
    with task_rows(rows.scope, loops) as (dims, (start, stop)):
        whole = vector_end(rows.scope, start, stop, rows.lanes)
        with rows.scope.loop(start, whole, rows.lanes) as name:
            dim = rows.scope.dim(outer[-1], name)
            rows.lane = Lane(len(rows.scope.extents) - 1, rows.lanes)
            code(rows, (*dims, dim))
        rows.lane = None
        if whole != stop:
            with rows.scope.loop(whole, stop, 1) as name:
                code(rows, (*dims, rows.scope.dim(outer[-1], name)))
    return loops.tasks
