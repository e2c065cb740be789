"""What follows a product in its group, computed from a tile: in registers, or from where it is kept in the
nearest cache: along the columns, or along the rows where results lie that way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ourcompiler.codegen.contraction import Contraction, Place, Tile, bias_of
from ourcompiler.codegen.element import Elements, Index, Lane, NotInLanesError
from ourcompiler.codegen.gemm_parts import F32, Gemm, group_sinks
from ourcompiler.codegen.gemm_turn import strides_along
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.lanes import FEWEST_LANES, sweep
from ourcompiler.codegen.nest import COSTLY, store, vector_end
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.graph import ABSENT, Node
from ourcompiler.ir.index import ZERO, Affine, Dim, constant
from ourcompiler.kernel.ir import Expr, Name, Statement, apply, index, splat, times
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import Pointwise

MOST_LIGHT = 4
"""Operators after a product that are computed from registers."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of the right side: which one, and how many columns it has, if all turns agree about it."""

    number: Affine
    columns: int | None

    def vectors(self, tile: Tile) -> int:
        """Vectors that have a column."""
        return tile.vectors if self.columns is None else -(-self.columns // tile.lanes)


def finish_in_registers(
    gemm: Gemm, batch: Place, panel: Panel, row: Affine, totals: Sequence[Sequence[Name]]
) -> tuple[Statement, ...] | None:
    """What follows, for a tile of whole vectors that are still in registers; None where that does not pay."""
    scope, tile = gemm.scope, gemm.tile
    if panel.columns is None or panel.columns % tile.lanes or not _is_light(gemm):
        return None
    with scope.block() as body:
        try:
            for number, values in enumerate(totals):
                own = scope.space.add(row, constant(number))
                rows = _row_index(gemm, batch, own)
                for vector, value in enumerate(values):
                    inner = scope.dim(tile.columns, index(vector * tile.lanes))
                    lane = Lane(len(scope.extents) - 1, tile.lanes, True)
                    _finish_one(gemm, batch, panel.number, rows, (own, ZERO), inner, lane, value)
        except NotInLanesError:
            return None
    return tuple(body)


def _is_light(gemm: Gemm) -> bool:
    """Whether what follows is a few operators that need few registers."""
    nodes = [node for node in following(gemm) if node.op != "View"]
    return len(nodes) <= MOST_LIGHT and all(
        node.op not in COSTLY and isinstance(OPS[node.op].code, Pointwise) for node in nodes
    )


def following(gemm: Gemm) -> list[Node]:
    """Nodes between the product and what is stored of its tiles."""
    producers, found = gemm.group.body.producers, list[Node]()
    wanted = list(gemm.sinks or gemm.group.written)
    while wanted:
        node = producers.get(wanted.pop())
        if node is not None and node is not gemm.node and node not in found:
            found.append(node)
            wanted += node.operands
    return found


def finish_tile(gemm: Gemm, batch: Place, panel: Panel, row: Affine, height: int, held: Affine) -> None:
    """What follows, for the rows of a tile, of which `held` is the first one of those that are kept."""
    scope, space = gemm.scope, gemm.scope.space
    is_plain = not gemm.sinks and gemm.factor is None
    if height >= FEWEST_LANES and is_plain and lies_along_rows(gemm.group, gemm.what):
        _finish_columns(gemm, batch, panel, row, height, held)
        return
    with scope.axis(height, "i") as number:
        _finish_at(gemm, batch, panel, space.add(row, number), space.add(held, number))


def lies_along_rows(group: Group, what: Contraction) -> bool:
    """Whether the results of neighbouring rows lie side by side and those of neighbouring columns do not:
    images whose channels lie apart.
    """
    trial = Scope()
    extents = (*what.batch, what.row_count, what.columns)
    *batch, row, column = (trial.dim(extent, index(0)) for extent in extents)
    space = trial.space
    where = what.out(space, tuple(batch), space.delinear(row, what.rows), column)
    places = [to(where) for _, to in group_sinks(group, trial).values()]
    return all(strides_along(one, row) == 1 < strides_along(one, column) for one in places)


def _finish_columns(gemm: Gemm, batch: Place, panel: Panel, row: Affine, height: int, held: Affine) -> None:
    """What follows, for a tile column by column, so that lanes are rows and are written side by side."""
    scope, tile = gemm.scope, gemm.tile
    lanes = next(one for one in (16, 8, FEWEST_LANES) if one <= min(tile.lanes, height))
    first = row
    if row.terms:  # the last row of the tile is one of the matrix, so no index along the rows runs over
        first = scope.dim(gemm.what.row_count - height + 1, scope.let(scope.place(row), "o"))
    kept = scope.dim(gemm.cut.row_block * gemm.cut.panel_block, scope.let(scope.place(held), "held"))

    def visit_rows(inner: Affine, number: Affine, lane: Lane | None) -> None:
        space = scope.space
        own = space.add(first, number)
        rows = space.delinear(own, gemm.what.rows)
        _finish_one(gemm, batch, panel.number, rows, (own, space.add(kept, number)), inner, lane)

    with scope.loop(index(0), _width(gemm, panel), 1, "j") as name:
        inner = scope.dim(tile.columns, name)
        whole = index(height - height % lanes)
        sweep(
            scope,
            (index(0), whole, index(height)),
            height,
            lanes,
            lambda number, lane: visit_rows(inner, number, lane),
            "i",
        )


def _finish_at(gemm: Gemm, batch: Place, panel: Panel, row: Affine, offset: Affine) -> None:
    """What follows, for one row, which is the one of that number in the nearest cache."""
    _finish_row(gemm, batch, panel, _row_index(gemm, batch, row), (row, offset))


def _row_index(gemm: Gemm, batch: Place, row: Affine) -> Place:
    """A row as an index along its axes."""
    scope, what = gemm.scope, gemm.what
    flat = scope.dim(what.row_count, scope.let(scope.place(row), "o")) if row.terms else row
    rows = scope.space.delinear(flat, what.rows)
    if _goes_evenly(gemm, batch, rows):
        return rows
    return tuple(
        scope.dim(extent, scope.let(scope.place(one), "o")) if one.terms else one
        for one, extent in zip(rows, what.rows, strict=True)
    )


def _goes_evenly(gemm: Gemm, batch: Place, rows: Place) -> bool:
    """Whether results lie in memory as rows follow one another, so that nothing has to be divided."""
    scope = gemm.scope
    where = gemm.what.out(scope.space, batch, rows, ZERO)
    places = [to(where) for _, to in (gemm.sinks or group_sinks(gemm.group, scope)).values()]
    return all(isinstance(atom, Dim) for place in places for atom, _ in place.terms)


def _finish_row(gemm: Gemm, batch: Place, panel: Panel, rows: Place, row: tuple[Affine, Affine]) -> None:
    scope, tile, columns = gemm.scope, gemm.tile, gemm.what.columns
    lanes = next((one for one in (16, 8, 4) if one <= min(tile.lanes, columns)), 1)
    width = _width(gemm, panel)
    if panel.columns is None:
        whole = width if columns % lanes == 0 else vector_end(scope, index(0), width, lanes)
    else:
        whole = index(panel.columns - panel.columns % lanes)

    def visit(inner: Affine, lane: Lane | None) -> None:
        _finish_one(gemm, batch, panel.number, rows, row, inner, lane)

    sweep(scope, (index(0), whole, width), min(tile.columns, columns), lanes, visit)


def _width(gemm: Gemm, panel: Panel) -> Expr:
    """Columns of a panel."""
    if panel.columns is not None:
        return index(panel.columns)
    scope, wide = gemm.scope, gemm.tile.columns
    begin = scope.let(times(scope.place(panel.number), wide), "n")
    return scope.let(apply("min", index(wide), apply("sub", index(gemm.what.columns), begin)), "n")


def _finish_one(
    gemm: Gemm,
    batch: Place,
    panel: Affine,
    rows: Place,
    at: tuple[Affine, Affine],
    inner: Affine,
    lane: Lane | None,
    total: Name | None = None,
) -> None:
    row, offset = at
    scope, tile, group = gemm.scope, gemm.tile, gemm.group
    space = scope.space
    column = space.add(space.multiply(panel, tile.columns), inner)
    where = gemm.what.out(space, batch, rows, column)
    from_tile = space.add(space.multiply(offset, tile.columns), inner)

    def ready(elements: Elements, place: Index) -> Expr:
        assert place == where, "what follows a product is element by element"
        value: Expr = total or elements.load(gemm.result, from_tile, F32)
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
