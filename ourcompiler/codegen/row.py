"""A value seen as rows, and going over one row: sums of it, its elements again, and where results go."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod

from ourcompiler.codegen.accumulate import Total
from ourcompiler.codegen.element import Elements, Index, Lane, Ready
from ourcompiler.codegen.fold import converted, wide
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.nest import (
    Spread,
    store,
    vector_end,
)
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.graph import Node
from ourcompiler.ir.index import Affine, Space
from ourcompiler.ir.index import times as times_affine
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    Expr,
    Kind,
    Load,
    Number,
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
    folds: bool = False  # results are folds of the row, which is kept
    kept: Mapping[str, Ready] = field(default_factory=dict)  # values that the thread has in its own memory

    @property
    def dtype(self) -> DType:
        return wide(self.group.dtype(self.node.inputs[0]))

    @property
    def is_stored(self) -> bool:
        """Whether the row lies in memory as it is, so that reading it again costs nothing."""
        name = self.node.inputs[0]
        return name in (*self.group.read, *self.kept) and self.dtype is self.group.dtype(name)

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
                self._visit(
                    visit, (*outer, *dims, dim), Lane(len(scope.extents) - 1, self.lanes, is_aligned=True)
                )
            start = stop
        if start != index(last):
            with scope.loop(start, index(last), 1, "r") as name:
                self._visit(visit, (*outer, *dims, scope.dim(last, name)), self.lane)

    def _visit(self, visit: "Visit", dims: tuple[Affine, ...], lane: Lane | None) -> None:
        inner = dims[len(dims) - len(self.inner_extents) :]
        flat = self.scope.space.linear(inner, self.inner_extents)
        elements = self.group.elements(self.scope, lane=lane)
        elements.ready = self.kept
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
        if rows.folds:
            self.keep(value)
            return
        own = converted(value, group.dtype(rows.node.output))

        def ready(elements: Elements, place: Index) -> Expr:
            assert place == self.place, "what follows a row is element by element"
            return own

        self.elements.ready = {**self.elements.ready, rows.node.output: ready}
        for name in group.written:
            found = self.elements.at(name, self.place)
            where = group.storages[name].at(rows.scope.space, self.place)
            store(rows.scope, group.stored[name].buffer, where, found, self.elements.step(where), self.lane)


Visit = Callable[[Spot], None]
