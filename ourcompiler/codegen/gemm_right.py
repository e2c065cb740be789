"""The right side of a product in panels: as wide as a tile, one row of depth after another."""

from contextlib import ExitStack

from ourcompiler.codegen.contraction import (
    Contraction,
    Place,
    Tile,
    panel_count,
)
from ourcompiler.codegen.element import Lane, NotInLanesError
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.nest import store
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.ir.index import Affine
from ourcompiler.kernel.ir import (
    FLAG,
    TASK,
    Apply,
    Number,
    Phase,
    apply,
    index,
)


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
                with elements.under_guard():
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
