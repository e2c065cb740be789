"""Products by tiles in registers: the right side packed into panels, the left read in place or packed too.

For every tile, `rows` numbers of the left are multiplied with `vectors` vectors of the right and added to
`rows × vectors` vectors that stay in registers over the whole depth. Then what follows in the group is
computed from the tile while it is in the nearest cache.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod

from ourcompiler.codegen.contraction import (
    Contraction,
    Place,
    Tile,
    bias_of,
    choose_tile,
    contraction,
    panel_count,
    separable,
)
from ourcompiler.codegen.element import Elements, Index, Lane, NotInLanesError, Stored
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.nest import store
from ourcompiler.codegen.rows import Spot, write_row
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.ir.graph import ABSENT, Graph, Node
from ourcompiler.ir.index import ZERO, Affine, constant
from ourcompiler.ir.types import DType
from ourcompiler.storage import dense
from ourcompiler.kernel.ir import (
    FLAG,
    TASK,
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
    times,
)

TASK_MULTIPLIES = 400_000
LARGEST_TASKS = 256
F32 = DType.F32


@dataclass(frozen=True, slots=True)
class Cut:
    """How the work is cut: tasks of `row_block` rows (whole tiles) and `panel_block` panels of one batch."""

    row_block: int
    panel_block: int
    row_blocks: int
    panel_blocks: int


Sink = tuple[str, Callable[[Index], Affine]]
"""A buffer, and the place in it for an index."""


@dataclass
class Gemm:
    """Writes the code of one kernel."""

    group: Group
    node: Node
    scope: Scope
    what: Contraction
    tile: Tile
    cut: Cut
    packed_left: bool
    right: str  # the kernel's name of the packed right side
    left: str = ""  # that of the packed left side
    left_stride: int = 0  # between its rows
    left_is_ready: bool = False  # packed by somebody else
    result: str = ""  # that of the finished tile
    sinks: Mapping[str, Sink] = field(default_factory=dict)  # where values go, if not to the group's results
    factor: Callable[[Affine], Expr] | None = None  # what a row is multiplied with at last

    @property
    def panels(self) -> int:
        return panel_count(self.what.columns, self.tile)

    @property
    def panel_size(self) -> int:
        return self.what.depth_count * self.tile.columns


def make_cut(what: Contraction, tile: Tile, packed_left: bool, l2_bytes: int) -> Cut:
    """Enough tasks to share out, blocks of the left side that stay in the second cache."""
    multiplies = what.batch_count * what.row_count * what.columns * what.depth_count
    wanted = max(1, min(LARGEST_TASKS, multiplies // TASK_MULTIPLIES))
    tiles = -(-what.row_count // tile.rows)
    fits = max(1, l2_bytes // 2 // (4 * what.depth_count * tile.rows)) if packed_left else tiles
    per_batch = -(-wanted // max(what.batch_count, 1))
    in_block = max(1, min(fits, tiles // min(per_batch, tiles)))
    row_blocks = -(-tiles // in_block)
    panels = panel_count(what.columns, tile)
    panel_parts = min(panels, -(-per_batch // row_blocks))
    panel_block = -(-panels // panel_parts)
    return Cut(in_block * tile.rows, panel_block, row_blocks, -(-panels // panel_block))


def right_array_shape(what: Contraction, tile: Tile) -> tuple[int, ...]:
    """The packed right side: batches, panels, depth, columns of a panel."""
    return (what.batch_count, panel_count(what.columns, tile), what.depth_count, tile.columns)


def pack_right_phase(group: Group, scope: Scope, what: Contraction, tile: Tile, buffer: str) -> Phase:
    """Pack a right side that is computed at run time; columns beyond the last are 0."""
    panels = panel_count(what.columns, tile)
    with scope.block() as body:
        *batch, panel = delinear_names(scope, TASK, (*what.batch, panels))
        with ExitStack() as loops:
            depth = tuple(loops.enter_context(scope.axis(extent, "k")) for extent in what.depth)
            flat = scope.space.linear(depth, what.depth)
            base = scope.space.linear((*batch, panel, flat), (*what.batch, panels, what.depth_count))
            start = scope.space.multiply(panel, tile.columns)
            _pack_columns(group, scope, what, tile, buffer, tuple(batch), depth, start, base)
    return Phase(what.batch_count * panels, tuple(body))


def _pack_columns(
    group: Group,
    scope: Scope,
    what: Contraction,
    tile: Tile,
    buffer: str,
    batch: Place,
    depth: Place,
    start: Affine,
    base: Affine,
) -> None:
    """One row of a panel."""
    whole = what.columns % tile.columns == 0

    def put(lane_count: int) -> None:
        with scope.loop(index(0), index(tile.columns), lane_count, "j") as name:
            offset = scope.dim(tile.columns, name)
            lane = Lane(len(scope.extents) - 1, lane_count) if lane_count > 1 else None
            elements = group.elements(scope, lane=lane)
            column = scope.space.add(start, offset)
            if whole:
                value = what.right(elements, batch, depth, column)
            else:
                inside = apply("less", scope.place(column), index(what.columns), kind=FLAG)
                elements._guards += 1
                found = what.right(elements, batch, depth, column)
                value = Apply("where", (inside, found, Number(0.0, found.kind)), found.kind)
            place = scope.space.add(scope.space.multiply(base, tile.columns), offset)
            store(scope, buffer, place, value, elements.step(place), lane)

    lanes = tile.lanes
    if whole:
        try:
            with scope.attempt():
                put(lanes)
            return
        except NotInLanesError:
            pass
    put(1)


def lower_tiles(gemm: Gemm) -> Phase:
    """The phase that multiplies."""
    scope, what, cut = gemm.scope, gemm.what, gemm.cut
    with scope.block() as body:
        *batch, block, part = delinear_names(scope, TASK, (*what.batch, cut.row_blocks, cut.panel_blocks))
        first = scope.let(times(scope.place(block), cut.row_block), "p")
        last = scope.let(apply("min", plus(first, index(cut.row_block)), index(what.row_count)), "p")
        start = scope.let(times(scope.place(part), cut.panel_block), "p")
        stop = scope.let(apply("min", plus(start, index(cut.panel_block)), index(gemm.panels)), "p")
        lower_panels(gemm, tuple(batch), (first, last), (start, stop))
    return Phase(what.batch_count * cut.row_blocks * cut.panel_blocks, tuple(body))


def lower_panels(
    gemm: Gemm, batch: Place, rows: tuple[Expr, Expr], panels: tuple[Expr, Expr] | None = None
) -> None:
    """Panel after panel, for rows from the first to before the last."""
    first, last = rows
    start, stop = panels or (index(0), index(gemm.panels))
    if gemm.packed_left and not gemm.left_is_ready:
        _pack_left(gemm, batch, first, last)
    with gemm.scope.loop(start, stop, 1, "panel") as name:
        _rows_of_tiles(gemm, batch, gemm.scope.dim(gemm.panels, name), first, last)


def _rows_of_tiles(gemm: Gemm, batch: Place, panel: Affine, first: Expr, last: Expr) -> None:
    """Whole tiles of the block, then the one that is left over at the end of the matrix."""
    scope, height, rows = gemm.scope, gemm.tile.rows, gemm.what.row_count
    rest = rows % height
    whole = rows - rest
    if whole:
        stop = scope.let(apply("min", last, index(whole)), "p") if rest else last
        with scope.loop(first, stop, height, "m") as name:
            _tile(gemm, batch, panel, scope.dim(rows, name), height, first)
    if rest:
        at_end = apply("equal", last, index(rows), kind=FLAG)
        with scope.when(at_end):
            _tile(gemm, batch, panel, constant(whole), rest, first)


def _tile(gemm: Gemm, batch: Place, panel: Affine, row: Affine, height: int, first: Expr) -> None:
    scope, tile, what = gemm.scope, gemm.tile, gemm.what
    vectors = min(tile.vectors, -(-what.columns // tile.lanes))
    kind = Kind(F32, tile.lanes)
    zero = splat(Number(0.0, Kind(F32)), tile.lanes)
    totals = [[scope.variable(zero, "acc") for _ in range(vectors)] for _ in range(height)]
    base = scope.space.linear((*batch, panel), (*what.batch, gemm.panels))
    right = scope.let(scope.place(scope.space.multiply(base, gemm.panel_size)), "right")
    left = _left_reader(gemm, batch, row, height, first)
    with ExitStack() as loops:
        depth = tuple(loops.enter_context(scope.axis(extent, "k")) for extent in what.depth)
        flat = scope.space.multiply(scope.space.linear(depth, what.depth), tile.columns)
        at = plus(right, scope.place(flat))
        columns = [
            scope.let(Load(gemm.right, plus(at, index(number * tile.lanes)), kind), "w")
            for number in range(vectors)
        ]
        for number in range(height):
            value = scope.let(splat(left(number, depth), tile.lanes), "a")
            for one, column in zip(totals[number], columns, strict=True):
                scope.emit(Assign(one.name, Apply("fma", (value, column, one), kind)))
    _finish(gemm, batch, panel, row, height, totals)


Reader = Callable[[int, Place], Expr]


def _left_reader(gemm: Gemm, batch: Place, row: Affine, height: int, first: Expr) -> Reader:
    """How the tile's rows are read: from the packed block, or in place with the start of each row kept."""
    scope, what = gemm.scope, gemm.what
    if gemm.packed_left:
        relative = scope.let(times(apply("sub", scope.place(row), first), gemm.left_stride), "left")

        def packed(number: int, depth: Place) -> Expr:
            flat = scope.place(scope.space.linear(depth, what.depth))
            place = plus(plus(relative, flat), index(number * gemm.left_stride))
            return Load(gemm.left, place, Kind(F32))

        return packed
    parts = [
        _left_place(gemm, scope, batch, scope.space.add(row, constant(number))) for number in range(height)
    ]
    starts = [scope.let(scope.place(part), "left") for part in parts]
    buffer = _direct_place(gemm.group, scope, what, gemm.node)
    assert buffer is not None

    def direct(number: int, depth: Place) -> Expr:
        zero = tuple(constant(0) for _ in what.rows)
        place = _source_place(gemm.group, scope, what, gemm.node, tuple(ZERO for _ in batch), zero, depth)
        assert place is not None
        fixed = _source_place(
            gemm.group, scope, what, gemm.node, tuple(ZERO for _ in batch), zero, tuple(ZERO for _ in depth)
        )
        assert fixed is not None
        inner = scope.space.add(place[1], scope.space.multiply(fixed[1], -1))
        return Load(place[0], plus(starts[number], scope.place(inner)), Kind(F32))

    return direct


def _left_place(gemm: Gemm, scope: Scope, batch: Place, row: Affine) -> Affine:
    rows = scope.space.delinear(row, gemm.what.rows)
    depth = tuple(ZERO for _ in gemm.what.depth)
    found = _source_place(gemm.group, scope, gemm.what, gemm.node, batch, rows, depth)
    assert found is not None
    return found[1]


def _source_place(
    group: Group, scope: Scope, what: Contraction, node: Node, batch: Place, rows: Place, depth: Place
) -> tuple[str, Affine] | None:
    """Buffer and place of an element of the left side, when it lies in memory as it is and without guards."""
    seen = _Seen(scope, group.body, group.elements(scope).stored, {}, {}, 1)
    value = what.left(seen, batch, rows, depth)
    if isinstance(value, Load) and seen.where is not None and value.kind.dtype is F32:
        return value.buffer, seen.where
    return None


@dataclass
class _Seen(Elements):
    """Elements that remember the last place, and write nothing."""

    where: Affine | None = None

    def at(self, name: str, place: Index) -> Expr:
        return self._made(name, place)

    def load(self, buffer: str, where: Affine, dtype: DType) -> Expr:
        self.where = where
        return Load(buffer, index(0), Kind(dtype))


def _direct_place(group: Group, scope: Scope, what: Contraction, node: Node) -> str | None:
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
        found = _source_place(group, trial, what, node, tuple(dims[:count]), rows, depth)
    except (NotInLanesError, AssertionError):
        return None
    if found is None:
        return None
    inner = frozenset().union(*(one.dims for one in depth))
    return found[0] if separable(found[1], inner) is not None else None


def left_rows(body: Graph, node: Node) -> Node | None:
    """The normalisation whose rows are exactly the rows of the left side, so that packing can compute it."""
    name = node.inputs[0]
    producer = body.producers.get(name)
    while producer is not None and producer.op == "View":
        producer = body.producers.get(producer.inputs[0])
    what = contraction(body, node)
    if producer is None or producer.op not in ("LayerNorm", "RMSNorm") or len(what.depth) != 1:
        return None
    shape = body.types[producer.output].shape
    if producer["axis"] % len(shape) != len(shape) - 1 or what.depth != shape[-1:]:
        return None
    trial = Scope()
    outer = [
        trial.dim(extent, Name(f"d{number}", index(0).kind))
        for number, extent in enumerate((*what.batch, *what.rows))
    ]
    (depth,) = (trial.dim(extent, Name("k", index(0).kind)) for extent in what.depth)
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

    def ready(place: Index) -> Expr:
        seen.append(place)
        return Number(0.0, Kind(F32))

    what.left(_Seen(scope, body, stored, {name: ready}, {}), batch, rows, (depth,))
    return seen[0] if seen else None


def _pack_rows(gemm: Gemm, norm: Node, batch: Place, rows: Place, base: Expr) -> None:
    """A row of the left side is a row of a normalisation."""
    scope, what, group = gemm.scope, gemm.what, gemm.group
    place = row_place(group.body, group.elements(scope).stored, scope, what, norm.output, batch, rows, ZERO)
    assert place is not None

    def sink(spot: Spot, value: Expr) -> None:
        scope.emit(Store(gemm.left, plus(base, scope.place(spot.flat)), spot.full(value)))

    write_row(group, norm, scope, place[:-1], sink)


def _pack_left(gemm: Gemm, batch: Place, first: Expr, last: Expr) -> None:
    """The block's rows one after another, with whatever has to be computed for them."""
    scope, what = gemm.scope, gemm.what
    norm = left_rows(gemm.group.body, gemm.node)
    with scope.loop(first, last, 1, "m") as name:
        row = scope.dim(what.row_count, name)
        rows = scope.space.delinear(row, what.rows)
        base = scope.let(times(apply("sub", name, first), gemm.left_stride), "left")
        if norm is not None:
            _pack_rows(gemm, norm, batch, rows, base)
            return
        with ExitStack() as loops:
            outer = tuple(loops.enter_context(scope.axis(extent, "k")) for extent in what.depth[:-1])
            _pack_depth(gemm, batch, rows, outer, base)


def _pack_depth(gemm: Gemm, batch: Place, rows: Place, outer: Place, base: Expr) -> None:
    """Along the innermost axis of the depth, in lanes where they lie side by side."""
    scope, what, lanes = gemm.scope, gemm.what, gemm.tile.lanes
    extent, start = what.depth[-1], 0
    lanes = next((one for one in (16, 8, 4) if one <= min(lanes, extent)), 1)
    if lanes > 1:
        try:
            with scope.attempt():
                whole = extent - extent % lanes
                with scope.loop(index(0), index(whole), lanes, "k") as name:
                    inner = scope.dim(extent, name)
                    _pack_one(gemm, batch, rows, (*outer, inner), base, Lane(len(scope.extents) - 1, lanes))
                start = whole
        except NotInLanesError:
            start = 0
    if start < extent:
        with scope.loop(index(start), index(extent), 1, "k") as name:
            _pack_one(gemm, batch, rows, (*outer, scope.dim(extent, name)), base, None)


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


def _finish(
    gemm: Gemm, batch: Place, panel: Affine, row: Affine, height: int, totals: Sequence[Sequence[Name]]
) -> None:
    """The tile to the nearest cache, and from there through what follows to memory."""
    scope, tile = gemm.scope, gemm.tile
    for number, vectors in enumerate(totals):
        for place, value in enumerate(vectors):
            scope.emit(Store(gemm.result, index(number * tile.columns + place * tile.lanes), value))
    with scope.axis(height, "i") as offset:
        at = scope.space.add(row, offset)
        rows = scope.space.delinear(at, gemm.what.rows)
        rows = tuple(
            scope.dim(extent, scope.let(scope.place(one), "o")) if one.terms else one
            for one, extent in zip(rows, gemm.what.rows, strict=True)
        )
        _finish_row(gemm, batch, panel, rows, (at, offset))


def _finish_row(gemm: Gemm, batch: Place, panel: Affine, rows: Place, row: tuple[Affine, Affine]) -> None:
    scope, tile, columns = gemm.scope, gemm.tile, gemm.what.columns
    lanes = next((one for one in (16, 8, 4) if one <= min(tile.lanes, columns)), 1)
    begin = scope.let(times(scope.place(panel), tile.columns), "n")
    if columns % tile.columns:
        width = scope.let(apply("min", index(tile.columns), apply("sub", index(columns), begin)), "n")
    else:
        width = index(tile.columns)
    start: Expr = index(0)
    if lanes > 1:
        try:
            with scope.attempt():
                stop = (
                    width
                    if columns % lanes == 0
                    else scope.let(apply("sub", width, apply("remainder", width, index(lanes))), "n")
                )
                with scope.loop(index(0), stop, lanes, "j") as name:
                    inner = scope.dim(min(tile.columns, columns), name)
                    lane = Lane(len(scope.extents) - 1, lanes)
                    _finish_one(gemm, batch, panel, rows, row, inner, lane)
                start = stop
        except NotInLanesError:
            start = index(0)
    if start != width:
        with scope.loop(start, width, 1, "j") as name:
            inner = scope.dim(min(tile.columns, columns), name)
            _finish_one(gemm, batch, panel, rows, row, inner, None)


def _finish_one(
    gemm: Gemm,
    batch: Place,
    panel: Affine,
    rows: Place,
    at: tuple[Affine, Affine],
    inner: Affine,
    lane: Lane | None,
) -> None:
    row, offset = at
    scope, tile, group = gemm.scope, gemm.tile, gemm.group
    space = scope.space
    column = space.add(space.multiply(panel, tile.columns), inner)
    where = gemm.what.out(space, batch, rows, column)
    from_tile = space.add(space.multiply(offset, tile.columns), inner)

    def ready(place: Index) -> Expr:
        assert place == where, "what follows a product is element by element"
        value: Expr = elements.load(gemm.result, from_tile, F32)
        if gemm.factor is not None:
            value = apply("mul", value, splat(gemm.factor(row), value.kind.lanes))
        bias = bias_of(gemm.node)
        if bias != ABSENT:
            other = elements.at(bias, (place[1],))
            value = apply("add", value, splat(other, value.kind.lanes))
        return value

    elements = group.elements(scope, {gemm.node.output: ready}, lane)
    for name, (buffer, to) in (gemm.sinks or group_sinks(group, scope)).items():
        found = elements.at(name, where)
        place = to(where)
        store(scope, buffer, place, found, elements.step(place), lane)


def group_sinks(group: Group, scope: Scope) -> dict[str, Sink]:
    """The group's results, in the layouts chosen for them."""

    def to(name: str) -> Callable[[Index], Affine]:
        return lambda place: group.storages[name].at(scope.space, place)

    return {name: (group.stored[name].buffer, to(name)) for name in group.written}


def is_packed(group: Group, node: Node) -> bool:
    """Whether the right side is known when compiling, so that it is packed then."""
    return node.inputs[1] in group.constant_inputs


def plan(group: Group, node: Node) -> tuple[Contraction, Tile, bool]:
    """The contraction, its tile, and whether the left side has to be packed."""
    what = contraction(group.body, node)
    tile = choose_tile(what.row_count, what.columns, group.target.lanes, group.target.registers)
    return what, tile, _direct_place(group, Scope(), what, node) is None


def lower(group: Group, node: Node, name: str, right: str) -> Kernel:
    """The kernel; `right` is its name for the buffer of the packed right side."""
    what, tile, packed_left = plan(group, node)
    scope = Scope()
    cut = make_cut(what, tile, packed_left, group.target.l2_bytes)
    gemm = Gemm(group, node, scope, what, tile, cut, packed_left, right, left_stride=what.depth_count)
    gemm.result = scope.local(F32, tile.rows * tile.columns)
    if packed_left:
        gemm.left = scope.local(F32, cut.row_block * what.depth_count)
    phases = []
    if not is_packed(group, node):
        phases.append(pack_right_phase(group, scope, what, tile, right))
    phases.append(lower_tiles(gemm))
    return group.kernel(name, [scope], phases)
