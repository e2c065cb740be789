"""Graphs of a few nodes with drawn weights, written as ONNX files: what the tests of every adapter share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Ends = list[tuple[str, int, list[Any]]]
"""Inputs or outputs: name, element type, shape (names for symbolic sizes)."""

OPSET, IR_VERSION = 20, 10
_GENERATOR = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Normally distributed float32, other numbers at every call."""
    return _GENERATOR.standard_normal(shape).astype(np.float32)


def write_graph(
    path: Path,
    nodes: Sequence[NodeProto],
    inputs: Ends,
    outputs: Ends,
    weights: Mapping[str, Any] | None = None,
) -> Path:
    """Write one ONNX file with its weights inside; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(make_network(nodes, inputs, outputs, weights), str(path))
    return path


def make_network(
    nodes: Sequence[NodeProto], inputs: Ends, outputs: Ends, weights: Mapping[str, Any] | None = None
) -> onnx.ModelProto:
    """The network of these nodes, its weights inside."""
    values_in, values_out = (
        [helper.make_tensor_value_info(*one) for one in side] for side in (inputs, outputs)
    )
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "test", values_in, values_out, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def write_attention_block(
    path: Path, *, width: int = 8, length: int = 6, features: int = 5, with_gelu: bool = True
) -> Path:
    """Token ids and a sequence in, an attention-like block, outputs of rank 4 and of rank 3."""
    node = helper.make_node
    projected = "projected" if with_gelu else "y"
    nodes = [
        node("Gather", ["table", "ids"], ["tokens"], name="embed"),
        node("Add", ["tokens", "context"], ["mixed"], name="mix"),
        node("LayerNormalization", ["mixed", "scale", "bias"], ["normed"], name="norm"),
        node("Reshape", ["normed", "heads_shape"], ["split"], name="heads"),
        node("Transpose", ["split"], ["q"], name="turn", perm=[0, 2, 1, 3]),
        node("Transpose", ["split"], ["k"], name="turn_k", perm=[0, 2, 3, 1]),
        node("MatMul", ["q", "k"], ["scores"], name="scores_matmul"),
        node("Softmax", ["scores"], ["attention"], name="softmax", axis=-1),
        node("MatMul", ["normed", "weight"], [projected], name="project"),
        *([node("Gelu", ["projected"], ["y"], name="gelu")] if with_gelu else []),
    ]
    weights = {"table": normal(11, width), "scale": normal(width), "bias": normal(width)}
    weights |= {"weight": normal(width, features) / np.float32((width / 8) ** 0.5)}
    heads = {"heads_shape": np.array([1, length, 2, width // 2])}
    inputs: Ends = [
        ("ids", TensorProto.INT64, [1, length]),
        ("context", TensorProto.FLOAT, [1, length, width]),
    ]
    outputs: Ends = [
        ("attention", TensorProto.FLOAT, [1, 2, length, length]),
        ("y", TensorProto.FLOAT, [1, length, features]),
    ]
    return write_graph(path, nodes, inputs, outputs, {**weights, **heads})


def write_five_axes(path: Path) -> Path:
    """A sequence seen as a tensor of rank 5 and turned: more axes than some runtimes know."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["wide"], name="widen"),
        helper.make_node("Transpose", ["wide"], ["y"], name="turn", perm=[0, 3, 1, 2, 4]),
    ]
    inputs: Ends = [("x", TensorProto.FLOAT, [1, 6, 8])]
    outputs: Ends = [("y", TensorProto.FLOAT, [1, 2, 3, 2, 4])]
    return write_graph(path, nodes, inputs, outputs, {"shape": np.array([1, 3, 2, 2, 4])})
