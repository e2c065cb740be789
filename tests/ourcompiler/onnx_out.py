"""Graphs as ONNX, written apart from the importer: what ONNX Runtime makes of a graph that was drawn."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ourcompiler.ir.graph import ABSENT, Graph, Node

OPSET, IR_VERSION = 21, 10
SAME = frozenset(
    (
        *("Abs", "Neg", "Tanh", "Sigmoid", "Erf", "Relu", "Softsign", "Floor", "Sin", "Cos", "HardSwish"),
        *("Mish", "Sqrt", "Add", "Sub", "Mul", "Div", "Min", "Max", "Less", "Where", "MatMul"),
    )
)
"""Operators of the same name that have no attributes."""


class Exporter:
    """The nodes and constants of a model in the making."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[NodeProto] = []
        self.tensors = [numpy_helper.from_array(value, name) for name, value in graph.constants.items()]

    def known(self, value: Any, dtype: Any = np.int64) -> str:
        """A constant operand."""
        name = f"known {len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def emit(self, node: Node, *extra: str, op: str = "", **facts: Any) -> None:
        """A node with the operands of that one, and others after them."""
        self.nodes.append(
            helper.make_node(op or node.op, [*node.inputs, *extra], list(node.outputs), **facts)
        )

    def shape(self, name: str) -> tuple[int, ...]:
        return self.graph.types[name].shape


def _slice(one: Exporter, node: Node) -> None:
    ends = []
    for start, step, count in zip(node["starts"], node["steps"], node["shape"], strict=True):
        end = start + step * count
        ends.append(end if end >= 0 else -(2**31))
    axes = range(len(ends))
    one.emit(node, *map(one.known, (node["starts"], ends, list(axes), node["steps"])))


def _window(node: Node) -> dict[str, Any]:
    found = {name: node[name] for name in ("strides", "dilations", "pads")}
    return {**found, "kernel_shape": node["kernel"], "ceil_mode": int(node["ceil"])}


def _conv(one: Exporter, node: Node) -> None:
    facts = {name: node[name] for name in ("strides", "dilations", "pads", "group")}
    if node.op == "ConvTranspose":
        facts["output_padding"] = node["output_padding"]
    one.emit(node, **facts)


def _clip(one: Exporter, node: Node) -> None:
    one.emit(node, one.known(node["low"], np.float32), one.known(node["high"], np.float32))


def _pad(one: Exporter, node: Node) -> None:
    one.emit(node, one.known((*node["before"], *node["after"])), one.known(node["fill"], np.float32))


def _reduce(one: Exporter, node: Node) -> None:
    one.emit(node, one.known(node["axes"]), keepdims=int(node["keepdims"]))


def _running_sum(one: Exporter, node: Node) -> None:
    facts = {name: int(node[name]) for name in ("exclusive", "reverse")}
    one.emit(node, one.known(node["axis"]), **facts)


def _take(one: Exporter, node: Node) -> None:
    indices = one.known(np.reshape(node["table"], node["table_shape"]))
    one.emit(node, indices, op="Gather", axis=node["axis"])


WRITERS: dict[str, Callable[[Exporter, Node], None]] = {
    **dict.fromkeys(SAME, lambda one, node: one.emit(node)),
    **dict.fromkeys(("Softmax", "Concat"), lambda one, node: one.emit(node, axis=node["axis"])),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2"), _reduce),
    **dict.fromkeys(("Conv", "ConvTranspose"), _conv),
    "Reshape": lambda one, node: one.emit(node, one.known(node["shape"])),
    "Transpose": lambda one, node: one.emit(node, perm=node["perm"]),
    "Split": lambda one, node: one.emit(node, one.known(node["sizes"]), axis=node["axis"]),
    "Slice": _slice,
    "Pad": _pad,
    "Take": _take,
    "Clip": _clip,
    "CumSum": _running_sum,
    "MaxPool": lambda one, node: one.emit(node, **_window(node)),
    "AveragePool": lambda one, node: one.emit(
        node, count_include_pad=int(node["count_border"]), **_window(node)
    ),
    "LayerNorm": lambda one, node: one.emit(
        node, op="LayerNormalization", axis=node["axis"], epsilon=node["epsilon"]
    ),
    "GroupNorm": lambda one, node: one.emit(
        node, op="GroupNormalization", num_groups=node["groups"], epsilon=node["epsilon"]
    ),
}
"""How each operator that is drawn is written."""


def exported(graph: Graph) -> onnx.ModelProto:
    """The graph as a model; raises KeyError for an operator that is not in `WRITERS`."""
    one = Exporter(graph)
    for node in graph.nodes:
        WRITERS[node.op](one, node)
    named = [helper.make_node("Identity", [value], [f"result {public}"]) for public, value in graph.outputs]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, one.shape(name)) for name in graph.inputs
    ]
    outputs = [
        helper.make_tensor_value_info(f"result {public}", TensorProto.FLOAT, one.shape(value))
        for public, value in graph.outputs
    ]
    assert ABSENT == ""
    made = helper.make_graph([*one.nodes, *named], "drawn", inputs, outputs, one.tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
