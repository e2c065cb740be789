"""An ONNX file as operations in order and constants in read-only memory, before PyTorch sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.onnx_to_torch_operation import Array, Operation
from adapters.protocol import Unsupported

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, ValueInfoProto

OWN_DOMAINS = ("", "ai.onnx")
EARLIEST_OPSET = 13


@dataclass(frozen=True, slots=True)
class Source:
    """The network as ONNX has it: input shapes and dtypes (numpy's names) by name, constants by name.

    `values` are shapes and dtypes of all values that are no constants, known once the operations are folded.
    """

    operations: tuple[Operation, ...]
    constants: Mapping[str, Array]
    inputs: Mapping[str, tuple[tuple[int, ...], str]]
    outputs: tuple[str, ...]
    values: Mapping[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)


def read_source(path: Path) -> Source:
    """Read the ONNX file at `path`; weights stay on the disk until somebody reads them.

    Raises `Unsupported` for dynamic shapes, other domains and opsets before 13, `ModelError` for a file that
    cannot be read.
    """
    from models.onnx_file import load_graph, true_inputs

    proto = load_graph(path)
    opset = next((row.version for row in proto.opset_import if row.domain in OWN_DOMAINS), 0)
    if opset < EARLIEST_OPSET:
        raise Unsupported(f"opset {opset}: the importer for PyTorch knows opset {EARLIEST_OPSET} and later")
    if proto.graph.sparse_initializer:
        raise Unsupported("sparse weights: PyTorch's export takes dense ones only")
    constants = {tensor.name: _values(tensor, path.parent) for tensor in proto.graph.initializer}
    return Source(
        tuple(_operations(proto, opset)),
        constants,
        {value.name: _static(value) for value in true_inputs(proto.graph)},
        tuple(value.name for value in proto.graph.output),
    )


def _operations(proto: "ModelProto", opset: int) -> list[Operation]:
    import onnx

    operations = []
    for index, node in enumerate(proto.graph.node):
        name = node.name or f"{node.op_type} {index}"
        if node.domain not in OWN_DOMAINS:
            raise Unsupported(f"{node.domain}.{node.op_type} is not an operator of ONNX (node {name!r})")
        attributes: dict[str, Any] = {
            attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
        }
        ends = tuple(node.input), tuple(node.output)
        operations.append(Operation(node.op_type, (name,), *ends, attributes, opset))
    return operations


def _static(value: "ValueInfoProto") -> tuple[tuple[int, ...], str]:
    import onnx

    sizes = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    if any(size < 1 for size in sizes):
        raise Unsupported(
            f"input {value.name!r} has a dimension without a size: the program is exported for one shape; "
            "bind it with --dim"
        )
    return sizes, onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name


def _values(tensor: "TensorProto", folder: Path) -> Array:
    """The tensor's values; those of an external file as a read-only map of it."""
    import onnx

    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return onnx.numpy_helper.to_array(tensor)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    if not np.prod(shape):
        return np.zeros(shape, dtype)
    offset = int(entries.get("offset", 0))
    return np.memmap(folder / entries["location"], dtype, "r", offset, shape)
