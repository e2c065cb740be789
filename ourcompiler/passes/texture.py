"""Layouts for a memory in which k dimensions can be walked from neighbour to neighbour (SmartMem section
3.3).

The readers of a value say which of its dimensions they fold. The first k distinct ones are served by one
layout; a demand beyond them gets a copy only where it pays. In a 2.5-D texture the first dimension is cut
into groups of four, the elements of a texel, and goes on downwards; the second goes along a row: 4 x |second|
is a chunk.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, prod

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.index import ZERO, Affine, Space
from ourcompiler.passes.layout import STRIDED_COST, Demand, demands_on
from ourcompiler.targets import Memory

COPY_COST = 2.0
"""A copy reads and writes every element."""
MATCHED = "as what it is combined with"


@dataclass(frozen=True, slots=True)
class Digit:
    """A dimension of a value, or a part of one that some reader sees as a dimension: axis `axis` divided by
    `below`, modulo `count`.
    """

    axis: int
    below: int
    count: int

    def __str__(self) -> str:
        return f"d{self.axis}" if self.below == 1 else f"d{self.axis}/{self.below}"

    def of(self, space: Space, shape: Sequence[int]) -> Affine:
        """As an expression of the value's index."""
        outer = space.quotient(space.dim(self.axis), self.below)
        is_last = self.below * self.count >= shape[self.axis]
        return outer if is_last else space.remainder(outer, self.count)


@dataclass(frozen=True, slots=True)
class Placing:
    """Where an element lies: `x` along a row, `y` down, `component` in a texel; `width` x `height` places are
    used. In a buffer `y` and `component` are 0.
    """

    x: Affine
    y: Affine
    component: Affine
    width: int
    height: int

    def __str__(self) -> str:
        return f"x = {self.x}, y = {self.y}, component = {self.component}"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The layout of a value: which dimensions it serves, for whom, what is left to copies or to strided
    reading.

    `copies` are further layouts of the same value, each with the demands that it serves.
    """

    name: str
    shape: tuple[int, ...]
    serves: tuple[Digit, ...]
    placing: Placing
    readers: tuple[str, ...]
    copies: tuple["Chosen", ...] = ()
    strided: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """A demand as a dimension of the value: who folds it, and how many elements that touches."""

    who: str
    digit: Digit
    weight: float


def layouts(graph: Graph, memory: Memory) -> tuple[Chosen, ...]:
    """A layout for every value that a kernel writes, in the order of the graph, which is fused.

    What nobody folds lies as what it is combined with, so that both are read by the same index. Raises
    `CompileError` for a value that is larger than the memory's limits.
    """
    found: dict[str, Chosen] = {}
    undemanded = []
    for node in graph.nodes:
        for name in node.outputs:
            wishes = wishes_on(graph, name)
            if wishes:
                found[name] = choose(name, graph.types[name].shape, wishes, memory)
            else:
                undemanded.append(name)
    for name in reversed(undemanded):
        shape = graph.types[name].shape
        peer = next((found[one] for one in _combined(graph, name) if one in found), None)
        serves = peer.serves if peer else ()
        found[name] = _chosen(name, shape, serves, [], memory, MATCHED if peer else "nobody folds it")
    order = [name for node in graph.nodes for name in node.outputs]
    return tuple(found[name] for name in order)


def wishes_on(graph: Graph, name: str) -> list[Wish]:
    """The dimensions of a value that its readers fold, in the order in which they read."""
    shape = graph.types[name].shape
    found = []
    for demand in demands_on(graph, name):
        step = _walked(demand)
        if step is not None:
            found.append((demand, *step))
    cuts = _cuts(shape, [(axis, below, count) for _, axis, below, count in found])
    wishes = []
    for demand, axis, below, _ in found:
        digit = next((one for one in _digits(shape, cuts) if (one.axis, one.below) == (axis, below)), None)
        if digit is None:  # the cuts of several readers do not fit: the whole dimension stands for it
            digit = next(one for one in _digits(shape, cuts) if one.axis == axis)
        if digit.count > 1:
            wishes.append(Wish(demand.who, digit, demand.weight))
    return wishes


def _walked(demand: Demand) -> tuple[int, int, int] | None:
    """Which axis of the value a reader walks along its folded dimension, in which steps, and how far."""
    shown = demand.shown
    if shown.guards or not prod(shown.shape) or shown.shape[demand.fastest] < 2:
        return None
    at = [0] * len(shown.shape)
    start = [one.evaluate(at) for one in shown.results]
    at[demand.fastest] = 1
    after = [one.evaluate(at) for one in shown.results]
    moved = [axis for axis, (a, b) in enumerate(zip(start, after, strict=True)) if a != b]
    if len(moved) != 1:
        return None
    (axis,) = moved
    step = after[axis] - start[axis]
    count = 1
    while count < shown.shape[demand.fastest]:
        at[demand.fastest] = count
        if shown.results[axis].evaluate(at) - start[axis] != step * count:
            break
        count += 1
    return axis, abs(step), count


def _cuts(shape: Sequence[int], walks: Sequence[tuple[int, int, int]]) -> dict[int, list[int]]:
    """Where each axis is cut into parts, so that every walk is along one of them, as far as the cuts divide
    one another; an axis whose cuts do not is left whole.
    """
    cuts = {axis: {1, size} for axis, size in enumerate(shape)}
    for axis, below, count in walks:
        size = shape[axis]
        if size % below == 0:
            cuts[axis].add(below)
        if size % (below * count) == 0:
            cuts[axis].add(below * count)
    return {
        axis: sorted(places) if _divide(sorted(places)) else [1, shape[axis]] for axis, places in cuts.items()
    }


def _divide(places: Sequence[int]) -> bool:
    return all(above % below == 0 for below, above in pairwise(places))


def _digits(shape: Sequence[int], cuts: dict[int, list[int]]) -> list[Digit]:
    """The parts of all axes, slowest first."""
    return [
        Digit(axis, below, above // below)
        for axis in range(len(shape))
        for below, above in reversed(list(pairwise(sorted(set(cuts[axis])))))
        if above > below
    ]


def choose(name: str, shape: tuple[int, ...], wishes: Sequence[Wish], memory: Memory) -> Chosen:
    """One layout for the first k distinct dimensions, and copies for others that pay for them: a strided
    reader costs more than reading a copy as often, and making it.
    """
    served = tuple(dict.fromkeys(one.digit for one in wishes))[: memory.contiguous]
    waiting = [one for one in wishes if one.digit not in served]
    copies, strided = [], []
    while waiting:
        more = tuple(dict.fromkeys(one.digit for one in waiting))[: memory.contiguous]
        group = [one for one in waiting if one.digit in more]
        waiting = [one for one in waiting if one.digit not in more]
        if STRIDED_COST * sum(one.weight for one in group) > COPY_COST * prod(shape):
            copies.append(_chosen(name, shape, more, group, memory, "a copy"))
        else:
            strided += [f"{one.who} along {one.digit}" for one in group]
    mine = [one for one in wishes if one.digit in served]
    found = _chosen(name, shape, served, mine, memory, "as its readers fold it")
    return Chosen(
        name, shape, served, found.placing, found.readers, tuple(copies), tuple(strided), found.reason
    )


def _chosen(
    name: str,
    shape: tuple[int, ...],
    serves: Sequence[Digit],
    wishes: Sequence[Wish],
    memory: Memory,
    reason: str,
) -> Chosen:
    try:
        placing = place(shape, serves, memory)
    except ValueError as error:
        raise CompileError(
            str(error), where=f"value {name!r}", hint="keep it in a buffer, or cut the network"
        ) from error
    readers = tuple(dict.fromkeys(f"{one.who} along {one.digit}" for one in wishes))
    return Chosen(name, shape, tuple(serves), placing, readers, reason=reason)


def place(shape: tuple[int, ...], serves: Sequence[Digit], memory: Memory) -> Placing:
    """The layout of a value with these dimensions walked from neighbour to neighbour. Raises ValueError when
    the value is larger than the memory.
    """
    parts = _parts(shape, serves)
    if memory.vector == 1:
        return _in_buffer(shape, serves, parts)
    first = serves[0] if serves else next((one for one in reversed(parts) if one.count > 1), None)
    if first is None:
        return Placing(ZERO, ZERO, ZERO, 1, 1)
    others = [one for one in parts if one != first]
    second = serves[1] if len(serves) > 1 else next((one for one in reversed(others) if one.count > 1), None)
    rest = [one for one in others if one != second]
    return _in_texture(shape, first, second, rest, memory)


def _parts(shape: Sequence[int], serves: Sequence[Digit]) -> list[Digit]:
    """All parts of all axes, those that are served among them."""
    return _digits(shape, _cuts(shape, [(one.axis, one.below, one.count) for one in serves]))


def _in_buffer(shape: tuple[int, ...], serves: Sequence[Digit], parts: Sequence[Digit]) -> Placing:
    """Dense, the served dimension last."""
    space = Space(shape)
    order = [*(one for one in parts if one not in serves[:1]), *serves[:1]]
    x = space.linear([one.of(space, shape) for one in order], [one.count for one in order])
    return Placing(x, ZERO, ZERO, max(prod(shape), 1), 1)


def _in_texture(
    shape: tuple[int, ...], first: Digit, second: Digit | None, rest: Sequence[Digit], memory: Memory
) -> Placing:
    """Chunks of ceil(|first| / 4) rows of |second| texels; the other dimensions put chunks below one another,
    and beside one another as far as the memory is not high enough.
    """
    space, vector = Space(shape), memory.vector
    rows, columns = ceil(first.count / vector), second.count if second else 1
    chunks = prod(one.count for one in rest)
    if columns > memory.width:
        raise ValueError(f"a dimension of {columns} does not fit into rows of {memory.width} texels")
    in_height = max(memory.height // rows, 0)
    beside = ceil(chunks / in_height) if in_height else chunks
    if not in_height or beside * columns > memory.width:
        raise ValueError(
            f"{chunks} chunks of {columns} x {rows} texels do not fit into {memory.width} x {memory.height}"
        )
    d1 = first.of(space, shape)
    d3 = second.of(space, shape) if second else ZERO
    chunk = space.linear([one.of(space, shape) for one in rest], [one.count for one in rest])
    across, down = space.remainder(chunk, beside), space.quotient(chunk, beside)
    x = space.add(space.multiply(across, columns), d3)
    y = space.add(space.multiply(down, rows), space.quotient(d1, vector))
    component = space.remainder(d1, vector)
    return Placing(x, y, component, beside * columns, ceil(chunks / beside) * rows)


def _combined(graph: Graph, name: str) -> list[str]:
    """Values of the same shape in the kernels that read a value, or that make it."""
    shape = graph.types[name].shape
    nodes = [*graph.readers.get(name, ()), graph.producers[name]]
    near = dict.fromkeys(one for node in nodes for one in (*node.operands, *node.outputs))
    return [one for one in near if one != name and graph.types[one].shape == shape]


def copies(chosen: Sequence[Chosen]) -> tuple[int, int]:
    """How many copies there are, and how many elements they hold."""
    every = [copy for one in chosen for copy in one.copies]
    return len(every), sum(prod(one.shape) for one in every)
