"""The tensor form: rows `%y: type = Operator(%x) {attributes}` in an order in which every value is made
before it is read. Frozen: a change is another graph.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ourcompiler.ir.index_map import IndexMap
from ourcompiler.ir.types import TensorType

Array = np.ndarray[Any, Any]
Attribute = bool | int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | IndexMap
ABSENT = ""
"""The name of an optional operand that is not given."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator: the values it reads and makes, by name; attributes in order of their names.

    `origin` names the ONNX nodes it stands for. A fused node has a `body`, whose inputs and outputs are its
    own, in the same order.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()
    origin: tuple[str, ...] = ()
    body: "Graph | None" = None

    def __getitem__(self, name: str) -> Any:
        """The attribute of that name; raises KeyError when the operator has none."""
        return dict(self.attributes)[name]

    def get(self, name: str, otherwise: Any = None) -> Any:
        """The attribute, or `otherwise`."""
        return dict(self.attributes).get(name, otherwise)

    @property
    def output(self) -> str:
        """The first value it makes."""
        return self.outputs[0]

    @property
    def operands(self) -> tuple[str, ...]:
        """The values it reads: its inputs without those that are absent."""
        return tuple(name for name in self.inputs if name != ABSENT)


def attributes(values: Mapping[str, Attribute]) -> tuple[tuple[str, Attribute], ...]:
    """Attributes as a node keeps them."""
    return tuple(sorted(values.items()))


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: `types` has every value, `constants` those that are known, `outputs` pairs the public name
    of each result with the value that it is.
    """

    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, str], ...]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, Array] = field(default_factory=dict)
    name: str = "network"

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """The node that makes each value; inputs and constants have none."""
        return {name: node for node in self.nodes for name in node.outputs}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each value, in order, each once."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.operands):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def results(self) -> frozenset[str]:
        """Values that are results of the whole."""
        return frozenset(value for _, value in self.outputs)

    def type(self, name: str) -> TensorType:
        """The type of a value; raises KeyError for a name that there is not."""
        return self.types[name]

    def __eq__(self, other: object) -> bool:
        """Whether everything is the same, constants to the last bit."""
        if not isinstance(other, Graph):
            return NotImplemented
        mine, its = self.constants, other.constants
        return (
            (self.inputs, self.outputs, self.nodes, self.name)
            == (other.inputs, other.outputs, other.nodes, other.name)
            and dict(self.types) == dict(other.types)
            and mine.keys() == its.keys()
            and all(mine[name].tobytes() == its[name].tobytes() for name in mine)
        )

    __hash__ = None  # type: ignore[assignment]

    def with_nodes(self, nodes: Iterable[Node], types: Mapping[str, TensorType] | None = None) -> "Graph":
        """The same network with other rows; what nobody reads any more is dropped."""
        return pruned(replace(self, nodes=tuple(nodes), types={**self.types, **(types or {})}))


def pruned(graph: Graph) -> Graph:
    """Without nodes, constants and types that no result needs; inputs stay, read or not."""
    needed = set(graph.results)
    kept = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(node.operands)
    alive = needed.union(graph.inputs, *(node.outputs for node in kept))
    return replace(
        graph,
        nodes=tuple(reversed(kept)),
        types={name: one for name, one in graph.types.items() if name in alive},
        constants={name: one for name, one in graph.constants.items() if name in alive},
    )


def in_order(nodes: Sequence[Node], known: Iterable[str]) -> tuple[Node, ...]:
    """The nodes so that every value is made before it is read, otherwise as they were.

    Raises ValueError with the nodes that wait for one another, when there is a cycle, or for a value that
    nothing makes.
    """
    made = {*known, ABSENT}
    waiting: dict[str, list[int]] = {}
    missing = [0] * len(nodes)
    ready = []
    for number, node in enumerate(nodes):
        for name in dict.fromkeys(node.inputs):
            if name not in made:
                missing[number] += 1
                waiting.setdefault(name, []).append(number)
        if not missing[number]:
            ready.append(number)
    return _ordered(nodes, ready, missing, waiting)


def _ordered(
    nodes: Sequence[Node], ready: list[int], missing: list[int], waiting: Mapping[str, list[int]]
) -> tuple[Node, ...]:
    from heapq import heapify, heappop, heappush

    heapify(ready)
    done: list[int] = []
    while ready:
        number = heappop(ready)
        done.append(number)
        for name in nodes[number].outputs:
            for reader in waiting.get(name, ()):
                missing[reader] -= 1
                if not missing[reader]:
                    heappush(ready, reader)
    if len(done) < len(nodes):
        stuck = sorted(set(range(len(nodes))) - set(done))
        raise ValueError(
            f"nodes that wait for one another or for nothing: {[nodes[one].outputs for one in stuck]}"
        )
    return tuple(nodes[number] for number in done)
