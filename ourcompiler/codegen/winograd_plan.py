"""Which convolutions are computed by Winograd's method, with which tiles, and how the work is cut.

Cost and accuracy decide. The cost is an estimate from the target's row: arithmetic, what the transforms load
and store, and filters that come from memory. Memory has no price: filters are kept as they are, and what is
transformed is memory that kernels share. The accuracy is the expected error against that of the direct
convolution, which adds all taps and channels one after another: a transform makes it larger, but its sums are
shorter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from math import ceil, prod, sqrt

import numpy as np

from ourcompiler.codegen.combine import arithmetic
from ourcompiler.codegen.contraction import Tile, choose_tile, panel_count
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.toom_cook import POINTS, TAPS, Transform, transform
from ourcompiler.ir.graph import Array, Node
from ourcompiler.ir.types import DType
from ourcompiler.targets import Target

DEPTH_IN_PART = 128
"""Channels that are added one after another; the sums of parts are added up: shorter sums round less, and the
part of a panel of weights stays in the nearest cache."""
MOST_ERROR = 2.0
"""What the expected error may be, relative to that of the direct convolution."""
LEAST_GAIN = 1.1
"""What the estimate has to promise: it knows no caches."""
LEAST_MORE = 1.05
"""What larger tiles have to promise: they round more, and more is in memory at once."""
FAR_BYTES = 2.0
"""Weights come from memory, where a byte costs about this many times what it does in the caches."""
EFFICIENCY = 0.85
"""What products reach of the peak."""
OTHER_STEPS = 1.2
"""Instructions of a transform for each load, store and arithmetic one: the rest finds places."""
FILTER_STEPS = 6
"""The same for each element of a transformed filter, in every run: 4 are counted, and the second cache, where
they lie until they are multiplied, takes as long as half as many."""
PACKING_STEPS = 3
"""Instructions for each element of the image that the direct convolution copies for each tap."""
READS_IN_BLOCK = 6
"""All filters go by once for each block of tiles: multiplying with them takes at least so many times as long
as reading them, where there are enough tiles."""
FEWEST_TILES = 32
"""Tiles of a block where all filters stay in a cache, or are transformed by the task itself."""
USUAL_BLOCK = 64
"""Tiles of a block as the estimate takes them, to tell whether they stay in the second cache."""
NEAR_CACHES = 4
"""Second caches that such filters may take: they are read from the third then."""
LEAST_TASKS = 8
"""With fewer blocks of tiles panels are shared out."""
LEAST_PANELS = 4
"""With fewer panels blocks of tiles are shared out too: for each of them filters are transformed again."""
MANY_GROUPS = 2 * LEAST_TASKS
"""So many groups keep threads busy by themselves."""
PADDING = 16
"""Elements between the matrices of two points: at a power of two all would share a few lines of a cache."""

FILTERS, IMAGE, RESULT = "filters", "image", "result"
"""Transformed filters, the transformed image, and the products: a matrix for each point."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A convolution of 3 × 3 taps: images, channels in and out of each group, sizes of the result, and the
    stride along both axes.
    """

    images: int
    groups: int
    inputs: int
    outputs: int
    height: int
    width: int
    stride: int = 1

    def tiles(self, results: int) -> tuple[int, int, int]:
        """Images, tiles down and across."""
        return self.images, -(-self.height // results), -(-self.width // results)


class Order(Enum):
    """What is transformed before anything is multiplied, and what a task of products is then."""

    TILES = "tiles"
    """The filters are; a task is a block of tiles, which it transforms, multiplies and transforms back."""
    CHANNELS = "channels"
    """The image is; a task is a panel of output channels, whose filters it transforms part by part."""
    GROUPS = "groups"
    """Nothing is; a task is a group of channels, which needs no other one's filters or image."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A task of products has `block` tiles."""

    shape: Shape
    transform: Transform
    tile: Tile
    order: Order
    block: int

    @property
    def tiles(self) -> tuple[int, int, int]:
        """Images, tiles down and across."""
        return self.shape.tiles(self.transform.results)

    @property
    def tile_count(self) -> int:
        """Tiles of one group."""
        return prod(self.tiles)

    @property
    def point_count(self) -> int:
        """Products of matrices of one group."""
        return self.transform.points**2

    @property
    def panels(self) -> int:
        """Panels of filters of a point."""
        return panel_count(self.shape.outputs, self.tile)

    @property
    def part(self) -> int:
        """Channels that are added one after another, in whole vectors; the last part may have fewer."""
        inputs, lanes = self.shape.inputs, self.tile.lanes
        even = -(-inputs // -(-inputs // DEPTH_IN_PART))
        return min(inputs, -(-even // lanes) * lanes)

    @property
    def filters_step(self) -> int:
        """Elements of the transformed filters from one point to the next: of all of them, or of a part of a
        panel.
        """
        if self.order is Order.CHANNELS:
            return self.part * self.tile.columns + PADDING
        return self.panels * self.shape.inputs * self.tile.columns + PADDING

    @property
    def image_tiles(self) -> int:
        """Tiles of the transformed image that are in memory at once."""
        return self.block if self.order is Order.TILES else self.tile_count

    @property
    def image_step(self) -> int:
        """Elements of the transformed image from one point to the next: a part of the channels of all tiles
        after another, so that what is multiplied together lies side by side.
        """
        return -(-self.shape.inputs // self.part) * self.image_tiles * self.part + PADDING

    @property
    def result_width(self) -> int:
        """Elements of the products from one tile to the next."""
        return self.tile.columns * (1 if self.order is Order.CHANNELS else self.panels)

    @property
    def result_step(self) -> int:
        """Elements of the products from one point to the next."""
        return self.block * self.result_width + PADDING

    @property
    def shared(self) -> str | None:
        """What is transformed in a phase of its own, into memory of the kernel's, if anything is."""
        return {Order.TILES: FILTERS, Order.CHANNELS: IMAGE}.get(self.order)

    @property
    def steps(self) -> Mapping[str, int]:
        """Elements from one point to the next, of everything that has points."""
        return {FILTERS: self.filters_step, IMAGE: self.image_step, RESULT: self.result_step}

    @property
    def shared_count(self) -> int:
        """Elements of what is transformed in a phase of its own."""
        if self.shared is None:
            return 0
        return self.shape.groups * self.point_count * self.steps[self.shared]

    @property
    def own_bytes(self) -> int:
        """What a task transforms into memory of its own, and the products."""
        steps = (step for name, step in self.steps.items() if name != self.shared)
        return 4 * self.point_count * sum(steps)

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """Groups, panels, channels, taps, columns of a panel."""
        shape = self.shape
        return (shape.groups, self.panels, shape.inputs, TAPS**2, self.tile.columns)


def plan(group: Group, node: Node) -> Plan | None:
    """How the convolution is computed by Winograd's method; None if it is not."""
    shape = _shape(group, node)
    if shape is None or not group.winograd:
        return None
    results = choose(shape, group.target)
    return None if results is None else cut(shape, results, group.target)


def _shape(group: Group, node: Node) -> Shape | None:
    """The convolution's sizes, if it has 3 × 3 taps side by side, weights that are known, and a stride for
    which there are matrices.
    """
    if node.op != "Conv" or node.inputs[1] not in group.constant_inputs:
        return None
    types = group.body.types
    weight, out = types[node.inputs[1]], types[node.output].shape
    if weight.shape[2:] != (TAPS, TAPS) or weight.dtype is not DType.F32:
        return None
    down, across = node["strides"]
    if down != across or down not in POINTS or tuple(node["dilations"]) != (1, 1):
        return None
    groups = node["group"]
    return Shape(out[0], groups, weight.shape[1], weight.shape[0] // groups, out[2], out[3], down)


def choose(shape: Shape, target: Target) -> int | None:
    """Results of a tile along an axis, of those that are accurate enough the cheapest, or hardly more and
    smaller; None for the direct convolution.
    """
    most = direct_seconds(shape, target) / LEAST_GAIN
    chosen = None
    for results in POINTS[shape.stride] if shape.inputs >= target.lanes else ():
        if relative_error(transform(results, shape.stride), shape.inputs) <= MOST_ERROR:
            needed = seconds(shape, results, target)
            if needed < most:
                most, chosen = needed / LEAST_MORE, results
    return chosen


def relative_error(what: Transform, inputs: int) -> float:
    """The expected error relative to that of the direct convolution. A sum of n terms one after another has
    about the error of the square root of n/2 roundings.
    """
    part = min(inputs, DEPTH_IN_PART)
    return what.amplification * sqrt((part + inputs / part) / (TAPS**2 * inputs))


def direct_seconds(shape: Shape, target: Target) -> float:
    """What a product by tiles in registers takes for the direct convolution, about."""
    rows, weights = shape.images * shape.height * shape.width, TAPS**2 * shape.inputs * shape.outputs
    packed = PACKING_STEPS * rows * TAPS**2 * shape.inputs / _elements_per_second(target)
    return shape.groups * (
        _product_seconds(rows, TAPS**2 * shape.inputs, shape.outputs, target) + packed + _far(weights, target)
    )


def seconds(shape: Shape, results: int, target: Target) -> float:
    """What it takes with tiles of so many results along an axis, about."""
    rows, points = prod(shape.tiles(results)), transform(results, shape.stride).points ** 2
    moved = points * rows * (shape.inputs + shape.outputs)
    steps = transform_steps(transform(results, shape.stride))
    transformed = rows * (shape.inputs * steps[0] + shape.outputs * steps[1])
    block = min(rows, USUAL_BLOCK) * moved // rows
    is_near = 4 * block <= target.l2_bytes
    return shape.groups * (
        points * _product_seconds(rows, shape.inputs, shape.outputs, target)
        + transformed / _elements_per_second(target)
        + (0.0 if is_near else 4 * moved / target.bytes_per_second)
        + _filters_again(cut(shape, results, target), target)
        + FILTER_STEPS * points * shape.inputs * shape.outputs / _elements_per_second(target)
        + _far(TAPS**2 * shape.inputs * shape.outputs, target)
    )


def _filters_again(what: Plan, target: Target) -> float:
    """Reading the filters of a group for each block of tiles, where no cache that is near holds them."""
    found = 4 * what.point_count * what.filters_step
    if what.order is not Order.TILES or found <= NEAR_CACHES * target.l2_bytes:
        return 0.0
    return -(-what.tile_count // what.block) * found / target.bytes_per_second


@cache
def transform_steps(what: Transform) -> tuple[float, float]:
    """Instructions for one tile of a channel: of the image there, of the result back, two passes each."""
    points, results = what.points, what.results
    there, back = arithmetic(what.image), arithmetic(what.result)
    image = 2 * points * (points + there + points)
    result = points * (points + back + results) + results * (points + back + results)
    return OTHER_STEPS * image, OTHER_STEPS * result


def _elements_per_second(target: Target) -> float:
    """Elements that go through an instruction, in vectors at two a cycle as multiply-adds do."""
    return target.flops_per_second / 2


def _product_seconds(rows: int, depth: int, columns: int, target: Target) -> float:
    """Tiles of registers as if all were whole."""
    tile = choose_tile(rows, columns, target.lanes, target.registers)
    whole = -(-rows // tile.rows) * tile.rows * panel_count(columns, tile) * tile.columns
    return 2 * whole * depth / (EFFICIENCY * target.flops_per_second)


def _far(count: int, target: Target) -> float:
    """Reading so many weights."""
    return FAR_BYTES * 4 * count / target.bytes_per_second


def tiles_in_block(target: Target) -> int:
    """Tiles that a task takes at least where it reads filters from afar, four bytes for two operations."""
    return ceil(READS_IN_BLOCK * 4 / 2 * target.flops_per_second / target.bytes_per_second)


def cut(shape: Shape, results: int, target: Target) -> Plan:
    """Many groups go one by one, if all of one stays in the second cache. Blocks of tiles stay there too, but
    have no fewer tiles than pay for reading all filters. If the image is large enough for that, and
    transformed filters take less memory than it does, it goes block by block; else the filters do, panel by
    panel: with all tiles or, where there are few panels, with some.
    """
    what, count = transform(results, shape.stride), prod(shape.tiles(results))
    tile_bytes = 4 * what.points**2 * (shape.inputs + shape.outputs)
    filters_bytes = 4 * what.points**2 * shape.inputs * shape.outputs
    is_near = filters_bytes <= NEAR_CACHES * target.l2_bytes
    fewest = FEWEST_TILES if is_near else tiles_in_block(target)
    shared = -(-count * shape.groups // LEAST_TASKS)
    wanted = max(fewest, target.l2_bytes // tile_bytes)
    tile = choose_tile(count, shape.outputs, target.lanes, target.registers)
    alone = Plan(shape, what, tile, Order.GROUPS, count)
    if shape.groups >= MANY_GROUPS and alone.own_bytes <= target.l2_bytes:
        return alone
    block = _whole_tiles(max(min(wanted, shared), fewest), count, tile)
    if shape.outputs <= count and shape.groups * -(-count // block) >= LEAST_TASKS - 1:
        return Plan(shape, what, tile, Order.TILES, block)
    parts = -(-LEAST_PANELS // (shape.groups * panel_count(shape.outputs, tile)))
    block = _whole_tiles(max(-(-count // parts), FEWEST_TILES), count, tile)
    return Plan(shape, what, tile, Order.CHANNELS, block)


def _whole_tiles(wanted: int, count: int, tile: Tile) -> int:
    """So many tiles of the image, in whole tiles of registers, if there are as many."""
    return min(count, -(-wanted // tile.rows) * tile.rows)


def packer(what: Plan) -> Callable[[Array], Array]:
    """Filters as the kernel reads them: panel by panel, the taps of a channel side by side."""
    shape, columns = what.shape, what.tile.columns

    def make(array: Array) -> Array:
        filters = array.reshape(shape.groups, shape.outputs, shape.inputs, TAPS**2)
        found = np.zeros(what.weights_shape, np.float32)
        for panel in range(what.panels):
            part = filters[:, panel * columns : (panel + 1) * columns]
            found[:, panel, :, :, : part.shape[1]] = part.transpose(0, 2, 3, 1)
        return found

    return make
