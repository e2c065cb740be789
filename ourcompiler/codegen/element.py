"""One element of a value inside a kernel, as an expression: pointwise operators inline, views as places.

This is where fusion happens: what a group's body says is followed back to what lies in memory (DNNFusion's
code generation, with SmartMem's index comprehension in place of its data movement).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.graph import Graph, Node
from ourcompiler.ir.index import Affine, Atom, Dim, Quotient, Remainder, constant
from ourcompiler.ir.index_map import Guard, IndexMap
from ourcompiler.ir.scalar import Scalar, operand
from ourcompiler.ir.types import FLOATS, DType
from ourcompiler.kernel.ir import FLAG, INDEX, Apply, Expr, Kind, Load, Number, apply, index, plus, splat
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import Pointwise, View
from ourcompiler.storage import Storage

Index = tuple[Affine, ...]
COMPARISONS = frozenset(
    {"less", "less_equal", "equal", "is_nan", "is_positive_infinity", "is_negative_infinity"}
)
LOGICAL = frozenset({"and", "or", "xor", "not"})
IN_LANES = frozenset({DType.F32, DType.BOOL})


class NotInLanesError(Exception):
    """The elements side by side cannot be computed as a vector; one by one they can."""


@dataclass(frozen=True, slots=True)
class Even:
    """What has to hold when the kernel runs for the lanes of a vector to lie side by side: quotients and
    guards that are the same for the first lane and the last. Nothing may depend on dimensions beyond `known`.
    """

    scope: Scope
    count: int
    known: int
    found: dict[Expr, None] = field(default_factory=dict)

    def same_quotient(self, of: Affine, by: int, step: int) -> None:
        """The quotient of all lanes is that of the first."""
        first, last = self._ends(of, step)
        kept = [Apply("floor_quotient", (one, index(by)), INDEX) for one in (first, last)]
        self.found[apply("equal", kept[0], kept[1], kind=FLAG)] = None

    def inside(self, where: Affine, size: int, step: int) -> None:
        """All lanes lie within a size."""
        first, last = self._ends(where, step)
        low, high = (first, last) if step > 0 else (last, first)
        self.found[apply("less_equal", index(0), low, kind=FLAG)] = None
        self.found[apply("less", high, index(size), kind=FLAG)] = None

    def _ends(self, of: Affine, step: int) -> tuple[Expr, Expr]:
        if any(number >= self.known for number in of.dims):
            raise NotInLanesError
        first = self.scope.place(of)
        return first, plus(first, index((self.count - 1) * step))


@dataclass(frozen=True, slots=True)
class Lane:
    """Dimension `dim` of the scope counts vectors of `count` lanes; its value is that of the first one, and a
    whole number of vectors if it `is_aligned`. With `even`, lanes need to lie side by side only where that
    holds.
    """

    dim: int
    count: int
    is_aligned: bool = False
    even: Even | None = None

    def begins_whole(self, where: Affine) -> bool:
        """Whether each vector along an index begins at a whole number of vectors."""
        mine = Dim(self.dim)
        others = [(atom, factor) for atom, factor in where.terms if atom != mine]
        is_apart = all(self.dim not in Affine(0, ((atom, 1),)).dims for atom, _ in others)
        steps = (*(factor for _, factor in others), where.constant)
        is_even = all(one % self.count == 0 for one in steps)
        return self.is_aligned and is_apart and is_even and where.coefficient(mine) == 1


@dataclass(frozen=True, slots=True)
class Stored:
    """A value in memory: the kernel's name of its buffer, and its layout."""

    buffer: str
    storage: Storage


Ready = Callable[["Elements", Index], Expr]
"""How an element of what the kernel has computed itself is found, for the block that asks."""
Inline = Callable[["Elements", Node, Index], Expr]


@dataclass
class Elements:
    """Elements of the values of a group's body, for one block of the kernel.

    `ready` has values that the kernel computed itself; `folds` how operators are
    computed that need loops (those of a second result as `MaxPool.1`); `vector_lanes` are
    those that the target likes.
    """

    scope: Scope
    body: Graph
    stored: Mapping[str, Stored]
    ready: Mapping[str, Ready]
    folds: Mapping[str, Inline]
    vector_lanes: int = 1
    lane: Lane | None = None
    _known: dict[tuple[str, Index], Expr] = field(default_factory=dict)
    guards: tuple[Expr, ...] = ()
    """Conditions without which what is computed now may lie outside: nothing is computed ahead of them."""

    @contextmanager
    def under_guard(self, *conditions: Expr) -> Iterator[None]:
        """What is computed inside is read only where all conditions hold."""
        before = self.guards
        self.guards = (*before, *conditions)
        try:
            yield
        finally:
            self.guards = before

    def inside(self, lane: Lane | None) -> "Elements":
        """The same for a block further inside."""
        return replace(self, lane=lane, _known={}, guards=())

    def at(self, name: str, place: Index) -> Expr:
        """The element at a place; raises `NotInLanesError` when it has to be computed one by one."""
        found = self._known.get((name, place))
        if found is None:
            found = self._made(name, place)
            if not self.guards:
                found = self.scope.let(found)
                self._known[name, place] = found
        return found

    def _made(self, name: str, place: Index) -> Expr:
        if name in self.ready:
            return self.ready[name](self, place)
        if name in self.stored:
            return self._loaded(name, place)
        known = self.body.constants.get(name)
        if known is not None and known.size == 1:
            return Number(known.reshape(-1)[0].item(), Kind(self.body.types[name].dtype))
        node = self.body.producers[name]
        if node.op in INLINE:
            return INLINE[node.op](self, node, place)
        if node.op in self.folds:
            number = node.outputs.index(name)
            return self.folds[f"{node.op}.{number}" if number else node.op](self, node, place)
        match OPS[node.op].code:
            case Pointwise():
                return self._pointwise(node, place)
            case View(views):
                facts = dict(node.attributes)
                shown = views(self.body.types[node.inputs[0]], facts)[node.outputs.index(name)]
                return self.through(shown, node.inputs[0], place)
        raise AssertionError(f"{node.op} is computed by a loop nest of its own, not inside another")

    def _loaded(self, name: str, place: Index) -> Expr:
        one = self.stored[name]
        where = one.storage.at(self.scope.space, place)
        return self.load(one.buffer, where, self.body.types[name].dtype)

    def load(self, buffer: str, where: Affine, dtype: DType) -> Expr:
        """The elements of a buffer at a place, in lanes when the place depends on the lane."""
        step = self.step(where)
        if not step:
            return Load(buffer, self.scope.place(where), Kind(dtype))
        assert self.lane is not None
        if dtype not in IN_LANES or (dtype is DType.BOOL and step != 1):
            raise NotInLanesError
        return Load(buffer, self.scope.place(where), Kind(dtype, self.lane.count), step)

    def step(self, where: Affine) -> int:
        """How far apart the places of neighbouring lanes are; raises `NotInLanesError` for no such number."""
        if self.lane is None or self.lane.dim not in where.dims:
            return 0
        mine = Dim(self.lane.dim)
        total = where.coefficient(mine)
        for atom, factor in where.terms:
            if atom != mine and self.lane.dim in Affine(0, ((atom, 1),)).dims:
                total += factor * self._step_of(atom, self.lane.even)
        return total

    def _step_of(self, atom: Atom, even: Even | None) -> int:
        """That of a quotient or remainder, where the quotient is the same for all lanes."""
        if not isinstance(atom, Quotient | Remainder):
            raise NotInLanesError
        inner = self.step(atom.of)
        assert self.lane is not None
        if inner and not (atom.by % self.lane.count == 0 and self.lane.begins_whole(atom.of)):
            if even is None:
                raise NotInLanesError
            even.same_quotient(atom.of, atom.by, inner)
        return inner if isinstance(atom, Remainder) else 0

    def through(self, shown: IndexMap, source: str, place: Index) -> Expr:
        """The element that a view shows; where its guards do not hold, its fill."""
        space = self.scope.space
        inner = tuple(space.substitute(one, place) for one in shown.results)
        guards = tuple(Guard(space.substitute(one.index, place), one.size) for one in shown.guards)
        return self.within(source, inner, guards, shown.fill if shown.fill is not None else 0)

    def within(self, source: str, place: Index, guards: Sequence[Guard], fill: float | int) -> Expr:
        """The element at a place where all guards hold, else a fill; nothing is read there."""
        conditions: list[Expr] = []
        for guard in guards:
            low, high = self.scope.space.bounds(guard.index)
            if (low < 0 or high >= guard.size) and (step := self.step(guard.index)):
                assert self.lane is not None
                if self.lane.even is None:
                    raise NotInLanesError
                self.lane.even.inside(guard.index, guard.size, step)
                continue
            if low < 0:
                conditions.append(apply("less_equal", index(0), self.scope.place(guard.index), kind=FLAG))
            if high >= guard.size:
                conditions.append(apply("less", self.scope.place(guard.index), index(guard.size), kind=FLAG))
        if not conditions:
            return self.at(source, place)
        with self.under_guard(*conditions):
            value = self.at(source, place)
        condition = conditions[0]
        for one in conditions[1:]:
            condition = apply("and", condition, one)
        return Apply("where", (condition, value, Number(fill, value.kind)), value.kind)

    def _pointwise(self, node: Node, place: Index) -> Expr:
        code = OPS[node.op].code
        assert isinstance(code, Pointwise)
        operands = [self.at(name, self.aligned(name, place)) for name in node.inputs]
        written = code.code(*map(operand, range(len(operands))), **dict(node.attributes))
        dtype = self.body.types[node.output].dtype
        return evaluate(written, operands, dtype)

    def aligned(self, name: str, place: Index) -> Index:
        """The place in an operand that is broadcast to the place's shape."""
        shape = self.body.types[name].shape
        return tuple(
            one if size > 1 else constant(0)
            for one, size in zip(place[len(place) - len(shape) :], shape, strict=True)
        )

    def dynamic(self, value: Expr, size: int) -> Affine:
        """An index that the data says, counted from the front; one that lies outside ends the run."""
        if value.kind.lanes > 1:
            raise NotInLanesError
        wide = value if value.kind == INDEX else Apply("cast", (value,), INDEX)
        kept = Apply("within", (wide, index(size)), INDEX)
        return self.scope.dim(size, kept if self.guards else self.scope.let(kept, "g"))


def evaluate(written: Scalar, operands: Sequence[Expr], dtype: DType) -> Expr:
    """A scalar expression with the operands put in; `dtype` is that of literals which meet nothing else."""
    match written.function:
        case "operand":
            return operands[int(written.number)]
        case "literal":
            return Number(written.number, Kind(dtype))
    if written.function in ("cast", "bit_cast"):
        value = evaluate(written.arguments[0], operands, dtype)
        assert written.dtype is not None
        if value.kind.lanes > 1 and (
            {value.kind.dtype, written.dtype} - IN_LANES or written.function != "cast"
        ):
            raise NotInLanesError
        return Apply(written.function, (value,), Kind(written.dtype, value.kind.lanes))
    return _function(written, operands, dtype)


def _function(written: Scalar, operands: Sequence[Expr], dtype: DType) -> Expr:
    parts: list[Expr | None] = [
        None if one.function == "literal" else evaluate(one, operands, dtype) for one in written.arguments
    ]
    flags = 1 if written.function == "where" else 0
    meets = next((one.kind.dtype for one in parts[flags:] if one is not None), dtype)
    arguments = [
        Number(one.number, Kind(meets)) if part is None else part
        for one, part in zip(written.arguments, parts, strict=True)
    ]
    lanes = max(one.kind.lanes for one in arguments)
    if lanes > 1:
        if any(one.kind.dtype not in IN_LANES for one in arguments):
            raise NotInLanesError
        if written.function == "where" and arguments[1].kind.dtype is not DType.F32:
            raise NotInLanesError
        arguments = [splat(one, lanes) for one in arguments]
    if written.function == "pow":
        return _power(arguments)
    result = arguments[-1].kind.dtype
    if written.function in COMPARISONS or written.function in LOGICAL:
        result = DType.BOOL
    return Apply(written.function, tuple(arguments), Kind(result, lanes))


def _power(arguments: list[Expr]) -> Expr:
    """Base and exponent may differ in type; the result has that of the base."""
    base, exponent = arguments
    kind = base.kind
    if kind.dtype is exponent.kind.dtype or (kind.dtype in FLOATS and kind.lanes == 1):
        return Apply("pow", (base, Apply("cast", (exponent,), kind)), kind)
    wide = Kind(DType.F64)
    power = Apply("pow", (Apply("cast", (base,), wide), Apply("cast", (exponent,), wide)), wide)
    return Apply("cast", (power,), kind)


def _gather(elements: Elements, node: Node, place: Index) -> Expr:
    source, indices = (elements.body.types[name] for name in node.inputs[:2])
    axis = node["axis"] % source.rank
    at = elements.at(node.inputs[1], place[axis : axis + indices.rank])
    found = elements.dynamic(at, source.shape[axis])
    return elements.at(node.inputs[0], (*place[:axis], found, *place[axis + indices.rank :]))


def _gather_elements(elements: Elements, node: Node, place: Index) -> Expr:
    source = elements.body.types[node.inputs[0]]
    axis = node["axis"] % source.rank
    found = elements.dynamic(elements.at(node.inputs[1], place), source.shape[axis])
    return elements.at(node.inputs[0], (*place[:axis], found, *place[axis + 1 :]))


def _gather_nd(elements: Elements, node: Node, place: Index) -> Expr:
    source, indices = (elements.body.types[name] for name in node.inputs[:2])
    batch, depth, rank = node["batch_dims"], indices.shape[-1], indices.rank - 1
    found = [
        elements.dynamic(
            elements.at(node.inputs[1], (*place[:rank], constant(number))), source.shape[batch + number]
        )
        for number in range(depth)
    ]
    return elements.at(node.inputs[0], (*place[:batch], *found, *place[rank:]))


def _whole_vectors(elements: Elements, node: Node, where: Affine, axis: int) -> bool:
    """Whether each vector along the axis lies in one operand: all of them begin at whole vectors."""
    assert elements.lane is not None
    sizes = [elements.body.types[name].shape[axis] for name in node.inputs]
    return all(one % elements.lane.count == 0 for one in sizes) and elements.lane.begins_whole(where)


def _concat(elements: Elements, node: Node, place: Index) -> Expr:
    """Operand after operand, by where the index along the axis lies."""
    axis = node["axis"] % elements.body.types[node.output].rank
    where, space = place[axis], elements.scope.space
    low, high = space.bounds(where)
    if elements.step(where) and len(node.inputs) > 1 and not _whole_vectors(elements, node, where, axis):
        raise NotInLanesError
    start, parts = 0, []
    for name in node.inputs:
        size = elements.body.types[name].shape[axis]
        if size and start <= high and low < start + size:
            moved = (*place[:axis], space.add(where, constant(-start)), *place[axis + 1 :])
            parts.append((start, name, moved))
        start += size
    if len(parts) == 1:
        return elements.at(parts[0][1], parts[0][2])
    at = elements.scope.place(where)
    with elements.under_guard(apply("less_equal", index(parts[-1][0]), at, kind=FLAG)):
        found = elements.at(parts[-1][1], parts[-1][2])
    for (first, name, moved), (after, _, _) in reversed(list(pairwise(parts))):
        inside = apply("less", at, index(after), kind=FLAG)
        begun = (
            () if (first, name, moved) == parts[0] else (apply("less_equal", index(first), at, kind=FLAG),)
        )
        with elements.under_guard(*begun, inside):
            value = elements.at(name, moved)
        found = Apply("where", (inside, value, found), found.kind)
    return found


INLINE: Mapping[str, Inline] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Concat": _concat,
}
"""Operators that are neither an expression nor a view, but found element by element all the same."""
