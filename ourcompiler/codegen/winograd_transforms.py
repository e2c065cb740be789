"""The transforms of Winograd's method, in lanes of channels: of the image with what comes before the
convolution, of the filters, and of the products back, with what follows.
"""

from contextlib import ExitStack

from ourcompiler.codegen.combine import combined
from ourcompiler.codegen.contraction import Place, bias_of
from ourcompiler.codegen.element import Elements, Index, Lane
from ourcompiler.codegen.fold import windowed
from ourcompiler.codegen.gemm_parts import F32, LINE
from ourcompiler.codegen.lanes import sweep
from ourcompiler.codegen.nest import store, vector_end
from ourcompiler.codegen.toom_cook import TAPS
from ourcompiler.codegen.winograd_parts import (
    Block,
    Run,
    Winograd,
    each_tile,
    held,
    hold,
    matrix_start,
    scaled,
)
from ourcompiler.codegen.winograd_plan import IMAGE, RESULT
from ourcompiler.ir.graph import ABSENT
from ourcompiler.ir.index import Affine, constant
from ourcompiler.kernel.ir import (
    FLAG,
    Expr,
    Fetch,
    If,
    Kind,
    Load,
    Number,
    Store,
    apply,
    index,
    plus,
    splat,
    times,
)

CHANNELS_AHEAD = 8
"""Filters come from memory: what is asked for so many channels ahead is there in time."""


def transform_image(winograd: Winograd, block: Block) -> None:
    """Bᵀ d B of every tile; only at the border of the image each element is asked whether it lies inside."""
    scope, what = winograd.scope, winograd.what

    def visit(place: Place, number: Expr) -> None:
        to = scope.let(
            plus(
                matrix_start(winograd, IMAGE, block.channels, constant(0)),
                times(number, what.part),
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

    each_tile(winograd, block, visit)


def _is_inside(winograd: Winograd, place: Place) -> Expr:
    """Whether all elements that a tile reads lie inside the image."""
    scope, what = winograd.scope, winograd.what
    sizes = winograd.group.body.types[winograd.source].shape[2:]
    found: Expr = Number(True, FLAG)
    for axis, (at, size) in enumerate(zip(place[1:], sizes, strict=True)):
        step = what.transform.results * what.transform.stride
        begin = plus(times(scope.place(at), step), index(-winograd.node["pads"][axis]))
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
        before = scope.space.remainder(inner, what.part)
        part = scope.space.quotient(inner, what.part)
        before = scaled(scope, part, what.image_tiles * what.part, before)
        with scope.axis(points, "u") as column:
            elements = group.elements(scope, lane=lane)
            values = []
            for number in range(points):
                tap = (constant(number), column)
                at, guards = windowed(elements, winograd.source, corner, tap, facts, 0.0)
                where = (place[0], channel, *at)
                found = elements.within(winograd.source, where, guards if is_guarded else (), 0.0)
                values.append(scope.let(splat(found, lanes), "d"))
            hold(winograd, combined(scope, what.transform.image, values), column, lanes)
        with scope.axis(points, "u") as row:
            values = held(winograd, row, points, lanes)
            point = scaled(scope, row, points * what.image_step, before)
            start = scope.let(plus(to, scope.place(point)), "to")
            for number, value in enumerate(combined(scope, what.transform.image, values)):
                scope.emit(Store(winograd.image, plus(start, index(number * what.image_step)), value))

    lanes = next((one for one in (16, 8, 4) if one <= min(group.target.lanes, inputs)), 1)
    sweep(scope, (index(0), index(inputs - inputs % lanes), index(inputs)), inputs, lanes, visit, "c")


def transform_filters(winograd: Winograd, channels: Affine, panel: Affine, depth: Run, to: Expr) -> None:
    """G g Gᵀ of the filters of a panel, the input channels of `depth` one after another from `to` on."""
    scope, what = winograd.scope, winograd.what
    columns, lanes = what.tile.columns, what.tile.lanes
    size = TAPS**2 * columns
    before = scope.space.linear((channels, panel), what.weights_shape[:2])
    begin = scope.let(scope.place(scope.space.multiply(before, what.shape.inputs)), "g")
    with scope.loop(depth.first, depth.last, 1, "k") as name:
        taps = scope.let(times(plus(begin, name), size), "g")
        made = scope.let(plus(to, times(depth.place(name), columns)), "to")
        for line in range(0, size, LINE):
            scope.emit(Fetch(winograd.weights, plus(taps, index(CHANNELS_AHEAD * size + line))))
        with scope.loop(index(0), index(columns), lanes, "v") as column:
            _transform_filter(winograd, plus(taps, column), plus(made, column))


def _transform_filter(winograd: Winograd, taps: Expr, to: Expr) -> None:
    """The filters of one input channel and a vector of output channels: few enough numbers for registers."""
    scope, what = winograd.scope, winograd.what
    columns, kind, matrix = what.tile.columns, Kind(F32, what.tile.lanes), what.transform.weights
    each = []
    for column in range(TAPS):
        places = [plus(taps, index((row * TAPS + column) * columns)) for row in range(TAPS)]
        found = [scope.let(Load(winograd.weights, place, kind), "g") for place in places]
        each.append(combined(scope, matrix, found))
    points = what.transform.points
    for row in range(points):
        for number, value in enumerate(combined(scope, matrix, [one[row] for one in each])):
            place = index((row * points + number) * what.filters_step)
            scope.emit(Store(winograd.filters, plus(to, place), value))


def transform_results(winograd: Winograd, block: Block, panels: Run) -> None:
    """Aᵀ m A of every tile, some channels at a time, and what follows the convolution."""
    scope, what, outputs = winograd.scope, winograd.what, winograd.what.shape.outputs
    lanes, columns = what.tile.lanes, what.tile.columns
    whole = what.panels * columns
    last = scope.let(times(panels.last, columns), "n")
    stop = last if outputs == whole else scope.let(apply("min", last, index(outputs)), "n")
    run = Run(
        scope.let(times(panels.first, columns), "n"), stop, scope.let(times(panels.start, columns), "n")
    )

    def visit(place: Place, number: Expr) -> None:
        first = matrix_start(winograd, RESULT, block.channels, constant(0))
        start = scope.let(plus(first, times(number, what.result_width)), "x")
        with scope.loop(run.first, run.last, lanes, "c") as name:
            channel = scope.dim(outputs, name) if outputs > lanes else constant(0)
            _transform_back(winograd, scope.let(plus(start, run.place(name)), "x"))
            _finish(winograd, block, place, channel)

    each_tile(winograd, block, visit)


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
        hold(winograd, combined(scope, what.transform.result, values), column, lanes)
    with scope.axis(results, "u") as row:
        values = held(winograd, row, points, lanes)
        for number, value in enumerate(combined(scope, what.transform.result, values)):
            to = scope.space.multiply(scaled(scope, row, results, constant(number)), lanes)
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
    fitting = [one for one in (16, 8, 4) if one <= min(what.tile.lanes, outputs)] or [1]
    lanes = next((one for one in fitting if outputs % one == 0), fitting[0])
    width: Expr = index(what.tile.lanes)
    if outputs % what.tile.lanes:
        width = scope.let(apply("min", width, apply("sub", index(outputs), scope.place(channel))), "n")
    whole = width if outputs % lanes == 0 else vector_end(scope, index(0), width, lanes)

    def visit(inner: Affine, lane: Lane | None) -> None:
        own = scope.space.add(channel, inner)
        where = (out[0], scaled(scope, block.channels, outputs, own), *out[1:])

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
