"""Where an ONNX node is turned into rows of ours: its operands, attributes, and a place to put the rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ourcompiler.build import Builder
from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import ABSENT, Array, Attribute
from ourcompiler.ir.types import DType, TensorType, dtype_of

Convert = Callable[["Site"], Sequence[str]]
"""How one operator of ONNX becomes ours; returns our names of its outputs."""

NO_TYPE = "the compiler has no elements of that type"


def element_type(code: int, where: str) -> DType:
    """Our element type for ONNX's number; raises `CompileError` for one that the compiler has not."""
    try:
        found = dtype_of(np.dtype(helper.tensor_dtype_to_np_dtype(code)))
    except KeyError:
        found = None
    if found is None or code not in _CODES:
        name = onnx.TensorProto.DataType.Name(code) if code in onnx.TensorProto.DataType.values() else code
        raise CompileError(f"elements of type {name}", where=where, hint=NO_TYPE)
    return found


_CODES = frozenset(
    getattr(onnx.TensorProto, name)
    for name in (
        [
            "FLOAT",
            "FLOAT16",
            "BFLOAT16",
            "DOUBLE",
            "INT8",
            "INT16",
            "INT32",
            "INT64",
            "UINT8",
            "UINT16",
            "UINT32",
            "UINT64",
            "BOOL",
        ]
    )
)


@dataclass(frozen=True, slots=True)
class Site:
    """One node: `inputs` are our names of its operands (`ABSENT` for one that is not given)."""

    node: onnx.NodeProto
    builder: Builder
    inputs: tuple[str, ...]
    opset: int
    where: str

    def error(self, what: str, hint: str = "") -> CompileError:
        """An error at this node."""
        return CompileError(what, where=self.where, hint=hint)

    def attribute(self, name: str, otherwise: Any = None) -> Any:
        """The attribute as Python has it; `otherwise` when it is not given."""
        for one in self.node.attribute:
            if one.name == name:
                value = helper.get_attribute_value(one)
                if isinstance(value, onnx.TensorProto):
                    return numpy_helper.to_array(value)
                return value.decode() if isinstance(value, bytes) else value
        return otherwise

    def has(self, number: int) -> bool:
        """Whether operand `number` is given."""
        return number < len(self.inputs) and self.inputs[number] != ABSENT

    def operand(self, number: int) -> str:
        """Our name of an operand that must be given."""
        if not self.has(number):
            raise self.error(f"operand {number} is missing")
        return self.inputs[number]

    def operand_or_absent(self, number: int) -> str:
        """Our name of an operand, or `ABSENT`."""
        return self.inputs[number] if self.has(number) else ABSENT

    def type(self, number: int) -> TensorType:
        """The type of an operand that must be given."""
        return self.builder.types[self.operand(number)]

    def known(self, number: int, what: str) -> Array:
        """The value of an operand that must be known when compiling, such as a shape."""
        found = self.builder.known(self.operand(number))
        if found is None:
            hint = "bind dynamic dimensions (--dim NAME=SIZE), or compute it from constants and shapes only"
            raise self.error(f"{what} depends on the data", hint)
        return found

    def integers(self, number: int, name: str, otherwise: Sequence[int] | None = None) -> tuple[int, ...]:
        """Integers that newer opsets have as operand `number` and older ones as attribute `name`."""
        if self.has(number):
            return tuple(int(one) for one in self.known(number, f"its {name}").reshape(-1))
        found = self.attribute(name, otherwise)
        if found is None:
            raise self.error(f"its {name} are missing")
        return tuple(int(one) for one in found)

    def emit(self, op: str, inputs: Sequence[str], **facts: Attribute) -> str:
        """A row of ours with one output; returns its name."""
        return self.emit_all(op, inputs, **facts)[0]

    def emit_all(self, op: str, inputs: Sequence[str], **facts: Attribute) -> tuple[str, ...]:
        """A row of ours; returns the names of its outputs, after the node's own where they are as many."""
        origin = (self.node.name or self.node.output[0],)
        return self.builder.add(op, inputs, hints=tuple(self.node.output), origin=origin, **facts)

    def number(self, value: float | int, like: str) -> str:
        """A scalar constant of the element type of another value."""
        return self.builder.constant(np.array(value, self.builder.types[like].dtype.numpy))
