"""What the code of one product is written from, and how its work is cut into tasks."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod

from ourcompiler.codegen.band import Band
from ourcompiler.codegen.contraction import (
    Contraction,
    Place,
    Tile,
    panel_count,
)
from ourcompiler.codegen.element import Index
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.graph import Node
from ourcompiler.ir.index import ZERO, Affine
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    FLAG,
    Apply,
    Expr,
    Kind,
    Number,
    Store,
    apply,
    index,
    plus,
    splat,
    times,
)
from ourcompiler.targets import Target

TASK_MULTIPLIES = 400_000
LARGEST_TASKS = 64
FAR_TASKS = 32
FAR_ROWS = 64
THREADS = 8
"""Where the right side is far away: tasks at most, and rows of a block at least, else it is read more often
than it can be multiplied with; blocks are lower only as long as there are no more tasks than so many threads.
"""
PART_BYTES = 131_072
"""Of a panel, the most that one part of the depth takes."""
AHEAD_CACHES = 4
"""A left side that is packed as a whole may take this many second caches; it is read from the third then."""
SHARED_TASKS = 16
"""Tasks of blocks that share a part of the rows: fewer are not shared out well, more read it again."""
FAR_PART = 8
"""Of the second cache, what a right side may take that is not thought of as far away."""
LEFT_COST = 1
"""What reading an element of the left from beyond the second cache costs, in elements of the right."""
F32 = DType.F32


def row_stride(depth: int) -> int:
    """How far apart packed rows lie: a cache line more where all of them would begin in the same set."""
    return depth + LINE if depth % SET_PERIOD == 0 else depth


LINE, SET_PERIOD = 16, 512
"""Numbers of a line of a cache, and after how many packed rows are moved by one."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How the work is cut: tasks of `row_block` rows (whole tiles) and `panel_block` panels of one batch."""

    row_block: int
    panel_block: int
    row_blocks: int
    panel_blocks: int


ZERO_PLACE = index(0)
Sink = tuple[str, Callable[[Index], Affine]]
"""A buffer, and the place in it for an index."""


def group_sinks(group: Group, scope: Scope) -> dict[str, Sink]:
    """The group's results, in the layouts chosen for them."""

    def to(name: str) -> Callable[[Index], Affine]:
        return lambda place: group.storages[name].at(scope.space, place)

    return {name: (group.stored[name].buffer, to(name)) for name in group.written}


@dataclass(frozen=True, slots=True)
class Part:
    """Part of the depth: one index along each of the first axes, from and to along the next, the rest
    whole: `length` steps from `begin`. `origin` is where it begins in the packed left side, if that has one
    part at a time; `held` where its panel's results begin, behind `before` rows of others; `ahead` what to
    fetch meanwhile. Where `is_last` holds, a tile's results are whole, and what follows is computed.
    """

    outer: Place
    span: tuple[Expr, Expr]
    begin: Expr
    length: Expr
    origin: Expr = ZERO_PLACE
    held: Expr = ZERO_PLACE
    before: Affine = ZERO
    ahead: Expr = ZERO_PLACE
    is_last: Expr | None = None


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
    right_is_local: bool = False  # the thread's own, of one batch
    left: str = ""  # that of the packed left side
    left_stride: int = 0  # between its rows
    left_is_ready: bool = False  # packed by somebody else
    left_is_whole: bool = False  # `left` has every row of every batch, not those of a block
    result: str = ""  # that of the finished tile, or of a block's rows if the depth is cut
    part: int = 0  # steps of the depth in one part, if it is cut
    fetches: bool = False  # the right side comes from beyond the second cache
    sinks: Mapping[str, Sink] = field(default_factory=dict)  # where values go, if not to the group's results
    factor: Callable[[Affine], Expr] | None = None  # what a row is multiplied with at last
    band: Band | None = None  # of rows and columns: tiles outside are left out

    def left_row(self, batch: Place, row: Expr, first: Expr) -> Expr:
        """Where a row of the packed left side begins; `first` is the first one of the block."""
        if not self.left_is_whole:
            return times(apply("sub", row, first), self.left_stride)
        before = self.scope.space.linear(batch, self.what.batch) if batch else ZERO
        return times(plus(times(self.scope.place(before), self.what.row_count), row), self.left_stride)

    @property
    def panels(self) -> int:
        return panel_count(self.what.columns, self.tile)

    @property
    def panel_size(self) -> int:
        return self.what.depth_count * self.tile.columns


def ahead(gemm: Gemm, batch: Place, part: Part, panel: Expr, panels: tuple[Expr, Expr]) -> Expr:
    """What is multiplied after a part of a panel: the same part of the next panel; after the block's last one
    the next part of its first one, and at last the panel that the next block begins with.
    """
    before = gemm.scope.space.linear((*batch, ZERO), (*gemm.what.batch, gemm.panels))

    def place(panel: Expr, depth: Expr) -> Expr:
        number = plus(gemm.scope.place(before), panel)
        return plus(times(number, gemm.panel_size), times(depth, gemm.tile.columns))

    def choose(condition: Expr, yes: Expr, no: Expr) -> Expr:
        return Apply("where", (condition, yes, no), no.kind)

    following, end = plus(panel, index(1)), plus(part.begin, part.length)
    is_last = apply("equal", following, panels[1], kind=FLAG)
    is_done = apply("equal", end, index(gemm.what.depth_count), kind=FLAG)
    after = choose(is_done, place(following, index(0)), place(panels[0], end))
    return choose(is_last, after, place(following, part.begin))


def clear(gemm: Gemm, count: Expr) -> None:
    """Results that parts are added to begin at 0."""
    scope, lanes = gemm.scope, gemm.tile.lanes
    with scope.loop(index(0), scope.let(count, "n"), lanes, "z") as place:
        scope.emit(Store(gemm.result, place, splat(Number(0.0, Kind(F32)), lanes)))


def next_part(gemm: Gemm, loops: ExitStack) -> Part:
    """The loops over the parts of the depth, and the part inside of them."""
    scope, depth = gemm.scope, gemm.what.depth
    axis = next(one for one in range(len(depth)) if prod(depth[one + 1 :]) <= gemm.part)
    inner = prod(depth[axis + 1 :])
    step = _even_step(depth[axis], max(1, gemm.part // inner))
    outer = tuple(loops.enter_context(scope.axis(extent, "k")) for extent in depth[:axis])
    start = loops.enter_context(scope.loop(index(0), index(depth[axis]), step, "c"))
    end = scope.let(apply("min", plus(start, index(step)), index(depth[axis])), "c")
    whole = tuple(ZERO for _ in depth[axis + 1 :])
    place = scope.space.linear((*outer, scope.dim(depth[axis], start), *whole), depth)
    begin = scope.let(scope.place(place), "origin")
    length = scope.let(times(apply("sub", end, start), inner), "length")
    return Part(outer, (start, end), begin, length)


STEPS_TOGETHER = 8


def _even_step(extent: int, most: int) -> int:
    """The length of parts, no longer than `most`, of which the last one is not a short rest: whole turns
    of a tile (`gemm_steps`), where they are long enough.
    """
    even = -(-extent // -(-extent // most))
    together = min(most, -(-even // STEPS_TOGETHER) * STEPS_TOGETHER)
    return together - together % STEPS_TOGETHER if together > STEPS_TOGETHER else together


LEAST_TASKS = 16
"""Tasks that blocks of whole rows are cut into, if there are as many tiles."""


def tiles_in_block(tiles: int, batches: int, most: int) -> int:
    """How many tiles of rows a task takes: at most `most`, and few enough to share them out."""
    found = max(1, min(tiles, most))
    while found > 1 and batches * -(-tiles // found) < LEAST_TASKS:
        found = -(-found // 2)
    return found


def is_far(what: Contraction, target: Target) -> bool:
    """Whether the right side comes from beyond the second cache, which has held those of other kernels since
    the last run: smaller ones are not worth a thought.
    """
    return 4 * what.batch_count * what.depth_count * what.columns > target.l2_bytes // FAR_PART


def whole_rows(count: int) -> Cut:
    """No cut by panels: a task has `count` whole rows."""
    return Cut(count, 1 << 30, 1, 1)


def make_cut(
    what: Contraction, tile: Tile, packed_left: bool, target: Target, is_parted: bool = False
) -> Cut:
    """Enough tasks to share out. A block of rows stays in the second cache while panels go by, and panels
    are read from further away once for each block of rows: so the cut goes through panels first. Where each
    task packs its own rows it goes through rows first, else they are packed again for each part. With
    `is_parted` the depth is cut.
    """
    multiplies = what.batch_count * what.row_count * what.columns * what.depth_count
    most = FAR_TASKS if is_far(what, target) else LARGEST_TASKS
    wanted = max(1, min(most, multiplies // TASK_MULTIPLIES))
    per_batch = -(-wanted // max(what.batch_count, 1))
    tiles = -(-what.row_count // tile.rows)
    panels = panel_count(what.columns, tile)
    depth = what.depth_count
    if is_parted:
        depth = depth_in_part(tile, target)
    if is_parted and not packed_left:
        return _shared_cut(what, tile, min(wanted, SHARED_TASKS), target)
    fitting = max(1, target.l2_bytes // 2 // (4 * max(depth, 1) * tile.rows))
    row_blocks = -(-tiles // fitting)
    if packed_left and is_parted:
        return _deep_cut(what, tile, max(row_blocks, min(tiles, -(-LEAST_TASKS // what.batch_count))), target)
    if packed_left:
        row_blocks = max(row_blocks, min(tiles, per_batch))
    least = row_blocks
    panel_parts = min(panels, max(1, per_batch // row_blocks))
    if row_blocks * panel_parts < per_batch:
        row_blocks = min(tiles, -(-per_batch // panel_parts))
        if is_far(what, target):
            row_blocks = min(row_blocks, max(least, what.row_count // FAR_ROWS, THREADS // panel_parts))
    in_block = -(-tiles // row_blocks)
    panel_block = panels // panel_parts
    return Cut(in_block * tile.rows, panel_block, -(-tiles // in_block), -(-panels // panel_block))


def _shared_cut(what: Contraction, tile: Tile, wanted: int, target: Target) -> Cut:
    """Blocks of rows that go through one part of the depth at a time, and are not packed by the task: of all
    cuts into enough tasks, the one that reads least. Rows of the left are read once for each block of panels,
    without being asked for ahead; panels once for each block of rows.
    """
    tiles, panels = -(-what.row_count // tile.rows), panel_count(what.columns, tile)
    wanted = -(-wanted // max(what.batch_count, 1))
    part_bytes = 4 * min(depth_in_part(tile, target), what.depth_count) * tile.rows
    least = -(-tiles // max(1, target.l2_bytes * 5 // 8 // part_bytes))
    found = []
    for row_blocks in range(least, tiles + 1):
        in_block = -(-tiles // row_blocks)
        results = 4 * in_block * tile.rows * tile.columns
        parts = min(panels, max(-(-wanted // row_blocks), -(-panels * results // (target.l2_bytes // 4))))
        panel_block = -(-panels // parts)
        cut = Cut(in_block * tile.rows, panel_block, -(-tiles // in_block), -(-panels // panel_block))
        reads = cut.row_blocks * what.columns + LEFT_COST * cut.panel_blocks * what.row_count
        found.append((reads, row_blocks, cut))
    return min(found, key=lambda one: one[:2])[-1]


def _deep_cut(what: Contraction, tile: Tile, row_blocks: int, target: Target) -> Cut:
    """Blocks of rows that pack one part of the depth at a time: the results of a block's panels stay in a
    quarter of the second cache meanwhile.
    """
    tiles = -(-what.row_count // tile.rows)
    in_block = -(-tiles // row_blocks)
    panels = panel_count(what.columns, tile)
    most = max(1, target.l2_bytes // 4 // (4 * in_block * tile.rows * tile.columns))
    panel_block = -(-panels // -(-panels // most))
    row_blocks = -(-what.row_count // (in_block * tile.rows))
    return Cut(in_block * tile.rows, panel_block, row_blocks, -(-panels // panel_block))


def is_deep(what: Contraction, tile: Tile, target: Target) -> bool:
    """Whether every tile would read its panel from further away than is fast enough: then the depth is cut
    and the rows of a block take turns.
    """
    return 4 * what.depth_count * tile.columns > target.panel_bytes


def depth_in_part(tile: Tile, target: Target) -> int:
    """Steps of the depth in one part."""
    return min(target.panel_bytes, PART_BYTES) // (4 * tile.columns)


def packs_ahead(what: Contraction, tile: Tile, target: Target) -> bool:
    """Whether the whole left side is packed before anything is multiplied. When blocks of whole rows are too
    few tasks, every block would be packed once for each part of the panels; and a right side that does not
    stay in the second cache would be read from further away for each of many small blocks.
    """
    whole_bytes = 4 * what.batch_count * what.row_count * what.depth_count
    if whole_bytes > AHEAD_CACHES * target.l2_bytes:
        return False
    is_large = 4 * what.depth_count * what.columns > target.l2_bytes // 2
    return is_large or make_cut(what, tile, True, target).panel_blocks > 1
