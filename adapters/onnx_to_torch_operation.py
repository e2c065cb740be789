"""One ONNX node as a call of PyTorch: what an operator's function is told, and the row that leads to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.protocol import Unsupported

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """A node: `names` are those of the ONNX nodes that it stands for, `known` the values of inputs that its
    function reads as numbers, by position. Absent optional inputs are `""`.
    """

    operator: str
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 0
    known: Mapping[int, Array] = field(default_factory=dict)

    def attribute(self, name: str, default: Any = None) -> Any:
        """The attribute's value; strings are text."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def integers(self, position: int, attribute: str = "") -> list[int] | None:
        """A list of integers that later opsets read from an input and earlier ones from an attribute; None
        when it is not there.
        """
        if position in self.known:
            return [int(value) for value in self.known[position].reshape(-1)]
        value = self.attributes.get(attribute)
        return None if value is None else [int(item) for item in value]

    def number(self, position: int, default: Any = None) -> Any:
        """The one element of a known input as a Python number, or the default."""
        return self.known[position].item() if position in self.known else default

    def part(
        self, operator: str, inputs: tuple[str, ...], output: str, known: Mapping[int, Array] | None = None
    ) -> "Operation":
        """An operation that computes part of this one, under the names of the same ONNX nodes."""
        return Operation(operator, self.names, inputs, (output,), {}, self.opset, known or {})

    def refuse(self, what: str) -> Unsupported:
        """An `Unsupported` that says what, of which operator, in which node."""
        return Unsupported(f"{self.operator} {what} (node {self.names[0]!r})")


@dataclass(frozen=True, slots=True)
class Row:
    """How an operator is called: `function(operation, *tensors)` gives a tensor or a tuple of them.

    Inputs at the positions `static` must be constants and are read as numbers; those of `scalars` are read so
    when they are constants of one element, those of `ranges` when they are evenly spaced constants. Whatever
    is read as a number is None among the tensors.
    """

    function: Callable[..., Any]
    static: tuple[int, ...] = ()
    scalars: tuple[int, ...] = ()
    ranges: tuple[int, ...] = ()

    def reads_as_numbers(self, position: int, value: Array) -> bool:
        """Whether a constant at that position is told by value."""
        if position in self.static:
            return True
        if position in self.scalars and value.size == 1:
            return True
        return position in self.ranges and is_evenly_spaced(value)


def is_evenly_spaced(indices: Array) -> bool:
    """Whether non-negative indices are one number, or 1-D and a distance of one or more apart."""
    if indices.size == 0 or indices.min() < 0 or indices.ndim > 1:
        return False
    steps = np.diff(indices.reshape(-1))
    return steps.size == 0 or bool(steps[0] >= 1 and (steps == steps[0]).all())
