"""A graph while it is rewritten: who makes and who reads a value is kept up to date, so that a change costs
what it touches and not what the network weighs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ourcompiler.ir.graph import ABSENT, Array, Graph, Node, in_order, pruned
from ourcompiler.ir.types import type_of
from ourcompiler.rewrite.expression import is_number

SHARED_BYTES = 1 << 10
"""Constants up to this size are kept once, whoever asks for them."""
COMPARED_ELEMENTS = 1 << 16
"""Larger constants are not searched for being one number."""

Signature = tuple[Any, ...]


class Network:
    """The nodes by the name of their first output, with their places in the order of the graph."""

    def __init__(self, graph: Graph) -> None:
        graph = pruned(graph)
        self.graph = graph
        self.types = dict(graph.types)
        self.constants: dict[str, Array] = dict(graph.constants)
        self.outputs = list(graph.outputs)
        self.nodes: dict[str, Node] = {}
        self.places: dict[str, tuple[int, int]] = {}
        self.makers: dict[str, str] = {}
        self.readers: dict[str, dict[str, None]] = {}
        self.results = Counter(value for _, value in graph.outputs)
        self._twins: dict[Signature, dict[str, None]] = {}
        self._shared: dict[Signature, str] = {}
        self._numbers: dict[str, float | None] = {}
        self._taken: dict[str, int] = {}
        same = {name: self._share(name) for name in graph.constants}
        for place, node in enumerate(graph.nodes):
            inputs = tuple(same.get(one, one) for one in node.inputs)
            self.insert(node if inputs == node.inputs else replace(node, inputs=inputs), (place, 0))

    def _share(self, name: str) -> str:
        """The constant of that content that came first, for a small one."""
        value = self.constants[name]
        if value.nbytes > SHARED_BYTES or name in self.results:
            return name
        return self._shared.setdefault(_content(value), name)

    def insert(self, node: Node, place: tuple[int, int]) -> None:
        """Add a node whose values have types already."""
        self.nodes[node.output] = node
        self.places[node.output] = place
        self.makers |= dict.fromkeys(node.outputs, node.output)
        for name in node.operands:
            self.readers.setdefault(name, {})[node.output] = None
        self._twins.setdefault(_signature(node), {})[node.output] = None

    def remove(self, key: str) -> Node:
        """Take a node out; its values keep their types."""
        node = self.nodes.pop(key)
        for name in node.outputs:
            self.makers.pop(name, None)
        for name in node.operands:
            self.readers[name].pop(key, None)
        twins = self._twins[_signature(node)]
        twins.pop(key)
        if not twins:
            del self._twins[_signature(node)]
        return node

    def rewire(self, old: str, new: str) -> None:
        """Let everyone who reads one value read another."""
        for key in tuple(self.readers.get(old, ())):
            place = self.places[key]
            node = self.remove(key)
            inputs = tuple(new if one == old else one for one in node.inputs)
            self.insert(replace(node, inputs=inputs), place)
        if self.results[old]:
            self.outputs = [(public, new if value == old else value) for public, value in self.outputs]
            self.results[new] += self.results.pop(old)

    def maker(self, value: str) -> Node | None:
        """The node that makes a value; None for inputs and constants."""
        key = self.makers.get(value)
        return None if key is None else self.nodes[key]

    def read_count(self, value: str) -> int:
        """How many nodes read it, and how often it is a result."""
        return len(self.readers.get(value, ())) + self.results[value]

    def twin(self, node: Node) -> Node | None:
        """An earlier node that computes the same."""
        keys = self._twins.get(_signature(node), {})
        first = min(keys, key=lambda key: self.places[key], default=node.output)
        return self.nodes[first] if first != node.output else None

    def number(self, value: str) -> float | None:
        """The number that all elements of a constant are; None for everything else."""
        if value not in self.constants:
            return None
        if value not in self._numbers:
            array = self.constants[value]
            small = array.size <= COMPARED_ELEMENTS
            self._numbers[value] = array.flat[0].item() if small and is_number(array) else None
        return self._numbers[value]

    def fresh(self, hint: str) -> str:
        """A name that no value has or had."""
        count = self._taken.get(hint, 0)
        name = hint
        while name in self.types:
            count += 1
            name = f"{hint}.{count}"
        self._taken[hint] = count
        return name

    def constant(self, array: Array, hint: str = "c") -> str:
        """The name of a constant with that content."""
        small = array.nbytes <= SHARED_BYTES
        if small and (name := self._shared.get(_content(array))) in self.constants:
            return str(name)
        name = self.fresh(hint)
        self.types[name] = type_of(array)
        self.constants[name] = array
        if small:
            self._shared[_content(array)] = name
        return name

    def dying(self, replaced: Mapping[str, str], needed: Iterable[str]) -> list[Node]:
        """The nodes that nothing needs once `replaced` is done and `needed` values stay, last first."""
        kept = {*needed, *replaced.values()}
        lost: Counter[str] = Counter()
        found: dict[str, Node] = {}
        waiting = [key for one in replaced if (key := self.makers.get(one)) is not None]
        while waiting:
            key = waiting.pop()
            node = self.nodes[key]
            if key in found or any(self._is_needed(one, replaced, kept, lost) for one in node.outputs):
                continue
            found[key] = node
            for name in dict.fromkeys(node.operands):
                lost[name] += 1
                if name in self.makers:
                    waiting.append(self.makers[name])
        return sorted(found.values(), key=lambda node: self.places[node.output], reverse=True)

    def _is_needed(self, value: str, replaced: Mapping[str, str], kept: set[str], lost: Counter[str]) -> bool:
        if value in kept:
            return True
        return value not in replaced and self.read_count(value) > lost[value]

    def below(self, values: Iterable[str], depth: int) -> Iterator[str]:
        """Nodes that read one of the values, directly or within `depth` steps."""
        seen: set[str] = set()
        front = list(values)
        for _ in range(depth):
            keys = [key for value in front for key in self.readers.get(value, ()) if key not in seen]
            keys = list(dict.fromkeys(keys))
            seen.update(keys)
            yield from keys
            front = [output for key in keys for output in self.nodes[key].outputs]

    def with_origin(self, keys: Sequence[str], origin: Iterable[str]) -> None:
        """Let nodes stand for more of the ONNX nodes."""
        names = tuple(origin)
        for key in keys:
            node = self.nodes[key]
            if not set(names) <= set(node.origin):
                self.nodes[key] = replace(node, origin=tuple(dict.fromkeys((*node.origin, *names))))

    def result(self) -> Graph:
        """The graph as it is now."""
        ordered = [self.nodes[key] for key in sorted(self.nodes, key=lambda key: self.places[key])]
        known = (*self.graph.inputs, *self.constants)
        whole = replace(
            self.graph,
            outputs=tuple(self.outputs),
            nodes=in_order(ordered, known),
            types=self.types,
            constants=self.constants,
        )
        return pruned(whole)


def _signature(node: Node) -> Signature:
    """What two nodes share that compute the same; a fused node is like no other."""
    alone = node.output if node.body is not None else ABSENT
    return (node.op, node.inputs, node.attributes, len(node.outputs), alone)


def _content(array: Array) -> Signature:
    return (array.dtype.str, array.dtype.name, array.shape, np.ascontiguousarray(array).tobytes())
