"""What pnnx gets wrong or leaves over, said in ONNX another way that it gets right; the results are equal."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

REDUCTIONS = frozenset(
    {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"}
    | {"ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"}
)
"""pnnx writes an empty list for a single axis, so that ncnn reduces nothing; lists of two come out right."""

Shapes = Mapping[str, tuple[int, ...]]


def rewrite(proto: "ModelProto", shapes: Shapes) -> None:
    """Rewrite in `proto` itself; `shapes` are those of its values."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes: list[NodeProto] = []
    for node in proto.graph.node:
        rank = len(shapes.get(node.input[0], ())) if node.input else 0
        if node.op_type in REDUCTIONS and len(node.input) > 1 and node.input[1] in constants:
            axes = numpy_helper.to_array(constants[node.input[1]]).ravel().tolist()
            nodes += _reduction(node, [axis % rank for axis in axes]) if rank else [node]
        elif node.op_type == "InstanceNormalization" and rank == 3:
            nodes += _instance_normalisation(node)
        else:
            nodes.append(_without_default_axis(node) if node.op_type == "Gather" else node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def _reduction(node: "NodeProto", axes: list[int]) -> list["NodeProto"]:
    """Over one axis: with an axis of one element beside it, which is reduced too."""
    from onnx import helper

    if len(axes) != 1 or axes[0] == 0:
        return [node]
    keeps = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
    (axis,), (result,) = axes, node.output
    names = {part: f"{result}__{part}" for part in ("wide", "axes", "beside", "reduced")}
    reduced = names["reduced"] if keeps else result
    nodes = [
        _integers(names["beside"], [axis + 1]),
        _integers(names["axes"], [axis, axis + 1]),
        helper.make_node("Unsqueeze", [node.input[0], names["beside"]], [names["wide"]]),
        helper.make_node(
            node.op_type, [names["wide"], names["axes"]], [reduced], name=node.name, keepdims=keeps
        ),
    ]
    return [*nodes, helper.make_node("Squeeze", [reduced, names["beside"]], [result])] if keeps else nodes


def _instance_normalisation(node: "NodeProto") -> list["NodeProto"]:
    """Of rank 3, for which ncnn has no layer: as of rank 4 with a last axis of one element."""
    from onnx import helper

    (result,) = node.output
    wide, axis, normalised = (f"{result}__{part}" for part in ("wide", "axis", "normalised"))
    before = helper.make_node("Unsqueeze", [node.input[0], axis], [wide])
    node.input[0], node.output[0] = wide, normalised
    return [_integers(axis, [3]), before, node, helper.make_node("Squeeze", [normalised, axis], [result])]


def _without_default_axis(node: "NodeProto") -> "NodeProto":
    """Only where the axis is not said does pnnx make an Embed of a Gather from a table."""
    kept = [one for one in node.attribute if not (one.name == "axis" and one.i == 0)]
    del node.attribute[:]
    node.attribute.extend(kept)
    return node


def _integers(name: str, values: list[int]) -> "NodeProto":
    from onnx import helper

    return helper.make_node("Constant", [], [name], value_ints=values)
