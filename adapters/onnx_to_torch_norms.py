"""Layer norms as products and arithmetic, for XNNPACK.

XNNPACK gets no layer norm from ExecuTorch, whose own kernel runs on the calling thread and ends a delegate.
The mean and the mean of squares are products with a constant vector, the rest is arithmetic.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from adapters.onnx_to_torch_graph import Source
from adapters.onnx_to_torch_layers import INVERSE_ROOT, LINEAR
from adapters.onnx_to_torch_operation import Operation


def with_norms_as_products(source: Source) -> Source:
    """Every layer norm of floats over the last axis in XNNPACK's operators."""
    constants = dict(source.constants)
    operations: list[Operation] = []
    for operation in source.operations:
        if not _is_over_last_axis(operation, source):
            operations.append(operation)
            continue
        shape, _ = source.values[operation.inputs[0]]
        epsilon = operation.attribute("epsilon", 1e-5)
        averaging, small = f"average of {shape[-1]}", f"epsilon {epsilon}"
        constants[averaging] = np.full((1, shape[-1]), 1 / shape[-1], np.float32)
        constants[small] = np.array([epsilon], np.float32)
        operations.extend(_steps(operation, averaging, small))
    return replace(source, operations=tuple(operations), constants=constants)


def _is_over_last_axis(operation: Operation, source: Source) -> bool:
    if operation.operator != "LayerNormalization" or any(operation.outputs[1:]):
        return False
    shape, dtype = source.values[operation.inputs[0]]
    axis = operation.attribute("axis", -1) % len(shape)
    return axis == len(shape) - 1 and dtype == "float32"


def _steps(operation: Operation, averaging: str, small: str) -> Iterator[Operation]:
    """(x - mean) / √(mean of squares + ε) · scale + bias."""
    value, scale, *bias = operation.inputs
    result = operation.outputs[0]

    def named(what: str) -> str:
        return f"{result} {what}"

    yield operation.part(LINEAR, (value, averaging), named("mean"))
    yield operation.part("Sub", (value, named("mean")), named("centred"))
    yield operation.part("Mul", (named("centred"), named("centred")), named("squares"))
    yield operation.part(LINEAR, (named("squares"), averaging), named("variance"))
    yield operation.part("Add", (named("variance"), small), named("shifted"))
    yield operation.part(INVERSE_ROOT, (named("shifted"),), named("inverse"))
    yield operation.part("Mul", (named("centred"), named("inverse")), named("normalised"))
    is_shifted = bool(bias and bias[0])
    yield operation.part("Mul", (named("normalised"), scale), named("scaled") if is_shifted else result)
    if is_shifted:
        yield operation.part("Add", (named("scaled"), bias[0]), result)
