"""The right side of a product whose columns are rows in memory (keys of an attention): transposed in square
blocks, in registers, while it is packed.
"""

from collections.abc import Callable

from ourcompiler.codegen.contraction import Contraction, Place, Tile, panel_count
from ourcompiler.codegen.element import Elements, Lane
from ourcompiler.codegen.gemm_left import chosen_place, seen_place
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
    Load,
    Name,
    Number,
    Phase,
    Store,
    Turn,
    apply,
    index,
    plus,
    times,
)

CHOSEN = -1
"""How far apart rows are that the data choose."""


def rows_of_columns(group: Group, what: Contraction) -> int:
    """How far apart in memory columns are, where they are read as they are, with the depth side by side;
    `CHOSEN` if the data say where each one is; 0 if it is otherwise, or if there is too little of it.
    """
    if len(what.depth) != 1 or min(what.depth_count, what.columns) < group.target.lanes:
        return 0
    trial = Scope()
    dims = [
        trial.dim(extent, Name(f"d{number}", index(0).kind))
        for number, extent in enumerate((*what.batch, what.depth_count, what.columns))
    ]
    *batch, depth, column = dims

    def read(elements: Elements) -> Expr:
        return what.right(elements, tuple(batch), (depth,), column)

    found = seen_place(group, trial, read)
    if found is None:
        chosen = chosen_place(group, trial, read)
        is_row = chosen is not None and strides_along(chosen[1], depth) == 1
        return CHOSEN if is_row else 0
    wanted = depth.dims | column.dims
    steps = {Affine(0, ((atom, 1),)): factor for atom, factor in found[1].terms}
    if any(one.dims & wanted and one not in (depth, column) for one in steps):
        return 0
    return steps.get(column, 0) if steps.get(depth) == 1 and steps.get(column, 0) > 1 else 0


def strides_along(place: Affine, dim: Affine) -> int:
    """The step of a place along a dimension; 0 where it is not an even one."""
    steps = {Affine(0, ((atom, 1),)): factor for atom, factor in place.terms}
    is_mixed = any(one.dims & dim.dims and one != dim for one in steps)
    return 0 if is_mixed else steps.get(dim, 0)


def turn_right_phase(
    group: Group, scope: Scope, what: Contraction, tile: Tile, buffer: str, apart: int
) -> Phase:
    """Pack a right side whose columns are `apart`, a panel a task."""
    panels = panel_count(what.columns, tile)
    with scope.block() as body:
        *batch, panel = delinear_names(scope, TASK, (*what.batch, panels))
        number = scope.space.linear((*batch, panel), (*what.batch, panels))
        turn_panel(group, scope, what, tile, (buffer, number), apart, (tuple(batch), panel))
    return Phase(what.batch_count * panels, tuple(body))


def turn_panel(
    group: Group,
    scope: Scope,
    what: Contraction,
    tile: Tile,
    to: tuple[str, Affine],
    apart: int,
    which: tuple[Place, Affine],
) -> None:
    """Pack the panel of a batch that `which` names as the one of that number in a buffer (`to`); what no
    square block covers goes one by one, and columns beyond the last are 0. Rows that the data choose are
    gathered first.
    """
    (buffer, number), (batch, panel) = to, which
    lanes, depth = tile.lanes, what.depth_count
    blocks = depth - depth % lanes
    base = scope.let(times(scope.place(number), depth * tile.columns), "right")
    start = scope.space.multiply(panel, tile.columns)
    width: Expr = index(tile.columns)
    if what.columns % tile.columns:
        rest = apply("sub", index(what.columns), scope.place(start))
        width = scope.let(apply("min", width, rest), "n")
    whole = vector_end(scope, index(0), width, lanes)

    def place(k: Expr, j: Expr) -> Expr:
        return plus(base, plus(times(k, tile.columns), j))

    def read_row(elements: Elements, k: Affine, j: Expr) -> Expr:
        column = scope.space.add(start, scope.dim(tile.columns, j))
        return what.right(elements, batch, (k,), column)

    def read(elements: Elements, k: Expr, j: Expr) -> Expr:
        return read_row(elements, scope.dim(depth, k), j)

    gathered = _gather(group, scope, tile, whole, blocks, read_row) if apart == CHOSEN else ""

    def rows_at(k: Expr, j: Expr) -> Load:
        if gathered:
            return Load(gathered, plus(times(j, blocks), k), Kind(DType.F32, lanes), blocks)
        at = seen_place(group, scope, lambda elements: read(elements, k, j))
        assert at is not None
        return Load(at[0], scope.place(at[1]), Kind(DType.F32, lanes), apart)

    with (
        scope.loop(index(0), whole, lanes, "j") as j,
        scope.loop(index(0), index(blocks), lanes, "k") as k,
    ):
        scope.emit(Turn(buffer, place(k, j), tile.columns, rows_at(k, j)))
    for columns, begin in (((index(0), whole), blocks), ((whole, width), 0)):
        if begin < depth and columns[0] != columns[1]:
            with (
                scope.loop(*columns, 1, "j") as j,
                scope.loop(index(begin), index(depth), 1, "k") as k,
            ):
                scope.emit(Store(buffer, place(k, j), read(group.elements(scope), k, j)))
    if what.columns % tile.columns:
        _clear_columns(scope, buffer, place, (width, index(tile.columns)), depth)


def _clear_columns(
    scope: Scope, buffer: str, place: Callable[[Expr, Expr], Expr], columns: tuple[Expr, Expr], depth: int
) -> None:
    """Columns beyond the last are 0."""
    with (
        scope.loop(*columns, 1, "j") as j,
        scope.loop(index(0), index(depth), 1, "k") as k,
    ):
        scope.emit(Store(buffer, place(k, j), Number(0.0, Kind(DType.F32))))


def _gather(
    group: Group,
    scope: Scope,
    tile: Tile,
    columns: Expr,
    depth: int,
    read: Callable[[Elements, Affine, Expr], Expr],
) -> str:
    """The rows of a panel's columns side by side, in memory of the thread; its name."""
    buffer = scope.local(DType.F32, tile.columns * depth)

    with scope.loop(index(0), columns, 1, "j") as j:

        def put(k: Affine, lane: Lane | None) -> None:
            elements = group.elements(scope, lane=lane)
            value = read(elements, k, j)
            to = scope.space.add(scope.space.multiply(scope.dim(tile.columns, j), depth), k)
            store(scope, buffer, to, value, elements.step(to), lane)

        sweep(scope, (index(0), index(depth), index(depth)), depth, tile.lanes, put, "k")
    return buffer
