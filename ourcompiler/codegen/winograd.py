"""Convolutions of 3 × 3 taps by Winograd's method: tiles of the image are transformed, multiplied point by
point as products of matrices, and transformed back (Lavin and Gray 2016, algorithm 1), all in one kernel.

A task does this for a block of tiles: its products read all weights once, which come from far away. Where
there are too few blocks to share out, all tiles are one block and the three parts are phases. The lanes are
channels.
"""

from collections.abc import Callable, Mapping

from ourcompiler.codegen.gemm_parts import F32
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.codegen.winograd_parts import Block, Run, Winograd, matrix_start
from ourcompiler.codegen.winograd_plan import DEPTH_IN_PART, FILTERS, IMAGE, RESULT, Order, Plan
from ourcompiler.codegen.winograd_products import multiply
from ourcompiler.codegen.winograd_transforms import transform_filters, transform_image, transform_results
from ourcompiler.ir.graph import Node
from ourcompiler.ir.index import Affine, constant
from ourcompiler.kernel.ir import TASK, Expr, Kernel, Phase, apply, index, plus, times

TASKS_OF_TILES = 64
"""Into how many tasks tiles are cut where transforms are phases."""
TASKS_OF_FILTERS = 64
TASKS_OF_PRODUCTS = 64


def lower(group: Group, node: Node, name: str, what: Plan, weights: str, shared: Mapping[str, str]) -> Kernel:
    """The kernel; `weights` is its name for the packed filters, `shared` those for what is in memory of the
    kernel's own.
    """
    scope, lanes = Scope(), group.target.lanes
    held = scope.local(F32, what.point_count * lanes)
    made = scope.local(F32, what.transform.results**2 * lanes)
    names = {**shared, **{part: scope.local(F32, count) for part, count in what.own.items()}}
    winograd = Winograd(
        group, node, scope, what, weights, names[FILTERS], names[IMAGE], names[RESULT], held, made
    )
    match what.order:
        case Order.TILES:
            phases = [_filters(winograd), _by_tiles(winograd)]
        case Order.CHANNELS:
            phases = [_image(winograd), _by_channels(winograd)]
        case Order.POINTS:
            phases = [_filters(winograd), _image(winograd), _by_points(winograd), _results(winograd)]
    return group.kernel(name, [scope], phases)


def _filters(winograd: Winograd) -> Phase:
    """All filters: a task has some channels of a panel."""
    scope, what = winograd.scope, winograd.what
    groups, inputs = what.shape.groups, what.shape.inputs
    parts = min(-(-inputs // DEPTH_IN_PART), max(1, TASKS_OF_FILTERS // (groups * what.panels)))
    size = -(-inputs // parts)
    parts = -(-inputs // size)
    with scope.block() as body:
        channels, panel, part = delinear_names(scope, TASK, (groups, what.panels, parts))
        span = _span(scope, part, size, inputs)
        begin = matrix_start(winograd, FILTERS, channels, constant(0))
        depth = what.depth * what.tile.columns
        to = scope.let(plus(begin, scope.place(scope.space.multiply(panel, depth))), "to")
        transform_filters(winograd, channels, panel, span, to)
    return Phase(groups * what.panels * parts, tuple(body))


def _image(winograd: Winograd) -> Phase:
    """The whole image."""
    return _all_tiles(winograd, transform_image)


def _results(winograd: Winograd) -> Phase:
    """All results."""
    return _all_tiles(winograd, lambda one, block: transform_results(one, block, _all_panels(one)))


def _all_tiles(winograd: Winograd, transform: Callable[[Winograd, Block], None]) -> Phase:
    """All tiles, shared out."""
    scope, what = winograd.scope, winograd.what
    in_task = -(-what.shape.groups * what.tile_count // TASKS_OF_TILES)
    blocks = -(-what.tile_count // in_task)
    with scope.block() as body:
        channels, block = delinear_names(scope, TASK, (what.shape.groups, blocks))
        first, last = _span(scope, block, in_task, what.tile_count)
        transform(winograd, Block(channels, first, last, index(0)))
    return Phase(what.shape.groups * blocks, tuple(body))


def _by_tiles(winograd: Winograd) -> Phase:
    """A block of tiles from the image to the results."""
    scope, what = winograd.scope, winograd.what
    blocks = -(-what.tile_count // what.tile_block)
    with scope.block() as body:
        channels, number = delinear_names(scope, TASK, (what.shape.groups, blocks))
        first, last = _span(scope, number, what.tile_block, what.tile_count)
        block = Block(channels, first, last, first)
        transform_image(winograd, block)
        with scope.axis(what.point_count, "xi") as point:
            multiply(winograd, block, point, _all_panels(winograd), _all_channels(winograd))
        transform_results(winograd, block, _all_panels(winograd))
    return Phase(what.shape.groups * blocks, tuple(body))


def _by_channels(winograd: Winograd) -> Phase:
    """A block of output channels: part of the input channels after part, its filters are transformed into
    memory that is near, and multiplied with all tiles.
    """
    scope, what = winograd.scope, winograd.what
    inputs, depth = what.shape.inputs, what.depth
    blocks = -(-what.panels // what.panel_block)
    with scope.block() as body:
        channels, number = delinear_names(scope, TASK, (what.shape.groups, blocks))
        first, last = _span(scope, number, what.panel_block, what.panels)
        panels = Run(first, last, first)
        block = _whole(winograd, channels)
        with scope.loop(index(0), index(inputs), depth, "k") as part:
            end = scope.let(apply("min", plus(part, index(depth)), index(inputs)), "k")
            with scope.loop(first, last, 1, "panel") as name:
                to = scope.let(times(panels.place(name), depth * what.tile.columns), "to")
                transform_filters(winograd, channels, scope.dim(what.panels, name), (part, end), to)
            with scope.axis(what.point_count, "xi") as point:
                multiply(winograd, block, point, panels, Run(part, end, part))
        transform_results(winograd, block, panels)
    return Phase(what.shape.groups * blocks, tuple(body))


def _by_points(winograd: Winograd) -> Phase:
    """Some panels of one point."""
    scope, what = winograd.scope, winograd.what
    groups, points = what.shape.groups, what.point_count
    parts = min(what.panels, -(-TASKS_OF_PRODUCTS // (groups * points)))
    size = -(-what.panels // parts)
    parts = -(-what.panels // size)
    with scope.block() as body:
        channels, point, part = delinear_names(scope, TASK, (groups, points, parts))
        panels = Run(*_span(scope, part, size, what.panels), index(0))
        multiply(winograd, _whole(winograd, channels), point, panels, _all_channels(winograd))
    return Phase(groups * points * parts, tuple(body))


def _span(scope: Scope, number: Affine, size: int, count: int) -> tuple[Expr, Expr]:
    """From and to of a part of so many."""
    first = scope.let(times(scope.place(number), size), "p")
    return first, scope.let(apply("min", plus(first, index(size)), index(count)), "p")


def _all_panels(winograd: Winograd) -> Run:
    return Run(index(0), index(winograd.what.panels), index(0))


def _all_channels(winograd: Winograd) -> Run:
    return Run(index(0), index(winograd.what.shape.inputs), index(0))


def _whole(winograd: Winograd, channels: Affine) -> Block:
    return Block(channels, index(0), index(winograd.what.tile_count), index(0))
