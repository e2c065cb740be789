"""Where a rule is tried: a node of a network to look from, and a draft of the nodes that it would give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ourcompiler.ir.graph import ABSENT, Array, Attribute, Node, attributes
from ourcompiler.ir.types import DType, TensorType, type_of
from ourcompiler.ops.catalogue import OPS
from ourcompiler.rewrite.expression import is_number
from ourcompiler.rewrite.network import Network

FOLDED_GROWTH = 4
SMALL_BYTES, LARGEST_BYTES = 1 << 16, 1 << 28
"""Results of constants are computed up to four times the size of their operands (or 64 KiB), and 256 MiB."""


class MisfitError(Exception):
    """The operands of a drafted node do not fit, or it would be a constant too large: the rule does not hold
    here.
    """


@dataclass
class Site:
    """`node` is where the rule starts, against the flow of data; what it adds is kept apart until it is
    accepted.
    """

    network: Network
    node: Node
    drafted: list[Node] = field(default_factory=list)
    made: dict[str, Array] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)

    def type(self, value: str) -> TensorType:
        """The type of a value."""
        return self.types[value] if value in self.types else self.network.types[value]

    def shape(self, value: str) -> tuple[int, ...]:
        """The shape of a value."""
        return self.type(value).shape

    @property
    def dtype(self) -> DType:
        """The element type of what the node makes."""
        return self.network.types[self.node.output].dtype

    def known(self, value: str) -> Array | None:
        """The elements of a constant; None for what is computed."""
        return self.made[value] if value in self.made else self.network.constants.get(value)

    def number(self, value: str) -> float | None:
        """The number that all elements of a constant are, if they are one."""
        if value in self.made:
            return self.made[value].flat[0].item() if is_number(self.made[value]) else None
        return self.network.number(value)

    def maker(self, value: str) -> Node | None:
        """The node that makes a value."""
        return self.network.maker(value)

    def made_by(self, value: str, *ops: str) -> Node | None:
        """The node that makes a value, if it is one of these operators and nobody else reads the value."""
        node = self.network.maker(value)
        return node if node is not None and node.op in ops and self.network.read_count(value) == 1 else None

    def constant(self, value: Any) -> str:
        """A value that is known, of the element type that its array has."""
        array = np.asarray(value)
        for name, other in self.made.items():
            if other is array:
                return name
        name = self._fresh("c")
        self.types[name], self.made[name] = type_of(array), array
        return name

    def like(self, value: Any, other: str) -> str:
        """A known value with the element type of another."""
        return self.constant(np.asarray(value, self.type(other).dtype.numpy))

    def forget(self) -> None:
        """Throw the draft away."""
        self.drafted.clear()
        self.made.clear()
        self.types.clear()

    def _fresh(self, hint: str) -> str:
        """A name for the draft; what is accepted gets names of the network."""
        return f"\0{hint}{len(self.types)}"

    def add(self, op: str, inputs: Sequence[str], **facts: Attribute) -> tuple[str, ...]:
        """A new node in the draft, or its result when the operands are known.

        Raises `MisfitError` when they do not fit.
        """
        row = OPS[op]
        operands = [None if one == ABSENT else self.type(one) for one in inputs]
        try:
            types = row.infer(operands, facts)
        except ValueError as error:
            raise MisfitError(str(error)) from error
        values = [None if one == ABSENT else self.known(one) for one in inputs]
        if all(value is not None for one, value in zip(inputs, values, strict=True) if one != ABSENT):
            return tuple(map(self.constant, fold(op, values, facts, types)))
        names = []
        for one in types:
            name = self._fresh(op.lower())
            self.types[name] = one
            names.append(name)
        self.drafted.append(Node(op, tuple(inputs), tuple(names), attributes(facts)))
        return tuple(names)

    def one(self, op: str, *inputs: str, **facts: Attribute) -> str:
        """A new node with one output; returns its name."""
        return self.add(op, inputs, **facts)[0]

    def reshaped(self, value: str, shape: Sequence[int]) -> str:
        """The value in that shape, which may be the one that it has."""
        wanted = tuple(shape)
        return value if self.shape(value) == wanted else self.one("Reshape", value, shape=wanted)


def fold(
    op: str, values: Sequence[Array | None], facts: Mapping[str, Any], types: Sequence[TensorType]
) -> tuple[Array, ...]:
    """The results of known operands; raises `MisfitError` when they are too large or cannot be computed."""
    read = sum(value.nbytes for value in values if value is not None)
    count = sum(one.byte_count for one in types)
    if count > max(FOLDED_GROWTH * read, SMALL_BYTES) or count > LARGEST_BYTES:
        raise MisfitError(f"{count} bytes made of {read}")
    try:
        found = OPS[op].reference(values, facts)
    except ValueError as error:
        raise MisfitError(str(error)) from error
    return tuple(
        np.ascontiguousarray(one).reshape(kind.shape) for one, kind in zip(found, types, strict=True)
    )
