"""Attention, and products in a chain, as one kernel: a block of rows stays in the thread's cache.

For a block of query rows: scores = left × right of the first product, through whatever follows element by
element (scale, bias, mask); powers relative to the row's greatest; their sum; then powers × values, divided
by the sum at the very end. The scores of the whole are never in memory (as FlashAttention has it; a whole
row is kept here, so nothing has to be corrected).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from ourcompiler.codegen.asked import asked, index_over
from ourcompiler.codegen.contraction import Contraction, Tile, choose_tile, contraction, panel_count
from ourcompiler.codegen.element import Index
from ourcompiler.codegen.finish import Block, finish, finish_rows, width_of
from ourcompiler.codegen.gemm import is_packed, lower_panels
from ourcompiler.codegen.gemm import plan as plan_product
from ourcompiler.codegen.gemm_parts import Gemm, tiles_in_block, whole_rows
from ourcompiler.codegen.gemm_right import pack_right_here, pack_right_phase
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.ir.graph import Graph, Node
from ourcompiler.ir.index import Affine, constant
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    TASK,
    Apply,
    Assign,
    Expr,
    Kernel,
    Kind,
    Load,
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
ROWS_AT_ONCE = 4
ROWS_APART = 128
"""Rows that are a multiple of so many numbers apart meet in few sets of the nearest cache."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The anchors of the group: of a chain there is no softmax."""

    scores: Node
    softmax: Node | None
    mixed: Node

    @property
    def middle(self) -> str:
        """What the first product's block of rows is kept as."""
        return self.softmax.inputs[0] if self.softmax else self.mixed.inputs[0]


def parts(body: Graph) -> Parts | None:
    """The anchors, if the body is product → … → softmax along the last axis → product, or, for a chain,
    product → … → product.
    """
    products = [node for node in body.nodes if node.op == "MatMul"]
    softmaxes = [node for node in body.nodes if node.op == "Softmax"]
    if len(products) != 2 or len(softmaxes) > 1:
        return None
    first, second = products
    if not softmaxes:
        return Parts(first, None, second)
    (middle,) = softmaxes
    rank = body.types[middle.output].rank
    if second.inputs[0] != middle.output or middle["axis"] % rank != rank - 1:
        return None
    return Parts(first, middle, second)


def fits(body: Graph, found: Parts) -> bool:
    """Whether one block of rows serves both products, and scores are found at their own index."""
    types = [body.types[name] for node in (found.scores, found.mixed) for name in (*node.inputs, node.output)]
    if any(one.dtype is not F32 for one in types):
        return False
    first, second = contraction(body, found.scores), contraction(body, found.mixed)
    if first.batch != second.batch or first.rows != second.rows:
        return False
    if found.softmax is None and body.types[found.middle].shape != body.types[found.scores.output].shape:
        return False
    return _same_index(body, found)


def pays(body: Graph, found: Parts, l2_bytes: int) -> bool:
    """Whether a chain is worth it: both right sides stay in the second cache while blocks of rows go by."""
    sizes = [body.types[node.inputs[1]].byte_count for node in (found.scores, found.mixed)]
    return 4 * sum(sizes) <= 3 * l2_bytes


def _same_index(body: Graph, found: Parts) -> bool:
    """Whether what is kept at an index comes from the first product at that index."""
    scope = Scope()
    place = tuple(index_over(scope, body.types[found.middle].shape))
    seen = asked(scope, body, found.middle, place, [found.scores.output])[found.scores.output]
    return bool(seen) and all(one == place for one in seen)


@dataclass(frozen=True, slots=True)
class Plan:
    """Both products and their tiles, and how many rows a task takes."""

    first: Contraction
    second: Contraction
    first_tile: Tile
    second_tile: Tile
    rows: int
    width: int  # of a row of scores in the thread's memory, whole vectors
    stride: int  # from one row of scores to the next
    packs_here: bool = False  # a task has all rows of its batch, and packs the right sides for itself

    @property
    def sides(self) -> tuple[tuple[Contraction, Tile], tuple[Contraction, Tile]]:
        """Both products with their tiles."""
        return (self.first, self.first_tile), (self.second, self.second_tile)


def plan(group: Group, found: Parts) -> Plan:
    """Blocks of rows whose scores, and as much that is added to them, fit into half of the second cache. Of
    attention whose rows do not all fit, blocks whose scores fit into half of the first one: what is added to
    them is as large as all scores, comes from far away, and is read row after row then.
    """
    first, second = contraction(group.body, found.scores), contraction(group.body, found.mixed)
    target = group.target
    second_tile = choose_tile(second.row_count, second.columns, target.lanes, target.registers)
    height = second_tile.rows  # of both, so that a block of rows is whole tiles of both
    first_tile = choose_tile(first.row_count, first.columns, target.lanes, target.registers, height=height)
    width = -(-first.columns // target.lanes) * target.lanes
    tiles = -(-first.row_count // height)
    tile_bytes = 4 * width * height
    tiled = ((first, first_tile), (second, second_tile))
    right_bytes = sum(
        4 * panel_count(one.columns, tile) * one.depth_count * tile.columns for one, tile in tiled
    )
    in_block = tiles_in_block(tiles, first.batch_count, target.l2_bytes // 4 // tile_bytes)
    packs_here = in_block == tiles and right_bytes <= target.l2_bytes // 2
    if found.softmax is not None and not packs_here:
        in_block = tiles_in_block(tiles, first.batch_count, target.l1_bytes // 2 // tile_bytes)
    return Plan(
        first,
        second,
        first_tile,
        second_tile,
        in_block * height,
        width,
        stride_of(width, target.lanes),
        packs_here,
    )


def owned(group: Group, found: Parts, what: Plan) -> tuple[bool, bool]:
    """Of which right sides a task packs its own."""
    first, second = (what.packs_here and not is_packed(group, node) for node in (found.scores, found.mixed))
    return first, second


def stride_of(width: int, lanes: int) -> int:
    """From a row to the next: no large power of two, else the rows of a tile share a set of the cache."""
    return width + 2 * lanes if width % ROWS_APART == 0 else width


def lower(group: Group, found: Parts, name: str, right: tuple[str, str]) -> Kernel:
    """The kernel; `right` are its names for the packed right sides of both products, those that are not
    `owned`.
    """
    what, scope = plan(group, found), Scope()
    owns = owned(group, found, what)
    phases = [
        pack_right_phase(group, scope, one, tile, buffer)
        for node, (one, tile), buffer, is_own in zip(
            (found.scores, found.mixed), what.sides, right, owns, strict=True
        )
        if not is_packed(group, node) and not is_own
    ]
    blocks = -(-what.first.row_count // what.rows)
    scores = scope.local(F32, what.rows * what.stride)
    inverse = scope.local(F32, what.rows)
    with scope.block() as body:
        *batch, block = delinear_names(scope, TASK, (*what.first.batch, blocks))
        first = scope.let(times(scope.place(block), what.rows), "p")
        last = scope.let(apply("min", plus(first, index(what.rows)), index(what.first.row_count)), "p")
        start = scope.dim(what.first.row_count, first) if blocks > 1 else constant(0)
        count = scope.let(apply("sub", last, first), "n")
        right = _pack_own(group, scope, what, right, owns, tuple(batch))
        if found.softmax is not None:
            _fill(scope, what, scores, count)
        _scores(group, found, scope, what, right[0], scores, tuple(batch), start, (first, last))
        if found.softmax is not None:
            _powers(scope, what, scores, inverse, count)
        kept = _kept_rows(group, found, scope, what, (tuple(batch), start, (first, last)))
        _mixed(group, found, scope, what, right[1], scores, inverse, tuple(batch), start, (first, last), kept)
        if kept is not None:
            finish_rows(kept)
    phases.append(Phase(what.first.batch_count * blocks, tuple(body)))
    return group.kernel(name, [scope], phases)


def _pack_own(
    group: Group,
    scope: Scope,
    what: Plan,
    right: tuple[str, str],
    owns: tuple[bool, bool],
    batch: tuple[Affine, ...],
) -> tuple[str, str]:
    """Names of the right sides, with those that the task owns packed."""
    names = []
    for name, (one, tile), is_own in zip(right, what.sides, owns, strict=True):
        if is_own:
            name = scope.local(F32, panel_count(one.columns, tile) * one.depth_count * tile.columns)
            pack_right_here(group, scope, one, tile, name, batch)
        names.append(name)
    return names[0], names[1]


def _kept_rows(
    group: Group,
    found: Parts,
    scope: Scope,
    what: Plan,
    block: tuple[tuple[Affine, ...], Affine, tuple[Expr, Expr]],
) -> Block | None:
    """Memory for the rows of a chain, if something goes over them."""
    after = finish(group.body, found.mixed) if found.softmax is None else None
    if after is None:
        return None
    width = width_of(what.second, group.target.lanes)
    return Block(group, after, scope, scope.local(F32, what.rows * width), width, *block)


def _scores(
    group: Group,
    found: Parts,
    scope: Scope,
    what: Plan,
    right: str,
    scores: str,
    batch: tuple[Affine, ...],
    start: Affine,
    span: tuple[Expr, Expr],
) -> None:
    """The first product, and what follows it, to the thread's memory."""
    packed_left = plan_product(group, found.scores)[2]
    gemm = Gemm(
        group, found.scores, scope, what.first, what.first_tile, whole_rows(what.rows), packed_left, right
    )
    gemm.result = scope.local(F32, what.first_tile.rows * what.first_tile.columns)
    gemm.left_stride = what.first.depth_count
    gemm.right_is_local = owned(group, found, what)[0]
    if packed_left:
        gemm.left = scope.local(F32, what.rows * what.first.depth_count)
    rank = len(batch)

    def to(place: Index) -> Affine:
        row = scope.space.linear(place[rank:-1], what.first.rows)
        relative = scope.space.add(row, scope.space.multiply(start, -1))
        return scope.space.add(scope.space.multiply(relative, what.stride), place[-1])

    gemm.sinks = {found.middle: (scores, to)}
    lower_panels(gemm, batch, span)


def _fill(scope: Scope, what: Plan, scores: str, count: Expr) -> None:
    """The end of each row that no score is written to: its powers are 0. Long before it is read, because
    a vector cannot be read while its parts are still being stored.
    """
    lanes = what.first_tile.lanes
    if what.first.columns == what.width:
        return
    least = splat(Number(-inf, Kind(F32)), lanes)
    with scope.loop(index(0), count, 1, "r") as row:
        scope.emit(Store(scores, plus(times(row, what.stride), index(what.width - lanes)), least))


def _powers(scope: Scope, what: Plan, scores: str, inverse: str, count: Expr) -> None:
    """Each row of scores becomes powers of e; the inverse of their sum is kept. Some rows at once, because a
    row's greatest, and its sum, are each waited for.
    """
    whole = scope.let(apply("sub", count, apply("remainder", count, index(ROWS_AT_ONCE))), "n")
    with scope.loop(index(0), whole, ROWS_AT_ONCE, "r") as row:
        _powers_of(scope, what, scores, inverse, [plus(row, index(one)) for one in range(ROWS_AT_ONCE)])
    with scope.loop(whole, count, 1, "r") as row:
        _powers_of(scope, what, scores, inverse, [row])


def _powers_of(scope: Scope, what: Plan, scores: str, inverse: str, rows: Sequence[Expr]) -> None:
    lanes = what.first_tile.lanes
    kind = Kind(F32, lanes)
    bases = [scope.let(times(row, what.stride), "s") for row in rows]
    peaks = [scope.variable(splat(Number(-inf, Kind(F32)), lanes)) for _ in rows]
    with scope.loop(index(0), index(what.width), lanes, "j") as place:
        for base, peak in zip(bases, peaks, strict=True):
            value = scope.let(Load(scores, plus(base, place), kind))
            # What is not a number makes the sum none, whatever the peak is, so that one instruction does.
            is_more = apply("less", peak, value, kind=Kind(DType.BOOL, lanes))
            scope.emit(Assign(peak.name, Apply("where", (is_more, value, peak), kind)))
    tops = [scope.let(splat(scope.let(Apply("lanes_max", (peak,), Kind(F32))), lanes), "t") for peak in peaks]
    totals = [scope.variable(splat(Number(0.0, Kind(F32)), lanes)) for _ in rows]
    with scope.loop(index(0), index(what.width), lanes, "j") as place:
        for base, top, total in zip(bases, tops, totals, strict=True):
            at = plus(base, place)
            power = scope.let(apply("exp", apply("sub", Load(scores, at, kind), top)))
            scope.emit(Store(scores, at, power))
            scope.emit(Assign(total.name, Apply("add", (total, power), kind)))
    for row, total in zip(rows, totals, strict=True):
        found = Apply("lanes_add", (total,), Kind(F32))
        scope.emit(Store(inverse, row, apply("div", Number(1.0, Kind(F32)), found)))


def _mixed(
    group: Group,
    found: Parts,
    scope: Scope,
    what: Plan,
    right: str,
    scores: str,
    inverse: str,
    batch: tuple[Affine, ...],
    start: Affine,
    span: tuple[Expr, Expr],
    kept: Block | None,
) -> None:
    """The second product: its left side are the powers."""
    gemm = Gemm(group, found.mixed, scope, what.second, what.second_tile, whole_rows(what.rows), True, right)
    gemm.result = scope.local(F32, what.second_tile.rows * what.second_tile.columns)
    gemm.left, gemm.left_stride = scores, what.stride
    gemm.left_is_ready = True
    gemm.right_is_local = owned(group, found, what)[1]
    if kept is not None:
        gemm.sinks = {kept.found.middle: (kept.buffer, kept.sink)}

    def factor(row: Affine) -> Expr:
        relative = scope.space.add(row, scope.space.multiply(start, -1))
        return Load(inverse, scope.place(relative), Kind(F32))

    gemm.factor = factor if found.softmax is not None else None
    lower_panels(gemm, batch, span)
