"""Convolutions of 3 × 3 taps by Winograd's method: tiles of the image and filters are transformed, multiplied
point by point as products of matrices, and transformed back (Lavin and Gray 2016, algorithm 1), all in one
kernel.

Transformed filters take up to four times the memory of the filters, so that they are made anew in every run:
each time that few operations, where they are next to many tiles. Of the filters and the image the smaller one
is transformed first, as a whole. A task of the second phase transforms a block of the other one into memory
that is near, multiplies it with all of the first, and transforms the products back. Of many small groups of
channels a task does all of one.
"""

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

TASKS_OF_TRANSFORMS = 64
"""Into how many tasks the first phase is cut, about."""


def lower(group: Group, node: Node, name: str, what: Plan, buffers: tuple[str, str]) -> Kernel:
    """The kernel; `buffers` are its names for the packed filters, and for what is transformed first (if
    anything is).
    """
    scope, lanes = Scope(), group.target.lanes
    held = scope.local(F32, what.point_count * lanes)
    made = scope.local(F32, what.transform.results**2 * lanes)
    weights, shared = buffers
    filters, image, result = (
        shared if one == what.shared else scope.local(F32, what.point_count * what.steps[one])
        for one in (FILTERS, IMAGE, RESULT)
    )
    winograd = Winograd(group, node, scope, what, weights, filters, image, result, held, made)
    if what.order is Order.GROUPS:
        return group.kernel(name, [scope], [_by_groups(winograd)])
    if what.order is Order.TILES:
        return group.kernel(name, [scope], [_filters(winograd), _by_tiles(winograd)])
    return group.kernel(name, [scope], [_image(winograd), _by_channels(winograd)])


def _filters(winograd: Winograd) -> Phase:
    """All filters: a task has some channels of a panel."""
    scope, what = winograd.scope, winograd.what
    groups, inputs = what.shape.groups, what.shape.inputs
    wanted = min(-(-inputs // DEPTH_IN_PART), max(1, TASKS_OF_TRANSFORMS // (groups * what.panels)))
    size = -(-inputs // wanted)
    parts = -(-inputs // size)
    with scope.block() as body:
        channels, panel, part = delinear_names(scope, TASK, (groups, what.panels, parts))
        begin = matrix_start(winograd, FILTERS, channels, constant(0))
        before = scope.space.multiply(panel, inputs * what.tile.columns)
        to = scope.let(plus(begin, scope.place(before)), "to")
        first, last = _span(scope, part, size, inputs)
        transform_filters(winograd, channels, panel, Run(first, last, index(0)), to)
    return Phase(groups * what.panels * parts, tuple(body))


def _image(winograd: Winograd) -> Phase:
    """The whole image: a task has some tiles."""
    scope, what = winograd.scope, winograd.what
    size = -(-what.shape.groups * what.tile_count // TASKS_OF_TRANSFORMS)
    blocks = -(-what.tile_count // size)
    with scope.block() as body:
        channels, block = delinear_names(scope, TASK, (what.shape.groups, blocks))
        tiles = Run(*_span(scope, block, size, what.tile_count), index(0))
        transform_image(winograd, Block(channels, tiles))
    return Phase(what.shape.groups * blocks, tuple(body))


def _by_tiles(winograd: Winograd) -> Phase:
    """A block of tiles from the image to the results."""
    scope, what = winograd.scope, winograd.what
    blocks = -(-what.tile_count // what.block)
    panels = Run(index(0), index(what.panels), index(0))
    with scope.block() as body:
        channels, number = delinear_names(scope, TASK, (what.shape.groups, blocks))
        first, last = _span(scope, number, what.block, what.tile_count)
        block = Block(channels, Run(first, last, first))
        transform_image(winograd, block)
        with scope.axis(what.point_count, "xi") as point:
            depth = Run(index(0), index(what.shape.inputs), index(0))
            multiply(winograd, block, point, panels, depth)
        transform_results(winograd, block, panels)
    return Phase(what.shape.groups * blocks, tuple(body))


def _by_groups(winograd: Winograd) -> Phase:
    """All of a group of channels."""
    scope, what = winograd.scope, winograd.what
    with scope.block() as body:
        (channels,) = delinear_names(scope, TASK, (what.shape.groups,))
        depth = Run(index(0), index(what.shape.inputs), index(0))
        with scope.axis(what.panels, "panel") as panel:
            before = scope.space.multiply(panel, what.shape.inputs * what.tile.columns)
            transform_filters(winograd, channels, panel, depth, scope.place(before))
        block = Block(channels, Run(index(0), index(what.tile_count), index(0)))
        transform_image(winograd, block)
        panels = Run(index(0), index(what.panels), index(0))
        with scope.axis(what.point_count, "xi") as point:
            multiply(winograd, block, point, panels, depth)
        transform_results(winograd, block, panels)
    return Phase(what.shape.groups, tuple(body))


def _by_channels(winograd: Winograd) -> Phase:
    """A panel of output channels: part of the input channels after part, its filters are transformed and
    multiplied with a block of tiles.
    """
    scope, what = winograd.scope, winograd.what
    inputs, blocks = what.shape.inputs, -(-what.tile_count // what.block)
    with scope.block() as body:
        channels, panel, number = delinear_names(scope, TASK, (what.shape.groups, what.panels, blocks))
        first = scope.place(panel)
        panels = Run(first, plus(first, index(1)), first)
        begin, end = _span(scope, number, what.block, what.tile_count)
        with scope.loop(index(0), index(inputs), what.part, "k") as part:
            last = scope.let(apply("min", plus(part, index(what.part)), index(inputs)), "k")
            depth = Run(part, last, part)
            transform_filters(winograd, channels, panel, depth, index(0))
            with scope.axis(what.point_count, "xi") as point:
                multiply(winograd, Block(channels, Run(begin, end, index(0))), point, panels, depth)
        transform_results(winograd, Block(channels, Run(begin, end, begin)), panels)
    return Phase(what.shape.groups * what.panels * blocks, tuple(body))


def _span(scope: Scope, number: Affine, size: int, count: int) -> tuple[Expr, Expr]:
    """From and to of a part of so many."""
    first = scope.let(times(scope.place(number), size), "p")
    return first, scope.let(apply("min", plus(first, index(size)), index(count)), "p")
