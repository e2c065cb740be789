"""Group normalisation of images whose channels lie side by side: one read for the statistics, one for the
result.

A group is a few channels of every position, so to go over one group after the other would read every cache
line once for each group in it. Here tasks are blocks of positions with all their channels. Each block gives
every channel's mean and sum of squares around it (two passes over what stays in the second cache); they are
put together by group (Chan, Golub and LeVeque 1983); then all blocks are normalised.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

from ourcompiler.codegen.element import Elements, Index, Lane, NotInLanesError
from ourcompiler.codegen.fold import FOLDS
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.nest import axis_order, store
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.ir.graph import ABSENT, Node
from ourcompiler.ir.index import Affine
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    TASK,
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
    times,
)

F32 = DType.F32
LEAST_POSITIONS = 64
"""Fewer are near anyway."""
BLOCK_BYTES = 1 << 17
"""Of a block of positions, at most: it stays in the second cache between the two passes."""
AT_ONCE = 4
"""Positions that are added up before the sums are touched."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Images, channels, positions of each image, in blocks of `block`; groups of channels."""

    images: int
    channels: int
    spatial: tuple[int, ...]
    groups: int
    block: int

    @property
    def positions(self) -> int:
        """Positions of one image."""
        return prod(self.spatial)

    @property
    def blocks(self) -> int:
        """Blocks of one image."""
        return -(-self.positions // self.block)

    @property
    def statistics(self) -> int:
        """Numbers that blocks give: two for each channel."""
        return self.images * self.blocks * 2 * self.channels

    @property
    def factors(self) -> int:
        """Numbers that groups give: a mean and a factor for each channel."""
        return self.images * 2 * self.channels


def plan(group: Group, node: Node) -> Plan | None:
    """How it is cut, or None where rows are as good: channels apart, few positions, folds that follow."""
    body = group.body
    shape = body.types[node.inputs[0]].shape
    if node.op != "GroupNorm" or len(shape) < 3 or body.types[node.inputs[0]].dtype is not F32:
        return None
    images, channels, *spatial = shape
    lanes = group.target.lanes
    after = body.nodes[body.nodes.index(node) + 1 :]
    if channels % lanes or prod(spatial) < LEAST_POSITIONS or any(one.op in FOLDS for one in after):
        return None
    written = [(body.types[name].shape, axis_order(group.storages[name])[-1]) for name in group.written]
    if any(one != (shape, 1) for one in written):
        return None
    block = min(prod(spatial), max(AT_ONCE, BLOCK_BYTES // (4 * channels)))
    found = Plan(images, channels, tuple(spatial), node["groups"], block)
    return found if _in_lanes(group, node, found) else None


def _in_lanes(group: Group, node: Node, what: Plan) -> bool:
    """Whether channels are read side by side, and what follows is computed in lanes too."""
    try:
        _Writer(group, node, what, Scope(), "s", "f").normalise()
    except NotInLanesError:
        return False
    return True


def lower(group: Group, node: Node, name: str, what: Plan, buffers: tuple[str, str]) -> Kernel:
    """The kernel; `buffers` are its names for the statistics of blocks and the factors of channels."""
    scope = Scope()
    writer = _Writer(group, node, what, scope, *buffers)
    return group.kernel(name, [scope], [writer.sum_up(), writer.combine(), writer.normalise()])


@dataclass(frozen=True, slots=True)
class _Writer:
    group: Group
    node: Node
    what: Plan
    scope: Scope
    statistics: str
    factors: str

    def sum_up(self) -> Phase:
        """Mean and sum of squares around it, of every channel of a block."""
        scope, what = self.scope, self.what
        sums = scope.local(F32, what.channels)
        with scope.block() as body:
            image, block, span = self._block()
            count = apply("cast", apply("sub", span[1], span[0]), kind=Kind(F32))
            inverse = splat(scope.let(apply("div", Number(1.0, Kind(F32)), count), "t"), self.lanes)
            base = self._base(image, block)

            def apart(value: Expr, channel: Expr) -> Expr:
                mean = Load(self.statistics, plus(base, channel), value.kind)
                found = scope.let(apply("sub", value, mean))
                return apply("mul", found, found)

            self._add_up(sums, image, span, lambda value, channel: value)
            with self._vectors() as (channel, *_):
                mean = apply("mul", Load(sums, channel, self.kind), inverse)
                scope.emit(Store(self.statistics, plus(base, channel), mean))
            self._add_up(sums, image, span, apart)
            with self._vectors() as (channel, *_):
                to = plus(plus(base, channel), index(what.channels))
                scope.emit(Store(self.statistics, to, Load(sums, channel, self.kind)))
        return Phase(what.images * what.blocks, tuple(body))

    def combine(self) -> Phase:
        """Mean and factor of each group, written down for each of its channels."""
        scope, what = self.scope, self.what
        width = what.channels // what.groups
        with scope.block() as body:
            image, number = delinear_names(scope, TASK, (what.images, what.groups))
            start = scope.let(times(scope.place(number), width), "c")
            whole = Number(1.0 / (what.positions * width), Kind(F32))
            total = self._over_blocks(
                image, start, lambda at, count: apply("mul", count, self._statistic(at))
            )
            mean = scope.let(apply("mul", total, whole), "t")

            def square(at: Expr, count: Expr) -> Expr:
                apart = scope.let(apply("sub", self._statistic(at), mean))
                own = self._statistic(plus(at, index(what.channels)))
                return apply("add", own, apply("mul", count, apply("mul", apart, apart)))

            variance = apply("mul", self._over_blocks(image, start, square), whole)
            root = apply("sqrt", apply("add", variance, Number(self.node["epsilon"], Kind(F32))))
            inverse = scope.let(apply("div", Number(1.0, Kind(F32)), root), "t")
            base = scope.let(times(scope.place(image), 2 * what.channels), "to")
            with scope.loop(start, plus(start, index(width)), 1, "c") as channel:
                scope.emit(Store(self.factors, plus(base, channel), mean))
                factor = self._given(self.group.elements(scope), 1, scope.dim(what.channels, channel))
                value = inverse if factor is None else apply("mul", inverse, factor)
                scope.emit(Store(self.factors, plus(plus(base, channel), index(what.channels)), value))
        return Phase(what.images * what.groups, tuple(body))

    def normalise(self) -> Phase:
        """Every element, and what follows it."""
        scope, what = self.scope, self.what
        with scope.block() as body:
            image, _, span = self._block()

            def ready(elements: Elements, place: Index) -> Expr:
                value = elements.at(self.node.inputs[0], place)
                space = scope.space
                at = space.add(space.multiply(place[0], 2 * what.channels), place[1])
                mean = elements.load(self.factors, at, F32)
                factor = elements.load(self.factors, space.add(at, Affine(what.channels)), F32)
                value = apply("mul", apply("sub", value, mean), factor)
                bias = self._given(elements, 2, place[1])
                return value if bias is None else apply("add", value, splat(bias, value.kind.lanes))

            with scope.loop(*span, 1, "p") as position, self._vectors() as (_, dim, lane):
                place = self._place(image, position, dim)
                elements = self.group.elements(scope, {self.node.output: ready}, lane)
                for name in self.group.written:
                    found = elements.at(name, place)
                    where = self.group.storages[name].at(scope.space, place)
                    store(scope, self.group.stored[name].buffer, where, found, elements.step(where), lane)
        return Phase(what.images * what.blocks, tuple(body))

    @property
    def lanes(self) -> int:
        return self.group.target.lanes

    @property
    def kind(self) -> Kind:
        return Kind(F32, self.lanes)

    def _block(self) -> tuple[Affine, Affine, tuple[Expr, Expr]]:
        """Image and block of a task, and the positions from and to."""
        scope, what = self.scope, self.what
        image, block = delinear_names(scope, TASK, (what.images, what.blocks))
        first = scope.let(times(scope.place(block), what.block), "p")
        last = scope.let(apply("min", plus(first, index(what.block)), index(what.positions)), "p")
        return image, block, (first, last)

    def _base(self, image: Affine, block: Affine) -> Expr:
        number = self.scope.space.linear((image, block), (self.what.images, self.what.blocks))
        return self.scope.let(times(self.scope.place(number), 2 * self.what.channels), "s")

    def _statistic(self, at: Expr) -> Expr:
        return Load(self.statistics, at, Kind(F32))

    def _over_blocks(self, image: Affine, start: Expr, term: Callable[[Expr, Expr], Expr]) -> Expr:
        """The sum over all blocks, and the channels of a group from `start`; of a place among the statistics
        and the positions of its block.
        """
        scope, what = self.scope, self.what
        total = scope.variable(Number(0.0, Kind(F32)))
        with scope.loop(index(0), index(what.blocks), 1, "b") as number:
            base = self._base(image, scope.dim(what.blocks, number))
            rest = apply("sub", index(what.positions), times(number, what.block))
            size = apply("min", index(what.block), rest)
            count = scope.let(apply("cast", size, kind=Kind(F32)), "n")
            first = scope.let(plus(base, start), "s")
            stop = plus(first, index(what.channels // what.groups))
            with scope.loop(first, stop, 1, "c") as at:
                scope.emit(Assign(total.name, apply("add", total, term(at, count))))
        return total

    def _add_up(
        self, sums: str, image: Affine, span: tuple[Expr, Expr], term: Callable[[Expr, Expr], Expr]
    ) -> None:
        """For every channel the sum over the positions, some of them at once."""
        scope = self.scope
        with self._vectors() as (channel, *_):
            scope.emit(Store(sums, channel, splat(Number(0.0, Kind(F32)), self.lanes)))
        count = apply("sub", span[1], span[0])
        whole = scope.let(apply("sub", span[1], apply("remainder", count, index(AT_ONCE))), "p")
        for start, stop, step in ((span[0], whole, AT_ONCE), (whole, span[1], 1)):
            with scope.loop(start, stop, step, "p") as position, self._vectors() as (channel, dim, lane):
                elements = self.group.elements(scope, lane=lane)
                value: Expr = Load(sums, channel, self.kind)
                for number in range(step):
                    place = self._place(image, plus(position, index(number)), dim)
                    one = splat(elements.at(self.node.inputs[0], place), self.lanes)
                    value = apply("add", value, term(one, channel))
                scope.emit(Store(sums, channel, value))

    @contextmanager
    def _vectors(self) -> Iterator[tuple[Name, Affine, Lane]]:
        """The loop over the channels: its variable, the same as a dimension, its lanes."""
        scope = self.scope
        with scope.loop(index(0), index(self.what.channels), self.lanes, "c") as channel:
            dim = scope.dim(self.what.channels, channel)
            yield channel, dim, Lane(len(scope.extents) - 1, self.lanes, True)

    def _place(self, image: Affine, position: Expr, channel: Affine) -> Index:
        scope, what = self.scope, self.what
        dim = scope.dim(what.positions, position)
        return (image, channel, *scope.space.delinear(dim, what.spatial))

    def _given(self, elements: Elements, number: int, channel: Affine) -> Expr | None:
        """The scale (1) or the bias (2) of a channel."""
        name = self.node.inputs[number] if number < len(self.node.inputs) else ABSENT
        return None if name == ABSENT else elements.at(name, (channel,))
