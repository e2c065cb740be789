"""Making graphs: rows with their types inferred; what is known already is computed at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import ABSENT, Array, Attribute, Graph, Node, attributes, pruned
from ourcompiler.ir.types import TensorType, type_of
from ourcompiler.ops.catalogue import OPS

FOLDED_BYTES = 1 << 16
"""Results of known operands up to this size are computed while the graph is made: shapes and indices are
needed then. Larger ones wait for the pass that folds.
"""
LARGEST_BYTES = 1 << 40


@dataclass
class Builder:
    """A graph in the making; names of values are made unique here."""

    name: str = "network"
    inputs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    def fresh(self, hint: str) -> str:
        """A name that no value has yet: the hint itself, or the hint and a number."""
        hint = hint or "v"
        name = hint
        while name in self.types:
            number = self._numbers[hint] = self._numbers.get(hint, 0) + 1
            name = f"{hint}.{number}"
        return name

    def input(self, hint: str, one: TensorType) -> str:
        """A new input of the network."""
        name = self.fresh(hint)
        self.types[name] = one
        self.inputs.append(name)
        return name

    def constant(self, value: Any, hint: str = "c") -> str:
        """A value that is known; raises ValueError for element types that the compiler has not."""
        array = np.asarray(value)
        name = self.fresh(hint)
        self.types[name] = type_of(array)
        self.constants[name] = array
        return name

    def known(self, name: str) -> Array | None:
        """The value, when it is a constant."""
        return self.constants.get(name)

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        *,
        hints: Sequence[str] = (),
        origin: tuple[str, ...] = (),
        **facts: Attribute,
    ) -> tuple[str, ...]:
        """A new node; returns the names of its outputs.

        Raises `CompileError` that names `origin` when the operands do not fit or the result could not be
        held by any machine.
        """
        row = OPS[op]
        where = f"node {origin[0]!r} ({op})" if origin else op
        operands = [None if one == ABSENT else self.types[one] for one in inputs]
        try:
            types = row.infer(operands, facts)
        except ValueError as error:
            raise CompileError(str(error), where=where) from error
        for one in types:
            if one.byte_count > LARGEST_BYTES:
                raise CompileError(f"a value of {one.byte_count / 1e12:.1f} TB ({one})", where=where)
        outputs = []
        for number, one in enumerate(types):
            name = self.fresh(hints[number] if number < len(hints) else op.lower())
            self.types[name] = one
            outputs.append(name)
        if self._fold(op, inputs, outputs, types, facts, where):
            return tuple(outputs)
        self.nodes.append(Node(op, tuple(inputs), tuple(outputs), attributes(facts), origin))
        return tuple(outputs)

    def _fold(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        types: Sequence[TensorType],
        facts: dict[str, Attribute],
        where: str,
    ) -> bool:
        """Compute the outputs now when every operand is known and they are small."""
        given = [one for one in inputs if one != ABSENT]
        if not all(one in self.constants for one in given):
            return False
        if sum(one.byte_count for one in types) > FOLDED_BYTES:
            return False
        try:
            made = OPS[op].reference([self.constants.get(one) for one in inputs], facts)
        except ValueError as error:
            raise CompileError(str(error), where=where) from error
        for name, value in zip(outputs, made, strict=True):
            self.constants[name] = np.asarray(value, order="C")  # not `ascontiguousarray`: it adds an axis
        return True

    def graph(self, outputs: Sequence[tuple[str, str]]) -> Graph:
        """The graph with these results, (public name, value), without what none of them needs."""
        return pruned(
            Graph(
                tuple(self.inputs),
                tuple(outputs),
                tuple(self.nodes),
                dict(self.types),
                dict(self.constants),
                self.name,
            )
        )
