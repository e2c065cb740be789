"""ONNX into TVM's Relax: weights are read from the file where they lie, and every value keeps the name of
the node that makes it.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.protocol import Unsupported

NODE_MARK = "node"
"""Prefix of a Relax variable that an ONNX node made; the node's index and an underscore follow."""
ALIGNMENT_BYTES = 64
"""What TVM demands of memory that it did not allocate itself."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The names of a network's nodes in order, and the places in it of those that make its outputs."""

    names: tuple[str, ...]
    outputs: tuple[int, ...]


def import_network(source: Path) -> tuple[Any, Nodes]:
    """The Relax module of an ONNX file and its nodes; a variable `node7_…` is of the eighth.

    Raises `Unsupported` with the operators that TVM's importer lacks, or the node that it cannot take.
    """
    from tvm import error

    from models.onnx_file import load_graph

    proto = load_graph(source)
    _refuse_dynamic(proto)
    opset = next(row.version for row in proto.opset_import if row.domain in ("", "ai.onnx"))
    importer = _importer(source.parent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importer.from_onnx(proto.graph, opset)
    except error.OpNotImplemented as fault:
        raise Unsupported(f"operator {_missing(str(fault), proto)}: TVM's ONNX importer has none") from fault
    except Exception as fault:
        if not importer.at_node:
            raise
        raise Unsupported(f"{importer.at_node}: TVM's ONNX importer fails: {fault}") from fault
    return module, _nodes(proto.graph)


def _nodes(graph: Any) -> Nodes:
    makers = {name: place for place, node in enumerate(graph.node) for name in node.output}
    names = tuple(node.name or node.output[0] for node in graph.node)
    return Nodes(names, tuple(makers.get(value.name, -1) for value in graph.output))


def mapped_tensor(values: Any) -> Any:
    """A TVM tensor of a numpy array: over its memory where that is aligned as TVM wants, else a copy."""
    import tvm

    whole = np.ascontiguousarray(values)
    aligned = whole.ctypes.data % ALIGNMENT_BYTES == 0
    return tvm.runtime.from_dlpack(whole) if aligned else tvm.runtime.tensor(whole)


def _importer(folder: Path) -> Any:
    from tvm import relax
    from tvm.relax.frontend.onnx import onnx_frontend

    class Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
        """TVM's own importer; large weights become views of the mapped file, and values get their names."""

        at_node = ""
        node_count = 0

        def _parse_array(self, tensor_proto: Any) -> Any:
            if tensor_proto.external_data:
                return mapped_tensor(_map_external(tensor_proto, folder))
            return super()._parse_array(tensor_proto)

        def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
            """As TVM's own, but the result is bound to a name before it is normalised into nameless ones."""
            self.at_node = f"operator {op_name} (node {attrs['tvm_custom']['name']!r})"
            convert = onnx_frontend._get_convert_map()[op_name].get_converter(opset)
            made = convert(self.bb, inputs, attrs, [self._nodes, self._params])
            hint = f"{NODE_MARK}{self.node_count}_"
            self.node_count += 1
            if isinstance(made, relax.Tuple):
                return self.bb.normalize(relax.Tuple([self._named(field, hint) for field in made.fields]))
            return self._named(made, hint)

        def _named(self, made: Any, hint: str) -> Any:
            if not isinstance(made, relax.Expr):
                return made
            if isinstance(made, relax.Call) and isinstance(self.bb.normalize(made).ty, relax.TensorType):
                return self.bb.emit(made, hint)
            return self.bb.normalize(made)

    return Importer({}, "float32", sanitize=False)


def _map_external(tensor: Any, folder: Path) -> Any:
    import onnx

    where = {entry.key: entry.value for entry in tensor.external_data}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(  # copy on write: TVM wants writable memory, and nobody writes
        folder / where["location"],
        dtype=dtype,
        mode="c",
        offset=int(where.get("offset", 0)),
        shape=tuple(tensor.dims),
    )


def _refuse_dynamic(proto: Any) -> None:
    from models.onnx_file import true_inputs

    for value in true_inputs(proto.graph):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") or dim.dim_value < 1:
                size = dim.dim_param or "unknown"
                raise Unsupported(f"input {value.name!r} has a dynamic shape: axis {axis} is {size}")


def _missing(message: str, proto: Any) -> str:
    """The operators of TVM's message, each with the name of one node."""
    operators = [name.strip() for name in message.rpartition(":")[2].split(",")]
    first = {node.op_type: node.name for node in reversed(proto.graph.node)}
    return ", ".join(f"{name} (node {first.get(name, '?')!r})" for name in operators)
