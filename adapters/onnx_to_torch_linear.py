"""Products with a constant matrix as linear layers: ONNX has none for values of more than two axes."""

from collections import Counter
from dataclasses import replace

import numpy as np

from adapters.onnx_to_torch_graph import Source
from adapters.onnx_to_torch_layers import LINEAR
from adapters.onnx_to_torch_operation import Array, Operation

MATRIX_AXES = 2


def with_linears(source: Source) -> Source:
    """Every MatMul with a constant matrix, and the Add of a bias after it, as one operation with the matrix
    transposed, as PyTorch stores it: XNNPACK packs the weights of nothing else.
    """
    uses = Counter(name for operation in source.operations for name in operation.inputs)
    uses.update(source.outputs)
    readers = {name: operation for operation in source.operations for name in operation.inputs}
    constants, replaced = dict(source.constants), {}
    for operation in source.operations:
        if not _is_product(operation, constants):
            continue
        left, matrix = operation.inputs
        own = f"{matrix} transposed"
        constants.setdefault(own, np.ascontiguousarray(constants[matrix].T))
        linear = replace(operation, operator=LINEAR, inputs=(left, own))
        add = readers.get(operation.outputs[0]) if uses[operation.outputs[0]] == 1 else None
        bias = _bias(add, operation.outputs[0], constants[own].shape[0], constants)
        if add is None or bias is None:
            replaced[operation.outputs] = linear
            continue
        names, inputs = (*operation.names, *add.names), (*linear.inputs, bias)
        replaced[add.outputs] = replace(linear, names=names, inputs=inputs, outputs=add.outputs)
        replaced[operation.outputs] = replace(linear, outputs=())
    merged = (replaced.get(operation.outputs, operation) for operation in source.operations)
    kept = tuple(operation for operation in merged if operation.outputs)
    return replace(source, operations=kept, constants=constants)


def _is_product(operation: Operation, constants: dict[str, Array]) -> bool:
    if operation.operator != "MatMul" or operation.inputs[1] not in constants:
        return False
    matrix = constants[operation.inputs[1]]
    return matrix.ndim == MATRIX_AXES and matrix.dtype.kind == "f"


def _bias(add: Operation | None, result: str, size: int, constants: dict[str, Array]) -> str | None:
    """The name of the bias that an Add adds to `result`: a constant for the last axis."""
    if add is None or add.operator != "Add":
        return None
    other = add.inputs[1] if add.inputs[0] == result else add.inputs[0]
    return other if other in constants and constants[other].shape == (size,) else None
