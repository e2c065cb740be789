"""The left side of a product: read in place where rows and depth do not mix, else packed row by row, with
whatever has to be computed for it, normalisation too.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod

from ourcompiler.codegen.contraction import (
    Contraction,
    Place,
    contraction,
    separable,
)
from ourcompiler.codegen.element import Elements, Index, Lane, NotInLanesError, Stored
from ourcompiler.codegen.gemm_parts import Gemm, Part
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.lanes import sweep
from ourcompiler.codegen.nest import TASK_WORK, vector_end
from ourcompiler.codegen.row import Spot
from ourcompiler.codegen.rows import write_row
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.ir.graph import Graph, Node
from ourcompiler.ir.index import ZERO, Affine, constant
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    TASK,
    Expr,
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
from ourcompiler.storage import dense

F32 = DType.F32


def left_place(gemm: Gemm, scope: Scope, batch: Place, row: Affine) -> Affine:
    rows = scope.space.delinear(row, gemm.what.rows)
    depth = tuple(ZERO for _ in gemm.what.depth)
    found = source_place(gemm.group, scope, gemm.what, gemm.node, batch, rows, depth)
    assert found is not None
    return found[1]


def left_starts(gemm: Gemm, batch: Place, row: Affine, height: int) -> list[Expr]:
    """Where the rows of a tile begin: at even distances from the first one, if rows lie so."""
    scope = gemm.scope
    start = left_place(gemm, scope, batch, row)
    (own,) = (atom for atom, _ in row.terms) if len(row.terms) == 1 else (None,)
    others = [atom for atom, _ in start.terms if atom != own]
    if own is not None and not any(row.dims & Affine(0, ((one, 1),)).dims for one in others):
        first = scope.let(scope.place(start), "left")
        return [plus(first, index(number * start.coefficient(own))) for number in range(height)]
    places = [left_place(gemm, scope, batch, scope.space.add(row, constant(one))) for one in range(height)]
    return [scope.let(scope.place(one), "left") for one in places]


Reader = Callable[[int, Place], Expr]


def left_reader(gemm: Gemm, batch: Place, row: Affine, height: int, first: Expr, origin: Expr) -> Reader:
    """How the tile's rows are read: from the packed block, or in place with the start of each row kept."""
    scope, what = gemm.scope, gemm.what
    if gemm.packed_left:
        relative = scope.let(apply("sub", gemm.left_row(batch, scope.place(row), first), origin), "left")

        def packed(number: int, depth: Place) -> Expr:
            flat = scope.place(scope.space.linear(depth, what.depth))
            place = plus(plus(relative, flat), index(number * gemm.left_stride))
            return Load(gemm.left, place, Kind(F32))

        return packed
    starts = left_starts(gemm, batch, row, height)
    buffer = direct_place(gemm.group, scope, what, gemm.node)
    assert buffer is not None

    def direct(number: int, depth: Place) -> Expr:
        zero = tuple(constant(0) for _ in what.rows)
        place = source_place(gemm.group, scope, what, gemm.node, tuple(ZERO for _ in batch), zero, depth)
        assert place is not None
        fixed = source_place(
            gemm.group, scope, what, gemm.node, tuple(ZERO for _ in batch), zero, tuple(ZERO for _ in depth)
        )
        assert fixed is not None
        inner = scope.space.add(place[1], scope.space.multiply(fixed[1], -1))
        return Load(place[0], plus(starts[number], scope.place(inner)), Kind(F32))

    return direct


def source_place(
    group: Group, scope: Scope, what: Contraction, node: Node, batch: Place, rows: Place, depth: Place
) -> tuple[str, Affine] | None:
    """Buffer and place of an element of the left side, when it lies in memory as it is and without guards."""
    return seen_place(group, scope, lambda elements: what.left(elements, batch, rows, depth))


def seen_place(group: Group, scope: Scope, read: Callable[[Elements], Expr]) -> tuple[str, Affine] | None:
    """Buffer and place of what is read, when it is a number of memory as it is and without guards, and not
    at a place that the data says.
    """
    return _seen(_Seen(scope, group.body, group.elements(scope).stored, {}, {}, 1), read)


def chosen_place(group: Group, scope: Scope, read: Callable[[Elements], Expr]) -> tuple[str, Affine] | None:
    """The same with a dimension more for each index that the data says."""
    return _seen(_SeenChosen(scope, group.body, group.elements(scope).stored, {}, {}, 1), read)


def _seen(seen: "_Seen", read: Callable[[Elements], Expr]) -> tuple[str, Affine] | None:
    try:
        value = read(seen)
    except NotInLanesError:
        return None
    if isinstance(value, Load) and seen.where is not None and value.kind.dtype is F32:
        return value.buffer, seen.where
    return None


@dataclass
class _Seen(Elements):
    """Elements that remember the last place, and write nothing."""

    where: Affine | None = None

    def at(self, name: str, place: Index) -> Expr:
        return self._made(name, place)

    def dynamic(self, value: Expr, size: int) -> Affine:
        raise NotInLanesError  # a place that the data says is not one that rows are read from

    def load(self, buffer: str, where: Affine, dtype: DType) -> Expr:
        self.where = where
        return Load(buffer, index(0), Kind(dtype))


@dataclass
class _SeenChosen(_Seen):
    """Those for which an index that the data says is any index."""

    def dynamic(self, value: Expr, size: int) -> Affine:
        return self.scope.dim(size, Name("chosen", index(0).kind))


def direct_place(group: Group, scope: Scope, what: Contraction, node: Node) -> str | None:
    """The buffer of the left side if its rows can be read in place: row and depth do not mix."""
    trial = Scope()
    dims = [
        trial.dim(extent, Name(f"d{number}", index(0).kind))
        for number, extent in enumerate((*what.batch, prod(what.rows), *what.depth))
    ]
    count = len(what.batch)
    rows = trial.space.delinear(dims[count], what.rows)
    depth = tuple(dims[count + 1 :])
    try:
        found = source_place(group, trial, what, node, tuple(dims[:count]), rows, depth)
    except AssertionError:
        return None
    if found is None:
        return None
    inner = frozenset().union(*(one.dims for one in depth))
    return found[0] if separable(found[1], inner) is not None else None


def rows_apart(group: Group, what: Contraction, node: Node) -> int:
    """How far apart in memory the elements of two rows side by side are, read in place; 0 if nobody knows."""
    trial = Scope()
    dims = [
        trial.dim(extent, Name(f"d{number}", index(0).kind))
        for number, extent in enumerate((*what.batch, *what.rows, *what.depth))
    ]
    first, last = len(what.batch), len(what.batch) + len(what.rows)
    found = source_place(
        group, trial, what, node, tuple(dims[:first]), tuple(dims[first:last]), tuple(dims[last:])
    )
    if found is None:
        return 0
    steps = {Affine(0, ((atom, 1),)): factor for atom, factor in found[1].terms}
    return abs(steps.get(dims[last - 1], 0))


def left_rows(body: Graph, node: Node) -> Node | None:
    """The normalisation whose rows are exactly the rows of the left side, so that packing can compute it."""
    name = node.inputs[0]
    producer = body.producers.get(name)
    while producer is not None and producer.op == "View":
        producer = body.producers.get(producer.inputs[0])
    what = contraction(body, node)
    if producer is None or producer.op not in ("LayerNorm", "RMSNorm") or prod(what.depth[:-1]) != 1:
        return None
    shape = body.types[producer.output].shape
    if producer["axis"] % len(shape) != len(shape) - 1 or what.depth[-1:] != shape[-1:]:
        return None
    trial = Scope()
    outer = [
        trial.dim(extent, Name(f"d{number}", index(0).kind))
        for number, extent in enumerate((*what.batch, *what.rows))
    ]
    depth = trial.dim(what.depth[-1], Name("k", index(0).kind))
    count = len(what.batch)
    stored = {one: Stored("b", dense(body.types[one].shape)) for one in body.inputs}
    place = row_place(
        body, stored, trial, what, producer.output, tuple(outer[:count]), tuple(outer[count:]), depth
    )
    separate = place is not None and all(not one.dims & depth.dims for one in place[:-1])
    return producer if separate and place is not None and place[-1] == depth else None


def row_place(
    body: Graph,
    stored: Mapping[str, Stored],
    scope: Scope,
    what: Contraction,
    name: str,
    batch: Place,
    rows: Place,
    depth: Affine,
) -> Index | None:
    """The index at which the left side reads a value."""
    seen: list[Index] = []

    def ready(elements: Elements, place: Index) -> Expr:
        seen.append(place)
        return Number(0.0, Kind(F32))

    what.left(
        _Seen(scope, body, stored, {name: ready}, {}), batch, rows, (*[ZERO] * (len(what.depth) - 1), depth)
    )
    return seen[0] if seen else None


def _pack_rows(gemm: Gemm, norm: Node, batch: Place, rows: Place, base: Expr) -> None:
    """A row of the left side is a row of a normalisation."""
    scope, what, group = gemm.scope, gemm.what, gemm.group
    place = row_place(group.body, group.elements(scope).stored, scope, what, norm.output, batch, rows, ZERO)
    assert place is not None

    def sink(spot: Spot, value: Expr) -> None:
        scope.emit(Store(gemm.left, plus(base, scope.place(spot.flat)), spot.full(value)))

    write_row(group, norm, scope, place[:-1], sink)


def pack_left(gemm: Gemm, batch: Place, first: Expr, last: Expr, part: Part | None = None) -> None:
    """The block's rows one after another, with whatever has to be computed for them; or a part of each."""
    scope, what = gemm.scope, gemm.what
    norm = left_rows(gemm.group.body, gemm.node)
    with scope.loop(first, last, 1, "m") as name:
        row = scope.dim(what.row_count, name)
        rows = scope.space.delinear(row, what.rows)
        base = scope.let(gemm.left_row(batch, name, first), "left")
        if norm is not None:
            assert part is None, "rows of a normalisation are packed whole"
            _pack_rows(gemm, norm, batch, rows, base)
            return
        with ExitStack() as loops:
            if part is None:
                outer = tuple(loops.enter_context(scope.axis(extent, "k")) for extent in what.depth[:-1])
                _pack_depth(gemm, batch, rows, outer, base)
            else:
                _pack_part(gemm, batch, rows, part, scope.let(apply("sub", base, part.origin), "left"), loops)


def _pack_part(gemm: Gemm, batch: Place, rows: Place, part: Part, base: Expr, loops: ExitStack) -> None:
    """A part of one row."""
    scope, depth = gemm.scope, gemm.what.depth
    if len(part.outer) == len(depth) - 1:
        _pack_depth(gemm, batch, rows, part.outer, base, part.span)
        return
    along = scope.dim(depth[len(part.outer)], loops.enter_context(scope.loop(*part.span, 1, "k")))
    inner = (loops.enter_context(scope.axis(extent, "k")) for extent in depth[len(part.outer) + 1 : -1])
    _pack_depth(gemm, batch, rows, (*part.outer, along, *inner), base)


def _pack_depth(
    gemm: Gemm, batch: Place, rows: Place, outer: Place, base: Expr, span: tuple[Expr, Expr] | None = None
) -> None:
    """Along the innermost axis of the depth, or a span of it, in lanes where they lie side by side."""
    scope, what, lanes = gemm.scope, gemm.what, gemm.tile.lanes
    extent = what.depth[-1]
    lanes = next((one for one in (16, 8, 4) if one <= min(lanes, extent)), 1)
    begin, end = span or (index(0), index(extent))
    whole = index(extent - extent % lanes) if span is None else vector_end(scope, begin, end, lanes)

    def visit(inner: Affine, lane: Lane | None) -> None:
        _pack_one(gemm, batch, rows, (*outer, inner), base, lane)

    sweep(scope, (begin, whole, end), extent, lanes, visit, "k")


def _pack_one(gemm: Gemm, batch: Place, rows: Place, depth: Place, base: Expr, lane: Lane | None) -> None:
    scope, what = gemm.scope, gemm.what
    elements = gemm.group.elements(scope, lane=lane)
    value = what.left(elements, batch, rows, depth)
    flat = scope.space.linear(depth, what.depth)
    if lane is not None:
        value = splat(value, lane.count)
        if value.kind.dtype is not F32:
            raise NotInLanesError
    scope.emit(Store(gemm.left, plus(base, scope.place(flat)), value))


def pack_left_phase(gemm: Gemm) -> Phase:
    """The phase that packs the whole left side, some rows a task."""
    scope, what = gemm.scope, gemm.what
    rows = max(1, TASK_WORK // max(what.depth_count, 1))
    blocks = -(-what.row_count // rows)
    with scope.block() as body:
        *batch, block = delinear_names(scope, TASK, (*what.batch, blocks))
        first = scope.let(times(scope.place(block), rows), "p")
        last = scope.let(apply("min", plus(first, index(rows)), index(what.row_count)), "p")
        pack_left(gemm, tuple(batch), first, last)
    return Phase(what.batch_count * blocks, tuple(body))
