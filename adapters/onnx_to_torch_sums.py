"""Sums and means along one axis as products with a constant, for XNNPACK.

XNNPACK gets no sum from ExecuTorch, and means over the last two of four axes only: others are left to a
portable kernel on one thread, and every one of them ends a delegate. A product with ones is the same sum.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from adapters.onnx_to_torch_graph import Source
from adapters.onnx_to_torch_layers import LINEAR
from adapters.onnx_to_torch_operation import Array, Operation

MEAN = "ReduceMean"
SQUARED = ("ReduceL2", "ReduceSumSquare")
ROOTED = "ReduceL2"
SUMS = (MEAN, "ReduceSum", *SQUARED)


@dataclass(frozen=True, slots=True)
class Sum:
    """One of them: the shape of what is summed, the axis, the constant's element, the result's shape."""

    operation: Operation
    shape: tuple[int, ...]
    axis: int
    factor: float
    result_shape: tuple[int, ...]

    @property
    def is_last(self) -> bool:
        """Along the axis that lies together in memory."""
        return self.axis == len(self.shape) - 1


def with_sums_as_products(source: Source) -> Source:
    """Every sum, mean, norm and sum of squares of floats along one axis as a product."""
    constants = dict(source.constants)
    operations: list[Operation] = []
    for operation in source.operations:
        found = _sum(operation, source)
        if found is None:
            operations.append(operation)
            continue
        name = f"{operation.outputs[0]} ones"
        constants[name] = _ones(found)
        operations.extend(_product(found, name))
    return replace(source, operations=tuple(operations), constants=constants)


def _sum(operation: Operation, source: Source) -> Sum | None:
    if operation.operator not in SUMS:
        return None
    shape, dtype = source.values[operation.inputs[0]]
    axes = operation.integers(1, "axes") or list(range(len(shape)))
    if len(axes) != 1 or dtype != "float32":
        return None
    axis = axes[0] % len(shape)
    factor = 1 / shape[axis] if operation.operator == MEAN else 1.0
    return Sum(operation, shape, axis, factor, source.values[operation.outputs[0]][0])


def _ones(found: Sum) -> Array:
    """[1, size] for a linear layer, [outer, 1, size] for a batched product."""
    size, outer = found.shape[found.axis], prod(found.shape[: found.axis])
    return np.full((1, size) if found.is_last else (outer, 1, size), found.factor, np.float32)


def _product(found: Sum, ones: str) -> Iterator[Operation]:
    operation, value = found.operation, found.operation.inputs[0]
    result = operation.outputs[0]
    sums = f"{result} sums"
    if operation.operator in SQUARED:
        yield operation.part("Mul", (value, value), f"{result} squares")
        value = f"{result} squares"
    if found.is_last:
        yield operation.part(LINEAR, (value, ones), sums)
    else:
        cube = np.array([-1, found.shape[found.axis], prod(found.shape[found.axis + 1 :])])
        yield operation.part("Reshape", (value, ""), f"{result} cube", {1: cube})
        yield operation.part("MatMul", (ones, f"{result} cube"), sums)
    is_rooted = operation.operator == ROOTED
    shaped = f"{result} shaped" if is_rooted else result
    yield operation.part("Reshape", (sums, ""), shaped, {1: np.array(found.result_shape)})
    if is_rooted:
        yield operation.part("Sqrt", (shaped,), result)
