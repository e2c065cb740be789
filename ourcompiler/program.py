"""What is executed: kernels in order with their arguments, and where everything lies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ourcompiler.codegen.band import Band, bands
from ourcompiler.codegen.c import scratch_bytes
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.lower import Lowered, Packed, Value, Workspace, lower
from ourcompiler.ir.graph import Array, Graph, Node
from ourcompiler.ir.types import TensorType
from ourcompiler.kernel.ir import Kernel
from ourcompiler.memory import ALIGNMENT, Arena, Need, aligned, plan
from ourcompiler.passes.concat import Placement, place
from ourcompiler.passes.views import evaluated
from ourcompiler.storage import Storage, dense
from ourcompiler.targets import Target

WEIGHTS, ARENA, INPUT, OUTPUT = "weights", "arena", "input", "output"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an argument lies: a region, and bytes from its start; of inputs and outputs, their number."""

    region: str
    offset: int


@dataclass(frozen=True, slots=True)
class Step:
    """A kernel called with these arguments."""

    kernel: str
    arguments: tuple[Place, ...]
    origin: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Blob:
    """A constant as kernels read it, at its place in the file of weights."""

    name: str
    form: str
    offset: int
    byte_count: int


@dataclass(frozen=True)
class Program:
    """Everything that a package is written from."""

    name: str
    target: Target
    inputs: tuple[tuple[str, TensorType], ...]
    outputs: tuple[tuple[str, TensorType], ...]
    kernels: Mapping[str, Kernel]
    steps: tuple[Step, ...]
    arena_bytes: int
    scratch_bytes: int
    weights_bytes: int
    sources: tuple[tuple[Array, Packed | None, Blob], ...]
    """Constants, how each is packed, and its place; computed only while they are written."""
    winograd: bool = True
    """Whether convolutions might be computed by Winograd's method."""

    def write_weights(self, path: Path) -> None:
        """Write the constants in the form that kernels read, one at a time."""
        with path.open("wb") as file:
            for array, packed, blob in self.sources:
                _write(file, array if packed is None else packed.make(np.asarray(array)), blob)
            file.truncate(max(self.weights_bytes, ALIGNMENT))


def _write(file: BinaryIO, array: Array, blob: Blob) -> None:
    file.seek(blob.offset)
    data = np.ascontiguousarray(array)
    if data.nbytes != blob.byte_count:
        raise AssertionError(f"{blob.name}: {data.nbytes} bytes where {blob.byte_count} were planned")
    file.write(data.reshape(-1).view(np.uint8).data if data.size else b"")


def make_program(
    graph: Graph, target: Target, storages: Mapping[str, Storage], *, winograd: bool = True
) -> Program:
    """Lower every fused node of the graph and plan its memory; `winograd` says whether convolutions may be
    computed by Winograd's method.
    """
    placement = place(graph, storages)
    storages = placement.storages
    read = bands(graph)
    graph = _placed(graph, placement)
    lowered = [lower(group, node) for node, group in _groups(graph, target, storages, winograd, read)]
    weights = _Weights(graph, storages)
    arena = _arena(graph, lowered, placement)
    inputs = {name: number for number, name in enumerate(graph.inputs)}
    outputs = _output_numbers(graph)
    steps = []
    for number, one in enumerate(lowered):
        places = []
        for position, argument in enumerate(one.arguments):
            if isinstance(argument, Value):
                argument = Value(placement.owner(argument.name))
            match argument:
                case Value(name) if name in inputs:
                    places.append(Place(INPUT, inputs[name]))
                case Value(name) if name in outputs:
                    places.append(Place(OUTPUT, outputs[name]))
                case Value(name) if name in graph.constants:
                    places.append(Place(WEIGHTS, weights.place(name, None)))
                case Value(name):
                    places.append(Place(ARENA, arena.offsets[name]))
                case Packed(name):
                    places.append(Place(WEIGHTS, weights.place(name, argument)))
                case Workspace():
                    places.append(Place(ARENA, arena.offsets[_workspace(number, position)]))
        steps.append(Step(one.kernel.name, tuple(places), one.node.origin))
    kernels = {one.kernel.name: one.kernel for one in lowered}
    scratch = max(
        (sum(scratch_bytes(one.dtype, one.count) for one in kernel.scratch) for kernel in kernels.values()),
        default=0,
    )
    return Program(
        graph.name,
        target,
        tuple((name, graph.types[name]) for name in graph.inputs),
        tuple((public, graph.types[value]) for public, value in graph.outputs),
        kernels,
        tuple(steps),
        arena.byte_count,
        scratch,
        weights.byte_count,
        tuple(weights.sources),
        winograd,
    )


def groups_of(
    graph: Graph, target: Target, storages: Mapping[str, Storage], *, winograd: bool = True
) -> list[tuple[Node, Group]]:
    """Every fused node with what its kernel is made from."""
    placement = place(graph, storages)
    return list(_groups(_placed(graph, placement), target, placement.storages, winograd, bands(graph)))


def _placed(graph: Graph, placement: Placement) -> Graph:
    left = [placement.left.get(node.output, node) for node in graph.nodes]
    nodes = [one for one in left if one is not None and _makes_something(one)]
    return replace(graph, nodes=tuple(nodes), types={**graph.types, **_types_of(nodes)})


def _groups(
    graph: Graph,
    target: Target,
    storages: Mapping[str, Storage],
    winograd: bool,
    read: Mapping[str, Band],
) -> Iterator[tuple[Node, Group]]:
    constants = frozenset(graph.constants)
    for node in graph.nodes:
        assert node.body is not None
        names = (*node.inputs, *node.outputs)
        own = {name: storages.get(name) or dense(graph.types[name].shape) for name in names}
        parts = {name: read[name] for name in node.outputs if name in read}
        yield node, Group(node.body, own, target, constants & set(node.inputs), winograd, parts)


def _output_numbers(graph: Graph) -> dict[str, int]:
    """The first result that each value is; a value that is two results is copied by the runtime's caller."""
    found: dict[str, int] = {}
    for number, (_, value) in enumerate(graph.outputs):
        found.setdefault(value, number)
    return found


def _workspace(step: int, place: int) -> str:
    return f"workspace {step} {place}"


def _makes_something(node: Node) -> bool:
    """Whether any value that it makes has an element: templates need not think of those without."""
    assert node.body is not None
    return any(node.body.types[value].element_count for _, value in node.body.outputs)


def _types_of(nodes: list[Node]) -> dict[str, TensorType]:
    """The types of what nodes make that the graph does not know: copied parts."""
    return {name: node.body.types[name] for node in nodes if node.body for name in node.outputs}


def _arena(graph: Graph, lowered: list[Lowered], placement: Placement) -> Arena:
    storages = placement.storages
    needs: dict[str, Need] = {}
    outside = {*graph.inputs, *graph.constants, *graph.results}
    for number, one in enumerate(lowered):
        for position, argument in enumerate(one.arguments):
            if isinstance(argument, Workspace):
                size = argument.count * argument.dtype.byte_count
                name = _workspace(number, position)
                needs[name] = Need(name, size, number, number)
        for part in (*one.node.inputs, *one.node.outputs):
            name = placement.owner(part)
            if name in outside:
                continue
            first = needs[name].first if name in needs else number
            count = storages[name].count if name in storages else graph.types[name].element_count
            size = count * graph.types[name].dtype.byte_count
            needs[name] = Need(name, size, first, number)
    return plan(list(needs.values()))


def laid_out(array: Array, storage: Storage) -> Array:
    """A constant's elements in the order in which a layout has them."""
    found = np.zeros(storage.count, array.dtype)
    places = np.broadcast_to(evaluated(storage.place, np.indices(array.shape, sparse=True)), array.shape)
    found[places.reshape(-1)] = np.asarray(array).reshape(-1)
    return found


class _Weights:
    """Constants as they are placed one after another; the same form of the same constant once."""

    def __init__(self, graph: Graph, storages: Mapping[str, Storage]) -> None:
        self.graph, self.storages = graph, storages
        self.byte_count = 0
        self.sources: list[tuple[Array, Packed | None, Blob]] = []
        self._places: dict[tuple[str, str], int] = {}

    def place(self, name: str, packed: Packed | None) -> int:
        """Its place in the file."""
        key = (name, packed.form if packed else "")
        if key not in self._places:
            array = self.graph.constants[name]
            storage = self.storages.get(name)
            if packed is None and storage is not None and not storage.is_dense:
                packed = Packed(name, "", array.nbytes, lambda one: laid_out(one, storage))
            size = packed.byte_count if packed else array.nbytes
            self._places[key] = self.byte_count
            self.sources.append((array, packed, Blob(*key, self.byte_count, size)))
            self.byte_count += aligned(size)
        return self._places[key]
