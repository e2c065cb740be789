"""The products of Winograd's method: for each point a matrix of tiles times one of filters."""

from ourcompiler.codegen.gemm_parts import F32
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
    Number,
    Store,
    apply,
    index,
    plus,
    splat,
    times,
)

IMG = 0
FIL = 1
LINE = 16
"""Elements of a line of a cache."""


def multiply(winograd: Winograd, block: Block, point: Affine, panels: Run, depth: Run) -> None:
    """The products of one point: panel after panel, part of the channels after part, for all tiles."""
    scope, what = winograd.scope, winograd.what
    columns = what.tile.columns
    left, matrix, to = (
        matrix_start(winograd, one, block.channels, point) for one in (IMAGE, FILTERS, RESULT)
    )
    with scope.loop(panels.first, panels.last, 1, "panel") as name:
        number = panels.place(name)
        begin = plus(matrix, times(number, what.depth * columns))
        right = scope.let(
            apply("sub", begin, times(depth.start, columns)) if depth.start != index(0) else begin, "right"
        )
        made = scope.let(plus(to, times(number, columns)), "to")
        with scope.loop(depth.first, depth.last, what.part, "k") as part:
            end = scope.let(apply("min", plus(part, index(what.part)), depth.last), "k")
            # Of the image a part of all channels of a tile after another: `left` is where channel 0 would be.
            before = times(part, what.tile_block - 1)
            _rows_of_tiles(winograd, block, (plus(left, before), right, made), (part, end))


def _rows_of_tiles(
    winograd: Winograd, block: Block, places: tuple[Expr, Expr, Expr], span: tuple[Expr, Expr]
) -> None:
    """Whole tiles of registers, then the one that is left over at the end of the image's tiles."""
    scope, what, height = winograd.scope, winograd.what, winograd.what.tile.rows
    rest = what.tile_count % height
    count = scope.let(apply("sub", block.last, block.start), "n")
    whole = scope.let(apply("sub", count, apply("remainder", count, index(height))), "n")
    if what.tile_count >= height:
        with scope.loop(index(0), whole, height, "m") as row:
            _tile(winograd, places, row, height, span)
    if rest:
        with scope.when(apply("less", whole, count, kind=FLAG)):
            _tile(winograd, places, whole, rest, span)


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
    with scope.loop(*span, 1, "k") as depth:
        at = plus(right, times(depth, tile.columns))
        if IMG:
            ahead = plus(plus(first, times(apply("sub", depth, span[0]), height)), plus(span[0], index(height * what.part)))
            scope.emit(Fetch(winograd.image, ahead, IMG == 2))
        for line in range(0, tile.columns, LINE) if FIL or what.order is not Order.CHANNELS else ():
            ahead = index(what.part * tile.columns + line)
            scope.emit(Fetch(winograd.filters, plus(at, ahead)))
        columns = [
            scope.let(Load(winograd.filters, plus(at, index(number * tile.lanes)), kind), "w")
            for number in range(tile.vectors)
        ]
        for number in range(height):
            place = plus(plus(first, depth), index(number * what.part))
            value = scope.let(splat(Load(winograd.image, place, Kind(F32)), tile.lanes), "a")
            for total, column in zip(totals[number], columns, strict=True):
                scope.emit(Assign(total.name, Apply("fma", (value, column, total), kind)))
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
