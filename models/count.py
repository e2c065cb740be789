"""Parameters, multiply-accumulates and operators of a network, counted in its graph without its weights."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from models.dtypes import BY_ONNX_NUMBER
from models.model import Model
from models.onnx_external import EXTERNAL
from models.onnx_file import bind_dims, load_graph
from models.recipe import read_recipe

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

SHAPE_TENSOR_BYTES = 1024  # inference reads the values of shape tensors only; no shape is longer than this


@dataclass(frozen=True, slots=True)
class Counts:
    """What a graph holds; `macs` is None when the shapes around the nodes `uncounted` are unknown."""

    parameters: int
    macs: int | None
    nodes: int
    nodes_by_operator: Mapping[str, int]
    uncounted: tuple[str, ...] = ()


def count_model(model: Model) -> Counts:
    """Count a network; the exact constants of a pinned one (masks, index tables) are no parameters."""
    constants: frozenset[str] = frozenset()
    if model.is_pinned:
        recipe = read_recipe(model.graph.parent / "weights.toml")
        constants = frozenset(tensor.name for tensor in recipe.tensors if tensor.kind == "exact")
    return count(model.graph, constants, dict(model.dims))


def count(path: Path, constants: Collection[str] = (), dims: Mapping[str, int] | None = None) -> Counts:
    """Count the ONNX file at `path`; `constants` are weights that are no parameters, `dims` binds dimensions.

    Parameters are the elements of all floating-point initialisers. MACs are those of `MACS_OF`: convolutions
    and matrix products, as in the papers. Nodes are those of the main graph; bodies of If and Loop are not
    entered. Raises `ModelError` when the file cannot be read.
    """
    proto = load_graph(path)
    bind_dims(proto, dims or {})
    shapes = infer_shapes(proto)
    macs, uncounted = 0, []
    for index, node in enumerate(proto.graph.node):
        counted = node_macs(node, shapes)
        if counted is None:
            uncounted.append(node.name or f"{node.op_type} {index}")
        else:
            macs += counted
    operators = Counter(node.op_type for node in proto.graph.node)
    return Counts(
        parameters=_parameters(proto.graph, constants),
        macs=None if uncounted else macs,
        nodes=len(proto.graph.node),
        nodes_by_operator=dict(sorted(operators.items(), key=lambda item: (-item[1], item[0]))),
        uncounted=tuple(uncounted),
    )


def infer_shapes(proto: "ModelProto") -> Shapes:
    """Shape of every value whose sizes are all known; the proto's larger weights are emptied on the way."""
    return shapes_in(inferred(proto))


def inferred(proto: "ModelProto") -> "GraphProto":
    """The graph with all types that can be told; the proto's larger weights are emptied on the way."""
    import onnx

    for tensor in proto.graph.initializer:
        if len(tensor.raw_data) > SHAPE_TENSOR_BYTES:
            tensor.ClearField("raw_data")
            tensor.data_location = EXTERNAL
    try:
        return onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except onnx.shape_inference.InferenceError:
        return proto.graph  # its own shapes contradict one another: what it says is all there is


def shapes_in(graph: "GraphProto") -> Shapes:
    """Shape of every value whose sizes the graph tells."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        if value.type.tensor_type.HasField("shape") and all(size > 0 for size in sizes):
            shapes.setdefault(value.name, sizes)
    return shapes


def _parameters(graph: "GraphProto", constants: Collection[str]) -> int:
    return sum(
        prod(tensor.dims)
        for tensor in graph.initializer
        if tensor.name not in constants
        and (row := BY_ONNX_NUMBER.get(tensor.data_type)) is not None
        and row.is_float
    )


def node_macs(node: "NodeProto", shapes: Shapes) -> int | None:
    """MACs of one node; None when a shape that decides them is unknown."""
    formula = MACS_OF.get(node.op_type)
    if formula is None or node.domain not in ("", "ai.onnx"):
        return 0
    named = [name for name in (*node.input[:2], node.output[0]) if name]
    if any(name not in shapes for name in named):
        return None
    return formula(node, *(shapes[name] for name in named))


def _convolution(node: "NodeProto", image: Shape, weight: Shape, result: Shape) -> int:
    # weight is [M, C / group, kernel …]: each output value sums over all of it but M.
    return prod(result) * prod(weight[1:])


def _transposed_convolution(node: "NodeProto", image: Shape, weight: Shape, result: Shape) -> int:
    # weight is [C, M / group, kernel …]: each input value is spread over all of it but C.
    return prod(image) * prod(weight[1:])


def _gemm(node: "NodeProto", left: Shape, right: Shape, result: Shape) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(result) * left[0 if transposed else 1]


def _matrix_product(node: "NodeProto", left: Shape, right: Shape, result: Shape) -> int:
    return prod(result) * left[-1]


def _einsum(node: "NodeProto", *shapes: Shape) -> int:
    """The product of the sizes of all letters; `...` stands for the axes that no letter names."""
    equation = next(attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=False):
        sizes |= _letter_sizes(term, shape)
    return prod(sizes.values())


def _letter_sizes(term: str, shape: Shape) -> dict[str, int]:
    before, dots, after = term.partition("...")
    hidden = len(shape) - len(before) - len(after) if dots else 0
    letters = [*before, *(f"...{axis}" for axis in range(hidden, 0, -1)), *after]
    return dict(zip(letters, shape, strict=True))


MACS_OF: Mapping[str, Callable[..., int]] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _matrix_product,
    "Einsum": _einsum,
}
