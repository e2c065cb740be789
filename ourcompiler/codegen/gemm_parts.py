"""What the code of one product is written from, and how its work is cut into tasks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ourcompiler.codegen.contraction import (
    Contraction,
    Tile,
    panel_count,
)
from ourcompiler.codegen.element import Index
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.graph import Node
from ourcompiler.ir.index import Affine
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    Expr,
)

TASK_MULTIPLIES = 400_000
LARGEST_TASKS = 256
F32 = DType.F32


@dataclass(frozen=True, slots=True)
class Cut:
    """How the work is cut: tasks of `row_block` rows (whole tiles) and `panel_block` panels of one batch."""

    row_block: int
    panel_block: int
    row_blocks: int
    panel_blocks: int


Sink = tuple[str, Callable[[Index], Affine]]
"""A buffer, and the place in it for an index."""


@dataclass
class Gemm:
    """Writes the code of one kernel."""

    group: Group
    node: Node
    scope: Scope
    what: Contraction
    tile: Tile
    cut: Cut
    packed_left: bool
    right: str  # the kernel's name of the packed right side
    left: str = ""  # that of the packed left side
    left_stride: int = 0  # between its rows
    left_is_ready: bool = False  # packed by somebody else
    result: str = ""  # that of the finished tile
    sinks: Mapping[str, Sink] = field(default_factory=dict)  # where values go, if not to the group's results
    factor: Callable[[Affine], Expr] | None = None  # what a row is multiplied with at last

    @property
    def panels(self) -> int:
        return panel_count(self.what.columns, self.tile)

    @property
    def panel_size(self) -> int:
        return self.what.depth_count * self.tile.columns


LEAST_TASKS = 16
"""Tasks that blocks of whole rows are cut into, if there are as many tiles."""


def tiles_in_block(tiles: int, batches: int, most: int) -> int:
    """How many tiles of rows a task takes: at most `most`, and few enough to share them out."""
    found = max(1, min(tiles, most))
    while found > 1 and batches * -(-tiles // found) < LEAST_TASKS:
        found = -(-found // 2)
    return found


def whole_rows(count: int) -> Cut:
    """No cut by panels: a task has `count` whole rows."""
    return Cut(count, 1 << 30, 1, 1)


def make_cut(what: Contraction, tile: Tile, packed_left: bool, l2_bytes: int) -> Cut:
    """Enough tasks to share out, blocks of the left side that stay in the second cache."""
    multiplies = what.batch_count * what.row_count * what.columns * what.depth_count
    wanted = max(1, min(LARGEST_TASKS, multiplies // TASK_MULTIPLIES))
    tiles = -(-what.row_count // tile.rows)
    fits = max(1, l2_bytes // 2 // (4 * what.depth_count * tile.rows)) if packed_left else tiles
    per_batch = -(-wanted // max(what.batch_count, 1))
    in_block = max(1, min(fits, tiles // min(per_batch, tiles)))
    row_blocks = -(-tiles // in_block)
    panels = panel_count(what.columns, tile)
    panel_parts = min(panels, -(-per_batch // row_blocks))
    panel_block = -(-panels // panel_parts)
    return Cut(in_block * tile.rows, panel_block, row_blocks, -(-panels // panel_block))
