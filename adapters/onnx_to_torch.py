"""An ONNX network as a PyTorch module that computes the same, one submodule a node: for frameworks that take
PyTorch's programs, so that they too start from the pinned ONNX file.

Shapes are static, so everything that depends on shapes and constants only is computed here, once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapters.onnx_to_torch_graph import Source, read_source
from adapters.onnx_to_torch_layers import ROWS as LAYERS
from adapters.onnx_to_torch_linear import with_linears
from adapters.onnx_to_torch_operation import Array, Operation, Row
from adapters.onnx_to_torch_resize import ROWS as RESIZE
from adapters.onnx_to_torch_shapes import ROWS as SHAPES
from adapters.onnx_to_torch_types import BY_NAME, as_tensor
from adapters.onnx_to_torch_values import ROWS as VALUES
from adapters.protocol import Unsupported

ROWS: Mapping[str, Row] = {**VALUES, **SHAPES, **LAYERS, **RESIZE}
Rewrite = Callable[[Source], Source]
SHAPE_OPERATORS = ("Shape", "Size")
STEP_PREFIX = "steps."


class Step(nn.Module):
    """One operation, as a module, so that what PyTorch makes of it can be traced back to the ONNX nodes."""

    def __init__(self, operation: Operation, row: Row) -> None:
        super().__init__()
        self.operation, self.row = operation, row

    def forward(self, *tensors: Tensor | None) -> Any:
        """The operation's result, or a tuple of them."""
        return self.row.function(self.operation, *tensors)


class Network(nn.Module):
    """The whole network: inputs in ONNX's order to a tuple of outputs in ONNX's order."""

    def __init__(
        self,
        steps: list[Step],
        constants: Mapping[str, Tensor],
        inputs: Mapping[str, tuple[tuple[int, ...], str]],
        outputs: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.input_names, self.output_names = tuple(inputs), outputs
        self._examples = tuple(inputs.values())
        self._constant_of = {name: f"constant_{index}" for index, name in enumerate(constants)}
        for name, place in self._constant_of.items():
            self.register_buffer(place, constants[name])

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """All steps in order."""
        values: dict[str, Any] = dict(zip(self.input_names, inputs, strict=True))
        for name, place in self._constant_of.items():
            values[name] = getattr(self, place)
        for step in self.steps:
            operation = step.operation
            tensors = [_argument(operation, position, values) for position in range(len(operation.inputs))]
            values.update(named_results(operation, step(*tensors)))
        return tuple(values[name] for name in self.output_names)

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Zeros of the inputs' shapes and types."""
        return tuple(torch.zeros(shape, dtype=BY_NAME[dtype]) for shape, dtype in self._examples)

    def operation_of(self, module_path: str) -> Operation | None:
        """The operation of a submodule such as `steps.3`; None for another."""
        number = module_path.rpartition(STEP_PREFIX)[2].partition(".")[0]
        if STEP_PREFIX not in module_path or not number.isdigit():
            return None
        operation: Operation = self.steps[int(number)].operation
        return operation


def _argument(operation: Operation, position: int, values: Mapping[str, Any]) -> Any:
    name = operation.inputs[position]
    return None if not name or position in operation.known else values[name]


def named_results(operation: Operation, results: Any) -> dict[str, Any]:
    """Results by name; raises `Unsupported` when the network uses one that is not computed."""
    given = results if isinstance(results, tuple) else (results,)
    missing = [name for name in operation.outputs[len(given) :] if name]
    if missing:
        raise operation.refuse(f"with {len(operation.outputs)} outputs")
    return {name: value for name, value in zip(operation.outputs, given, strict=False) if name}


def import_network(path: Path, rewrites: Sequence[Rewrite] = (with_linears,)) -> Network:
    """The ONNX file at `path` as a module; raises `Unsupported` with the operator's and the node's name.

    `rewrites` see the operations after folding, in turn.
    """
    source = Importer(read_source(path)).fold()
    for rewrite in rewrites:
        source = rewrite(source)
    for name in source.outputs:
        if name in source.constants:
            raise Unsupported(f"output {name!r} does not depend on the inputs")
    steps = [Step(operation, ROWS[operation.operator]) for operation in source.operations]
    return Network(steps, _read_constants(source), source.inputs, source.outputs)


def _read_constants(source: Source) -> dict[str, Tensor]:
    """The constants that are read as tensors."""
    return {
        name: as_tensor(source.constants[name])
        for operation in source.operations
        for position, name in enumerate(operation.inputs)
        if name in source.constants and position not in operation.known
    }


class Importer:
    """Walks through the operations once: folds what is constant, and finds out all shapes on the way."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._constants: dict[str, Array] = dict(source.constants)
        self._shapes: dict[str, Tensor] = {
            name: torch.empty(shape, dtype=BY_NAME[dtype], device="meta")
            for name, (shape, dtype) in source.inputs.items()
        }

    def fold(self) -> Source:
        """The operations that are left, and all constants."""
        operations = [self._fold_or_keep(operation) for operation in self._source.operations]
        kept = tuple(operation for operation in operations if operation is not None)
        names = {dtype: name for name, dtype in BY_NAME.items()}
        values = {name: (tuple(value.shape), names[value.dtype]) for name, value in self._shapes.items()}
        return replace(self._source, operations=kept, constants=self._constants, values=values)

    def _fold_or_keep(self, operation: Operation) -> Operation | None:
        """None when the operation's results are now constants."""
        if operation.operator in SHAPE_OPERATORS:
            self._constants[operation.outputs[0]] = self._shape(operation)
            return None
        row = ROWS.get(operation.operator)
        if row is None:
            raise operation.refuse("is not an operator that the importer for PyTorch knows")
        operation = self._with_numbers(operation, row)
        if all(name in self._constants or not name for name in operation.inputs):
            values = {name: as_tensor(self._constants[name]) for name in operation.inputs if name}
            for name, value in self._call(operation, row, values).items():
                self._constants[name] = value.contiguous().numpy()
            return None
        self._shapes.update(
            self._call(operation, row, {name: self._meta(name) for name in operation.inputs if name})
        )
        return operation

    def _with_numbers(self, operation: Operation, row: Row) -> Operation:
        known = {}
        for position, name in enumerate(operation.inputs):
            if name in self._constants and row.reads_as_numbers(position, self._constants[name]):
                known[position] = np.asarray(self._constants[name])
            elif name and position in row.static:
                raise operation.refuse(f"reads {name!r}, whose values are known only when the network runs")
        return replace(operation, known=known)

    def _call(self, operation: Operation, row: Row, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        tensors = [_argument(operation, position, values) for position in range(len(operation.inputs))]
        try:
            with torch.no_grad():
                return named_results(operation, row.function(operation, *tensors))
        except (RuntimeError, TypeError, ValueError, NotImplementedError, IndexError, KeyError) as error:
            raise operation.refuse(f"cannot be computed by PyTorch: {error}") from error

    def _meta(self, name: str) -> Tensor:
        """A tensor without values, for the shape only."""
        if name in self._constants:
            return as_tensor(self._constants[name]).to("meta")
        return self._shapes[name]

    def _shape(self, operation: Operation) -> Array:
        sizes = np.array(self._meta(operation.inputs[0]).shape, np.int64)
        if operation.operator == "Size":
            return np.array(sizes.prod(), np.int64)
        return sizes[operation.attribute("start", 0) : operation.attribute("end", len(sizes))]
