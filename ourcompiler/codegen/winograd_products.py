"""The products of Winograd's method: for each point a matrix of tiles times one of filters."""

from collections.abc import Sequence
from math import gcd

from ourcompiler.codegen.gemm_parts import F32, LINE
from ourcompiler.codegen.gemm_steps import in_turns
from ourcompiler.codegen.winograd_parts import Block, Run, Winograd, matrix_start
from ourcompiler.codegen.winograd_plan import FILTERS, IMAGE, RESULT, Order
from ourcompiler.ir.index import Affine
from ourcompiler.kernel.ir import (
    FLAG,
    Apply,
    Assign,
    Expr,
    Fetch,
    If,
    Kind,
    Load,
    Name,
    Number,
    Store,
    apply,
    index,
    plus,
    splat,
    times,
)


def multiply(winograd: Winograd, block: Block, point: Affine, panels: Run, depth: Run) -> None:
    """The products of one point: panel after panel, part of the channels after part, for a block of tiles."""
    scope, what, tiles = winograd.scope, winograd.what, block.tiles
    left, filters, to = (
        matrix_start(winograd, one, block.channels, point) for one in (IMAGE, FILTERS, RESULT)
    )
    left = plus(left, times(tiles.place(tiles.first), what.part))
    columns = what.tile.columns
    with scope.loop(panels.first, panels.last, 1, "panel") as name:
        number = panels.place(name)
        right = plus(filters, times(number, what.shape.inputs * columns))
        made = scope.let(plus(to, times(number, columns)), "to")
        with scope.loop(depth.first, depth.last, what.part, "k") as part:
            end = scope.let(apply("min", plus(part, index(what.part)), depth.last), "k")
            # Parts of all tiles lie one after another, each tile's side by side.
            own = plus(left, times(part, what.image_tiles))
            panel = plus(right, times(depth.place(part), columns))
            _rows_of_tiles(winograd, block, (own, panel, made), (part, end))


def _rows_of_tiles(
    winograd: Winograd, block: Block, places: tuple[Expr, Expr, Expr], span: tuple[Expr, Expr]
) -> None:
    """Whole tiles of registers, then the one that is left over at the end of the image's tiles."""
    scope, what, height = winograd.scope, winograd.what, winograd.what.tile.rows
    rest = what.tile_count % height
    count = scope.let(apply("sub", block.tiles.last, block.tiles.first), "n")
    whole = scope.let(apply("sub", count, apply("remainder", count, index(height))), "n")
    left, right, to = (scope.let(one, "x") for one in places)
    if what.tile_count >= height:
        with scope.loop(index(0), whole, height, "m") as row:
            _tile(winograd, (left, right, to), row, height, span)
    if rest:
        with scope.when(apply("less", whole, count, kind=FLAG)):
            _tile(winograd, (left, right, to), whole, rest, span)


def _tile(
    winograd: Winograd, places: tuple[Expr, Expr, Expr], row: Expr, height: int, span: tuple[Expr, Expr]
) -> None:
    """`height` tiles of the image times a panel, over a part of the channels; added to the parts before."""
    scope, what = winograd.scope, winograd.what
    tile, (left, right, to) = what.tile, places
    kind = Kind(F32, tile.lanes)
    zero = splat(Number(0.0, Kind(F32)), tile.lanes)
    totals = [[scope.variable(zero, "acc") for _ in range(tile.vectors)] for _ in range(height)]
    first = scope.let(plus(left, times(row, what.part)), "left")
    length = scope.let(apply("sub", span[1], span[0]), "n")
    for start, stop, count in in_turns(scope, (index(0), length), gcd(what.shape.inputs, what.part)):
        with scope.loop(start, stop, count, "k") as depth:
            at = plus(right, times(depth, tile.columns))
            _ask_ahead(winograd, at, plus(first, times(depth, height)), height, count)
            for number in range(count):
                _step(winograd, (first, right), plus(depth, index(number)), totals)
    width = what.result_width
    made = scope.let(plus(to, times(row, width)), "to")

    def put(is_more: bool) -> None:
        for number, one_row in enumerate(totals):
            for vector, value in enumerate(one_row):
                place = plus(made, index(number * width + vector * tile.lanes))
                before = Load(winograd.result, place, kind)
                scope.emit(Store(winograd.result, place, apply("add", before, value) if is_more else value))

    if what.shape.inputs <= what.part:
        put(False)
        return
    bodies = []
    for is_more in (True, False):
        with scope.block() as body:
            put(is_more)
        bodies.append(tuple(body))
    scope.emit(If(apply("less", index(0), span[0], kind=FLAG), bodies[0], bodies[1]))


def _step(
    winograd: Winograd, places: tuple[Expr, Expr], depth: Expr, totals: Sequence[Sequence[Name]]
) -> None:
    """One input channel of all tiles, times its row of the panel."""
    scope, what, (left, right) = winograd.scope, winograd.what, places
    kind = Kind(F32, what.tile.lanes)
    at = plus(right, times(depth, what.tile.columns))
    columns = [
        scope.let(Load(winograd.filters, plus(at, index(number * what.tile.lanes)), kind), "w")
        for number in range(what.tile.vectors)
    ]
    for number, one_row in enumerate(totals):
        place = plus(plus(left, depth), index(number * what.part))
        value = scope.let(splat(Load(winograd.image, place, Kind(F32)), what.tile.lanes), "a")
        for total, column in zip(one_row, columns, strict=True):
            scope.emit(Assign(total.name, Apply("fma", (value, column, total), kind)))


def _ask_ahead(winograd: Winograd, right: Expr, left: Expr, height: int, steps: int) -> None:
    """Ask for what is multiplied next: the rows behind these, a share of them for each of so many steps.
    Where filters all go by for each block of tiles, also for the next part of the panel.
    """
    scope, what = winograd.scope, winograd.what
    for line in range(0, steps * height, LINE):
        scope.emit(Fetch(winograd.image, plus(left, index(height * what.part + line))))
    if what.order is Order.TILES:
        for line in range(0, steps * what.tile.columns, LINE):
            scope.emit(Fetch(winograd.filters, plus(right, index(what.part * what.tile.columns + line))))
