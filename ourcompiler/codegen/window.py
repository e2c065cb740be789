"""Convolutions of few channels a group (depthwise is one): the lanes are channels, and a row of neighbouring
results stays in registers.

Each task copies its part of the image, with its border, into the thread's memory, some channels at a time:
so no tap asks whether it lies inside, and all of them lie side by side. With `p` channels a group a vector
of the image is multiplied `p` times, each time with one channel of every group in all lanes of that group.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod

import numpy as np

from ourcompiler.codegen.contraction import Place, bias_of
from ourcompiler.codegen.element import Elements, Index, Lane, NotInLanesError
from ourcompiler.codegen.fold import windowed
from ourcompiler.codegen.gemm_parts import LINE
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.nest import LANE_CHOICES, store
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.ir.graph import ABSENT, Array, Graph, Node
from ourcompiler.ir.index import ZERO, Affine
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    FLAG,
    TASK,
    Apply,
    Assign,
    Expr,
    Kernel,
    Kind,
    Load,
    Name,
    Number,
    Phase,
    Store,
    apply,
    index,
    plus,
    splat,
    times,
)
from ourcompiler.ops.table import Facts

F32 = DType.F32
MOST_PER_GROUP = 8
"""Beyond, tiles of a product are as good."""
IMAGE_BYTES = 24 << 10
"""What a task copies of the image, about: it stays in the nearest cache."""
LARGEST_IMAGE = 4096
"""Places that two results along each axis may need: far-apart taps would make the copy too large."""
MOST_TAPS = 5
"""Weights of a row of taps that stay in registers beside the results."""
MOST_BESIDE = 8
"""Results side by side in registers: enough to hide how long a multiply takes."""


def is_window(body: Graph, node: Node) -> bool:
    """Whether a convolution has as many channels in as out, in groups of few, that fill vectors."""
    weight, group = body.types[node.inputs[1]].shape, node["group"]
    per_group = weight[0] // group
    return (
        group > 1
        and per_group == weight[1]
        and per_group in (1, 2, 4, MOST_PER_GROUP)
        and weight[0] % MOST_PER_GROUP == 0
        and prod(_reach(node, axis, 2, taps) for axis, taps in enumerate(weight[2:])) <= LARGEST_IMAGE
        and all(body.types[name].dtype is F32 for name in node.inputs[:2])
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """How a convolution is cut: `block` channels a task, in vectors of `lanes`, results of `chunk` places
    along each axis of the image, for which `image` places are copied; `beside` results in registers at once.
    """

    channels: int
    per_group: int
    block: int
    lanes: int
    taps: tuple[int, ...]
    out: tuple[int, ...]
    chunk: tuple[int, ...]
    image: tuple[int, ...]
    beside: int

    @property
    def vectors(self) -> int:
        """Vectors of a block of channels."""
        return self.block // self.lanes

    @property
    def chunks(self) -> tuple[int, ...]:
        """Parts along each axis."""
        return tuple(-(-one // part) for one, part in zip(self.out, self.chunk, strict=True))

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """Blocks, taps, channels of a group, channels of a block."""
        return (self.channels // self.block, prod(self.taps), self.per_group, self.block)


def plan(group: Group, node: Node) -> Plan:
    """Parts of the image that fit into the nearest cache. Channels lie side by side, and a block of less than
    a line of a cache would leave the rest of each line to another task: SMT with depthwise blocks of 16
    instead of 8 channels took 0.95 to 0.96 of the time with AVX2, and EfficientViT 0.98; convolutions of four
    channels a group 0.86. Where a group fills a vector, half as many results beside one another cost more.
    """
    weight, out = group.body.types[node.inputs[1]].shape, group.body.types[node.output].shape[2:]
    channels, per_group, *taps = weight
    lanes = next(
        one for one in LANE_CHOICES if one <= group.target.lanes and channels % max(one, per_group) == 0
    )
    block = max(lanes, per_group)
    if per_group < lanes and block < LINE and channels % (2 * lanes) == 0:
        block = 2 * lanes
    beside = _beside(out[-1], MOST_BESIDE * lanes // block)
    chunk = [1] * len(out)
    chunk[-1] = min(out[-1], MOST_BESIDE * beside)
    if len(out) > 1:
        row_bytes = 4 * block * _reach(node, len(out) - 1, chunk[-1], taps[-1])
        rows = IMAGE_BYTES // row_bytes // prod(taps[:-2])
        fitting = (rows - (taps[-2] - 1) * node["dilations"][-2] - 1) // node["strides"][-2] + 1
        chunk[-2] = max(1, min(out[-2], fitting))
    image = tuple(_reach(node, axis, size, taps[axis]) for axis, size in enumerate(chunk))
    return Plan(channels, per_group, block, lanes, tuple(taps), out, tuple(chunk), image, beside)


def _reach(node: Node, axis: int, count: int, taps: int) -> int:
    """Places of the image that `count` results need."""
    return int((count - 1) * node["strides"][axis] + (taps - 1) * node["dilations"][axis] + 1)


def _beside(width: int, most: int) -> int:
    """Results in registers at once: few left over at the end of a row."""
    return min(
        range(max(1, min(most, width)), most // 2 - 1, -1), key=lambda one: (-width % one, -one), default=1
    )


def packer(what: Plan) -> Callable[[Array], Array]:
    """Weights as the kernel reads them."""

    def make(array: Array) -> Array:
        parts = array.reshape(what.channels // what.block, what.block, what.per_group, -1)
        return np.ascontiguousarray(parts.transpose(0, 3, 2, 1))

    return make


@dataclass
class Window:
    """Writes the code of one kernel."""

    group: Group
    node: Node
    scope: Scope
    what: Plan
    weights: str
    image: str = ""  # the part of the image, with its border
    result: str = ""  # the results that were in registers

    @property
    def facts(self) -> Facts:
        """Strides, dilations, borders."""
        return dict(self.node.attributes)


def lower(group: Group, node: Node, name: str, weights: str) -> Kernel:
    """The kernel; `weights` is its name for the packed weights."""
    scope, what = Scope(), plan(group, node)
    window = Window(group, node, scope, what, weights)
    window.image = scope.local(F32, prod(what.image) * what.block)
    window.result = scope.local(F32, what.beside * what.block)
    phases = [] if node.inputs[1] in group.constant_inputs else [_pack_weights(window)]
    batch, blocks = group.body.types[node.output].shape[0], what.channels // what.block
    with scope.block() as body:
        image, block, *chunks = delinear_names(scope, TASK, (batch, blocks, *what.chunks))
        start = tuple(scope.space.multiply(one, size) for one, size in zip(chunks, what.chunk, strict=True))
        _copy_image(window, image, block, start)
        _results(window, image, block, start)
    phases.append(Phase(batch * blocks * prod(what.chunks), tuple(body)))
    return group.kernel(name, [scope], phases)


def _pack_weights(window: Window) -> Phase:
    """Weights that are known only when the network runs."""
    scope, what = window.scope, window.what
    with scope.block() as body:
        block, lane = delinear_names(scope, TASK, (what.channels // what.block, what.block))
        channel = scope.space.add(scope.space.multiply(block, what.block), lane)
        with ExitStack() as loops:
            taps = tuple(loops.enter_context(scope.axis(size, "k")) for size in what.taps)
            inner = loops.enter_context(scope.axis(what.per_group, "c"))
            value = window.group.elements(scope).at(window.node.inputs[1], (channel, inner, *taps))
            place = (block, scope.space.linear(taps, what.taps), inner, lane)
            where = scope.space.linear(place, what.weights_shape)
            scope.emit(Store(window.weights, scope.place(where), value))
    return Phase(what.channels, tuple(body))


def _in_lanes(window: Window, visit: Callable[[Affine, Lane | None], None]) -> None:
    """The channels of a block in vectors, else one by one."""
    scope, what = window.scope, window.what
    for lanes in (what.lanes, 1):
        try:
            with scope.attempt(), scope.loop(index(0), index(what.block), lanes, "j") as name:
                inner = scope.dim(what.block, name)
                visit(inner, Lane(len(scope.extents) - 1, lanes, True) if lanes > 1 else None)
            return
        except NotInLanesError:
            if lanes == 1:
                raise


def _copy_image(window: Window, batch: Affine, block: Affine, start: Place) -> None:
    """The part of the image that the task's results need, zeros beyond its border."""
    scope, what, node = window.scope, window.what, window.node
    with ExitStack() as loops:
        places = tuple(loops.enter_context(scope.axis(size, "r")) for size in what.image)
        flat = scope.space.multiply(scope.space.linear(places, what.image), what.block)

        def copy(inner: Affine, lane: Lane | None) -> None:
            elements = window.group.elements(scope, lane=lane)
            channel = scope.space.add(scope.space.multiply(block, what.block), inner)
            one_step = {**window.facts, "dilations": (1,) * len(places)}
            at, guards = windowed(elements, node.inputs[0], start, places, one_step, 0.0)
            value = elements.within(node.inputs[0], (batch, channel, *at), guards, 0.0)
            where = scope.space.add(flat, inner)
            scope.emit(Store(window.image, scope.place(where), splat(value, lane.count if lane else 1)))

        _in_lanes(window, copy)


def _results(window: Window, batch: Affine, block: Affine, start: Place) -> None:
    """Row after row, some results at a time, then those that are left over at the end of a row."""
    scope, what = window.scope, window.what
    with ExitStack() as loops:
        rows = []
        for axis, size in enumerate(what.chunk[:-1]):
            stop = _count(window, axis, start[axis])
            name = loops.enter_context(scope.loop(index(0), stop, 1, "o"))
            rows.append(scope.dim(size, name))
        rest = what.out[-1] % what.beside
        whole = what.out[-1] - rest
        left = apply("sub", index(whole), scope.place(start[-1]))
        stop = scope.let(apply("min", index(what.chunk[-1]), left), "p")
        with scope.loop(index(0), stop, what.beside, "o") as name:
            _tile(window, batch, block, start, (*rows, scope.dim(what.chunk[-1], name)), what.beside)
        if rest:
            is_last = apply("less", left, index(what.chunk[-1]), kind=FLAG)
            with scope.when(is_last):
                last = scope.dim(what.chunk[-1], scope.let(left, "o"))
                _tile(window, batch, block, start, (*rows, last), rest)


def _count(window: Window, axis: int, start: Affine) -> Expr:
    """Results of the task along an axis."""
    size, chunk = window.what.out[axis], window.what.chunk[axis]
    if size % chunk == 0:
        return index(chunk)
    left = apply("sub", index(size), window.scope.place(start))
    return window.scope.let(apply("min", index(chunk), left), "p")


def _tile(window: Window, batch: Affine, block: Affine, start: Place, at: Place, count: int) -> None:
    """`count` results side by side along the last axis, for all channels of the block."""
    scope, what = window.scope, window.what
    zero = splat(Number(0.0, Kind(F32)), what.lanes)
    totals = [[scope.variable(zero, "acc") for _ in range(what.vectors)] for _ in range(count)]
    if what.per_group > 1 and what.taps[-1] <= MOST_TAPS:
        _add_rows_of_taps(window, block, at, totals)
    else:
        _add_taps(window, block, at, totals)
    _finish(window, batch, block, (start, at), totals)


def _add_taps(window: Window, block: Affine, at: Place, totals: Sequence[Sequence[Name]]) -> None:
    """Tap after tap, each for all results."""
    scope, what = window.scope, window.what
    step = window.node["strides"][-1] * what.block
    with ExitStack() as loops:
        taps = tuple(loops.enter_context(scope.axis(size, "k")) for size in what.taps)
        weights = _weights_place(window, block, taps)
        first = scope.let(scope.place(_image_place(window, at, taps)), "x")
        for channel in range(what.per_group):
            for vector in range(what.vectors):
                weight = _weight(window, weights, channel, vector)
                for number, total in enumerate(totals):
                    value = _pixel(window, plus(first, index(number * step)), channel, vector)
                    _multiply(scope, total[vector], value, weight)


def _add_rows_of_taps(window: Window, block: Affine, at: Place, totals: Sequence[Sequence[Name]]) -> None:
    """Row of taps after row: a channel of a place of the image, spread over the lanes of its group, meets
    the taps of the row for all results that it belongs to.
    """
    scope, what = window.scope, window.what
    stride, dilation, width = window.node["strides"][-1], window.node["dilations"][-1], what.taps[-1]
    meets: dict[int, list[tuple[int, int]]] = {}
    for number in range(len(totals)):
        for tap in range(width):
            meets.setdefault(number * stride + tap * dilation, []).append((number, tap))
    with ExitStack() as loops:
        outer = tuple(loops.enter_context(scope.axis(size, "k")) for size in what.taps[:-1])
        weights = _weights_place(window, block, (*outer, ZERO))
        first = scope.let(scope.place(_image_place(window, at, (*outer, ZERO))), "x")
        for channel in range(what.per_group):
            for vector in range(what.vectors):
                row = [
                    _weight(window, plus(weights, index(tap * what.per_group * what.block)), channel, vector)
                    for tap in range(width)
                ]
                for place, pairs in sorted(meets.items()):
                    value = _pixel(window, plus(first, index(place * what.block)), channel, vector)
                    value = scope.let(value, "x")
                    for number, tap in pairs:
                        _multiply(scope, totals[number][vector], value, row[tap])


def _weights_place(window: Window, block: Affine, taps: Place) -> Expr:
    """Where the weights of a tap begin."""
    scope, what = window.scope, window.what
    tap = scope.space.linear((block, scope.space.linear(taps, what.taps)), what.weights_shape[:2])
    return scope.let(times(scope.place(tap), what.per_group * what.block), "w")


def _weight(window: Window, weights: Expr, channel: int, vector: int) -> Expr:
    """What a channel of every group is multiplied with."""
    what = window.what
    place = plus(weights, index(channel * what.block + vector * what.lanes))
    return window.scope.let(Load(window.weights, place, Kind(F32, what.lanes)), "w")


def _pixel(window: Window, place: Expr, channel: int, vector: int) -> Expr:
    """One channel of each group of a place of the image, in all lanes of that group."""
    what, first = window.what, vector * window.what.lanes
    if what.per_group < what.lanes:
        value = window.scope.let(Load(window.image, plus(place, index(first)), Kind(F32, what.lanes)), "x")
        return _spread(value, what.per_group, channel)
    own = first // what.per_group * what.per_group + channel
    return splat(Load(window.image, plus(place, index(own)), Kind(F32)), what.lanes)


def _multiply(scope: Scope, total: Name, value: Expr, weight: Expr) -> None:
    scope.emit(Assign(total.name, Apply("fma", (value, weight, total), total.kind)))


def _spread(value: Expr, per_group: int, channel: int) -> Expr:
    """One channel of each group in all lanes of that group."""
    if per_group == 1:
        return value
    return Apply("spread", (value, index(per_group), index(channel)), value.kind)


def _image_place(window: Window, at: Place, taps: Place) -> Affine:
    """Where a tap of the first result lies in the copied part."""
    space, what, node = window.scope.space, window.what, window.node
    places = tuple(
        space.add(space.multiply(one, stride), space.multiply(tap, dilation))
        for one, stride, tap, dilation in zip(at, node["strides"], taps, node["dilations"], strict=True)
    )
    return space.multiply(space.linear(places, what.image), what.block)


def _finish(
    window: Window,
    batch: Affine,
    block: Affine,
    places: tuple[Place, Place],
    totals: Sequence[Sequence[Name]],
) -> None:
    """The results to the nearest cache, and from there through what follows to memory."""
    scope, what, group = window.scope, window.what, window.group
    for number, vectors in enumerate(totals):
        for vector, value in enumerate(vectors):
            scope.emit(Store(window.result, index(number * what.block + vector * what.lanes), value))
    start, at = places
    with scope.axis(len(totals), "u") as beside:
        moved = (*at[:-1], scope.space.add(at[-1], beside))
        out = tuple(scope.space.add(one, other) for one, other in zip(start, moved, strict=True))
        out = tuple(
            scope.dim(size, scope.let(scope.place(one), "o")) if one.terms else one
            for one, size in zip(out, what.out, strict=True)
        )

        def finish(inner: Affine, lane: Lane | None) -> None:
            channel = scope.space.add(scope.space.multiply(block, what.block), inner)
            where = (batch, channel, *out)
            held = scope.space.add(scope.space.multiply(beside, what.block), inner)

            def ready(elements: Elements, place: Index) -> Expr:
                assert place == where, "what follows a convolution is element by element"
                value: Expr = elements.load(window.result, held, F32)
                bias = bias_of(window.node)
                if bias == ABSENT:
                    return value
                return apply("add", value, splat(elements.at(bias, (place[1],)), value.kind.lanes))

            elements = group.elements(scope, {window.node.output: ready}, lane)
            for name in group.written:
                found = elements.at(name, where)
                to = group.storages[name].at(scope.space, where)
                store(scope, group.stored[name].buffer, to, found, elements.step(to), lane)

        _in_lanes(window, finish)
