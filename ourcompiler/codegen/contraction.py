"""Products of matrices and convolutions as one thing: sums over `depth` of left × right for rows and columns.

A convolution's rows are the positions of its window, its columns the output channels of a group, its depth
the taps and the input channels of a group (implicit im2col).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod

from ourcompiler.codegen.element import Elements, Index
from ourcompiler.codegen.fold import windowed
from ourcompiler.ir.graph import ABSENT, Graph, Node
from ourcompiler.ir.index import Affine, Space, constant
from ourcompiler.kernel.ir import Expr
from ourcompiler.ops.table import Facts

Place = tuple[Affine, ...]


@dataclass(frozen=True, slots=True)
class Contraction:
    """`left(elements, batch, row, depth)` and `right(elements, batch, depth, column)` give the factors;
    `out(space, batch, row, column)` the index of the result. Batches, rows and depths are indices along
    `batch`, `rows` and `depth`.
    """

    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: int
    depth: tuple[int, ...]
    left: Callable[[Elements, Place, Place, Place], Expr]
    right: Callable[[Elements, Place, Place, Affine], Expr]
    out: Callable[[Space, Place, Place, Affine], Index]

    @property
    def row_count(self) -> int:
        """All rows of one batch."""
        return prod(self.rows)

    @property
    def depth_count(self) -> int:
        """How many products are added up."""
        return prod(self.depth)

    @property
    def batch_count(self) -> int:
        """How many products of matrices there are."""
        return prod(self.batch)


def contraction(body: Graph, node: Node) -> Contraction:
    """The operator in this form."""
    return _matmul(body, node) if node.op == "MatMul" else _convolution(body, node)


def _matmul(body: Graph, node: Node) -> Contraction:
    """Axes that the right side does not have are rows too: many images times one weight are one product."""
    left, right = (body.types[name].shape for name in node.inputs)
    out = body.types[node.output].shape
    rank = len(out) - 2
    padded = (1,) * (rank + 2 - len(right)) + right
    last = max((axis + 1 for axis in range(rank) if padded[axis] != 1), default=0)
    batch, rows = out[:last], (*out[last:rank], out[rank])

    def aligned(shape: tuple[int, ...], place: Place) -> Place:
        own = place[rank - (len(shape) - 2) :]
        return tuple(one if size > 1 else constant(0) for one, size in zip(own, shape[:-2], strict=True))

    def from_left(elements: Elements, b: Place, row: Place, depth: Place) -> Expr:
        return elements.at(node.inputs[0], (*aligned(left, (*b, *row[:-1])), row[-1], *depth))

    def from_right(elements: Elements, b: Place, depth: Place, column: Affine) -> Expr:
        place = (*b, *[constant(0)] * (rank - last))
        return elements.at(node.inputs[1], (*aligned(right, place), *depth, column))

    return Contraction(
        batch,
        rows,
        out[-1],
        (left[-1],),
        from_left,
        from_right,
        lambda space, b, row, column: (*b, *row, column),
    )


def _convolution(body: Graph, node: Node) -> Contraction:
    weight, out = body.types[node.inputs[1]].shape, body.types[node.output].shape
    facts: Facts = dict(node.attributes)
    groups: int = node["group"]
    per_group, inputs = weight[0] // groups, weight[1]
    is_planar = goes_by_channel(weight)

    def parted(depth: Place) -> tuple[Place, Affine]:
        """The tap, and the channel of the group."""
        return (depth[1:], depth[0]) if is_planar else (depth[:-1], depth[-1])

    def from_left(elements: Elements, b: Place, row: Place, depth: Place) -> Expr:
        space = elements.scope.space
        tap, channel = parted(depth)
        at, guards = windowed(elements, node.inputs[0], row[1:], tap, facts, 0.0)
        where = space.add(space.multiply(b[0], inputs), channel) if groups > 1 else channel
        return elements.within(node.inputs[0], (row[0], where, *at), guards, 0.0)

    def from_right(elements: Elements, b: Place, depth: Place, column: Affine) -> Expr:
        space = elements.scope.space
        tap, channel = parted(depth)
        where = space.add(space.multiply(b[0], per_group), column) if groups > 1 else column
        return elements.at(node.inputs[1], (where, channel, *tap))

    def to(space: Space, b: Place, row: Place, column: Affine) -> Index:
        where = space.add(space.multiply(b[0], per_group), column) if groups > 1 else column
        return (row[0], where, *row[1:])

    batch = (groups,) if groups > 1 else ()
    rows = (out[0], *out[2:])
    depth = (inputs, *weight[2:]) if is_planar else (*weight[2:], inputs)
    return Contraction(batch, rows, per_group, depth, from_left, from_right, to)


def goes_by_channel(weight: tuple[int, ...]) -> bool:
    """Whether the depth goes over the channels first and then over the taps of each: for images of few
    channels, whose windows are copied along their rows.
    """
    return weight[1] < weight[-1] and weight[-1] >= WIDE_WINDOW


WIDE_WINDOW = 4
"""Taps of a row that are worth a vector."""


def bias_of(node: Node) -> str:
    """The name of a convolution's bias, or `ABSENT`."""
    return node.inputs[2] if node.op == "Conv" and len(node.inputs) > 2 else ABSENT


@dataclass(frozen=True, slots=True)
class Tile:
    """A block of results in registers: `rows` times `vectors` vectors of `lanes`."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Columns of a tile, which is the width of a panel."""
        return self.vectors * self.lanes


MULTIPLIES_IN_FLIGHT = 8
"""Two multiply-add units, four cycles each: a smaller tile waits for its own results."""


SPARE_REGISTERS = 2
"""For the number of the left that is multiplied, and the next: with one the C compiler spills a total in
every step (4 × 3 tiles of AVX2 at half the speed).
"""


@cache
def choose_tile(
    rows: int, columns: int, lanes: int, registers: int, *, height: int = 0, multiple: int = 1
) -> Tile:
    """The tile of the fewest cycles for one step of the depth, over all tiles of the matrix; with a given
    number of rows if that is not 0, or a multiple of one.
    """
    possible = _possible(lanes, registers - SPARE_REGISTERS, height)
    return min(
        (one for one in possible if one.rows % multiple == 0), key=lambda tile: _cycles(tile, rows, columns)
    )


def tiles_by_cycles(rows: int, columns: int, lanes: int, registers: int) -> list[Tile]:
    """All tiles that the registers hold, those of the fewest cycles first; a search sees which ones spill."""
    return sorted(_possible(lanes, registers - 1), key=lambda tile: _cycles(tile, rows, columns))


def _possible(lanes: int, registers: int, height: int = 0) -> list[Tile]:
    """Tiles whose results and one row of columns fit into so many registers."""
    return [
        Tile(count, vectors, lanes)
        for vectors in range(1, 9)
        for count in ([height] if height else range(1, 17))
        if count * vectors + vectors <= registers
    ]


def _cycles(tile: Tile, rows: int, columns: int) -> float:
    whole, rest = divmod(rows, tile.rows)

    def panel(vectors: int) -> float:
        return whole * _tile_cycles(tile.rows, vectors) + (_tile_cycles(rest, vectors) if rest else 0)

    return (panel_count(columns, tile) - 1) * panel(tile.vectors) + panel(last_vectors(columns, tile))


def _tile_cycles(rows: int, vectors: int) -> float:
    """One step of the depth: multiplies and loads at two a cycle, and a little for every tile."""
    return max(rows * vectors, rows + vectors, MULTIPLIES_IN_FLIGHT) / 2 + 0.5


def last_vectors(columns: int, tile: Tile) -> int:
    """Vectors of the last panel that have a column."""
    return -(-(columns - (panel_count(columns, tile) - 1) * tile.columns) // tile.lanes)


def last_tiles(rows: int, tile: Tile, vectors: int, block: int) -> tuple[int, int]:
    """Rows of whole tiles, and the height of the tiles after them: one of what is left over. Where that would
    be too few to keep the multipliers busy, and all rows are one block, several are a row lower instead.
    """
    rest = rows % tile.rows
    lower = tile.rows - 1
    count = tile.rows - rest
    is_slow = rest * vectors < MULTIPLIES_IN_FLIGHT <= lower * vectors
    if rest and is_slow and count * lower <= rows <= block:
        return rows - count * lower, lower
    return rows - rest, rest


def panel_count(columns: int, tile: Tile) -> int:
    """How many panels the right side is packed into."""
    return -(-columns // tile.columns)


def separable(place: Affine, depth: frozenset[int]) -> tuple[Affine, Affine] | None:
    """The place as one part without and one with nothing but dimensions of the depth; None if they mix."""
    outer, inner = [], []
    for atom, factor in place.terms:
        dims = Affine(0, ((atom, 1),)).dims
        if not dims & depth:
            outer.append((atom, factor))
        elif dims <= depth:
            inner.append((atom, factor))
        else:
            return None
    return Affine(place.constant, tuple(outer)), Affine(0, tuple(inner))
