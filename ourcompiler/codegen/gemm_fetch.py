"""What a tile of a product asks for ahead: the operands of what follows and where results go, whose rows are
too far apart for the processor to guess, and its share of the next panel.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod

from ourcompiler.codegen.contraction import Place, Tile
from ourcompiler.codegen.element import Elements, Index, NotInLanesError
from ourcompiler.codegen.gemm_left import direct_place, left_place
from ourcompiler.codegen.gemm_parts import F32, LINE, Gemm, Part
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.index import Affine, Dim
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import Expr, Fetch, Kind, Load, Name, Number, apply, index, plus, times

MEMORY_CYCLES = 500
"""About what a line from beyond the caches takes, beside a neighbour."""
Fetcher = Callable[[Place, int], None]
"""Asks for what so many steps, of which the place is the first one, are to ask for."""


@dataclass
class _Noted(Elements):
    """Elements that note every place and write nothing."""

    places: dict[tuple[str, Affine], None] = field(default_factory=dict)
    made: dict[tuple[str, Index], Expr] = field(default_factory=dict)

    def at(self, name: str, place: Index) -> Expr:
        if (name, place) not in self.made:
            self.made[name, place] = self._made(name, place)
        return self.made[name, place]

    def dynamic(self, value: Expr, size: int) -> Affine:
        raise NotInLanesError

    def load(self, buffer: str, where: Affine, dtype: DType) -> Expr:
        if dtype is F32:
            self.places[buffer, where] = None
        return Load(buffer, index(0), Kind(dtype))


def fetch_results(gemm: Gemm, batch: Place, panel: Affine, row: Affine, height: int) -> None:
    """Ask for what the rows of a tile will be computed from and written to, before the tile is multiplied;
    for those of a later tile where one is multiplied in less time than memory takes to answer.
    """
    scope, what, tile = gemm.scope, gemm.what, gemm.tile
    later = MEMORY_CYCLES // (what.depth_count * tile.rows * tile.vectors // 2 or 1) * height
    column = scope.space.multiply(panel, tile.columns)
    for buffer, where, step in _places(gemm):
        first = scope.space.substitute(where, (*batch, row, column))
        start = scope.let(scope.place(first), "next")
        wide = min(tile.columns, what.columns)
        within = 0 if step % LINE == 0 else min(wide, LINE) - 1  # the line that the last panel did not touch
        for number in range(height):
            for line in range(within, wide, LINE):
                scope.emit(Fetch(buffer, plus(start, index((later + number) * step + line)), is_next=True))


def _places(gemm: Gemm) -> list[tuple[str, Affine, int]]:
    """Buffers that what follows reads or writes, row by row and along the columns: the place over batches,
    row and column, and how far apart rows are.
    """
    group, what, trial = gemm.group, gemm.what, Scope()
    extents = (*what.batch, what.row_count, what.columns)
    trial.extents, trial.exprs = (
        list(extents),
        [Name(f"d{one}", index(0).kind) for one in range(len(extents))],
    )
    *batch, row, column = trial.space.dims()
    where = what.out(trial.space, tuple(batch), trial.space.delinear(row, what.rows), column)

    def ready(elements: Elements, place: Index) -> Expr:
        return Number(0.0, Kind(F32))

    noted = _Noted(trial, group.body, group.elements(trial).stored, {gemm.node.output: ready}, {})
    try:
        for name in gemm.sinks or group.written:
            noted.at(name, where)
    except (AssertionError, NotInLanesError):
        return []
    places = [*noted.places, *([] if gemm.sinks else _written(gemm, trial, where))]
    steps = ((buffer, place, _row_step(place, len(what.batch))) for buffer, place in places)
    return [(buffer, place, step) for buffer, place, step in steps if step]


def _written(gemm: Gemm, trial: Scope, where: Index) -> Iterator[tuple[str, Affine]]:
    """Where the group's results of single precision go."""
    group = gemm.group
    for name in group.written:
        if group.dtype(name) is F32:
            yield group.stored[name].buffer, group.storages[name].at(trial.space, where)


def _row_step(place: Affine, row: int) -> int:
    """How far apart rows are if a place goes evenly over them and columns lie side by side, else 0."""
    column = row + 1
    mixed = any(
        not isinstance(atom, Dim) and {row, column} & Affine(0, ((atom, 1),)).dims for atom, _ in place.terms
    )
    return 0 if mixed or place.coefficient(Dim(column)) != 1 else place.coefficient(Dim(row))


def fetching(gemm: Gemm, right: Expr, row: Affine, height: int, first: Expr, part: Part | None) -> Fetcher:
    """Every tile of the block asks for its share of what is multiplied next, step by step: panels come from
    far away, and the first tile would wait for all of one.
    """
    scope, tile, what = gemm.scope, gemm.tile, gemm.what
    tiles = _asking_tiles(gemm)
    if not gemm.fetches or tiles < 2 or not _asks(tile, height):
        return lambda depth, steps: None
    share = -(-tile.columns // tiles)
    number = apply("quotient", apply("sub", scope.place(row), first), index(tile.rows))
    begin: Expr = index(0)
    length: Expr = index(what.depth_count)
    following = plus(right, index(gemm.panel_size))
    if part is not None:
        begin, length, following = part.begin, part.length, part.ahead
    behind = apply("sub", apply("mul", number, length), begin)
    start = scope.let(plus(following, times(behind, share)), "next")

    def fetch(depth: Place, steps: int) -> None:
        flat = times(scope.place(scope.space.linear(depth, what.depth)), share)
        for line in range(0, steps * share, LINE):
            scope.emit(Fetch(gemm.right, plus(plus(start, flat), index(line))))

    return fetch


def _asks(tile: Tile, height: int) -> bool:
    """Whether a tile of that height asks for a share: one of a few rows is done before lines arrive."""
    return 2 * height >= tile.rows


def _asking_tiles(gemm: Gemm) -> int:
    """How many tiles of a block share in asking, at least: all but the last one where it is low."""
    tile, rest = gemm.tile, gemm.what.row_count % gemm.tile.rows
    tiles = gemm.cut.row_block // tile.rows
    return tiles - 1 if gemm.cut.row_blocks == 1 and rest and not _asks(tile, rest) else tiles


def fetching_left(gemm: Gemm, batch: Place, row: Affine) -> Fetcher:
    """Every step of a tile asks for its share of the next tile's rows, where all of them lie one after
    another and the block of rows is too large for the nearest cache.
    """
    scope, what, tile = gemm.scope, gemm.what, gemm.tile
    buffer, start = _rows_in_line(gemm, batch, row) or ("", index(0))
    if not buffer or 8 * gemm.cut.row_block * what.depth_count <= gemm.group.target.l1_bytes:
        return lambda depth, steps: None
    after = scope.let(plus(start, index(tile.rows * what.depth_count)), "next")

    def fetch(depth: Place, steps: int) -> None:
        flat = times(scope.place(scope.space.linear(depth, what.depth)), tile.rows)
        for line in range(0, steps * tile.rows, LINE):
            scope.emit(Fetch(buffer, plus(plus(after, flat), index(line)), is_next=True))

    return fetch


def _rows_in_line(gemm: Gemm, batch: Place, row: Affine) -> tuple[str, Expr] | None:
    """The left side's buffer and where a row begins in it, if the next one begins where that one ends."""
    scope, what = gemm.scope, gemm.what
    if gemm.packed_left or prod(what.depth[:-1]) != 1 or len(row.terms) != 1:
        return None
    buffer = direct_place(gemm.group, scope, what, gemm.node)
    start = left_place(gemm, scope, batch, row)
    ((own, _),) = row.terms
    others = [atom for atom, _ in start.terms if atom != own]
    mixes = any(row.dims & Affine(0, ((one, 1),)).dims for one in others)
    if buffer is None or mixes or start.coefficient(own) != what.depth_count:
        return None
    return buffer, scope.place(start)
