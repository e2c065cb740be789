"""The right side of a product in panels: as wide as a tile, one row of depth after another."""

from contextlib import ExitStack

from ourcompiler.codegen.contraction import (
    Contraction,
    Place,
    Tile,
    panel_count,
)
from ourcompiler.codegen.element import Lane
from ourcompiler.codegen.gemm_turn import rows_of_columns, turn_panel, turn_right_phase
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.lanes import sweep
from ourcompiler.codegen.nest import store, vector_end
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.ir.index import Affine
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    TASK,
    Expr,
    Kind,
    Number,
    Phase,
    Store,
    apply,
    index,
    plus,
    times,
)


def right_array_shape(what: Contraction, tile: Tile) -> tuple[int, ...]:
    """The packed right side: batches, panels, depth, columns of a panel."""
    return (what.batch_count, panel_count(what.columns, tile), what.depth_count, tile.columns)


def pack_right_here(
    group: Group, scope: Scope, what: Contraction, tile: Tile, buffer: str, batch: Place
) -> None:
    """Pack the right side of one batch into memory of the thread, where the task has all rows of that batch:
    so it stays in the nearest caches.
    """
    panels, apart = panel_count(what.columns, tile), rows_of_columns(group, what)
    with scope.loop(index(0), index(panels), 1, "panel") as name:
        panel = scope.dim(panels, name)
        if apart:
            turn_panel(group, scope, what, tile, (buffer, panel), apart, (batch, panel))
            return
        with ExitStack() as loops:
            depth = tuple(loops.enter_context(scope.axis(extent, "k")) for extent in what.depth)
            flat = scope.space.linear(depth, what.depth)
            base = scope.space.linear((panel, flat), (panels, what.depth_count))
            start = scope.space.multiply(panel, tile.columns)
            _pack_columns(group, scope, what, tile, buffer, batch, depth, start, base)


DEPTH_IN_TASK = 128


def pack_right_phase(group: Group, scope: Scope, what: Contraction, tile: Tile, buffer: str) -> Phase:
    """Pack a right side that is computed at run time; columns beyond the last are 0."""
    panels = panel_count(what.columns, tile)
    apart = rows_of_columns(group, what)
    if apart:
        return turn_right_phase(group, scope, what, tile, buffer, apart)
    outer, inner = what.depth[0], what.depth[1:]
    blocks = -(-outer // DEPTH_IN_TASK)
    with scope.block() as body:
        *batch, panel, block = delinear_names(scope, TASK, (*what.batch, panels, blocks))
        begin = scope.let(times(scope.place(block), DEPTH_IN_TASK), "p")
        end = scope.let(apply("min", plus(begin, index(DEPTH_IN_TASK)), index(outer)), "p")
        with ExitStack() as loops:
            name = loops.enter_context(scope.loop(begin, end, 1, "k"))
            first = scope.dim(outer, name)
            depth = (first, *(loops.enter_context(scope.axis(extent, "k")) for extent in inner))
            flat = scope.space.linear(depth, what.depth)
            base = scope.space.linear((*batch, panel, flat), (*what.batch, panels, what.depth_count))
            start = scope.space.multiply(panel, tile.columns)
            _pack_columns(group, scope, what, tile, buffer, tuple(batch), depth, start, base)
    return Phase(what.batch_count * panels * blocks, tuple(body))


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

    def put(offset: Affine, lane: Lane | None) -> None:
        elements = group.elements(scope, lane=lane)
        value = what.right(elements, batch, depth, scope.space.add(start, offset))
        place = scope.space.add(scope.space.multiply(base, tile.columns), offset)
        store(scope, buffer, place, value, elements.step(place), lane)

    width: Expr = index(tile.columns)
    if what.columns % tile.columns:
        left = apply("sub", index(what.columns), scope.place(start))
        width = scope.let(apply("min", width, left), "n")
    whole = vector_end(scope, index(0), width, tile.lanes)
    sweep(scope, (index(0), whole, width), min(tile.columns, what.columns), tile.lanes, put)
    if what.columns % tile.columns:
        with scope.loop(width, index(tile.columns), 1, "j") as name:
            offset = scope.dim(tile.columns, name)
            place = scope.space.add(scope.space.multiply(base, tile.columns), offset)
            scope.emit(Store(buffer, scope.place(place), Number(0.0, Kind(DType.F32))))
