"""Products by tiles in registers: the right side packed into panels, the left read in place or packed too.

For every tile, `rows` numbers of the left are multiplied with `vectors` vectors of the right and added to
`rows × vectors` vectors that stay in registers over the whole depth. Then what follows in the group is
computed from the tile while it is in the nearest cache.
"""

from contextlib import ExitStack
from dataclasses import replace
from math import gcd

from ourcompiler.codegen.band import Band
from ourcompiler.codegen.contraction import (
    Contraction,
    Place,
    Tile,
    choose_tile,
    contraction,
    last_tiles,
)
from ourcompiler.codegen.gemm_fetch import fetch_results
from ourcompiler.codegen.gemm_finish import (
    Panel,
    finish_in_registers,
    finish_tile,
    following,
    lies_along_rows,
)
from ourcompiler.codegen.gemm_left import (
    direct_place,
    left_rows,
    pack_left,
    pack_left_phase,
    rows_apart,
)
from ourcompiler.codegen.gemm_parts import (
    F32,
    Gemm,
    Part,
    ahead,
    clear,
    depth_in_part,
    is_deep,
    is_far,
    make_cut,
    next_part,
    packs_ahead,
    row_stride,
)
from ourcompiler.codegen.gemm_right import pack_right_phase
from ourcompiler.codegen.gemm_steps import add_products
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.lanes import FEWEST_LANES
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.ir.graph import Node
from ourcompiler.ir.index import ZERO, Affine, Space, constant
from ourcompiler.kernel.ir import (
    FLAG,
    TASK,
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
from ourcompiler.targets import Target
from ourcompiler.tilings import LEFTS, RIGHTS, Problem, Tiling, depth_text


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
    if gemm.part:
        _deep_block(gemm, batch, rows, (start, stop))
        return
    if gemm.packed_left and not gemm.left_is_ready:
        pack_left(gemm, batch, first, last)
    count, wide = gemm.panels, gemm.tile.columns
    narrow = gemm.what.columns - (count - 1) * wide
    is_ragged = narrow < wide and count > 1
    end = apply("min", stop, index(count - 1)) if is_ragged else stop
    with gemm.scope.loop(start, end, 1, "panel") as name:
        panel = Panel(gemm.scope.dim(count, name), wide if count > 1 else narrow)
        _rows_of_tiles(gemm, batch, panel, first, last)
    if is_ragged:
        with gemm.scope.when(apply("equal", stop, index(count), kind=FLAG)):
            _rows_of_tiles(gemm, batch, Panel(constant(count - 1), narrow), first, last)


def _deep_block(gemm: Gemm, batch: Place, rows: tuple[Expr, Expr], panels: tuple[Expr, Expr]) -> None:
    """Part of the depth after part: the block's rows are multiplied with every panel while that part of them
    is in the second cache, packed for it if they have to be. What follows the product is computed from each
    tile of the last part.
    """
    scope, space = gemm.scope, gemm.scope.space
    size = gemm.cut.row_block * gemm.tile.columns
    clear(gemm, times(apply("sub", panels[1], panels[0]), size))
    first_panel = scope.dim(gemm.panels, panels[0])
    with ExitStack() as loops:
        part = next_part(gemm, loops)
        part = replace(part, is_last=_is_last(gemm, part))
        if gemm.packed_left and not gemm.left_is_ready:
            part = replace(part, origin=part.begin)
            pack_left(gemm, batch, *rows, part)
        with scope.loop(*panels, 1, "panel") as name:
            panel = scope.dim(gemm.panels, name)
            own = replace(
                part,
                held=scope.let(times(apply("sub", name, panels[0]), size), "held"),
                before=space.multiply(space.add(panel, space.multiply(first_panel, -1)), gemm.cut.row_block),
                ahead=scope.let(ahead(gemm, batch, part, name, panels), "ahead"),
            )
            is_even = gemm.what.columns % gemm.tile.columns == 0
            which = Panel(panel, gemm.tile.columns if is_even else None)
            _rows_of_tiles(gemm, batch, which, *rows, own)


def _is_last(gemm: Gemm, part: Part) -> Expr:
    """Whether it is the last part of the depth."""
    scope, depth = gemm.scope, gemm.what.depth
    found = apply("equal", part.span[1], index(depth[len(part.outer)]), kind=FLAG)
    for at, extent in zip(part.outer, depth, strict=False):
        if at.terms:
            here = apply("equal", scope.place(at), index(extent - 1), kind=FLAG)
            found = apply("and", found, here)
    return scope.let(found, "last")


def _rows_of_tiles(
    gemm: Gemm, batch: Place, panel: Panel, first: Expr, last: Expr, part: Part | None = None
) -> None:
    """Whole tiles of the block, then those that are left over at the end of the matrix."""
    scope, height, rows = gemm.scope, gemm.tile.rows, gemm.what.row_count
    whole, low = last_tiles(rows, gemm.tile, panel.vectors(gemm.tile), gemm.cut.row_block)
    if whole:
        stop = scope.let(apply("min", last, index(whole)), "p") if whole < rows else last
        with scope.loop(first, stop, height, "m") as name, scope.when(_is_read(gemm, panel, name, height)):
            _tile(gemm, batch, panel, scope.dim(rows, name), height, first, part)
    if rows - whole > low:
        with scope.loop(index(whole), last, low, "m") as name, scope.when(_is_read(gemm, panel, name, low)):
            _tile(gemm, batch, panel, scope.dim(rows, name), low, first, part)
    elif whole < rows:
        at_end = apply("equal", last, index(rows), kind=FLAG)
        with scope.when(at_end), scope.when(_is_read(gemm, panel, index(whole), low)):
            _tile(gemm, batch, panel, constant(whole), low, first, part)


def _is_read(gemm: Gemm, panel: Panel, row: Expr, height: int) -> Expr:
    """Whether anybody reads an element of a tile, as far as it is known."""
    if gemm.band is None:
        return Number(True, FLAG)
    wide = gemm.tile.columns
    column = times(gemm.scope.place(panel.number), wide)
    return gemm.band.touches((row, height), (column, panel.columns or wide))


def _tile(
    gemm: Gemm,
    batch: Place,
    panel: Panel,
    row: Affine,
    height: int,
    first: Expr,
    part: Part | None,
) -> None:
    scope, tile, vectors = gemm.scope, gemm.tile, panel.vectors(gemm.tile)
    kind = Kind(F32, tile.lanes)
    zero = splat(Number(0.0, Kind(F32)), tile.lanes)
    held: Expr = index(0)
    if part is not None:
        held = scope.let(plus(part.held, times(apply("sub", scope.place(row), first), tile.columns)), "held")

    def place(number: int, vector: int) -> Expr:
        return plus(held, index(number * tile.columns + vector * tile.lanes))

    totals = [
        [
            scope.variable(Load(gemm.result, place(number, vector), kind) if part else zero, "acc")
            for vector in range(vectors)
        ]
        for number in range(height)
    ]
    is_last = Number(True, FLAG) if part is None else part.is_last
    if is_last is not None:
        with scope.when(is_last):
            fetch_results(gemm, batch, panel.number, row, height)
    add_products(gemm, batch, panel.number, row, first, part, totals)
    at_end = None if is_last is None else finish_in_registers(gemm, batch, panel, row, totals)
    with scope.block() as kept:
        for number, one_row in enumerate(totals):
            for vector, value in enumerate(one_row):
                scope.emit(Store(gemm.result, place(number, vector), value))
        if is_last is not None and at_end is None:
            with scope.when(is_last):
                finish_tile(gemm, batch, panel, row, height, _held_row(gemm, row, first, part))
    scope.choose(is_last, at_end, tuple(kept))


def _band(gemm: Gemm) -> Band | None:
    """The band of the product's rows and columns that is read, where its result has the same ones."""
    what, written = gemm.what, gemm.group.written
    if len(written) != 1 or written[0] not in gemm.group.bands or len(what.rows) != 1:
        return None
    if any(node.op == "View" for node in following(gemm)):
        return None
    space = Space((*what.batch, what.row_count, what.columns))
    *batch, row, column = space.dims()
    is_same = what.out(space, tuple(batch), (row,), column)[-2:] == (row, column)
    return gemm.group.bands[written[0]] if is_same else None


def _held_row(gemm: Gemm, row: Affine, first: Expr, part: Part | None) -> Affine:
    """Which row of those that are kept the tile's first one is."""
    if part is None:
        return ZERO
    scope, space = gemm.scope, gemm.scope.space
    block = space.multiply(scope.dim(gemm.what.row_count, first), -1)
    return space.add(part.before, space.add(row, block))


def is_packed(group: Group, node: Node) -> bool:
    """Whether the right side is known when compiling, so that it is packed then."""
    return node.inputs[1] in group.constant_inputs


def plan(group: Group, node: Node) -> tuple[Contraction, Tile, bool]:
    """The contraction, its tile, and whether the left side has to be packed."""
    what = contraction(group.body, node)
    packed_left = direct_place(group, Scope(), what, node) is None
    found = group.target.tilings.get(problem(what, packed_left, is_packed(group, node)))
    if found is not None:
        return what, Tile(found.tile_rows, found.tile_vectors, group.target.lanes), packed_left
    lanes, registers = group.target.lanes, group.target.registers
    multiple = FEWEST_LANES if lies_along_rows(group, what) else 1
    tile = choose_tile(what.row_count, what.columns, lanes, registers, multiple=multiple)
    return what, tile, packed_left


def problem(what: Contraction, packed_left: bool, is_known: bool) -> Problem:
    """What tilings are kept under."""
    left, right = LEFTS[packed_left], RIGHTS[not is_known]
    depth = depth_text(what.depth)
    return Problem(what.batch_count, what.row_count, what.columns, depth, left, right)


def tiling(group: Group, node: Node, planned: tuple[Contraction, Tile, bool]) -> tuple[Problem, Tiling]:
    """How a product with this plan is cut: as a search found out, or as usual."""
    (what, tile, packed_left), target = planned, group.target
    is_known = is_packed(group, node)
    name = problem(what, packed_left, is_known)
    fetches = is_known and is_far(what, target)
    usual = Tiling(tile.rows, tile.vectors, target.panel_bytes, target.l2_bytes, fetches)
    return name, target.tilings.get(name) or usual


def _machine(group: Group, how: Tiling) -> Target:
    """The target with the caches that a tiling counts on."""
    if (how.cache_bytes, how.panel_bytes) == (group.target.l2_bytes, group.target.panel_bytes):
        return group.target
    return replace(group.target, l2_bytes=how.cache_bytes, panel_bytes=how.panel_bytes)


CACHE_WAYS = 8
MOST_HELD = 64
"""Rows: a second cache that holds no more of them at a place is too small for the rows of a block."""
COLLIDING_CACHES = 16
"""What is packed because it collides takes at most this many second caches."""


def left_count(group: Group, node: Node) -> int:
    """Elements of the left side if it is packed as a whole before anything is multiplied, else 0."""
    what, tile, packed_left = plan(group, node)
    _, how = tiling(group, node, (what, tile, packed_left))
    machine = _machine(group, how)
    if packed_left:
        is_ahead = packs_ahead(what, tile, machine)
    else:
        is_ahead = _collides(group, node, what, tile, machine)
    return what.batch_count * what.row_count * row_stride(what.depth_count) if is_ahead else 0


def _collides(group: Group, node: Node, what: Contraction, tile: Tile, target: Target) -> bool:
    """Whether a left side that could be read in place is packed nevertheless: where rows are so far apart
    that all of them fall into a few sets of a cache, so that the second one does not hold a block, or the
    first one not even a tile.
    """
    apart = rows_apart(group, what, node)
    near, far = (_held(apart, size) for size in (target.l1_bytes, target.l2_bytes))
    is_large = 4 * what.depth_count * what.columns > target.l2_bytes
    fits = 4 * what.batch_count * what.row_count * what.depth_count <= COLLIDING_CACHES * target.l2_bytes
    is_short = near < tile.rows or far <= MOST_HELD < 2 * what.row_count
    return is_packed(group, node) and apart > 0 and is_large and fits and is_short


def _held(apart: int, cache_bytes: int) -> int:
    """Of rows so many numbers apart, how many a cache holds a line of."""
    way = cache_bytes // CACHE_WAYS
    return CACHE_WAYS * way // gcd(4 * apart, way)


def lower(group: Group, node: Node, name: str, right: str, left: str = "") -> Kernel:
    """The kernel; `right` is its name for the buffer of the packed right side, `left` that for a left side
    that is packed as a whole.
    """
    what, tile, packed_left = plan(group, node)
    scope = Scope()
    _, how = tiling(group, node, (what, tile, packed_left))
    packed_left = packed_left or bool(left)
    target, packs_block = _machine(group, how), packed_left and not left
    is_parted = is_deep(what, tile, target) and not (packs_block and left_rows(group.body, node))
    cut = make_cut(what, tile, packs_block, target, is_parted)
    gemm = Gemm(group, node, scope, what, tile, cut, packed_left, right)
    gemm.left_stride = row_stride(what.depth_count)
    gemm.fetches = how.fetches
    gemm.band = _band(gemm)
    held = tile.rows
    if is_parted:
        gemm.part = depth_in_part(tile, target)
        held = cut.row_block * cut.panel_block
    gemm.result = scope.local(F32, held * tile.columns)
    phases = []
    if not is_packed(group, node):
        phases.append(pack_right_phase(group, scope, what, tile, right))
    if left:
        gemm.left, gemm.left_is_whole = left, True
        phases.append(pack_left_phase(gemm))
        gemm.left_is_ready = True
    elif packed_left:
        gemm.left_stride = row_stride(min(gemm.part or what.depth_count, what.depth_count))
        gemm.left = scope.local(F32, cut.row_block * gemm.left_stride)
    phases.append(lower_tiles(gemm))
    return group.kernel(name, [scope], phases)
