"""Which template of the compiler an ONNX node belongs to, and what an attention is made of."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of kernel. `is_arithmetic` says what bounds a good one: multiply-adds, or the bytes it moves."""

    name: str
    words: str
    is_arithmetic: bool


TEMPLATES = {
    row.name: row
    for row in (
        Template("pointwise", "convolution 1×1, stride 1", True),
        Template("conv3x3", "convolution 3×3, stride 1", True),
        Template("conv", "convolution with any other window, stride 1", True),
        Template("strided", "convolution with a stride, not grouped", True),
        Template("depthwise", "convolution of every channel by itself", True),
        Template("grouped", "convolution in groups of channels", True),
        Template("matmul", "matrix product with a weight", True),
        Template("product", "matrix product of two activations, outside attention", True),
        Template("attention", "product, scale and bias, softmax, product", True),
        Template("normalization", "layer, instance and batch normalisation", False),
        Template("softmax", "softmax outside attention", False),
        Template("elementwise", "one function of each element, or of two", False),
    )
}
ATTENTION = "attention"
NORMALIZATIONS = frozenset({"LayerNormalization", "InstanceNormalization", "BatchNormalization"})
ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Neg", "Relu", "Sigmoid", "Tanh", "Gelu", "Exp", "Sqrt", "Erf"}
)
BETWEEN = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Reshape", "Where", "Cast"})
"""Operators that may stand between the products and the softmax of an attention: scale, bias, mask."""

FLAT = {"MatMul": "matmul", "Gemm": "matmul", "Softmax": "softmax"}


def template_of(node: "NodeProto", shapes: Shapes, constants: Collection[str]) -> str:
    """Name of the template of one node, or "" for an operator that has none."""
    if node.op_type == "Conv":
        return _convolution(node, shapes)
    if node.op_type == "MatMul" and not any(name in constants for name in node.input):
        return "product"
    if node.op_type in NORMALIZATIONS:
        return "normalization"
    return "elementwise" if node.op_type in ELEMENTWISE else FLAT.get(node.op_type, "")


def _convolution(node: "NodeProto", shapes: Shapes) -> str:
    image, weight = shapes[node.input[0]], shapes[node.input[1]]
    window, groups = weight[2:], integers(node, "group", [1])[0]
    strides = integers(node, "strides", [1] * len(window))
    dilations = integers(node, "dilations", [1] * len(window))
    if groups > 1:
        return "depthwise" if groups == image[1] else "grouped"
    if prod(strides) > 1:
        return "strided"
    if prod(window) == 1:
        return "pointwise"
    return "conv3x3" if window == (3, 3) and prod(dilations) == 1 else "conv"


def integers(node: "NodeProto", name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An attribute of one or several whole numbers."""
    found = next((one for one in node.attribute if one.name == name), None)
    if found is None:
        return tuple(default)
    return tuple(found.ints) or (found.i,)


def attentions(nodes: Sequence["NodeProto"]) -> Iterator[tuple[int, ...]]:
    """Indices of the nodes of every attention: the products before a softmax, what is done to their result,
    the softmax, and the product after it. Nobody outside reads what lies in between.
    """
    makers = {name: index for index, node in enumerate(nodes) for name in node.output}
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        for name in node.input:
            readers.setdefault(name, []).append(index)
    for index, node in enumerate(nodes):
        if node.op_type != "Softmax":
            continue
        before = _before(node.input[0], nodes, makers)
        after = _after(index, nodes, readers)
        found = sorted({*before, index, *after})
        if before and after and _is_closed(found, nodes, readers):
            yield tuple(found)


def _before(name: str, nodes: Sequence["NodeProto"], makers: Mapping[str, int]) -> frozenset[int]:
    """Nodes on the ways from products to this value; none where no way leads to a product."""
    index = makers.get(name)
    if index is None:
        return frozenset()
    if nodes[index].op_type == "MatMul":
        return frozenset({index})
    if nodes[index].op_type not in BETWEEN:
        return frozenset()
    found = frozenset[int]().union(*(_before(one, nodes, makers) for one in nodes[index].input))
    return found | {index} if found else found


def _after(index: int, nodes: Sequence["NodeProto"], readers: Mapping[str, list[int]]) -> frozenset[int]:
    """Nodes from the softmax to the product that reads it; none where something else does."""
    found: set[int] = set()
    while True:
        following = readers.get(nodes[index].output[0], [])
        if len(following) != 1:
            return frozenset()
        index = following[0]
        found.add(index)
        if nodes[index].op_type == "MatMul":
            return frozenset(found)
        if nodes[index].op_type not in BETWEEN:
            return frozenset()


def _is_closed(found: Sequence[int], nodes: Sequence["NodeProto"], readers: Mapping[str, list[int]]) -> bool:
    inside = set(found)
    return all(set(readers.get(name, ())) <= inside for index in found[:-1] for name in nodes[index].output)


def each(
    nodes: Sequence["NodeProto"], name: Callable[["NodeProto"], str]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """All pieces of a graph with the name of their template: attentions, then every other node by itself."""
    taken: set[int] = set()
    for piece in attentions(nodes):
        taken.update(piece)
        yield ATTENTION, piece
    for index, node in enumerate(nodes):
        if index not in taken and (found := name(node)):
            yield found, (index,)
