"""Convolutions of 3 × 3 taps by Winograd's method: tiles of the image are transformed, multiplied point by
point as products of matrices, and transformed back (Lavin and Gray 2016, algorithm 1), all in one kernel.

A task does this for a block of tiles: its products read all weights once, which come from far away. Where
there are too few blocks to share out, all tiles are one block and the three parts are phases. The lanes are
channels.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from ourcompiler.codegen.combine import combined
from ourcompiler.codegen.contraction import Place, bias_of
from ourcompiler.codegen.element import Elements, Index, Lane
from ourcompiler.codegen.fold import windowed
from ourcompiler.codegen.gemm_parts import F32
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.lanes import sweep
from ourcompiler.codegen.nest import store, vector_end
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.codegen.winograd_plan import DEPTH_IN_PART, Plan
from ourcompiler.ir.graph import ABSENT, Node
from ourcompiler.ir.index import Affine, constant
from ourcompiler.kernel.ir import (
    FLAG,
    TASK,
    Apply,
    Assign,
    Expr,
    Fetch,
    If,
    Kernel,
    Kind,
    Load,
    Number,
    Phase,
    Store,
    apply,
    index,
    plus,
    splat,
    times,
)

TASKS_OF_TILES = 64
"""Into how many tasks tiles are cut where transforms are phases."""
TASKS_OF_PRODUCTS = 64
LINE = 16
"""Elements of a line of a cache."""


@dataclass
class Winograd:
    """Writes the code of one kernel. `image` and `result` are the transformed image and the products: for
    each point a matrix of tiles and channels. `held` and `made` are one tile between passes, and one tile's
    results.
    """

    group: Group
    node: Node
    scope: Scope
    what: Plan
    weights: str
    image: str
    result: str
    held: str = ""
    made: str = ""

    @property
    def source(self) -> str:
        """The operand that is transformed."""
        return self.node.inputs[0]


@dataclass(frozen=True, slots=True)
class Block:
    """Tiles `first` to before `last` of one group of channels; `start` is the first one in memory."""

    channels: Affine
    first: Expr
    last: Expr
    start: Expr


def lower(group: Group, node: Node, name: str, what: Plan, buffers: tuple[str, ...]) -> Kernel:
    """The kernel; `buffers` are its names for the packed weights and, where all tiles are one block, for the
    transformed image and the products.
    """
    scope, lanes = Scope(), group.target.lanes
    weights, *ahead = buffers
    image, result = ahead or (scope.local(F32, what.image_count), scope.local(F32, what.result_count))
    made = Winograd(group, node, scope, what, weights, image, result)
    made.held = scope.local(F32, what.point_count * lanes)
    made.made = scope.local(F32, what.transform.results**2 * lanes)
    return group.kernel(name, [scope], _as_phases(made) if what.is_ahead else _as_one_phase(made))


def _as_one_phase(winograd: Winograd) -> list[Phase]:
    """A block of tiles after another."""
    what = winograd.what
    blocks = -(-what.tile_count // what.block)
    with winograd.scope.block() as body:
        channels, first, last = _tiles_of_task(winograd, what.block, blocks)
        block = Block(channels, first, last, first)
        _transform_image(winograd, block)
        with winograd.scope.axis(what.point_count, "xi") as point:
            _multiply(winograd, block, point, (index(0), index(what.panels)))
        _transform_results(winograd, block)
    return [Phase(what.shape.groups * blocks, tuple(body))]


def _as_phases(winograd: Winograd) -> list[Phase]:
    """All tiles, part after part."""
    scope, what = winograd.scope, winograd.what
    groups, points = what.shape.groups, what.point_count
    in_task = -(-groups * what.tile_count // TASKS_OF_TILES)
    blocks = -(-what.tile_count // in_task)
    phases = []
    for transform in (_transform_image, _transform_results):
        with scope.block() as body:
            channels, first, last = _tiles_of_task(winograd, in_task, blocks)
            transform(winograd, Block(channels, first, last, index(0)))
        phases.append(Phase(groups * blocks, tuple(body)))
    parts = min(what.panels, -(-TASKS_OF_PRODUCTS // (groups * points)))
    size = -(-what.panels // parts)
    parts = -(-what.panels // size)
    with scope.block() as body:
        channels, point, part = delinear_names(scope, TASK, (groups, points, parts))
        begin = scope.let(times(scope.place(part), size), "p")
        end = scope.let(apply("min", plus(begin, index(size)), index(what.panels)), "p")
        block = Block(channels, index(0), index(what.tile_count), index(0))
        _multiply(winograd, block, point, (begin, end))
    return [phases[0], Phase(groups * points * parts, tuple(body)), phases[1]]


def _tiles_of_task(winograd: Winograd, size: int, blocks: int) -> tuple[Affine, Expr, Expr]:
    """The group of channels, and the tiles from and to."""
    scope, what = winograd.scope, winograd.what
    channels, block = delinear_names(scope, TASK, (what.shape.groups, blocks))
    first = scope.let(times(scope.place(block), size), "p")
    last = scope.let(apply("min", plus(first, index(size)), index(what.tile_count)), "p")
    return channels, first, last


def _matrix_start(winograd: Winograd, block: Block, point: Affine, step: int) -> Expr:
    """Where the matrix of a point begins."""
    what, scope = winograd.what, winograd.scope
    place = scope.space.linear((block.channels, point), (what.shape.groups, what.point_count))
    return scope.let(scope.place(scope.space.multiply(place if what.is_ahead else point, step)), "x")


def _each_tile(winograd: Winograd, block: Block, visit: Callable[[Place, Expr], None]) -> None:
    """Visit tiles by image, row and column of tiles, and by their number in memory."""
    scope, what = winograd.scope, winograd.what
    with scope.loop(block.first, block.last, 1, "t") as name:
        place = tuple(delinear_names(scope, name, what.tiles))
        visit(place, scope.let(apply("sub", name, block.start), "t") if block.start != index(0) else name)


def _transform_image(winograd: Winograd, block: Block) -> None:
    """Bᵀ d B of every tile; only at the border of the image each element is asked whether it lies inside."""
    scope, what = winograd.scope, winograd.what

    def visit(place: Place, number: Expr) -> None:
        to = scope.let(
            plus(
                _matrix_start(winograd, block, constant(0), what.image_step),
                times(number, what.shape.inputs),
            ),
            "to",
        )
        inside = _is_inside(winograd, place)
        bodies = []
        for is_guarded in (False, True):
            with scope.block() as body:
                _transform_tile(winograd, block, place, to, is_guarded)
            bodies.append(tuple(body))
        scope.emit(If(inside, bodies[0], bodies[1]))

    _each_tile(winograd, block, visit)


def _is_inside(winograd: Winograd, place: Place) -> Expr:
    """Whether all elements that a tile reads lie inside the image."""
    scope, what = winograd.scope, winograd.what
    sizes = winograd.group.body.types[winograd.source].shape[2:]
    found: Expr = Number(True, FLAG)
    for axis, (at, size) in enumerate(zip(place[1:], sizes, strict=True)):
        begin = plus(times(scope.place(at), what.transform.results), index(-winograd.node["pads"][axis]))
        found = apply("and", found, apply("less_equal", index(0), begin, kind=FLAG))
        end = plus(begin, index(what.transform.points))
        found = apply("and", found, apply("less_equal", end, index(size), kind=FLAG))
    return found


def _transform_tile(winograd: Winograd, block: Block, place: Place, to: Expr, is_guarded: bool) -> None:
    """One tile, all channels of the group."""
    scope, what, group = winograd.scope, winograd.what, winograd.group
    points, inputs = what.transform.points, what.shape.inputs
    corner = tuple(scope.space.multiply(one, what.transform.results) for one in place[1:])

    facts = dict(winograd.node.attributes)

    def visit(inner: Affine, lane: Lane | None) -> None:
        lanes = lane.count if lane else 1
        channel = scope.space.add(scope.space.multiply(block.channels, inputs), inner)
        with scope.axis(points, "u") as column:
            elements = group.elements(scope, lane=lane)
            values = []
            for number in range(points):
                tap = (constant(number), column)
                at, guards = windowed(elements, winograd.source, corner, tap, facts, 0.0)
                where = (place[0], channel, *at)
                found = elements.within(winograd.source, where, guards if is_guarded else (), 0.0)
                values.append(scope.let(splat(found, lanes), "d"))
            _hold(winograd, combined(scope, what.transform.image, values), column, lanes)
        with scope.axis(points, "u") as row:
            values = _held(winograd, row, lanes)
            point = _scaled(scope, row, points * what.image_step, inner)
            start = scope.let(plus(to, scope.place(point)), "to")
            for number, value in enumerate(combined(scope, what.transform.image, values)):
                scope.emit(Store(winograd.image, plus(start, index(number * what.image_step)), value))

    lanes = next((one for one in (16, 8, 4) if one <= min(group.target.lanes, inputs)), 1)
    sweep(scope, (index(0), index(inputs - inputs % lanes), index(inputs)), inputs, lanes, visit, "c")


def _scaled(scope: Scope, place: Affine, factor: int, more: Affine) -> Affine:
    return scope.space.add(scope.space.multiply(place, factor), more)


def _hold(winograd: Winograd, values: list[Expr], column: Affine, lanes: int) -> None:
    """Keep a column of the tile between the passes."""
    points, scope = winograd.what.transform.points, winograd.scope
    for row, value in enumerate(values):
        place = scope.space.multiply(scope.space.add(column, constant(row * points)), lanes)
        scope.emit(Store(winograd.held, scope.place(place), value))


def _held(winograd: Winograd, row: Affine, lanes: int) -> list[Expr]:
    """A row of the tile that was kept."""
    points, scope = winograd.what.transform.points, winograd.scope
    start = scope.let(scope.place(scope.space.multiply(row, points * lanes)), "x")
    return [
        scope.let(Load(winograd.held, plus(start, index(number * lanes)), Kind(F32, lanes)), "d")
        for number in range(points)
    ]


def _multiply(winograd: Winograd, block: Block, point: Affine, panels: tuple[Expr, Expr]) -> None:
    """The products of one point: panel after panel, part of the channels after part, for all tiles."""
    scope, what = winograd.scope, winograd.what
    inputs, columns = what.shape.inputs, what.tile.columns
    left = _matrix_start(winograd, block, point, what.image_step)
    to = _matrix_start(winograd, block, point, what.result_step)
    with scope.loop(*panels, 1, "panel") as name:
        panel = scope.dim(what.panels, name)
        shape = what.weights_shape[:3]
        start = scope.space.linear((block.channels, point, panel), shape)
        right = scope.let(scope.place(scope.space.multiply(start, inputs * columns)), "right")
        made = scope.let(plus(to, times(name, columns)), "to")
        with scope.loop(index(0), index(inputs), min(DEPTH_IN_PART, inputs), "k") as part:
            end = scope.let(apply("min", plus(part, index(DEPTH_IN_PART)), index(inputs)), "k")
            _rows_of_tiles(winograd, block, (left, right, made), (part, end))


def _rows_of_tiles(
    winograd: Winograd, block: Block, places: tuple[Expr, Expr, Expr], span: tuple[Expr, Expr]
) -> None:
    """Whole tiles of registers, then the one that is left over at the end of the image's tiles."""
    scope, what, height = winograd.scope, winograd.what, winograd.what.tile.rows
    rest = what.tile_count % height
    count = scope.let(apply("sub", block.last, block.start), "n")
    whole = scope.let(apply("sub", count, apply("remainder", count, index(height))), "n")
    if what.tile_count >= height:
        with scope.loop(index(0), whole, height, "m") as row:
            _tile(winograd, places, row, height, span)
    if rest:
        with scope.when(apply("less", whole, count, kind=FLAG)):
            _tile(winograd, places, whole, rest, span)


def _tile(
    winograd: Winograd, places: tuple[Expr, Expr, Expr], row: Expr, height: int, span: tuple[Expr, Expr]
) -> None:
    """`height` tiles of the image times a panel, over a part of the channels; added to the parts before."""
    scope, what = winograd.scope, winograd.what
    tile, inputs, (left, right, to) = what.tile, what.shape.inputs, places
    kind = Kind(F32, tile.lanes)
    zero = splat(Number(0.0, Kind(F32)), tile.lanes)
    totals = [[scope.variable(zero, "acc") for _ in range(tile.vectors)] for _ in range(height)]
    first = scope.let(plus(left, times(row, inputs)), "left")
    with scope.loop(*span, 1, "k") as depth:
        at = plus(right, times(depth, tile.columns))
        for line in range(0, tile.columns, LINE):
            ahead = index(DEPTH_IN_PART * tile.columns + line)
            scope.emit(Fetch(winograd.weights, plus(at, ahead)))
        columns = [
            scope.let(Load(winograd.weights, plus(at, index(number * tile.lanes)), kind), "w")
            for number in range(tile.vectors)
        ]
        for number in range(height):
            place = plus(plus(first, depth), index(number * inputs))
            value = scope.let(splat(Load(winograd.image, place, Kind(F32)), tile.lanes), "a")
            for total, column in zip(totals[number], columns, strict=True):
                scope.emit(Assign(total.name, Apply("fma", (value, column, total), kind)))
    width = what.panels * tile.columns
    made = scope.let(plus(to, times(row, width)), "to")

    def put(is_more: bool) -> None:
        for number, one_row in enumerate(totals):
            for vector, value in enumerate(one_row):
                place = plus(made, index(number * width + vector * tile.lanes))
                before = Load(winograd.result, place, kind)
                scope.emit(Store(winograd.result, place, apply("add", before, value) if is_more else value))

    if inputs <= DEPTH_IN_PART:
        put(False)
        return
    bodies = []
    for is_more in (True, False):
        with scope.block() as body:
            put(is_more)
        bodies.append(tuple(body))
    scope.emit(If(apply("less", index(0), span[0], kind=FLAG), bodies[0], bodies[1]))


def _transform_results(winograd: Winograd, block: Block) -> None:
    """Aᵀ m A of every tile, some channels at a time, and what follows the convolution."""
    scope, what, outputs = winograd.scope, winograd.what, winograd.what.shape.outputs
    lanes = what.tile.lanes

    def visit(place: Place, number: Expr) -> None:
        first = _matrix_start(winograd, block, constant(0), what.result_step)
        start = scope.let(plus(first, times(number, what.panels * what.tile.columns)), "x")
        with scope.loop(index(0), index(outputs), lanes, "c") as name:
            channel = scope.dim(outputs, name) if outputs > lanes else constant(0)
            _transform_back(winograd, scope.let(plus(start, name), "x"))
            _finish(winograd, block, place, channel)

    _each_tile(winograd, block, visit)


def _transform_back(winograd: Winograd, start: Expr) -> None:
    """The results of one tile, in a vector of channels."""
    scope, what, lanes = winograd.scope, winograd.what, winograd.what.tile.lanes
    points, results = what.transform.points, what.transform.results
    with scope.axis(points, "u") as column:
        first = scope.let(plus(start, scope.place(scope.space.multiply(column, what.result_step))), "x")
        values: list[Expr] = []
        for number in range(points):
            place = plus(first, index(number * points * what.result_step))
            values.append(scope.let(Load(winograd.result, place, Kind(F32, lanes)), "d"))
        _hold(winograd, combined(scope, what.transform.result, values), column, lanes)
    with scope.axis(results, "u") as row:
        values = _held(winograd, row, lanes)
        for number, value in enumerate(combined(scope, what.transform.result, values)):
            to = scope.space.multiply(_scaled(scope, row, results, constant(number)), lanes)
            scope.emit(Store(winograd.made, scope.place(to), value))


def _finish(winograd: Winograd, block: Block, place: Place, channel: Affine) -> None:
    """What follows, for the results of one tile that lie inside the image."""
    scope, what = winograd.scope, winograd.what
    results, sizes = what.transform.results, (what.shape.height, what.shape.width)
    with ExitStack() as loops:
        at, out = [], []
        for one, size in zip(place[1:], sizes, strict=True):
            begin = scope.space.multiply(one, results)
            stop: Expr = index(results)
            if size % results:
                stop = apply("min", stop, apply("sub", index(size), scope.place(begin)))
            name = loops.enter_context(scope.loop(index(0), stop, 1, "r"))
            at.append(scope.dim(results, name))
            where = scope.space.add(begin, at[-1])
            out.append(scope.dim(size, scope.let(scope.place(where), "o")) if size > 1 else constant(0))
        held = scope.space.multiply(scope.space.linear(at, (results, results)), what.tile.lanes)
        _finish_channels(winograd, block, (place[0], *out), channel, held)


def _finish_channels(winograd: Winograd, block: Block, out: Place, channel: Affine, held: Affine) -> None:
    """A vector of channels of one result."""
    scope, what, group = winograd.scope, winograd.what, winograd.group
    outputs = what.shape.outputs
    lanes = next((one for one in (16, 8, 4) if one <= min(what.tile.lanes, outputs)), 1)
    width: Expr = index(what.tile.lanes)
    if outputs % what.tile.lanes:
        width = scope.let(apply("min", width, apply("sub", index(outputs), scope.place(channel))), "n")
    whole = width if outputs % lanes == 0 else vector_end(scope, index(0), width, lanes)

    def visit(inner: Affine, lane: Lane | None) -> None:
        own = scope.space.add(channel, inner)
        where = (out[0], _scaled(scope, block.channels, outputs, own), *out[1:])

        def ready(elements: Elements, asked: Index) -> Expr:
            assert asked == where, "what follows a convolution is element by element"
            value: Expr = elements.load(winograd.made, scope.space.add(held, inner), F32)
            bias = bias_of(winograd.node)
            if bias == ABSENT:
                return value
            return apply("add", value, splat(elements.at(bias, (asked[1],)), value.kind.lanes))

        elements = group.elements(scope, {winograd.node.output: ready}, lane)
        for name in group.written:
            found = elements.at(name, where)
            to = group.storages[name].at(scope.space, where)
            store(scope, group.stored[name].buffer, to, found, elements.step(to), lane)

    sweep(scope, (index(0), whole, width), min(what.tile.lanes, outputs), lanes, visit)
