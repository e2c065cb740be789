"""Layout selection: how each value lies in memory, from what its readers fold (SmartMem section 3.3).

A reader wants the dimension that it folds to be the fastest in memory: the depth of a product, the channels
of a convolution, the axes of a normalisation. Through the view that it reads, that is a layout of the value
itself. For each value every layout that a reader wants, and the plain one, is rated by all readers and by
the one who writes; the cheapest is taken. Nothing is ever copied for a layout.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from ourcompiler.codegen.gemm_parts import LINE, SET_PERIOD
from ourcompiler.codegen.role import Role, role
from ourcompiler.ir.graph import Graph, Node
from ourcompiler.ir.index import Affine, Dim, Entry, Quotient, Remainder, Space
from ourcompiler.ir.index_map import IndexMap, compose, identity
from ourcompiler.ir.inverse import inverse
from ourcompiler.passes.concat import is_joined
from ourcompiler.storage import Storage, dense, ordered, seen_as

TANGLE_COST = 0.15
"""A quotient, remainder or table in the place of a row, relative to moving an element."""
WRITER_WEIGHT = 3.0
"""A writer whose lanes do not lie side by side works element by element; most readers pack what they read."""
CROWDED_COST = 0.05
"""Rows of a product's left side that begin in one or two sets of a cache, and push one another out."""
STRIDED_COST = 2.0
"""Elements that do not lie side by side along the fastest dimension of a loop."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A reader or the writer of a value: through `shown` it goes over axis `fastest` of the view in lanes.

    `weight` is how many elements it touches.
    """

    who: str
    shown: IndexMap
    fastest: int
    weight: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout of a value, and why."""

    name: str
    storage: Storage
    reason: str


def choose(graph: Graph) -> tuple[Choice, ...]:
    """A layout for every value that a kernel writes and that is no result, and for every constant; `graph` is
    fused. Constants are written in their layout once and for all.
    """
    found = []
    for node in graph.nodes:
        for name in node.outputs:
            if name in graph.results:
                continue
            demands = [*_write_demands(graph, node, name), *_reader_demands(graph, name)]
            found.append(_best(graph, name, demands, _apart(graph.types[name].shape)))
    for name, array in graph.constants.items():
        if array.size > 1:
            found.append(_best(graph, name, list(_reader_demands(graph, name))))
    return tuple(found)


def storages(choices: tuple[Choice, ...]) -> dict[str, Storage]:
    """The layouts by value."""
    return {one.name: one.storage for one in choices}


def _write_demands(graph: Graph, producer: Node, name: str) -> Iterator[Demand]:
    """What the writer of a value wants."""
    shape = graph.types[name].shape
    assert producer.body is not None
    fastest = written_fastest(producer.body, name)
    if fastest is not None and shape:
        yield Demand("writer", identity(shape), fastest, WRITER_WEIGHT * prod(shape))
    if is_joined(producer):
        for part in producer.inputs:
            maker = graph.producers.get(part)
            if maker is not None and graph.types[part].rank == len(shape):
                assert maker.body is not None
                own = written_fastest(maker.body, part)
                if own is not None:
                    count = graph.types[part].element_count
                    yield Demand("writer of a part", identity(shape), own, WRITER_WEIGHT * count)


def demands_on(graph: Graph, name: str) -> tuple[Demand, ...]:
    """What the readers of a value in a fused graph fold, in their order."""
    return tuple(_reader_demands(graph, name))


def _reader_demands(graph: Graph, name: str) -> Iterator[Demand]:
    """What each reader of a value wants."""
    for reader in graph.readers.get(name, ()):
        assert reader.body is not None
        yield from _read_demands(reader.body, name)


def written_fastest(body: Graph, name: str) -> int | None:
    """The axis along which a kernel has its results side by side; None if it does not matter to it."""
    shape = body.types[name].shape
    for node in body.nodes:
        if node.op.startswith("Reduce") and body.types[node.inputs[0]].shape == shape:
            return max(int(axis) % len(shape) for axis in node["axes"])  # a row is folded and gone over again
        if body.types[node.output].shape != shape:
            continue
        match role(body, node):
            case Role.PRODUCT | Role.WINDOW:
                return 1 if node.op == "Conv" else len(shape) - 1
            case Role.ROWS if node.op != "GroupNorm":
                return int(node["axis"]) % len(shape)
            case Role.FOLD if _folds_rows(body, node):
                return len(shape) - 1
    return None


def _folds_rows(body: Graph, node: Node) -> bool:
    """Whether rows are added up (or the like) element by element: so they are read and written."""
    rank = body.types[node.inputs[0]].rank
    axes = [int(axis) % rank for axis in node["axes"]] if node.op.startswith("Reduce") else []
    return bool(axes) and rank - 1 not in axes


def _read_demands(body: Graph, name: str) -> Iterator[Demand]:
    """Every way in which a body reads one of its inputs."""
    waiting: list[tuple[str, IndexMap]] = [(name, identity(body.types[name].shape))]
    while waiting:
        value, shown = waiting.pop()
        for node in body.readers.get(value, ()):
            if node.op == "View":
                whole = compose(node["map"], shown)
                if whole is not None:
                    waiting.append((node.output, whole))
                continue
            if role(body, node) is Role.POINTWISE and body.types[node.output].shape == shown.shape:
                waiting.append((node.output, shown))
            fastest = _read_fastest(body, node, value)
            if fastest is not None and shown.shape:
                yield Demand(node.op, shown, fastest, float(prod(shown.shape)))


def _read_fastest(body: Graph, node: Node, value: str) -> int | None:
    """The axis of an operand that a node folds."""
    rank = body.types[value].rank
    match role(body, node):
        case Role.PRODUCT | Role.WINDOW if node.op == "Conv":
            return 1 if value == node.inputs[0] else None
        case Role.PRODUCT:
            return rank - 1
        case Role.ROWS if value == node.inputs[0]:
            return 1 if node.op == "GroupNorm" else int(node["axis"]) % rank
        case Role.FOLD if node.op in ("Conv", "ConvTranspose") and value == node.inputs[1]:
            return 0 if node.op == "Conv" else 1
        case Role.FOLD if node.op in ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"):
            return 1 if value == node.inputs[0] else None
        case Role.FOLD if node.op.startswith("Reduce") and node["axes"]:
            return max(int(axis) % rank for axis in node["axes"])
    return None


def _best(graph: Graph, name: str, demands: list[Demand], more: Iterable[tuple[str, Storage]] = ()) -> Choice:
    shape = graph.types[name].shape
    candidates = [("row-major", dense(shape)), *_candidates(demands), *more]
    rated = [
        (sum(_cost(storage, demand) for demand in demands), number, why, storage)
        for number, (why, storage) in enumerate(candidates)
    ]
    _, _, why, storage = min(rated, key=lambda one: (one[0], one[1]))
    return Choice(name, storage, why)


def _apart(shape: tuple[int, ...]) -> Iterator[tuple[str, Storage]]:
    """Row-major with a line of the cache between rows that would all begin in one or two sets."""
    if len(shape) > 1 and _meets(shape[-1]):
        yield "rows in other sets", ordered(shape, range(len(shape)), LINE)


def _meets(extent: int) -> bool:
    """Whether rows of so many numbers that lie one after the other begin in one or two sets of a cache."""
    return extent > 0 and extent % SET_PERIOD == 0


def _candidates(demands: list[Demand]) -> Iterator[tuple[str, Storage]]:
    """What each reader would like best: its view, with its fastest axis last; with a line of the cache
    between its rows where they would begin in one or two sets.
    """
    seen: set[object] = set()
    for demand in demands:
        shape = demand.shown.shape
        back = inverse(demand.shown)
        if back is None:
            continue
        rows = (*(axis for axis in range(len(shape)) if axis != demand.fastest), demand.fastest)
        gap = LINE if len(shape) > 1 and _meets(shape[demand.fastest]) else 0
        for last, apart in ((rows, 0), (tuple(range(len(shape))), 0), (rows, gap)):
            storage = seen_as(demand.shown, back, ordered(shape, last, apart))
            if storage.place not in seen:
                seen.add(storage.place)
                yield f"as {demand.who} reads it" + (", rows in other sets" if apart else ""), storage


def _cost(storage: Storage, demand: Demand) -> float:
    """What reading (or writing) through the view costs with this layout, in elements moved."""
    space: Space = demand.shown.space
    place = storage.at(space, demand.shown.results)
    along = 1 if demand.shown.shape[demand.fastest] == 1 else place.coefficient(Dim(demand.fastest))
    mixed = any(
        isinstance(atom, Quotient | Remainder | Entry) and demand.fastest in type(place)(0, ((atom, 1),)).dims
        for atom, _ in place.terms
    )
    tangles = sum(not isinstance(atom, Dim) for atom, _ in place.terms)
    strided = STRIDED_COST if along != 1 or mixed else 0.0
    crowded = CROWDED_COST if demand.who in ("MatMul", "Conv") and _is_crowded(place, demand) else 0.0
    return demand.weight * (1.0 + strided + crowded + TANGLE_COST * tangles)


def _is_crowded(place: Affine, demand: Demand) -> bool:
    """Whether the rows that a tile of a product reads side by side begin in one or two sets of the nearest
    cache: for a convolution they are positions along its last axis.
    """
    row = len(demand.shown.shape) - (1 if demand.who == "Conv" else 2)
    if row < 0 or row == demand.fastest or demand.shown.shape[row] == 1:
        return False
    step = place.coefficient(Dim(row))
    return step != 0 and step % SET_PERIOD == 0
