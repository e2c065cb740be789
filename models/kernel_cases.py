"""The operators of the pinned networks as small networks of their own, each shape once.

A case is one node, or the nodes of one attention, cut out of a pinned graph with its shapes, attributes and
small constants. Two pieces that come out as the same bytes are the same case, whichever networks they are in.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from models.cache import is_complete, publish
from models.count import Shapes, inferred, node_macs, shapes_in
from models.draw import draw_piece
from models.kernel_templates import ATTENTION, TEMPLATES, each, integers, template_of
from models.model import Model
from models.onnx_external import EXTERNAL
from models.onnx_file import load_graph
from models.recipe import Recipe, read_recipe
from models.weights import read_constants

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

IR_VERSION = 10
FLOAT32 = 1
FLOAT32_BYTES = 4
DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel to measure: what every framework gets as an ONNX file.

    Attributes:
        name: tells the template and the sizes; of two cases that would have the same, by its digest too.
        template: a name of `TEMPLATES`.
        digest: 16 hex digits over operators, attributes, shapes and small constants.
        flops: 2 × the multiply-accumulates of its products; 0 for one that has none.
        byte_count: inputs, weights and results, each once.
        occurrences: how often each network has it.
        source: the network whose nodes and weights the file has, and these nodes' indices in its graph.
    """

    name: str
    template: str
    digest: str
    flops: int
    byte_count: int
    occurrences: Mapping[str, int]
    source: tuple[str, tuple[int, ...]]

    @property
    def count(self) -> int:
        """How often all networks together have it."""
        return sum(self.occurrences.values())

    @property
    def work(self) -> int:
        """Operations, or bytes where those are what bounds it, of all its occurrences."""
        return self.count * (self.flops if TEMPLATES[self.template].is_arithmetic else self.byte_count)


class Graph:
    """A pinned graph with the shapes and types of its values."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.proto = load_graph(model.graph)
        self.types = inferred(load_graph(model.graph))
        self.shapes: Shapes = shapes_in(self.types)
        self.nodes: Sequence[NodeProto] = self.proto.graph.node
        self.weights = {tensor.name: tensor for tensor in self.proto.graph.initializer}
        described = (*self.types.input, *self.types.value_info, *self.types.output)
        self.dtypes = {value.name: value.type.tensor_type.elem_type for value in described}

    @cached_property
    def recipe(self) -> Recipe:
        """How the weights are drawn."""
        return read_recipe(self.model.graph.parent / "weights.toml")

    def pieces(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Template and nodes of everything that can be a case: float32, all sizes known."""
        for template, nodes in each(
            self.nodes, lambda node: template_of(node, self.shapes, self.weights) if self.knows(node) else ""
        ):
            if all(self.knows(self.nodes[index]) for index in nodes):
                yield template, nodes

    def knows(self, node: "NodeProto") -> bool:
        """Whether the node works on float32 of known sizes, and on something that is not known before."""
        fed = [name for name in node.input if name and name not in self.weights]
        values = [*fed, *node.output]
        return bool(fed) and all(
            name in self.shapes and self.dtypes.get(name) == FLOAT32 for name in filter(None, values)
        )


def find_cases(models: Iterable[Model]) -> tuple[Case, ...]:
    """Every kernel of these networks once, template by template, those with most work first."""
    found: dict[str, Case] = {}
    counts: dict[str, Counter[str]] = {}
    for model in models:
        graph = Graph(model)
        for template, nodes in graph.pieces():
            skeleton = cut_out(graph, nodes)
            content = skeleton.SerializeToString(deterministic=True)
            digest = hashlib.sha256(template.encode() + b"\0" + content).hexdigest()[:DIGEST_DIGITS]
            counts.setdefault(digest, Counter())[model.name] += 1
            if digest not in found:
                found[digest] = _case(graph, template, nodes, digest, skeleton)
    alike = Counter(case.name for case in found.values())
    cases = [
        replace(
            case,
            name=case.name if alike[case.name] == 1 else f"{case.name}-{digest[:4]}",
            occurrences=dict(counts[digest]),
        )
        for digest, case in found.items()
    ]
    order = list(TEMPLATES)
    return tuple(sorted(cases, key=lambda case: (order.index(case.template), -case.work, case.name)))


def cut_out(graph: Graph, nodes: Sequence[int]) -> "ModelProto":
    """These nodes as a network under names that say nothing, its weights without values, but for those that
    the graph itself holds (scales, sizes): they decide what is computed.
    """
    from onnx import GraphProto, ModelProto, NodeProto

    names: dict[str, str] = {}
    whole = GraphProto(name="kernel")
    for number, index in enumerate(nodes):
        node = NodeProto()
        node.CopyFrom(graph.nodes[index])
        node.name, node.doc_string = f"n{number}", ""
        for name in filter(None, node.input):
            if name not in names:
                _add_source(graph, whole, name, names)
        for name in filter(None, node.output):
            names[name] = f"y{len(names)}"
        node.input[:] = [names.get(name, "") for name in node.input]
        node.output[:] = [names.get(name, "") for name in node.output]
        whole.node.append(node)
    last = graph.nodes[nodes[-1]].output[0]
    whole.output.append(_value(graph, last, names[last]))
    proto = ModelProto(ir_version=IR_VERSION, graph=whole)
    proto.opset_import.extend(graph.proto.opset_import)
    return proto


def _add_source(graph: Graph, whole: object, name: str, names: dict[str, str]) -> None:
    from onnx import GraphProto, TensorProto

    assert isinstance(whole, GraphProto)
    weight = graph.weights.get(name)
    names[name] = f"{'x' if weight is None else 'w'}{len(names)}"
    if weight is None:
        whole.input.append(_value(graph, name, names[name]))
        return
    tensor = TensorProto()
    tensor.CopyFrom(weight)
    tensor.name = names[name]
    if weight.data_location == EXTERNAL:
        tensor = TensorProto(name=names[name], data_type=weight.data_type, dims=weight.dims)
    whole.initializer.append(tensor)


def _value(graph: Graph, name: str, new_name: str) -> "ValueInfoProto":
    from onnx import helper

    return helper.make_tensor_value_info(new_name, graph.dtypes[name], graph.shapes[name])


def write_case(case: Case, models: Mapping[str, Model], cache: Path) -> Path:
    """The case as an ONNX file in the cache, named after it, with its network's own weights inside.

    `models` are the networks by name. Raises `ModelError` when the cache cannot be used.
    """
    folder = cache / "kernels" / case.digest

    def fill(partial: Path) -> None:
        network, nodes = case.source
        graph = Graph(models[network])
        skeleton = cut_out(graph, nodes)
        _fill_in(graph, nodes, skeleton)
        (partial / f"{case.name}.onnx").write_bytes(skeleton.SerializeToString(deterministic=True))

    if not is_complete(folder) or not (folder / f"{case.name}.onnx").is_file():
        publish(folder, case.byte_count, fill)
    return folder / f"{case.name}.onnx"


def _fill_in(graph: Graph, nodes: Sequence[int], skeleton: "ModelProto") -> None:
    """Give every weight its values: the ones it has in the network."""
    sources = dict.fromkeys(name for index in nodes for name in graph.nodes[index].input)
    external = [name for name in sources if name in graph.weights]
    for name, tensor in zip(external, skeleton.graph.initializer, strict=True):
        if graph.weights[name].data_location == EXTERNAL:
            tensor.raw_data = _weight_bytes(graph, name)


def _weight_bytes(graph: Graph, name: str) -> bytes:
    row = next(tensor for tensor in graph.recipe.tensors if tensor.name == name)
    if row.kind == "exact":
        values = read_constants(graph.model.graph.parent, graph.recipe)[name]
    else:
        values = draw_piece(row, graph.recipe.seed, 0, row.element_count)
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def _case(graph: Graph, template: str, nodes: tuple[int, ...], digest: str, skeleton: "ModelProto") -> Case:
    macs = sum(node_macs(graph.nodes[index], graph.shapes) or 0 for index in nodes)
    held: Iterable[TensorProto | ValueInfoProto]
    held = (*skeleton.graph.input, *skeleton.graph.output)
    sizes = [prod(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in held]
    sizes += [prod(tensor.dims) for tensor in skeleton.graph.initializer]
    return Case(
        name=_name(graph, template, nodes),
        template=template,
        digest=digest,
        flops=2 * macs,
        byte_count=FLOAT32_BYTES * sum(sizes),
        occurrences={},
        source=(graph.model.name, nodes),
    )


def _name(graph: Graph, template: str, nodes: tuple[int, ...]) -> str:
    """Sizes as people say them: channels×height×width-channels, rows×depth×columns, scores-channels."""
    first, last = graph.nodes[nodes[0]], graph.nodes[nodes[-1]]
    shapes = graph.shapes
    result = shapes[last.output[0]]
    if first.op_type == "Conv":
        weight = shapes[first.input[1]]
        window = "" if template in ("pointwise", "conv3x3") else f"-k{_times(weight[2:])}"
        stride = integers(first, "strides", [1])[0]
        groups = integers(first, "group", [1])[0]
        marks = window + (f"-s{stride}" if stride > 1 else "")
        marks += f"-g{groups}" if template == "grouped" else ""
        return f"{template}-{_times(shapes[first.input[0]][1:])}-{weight[0]}{marks}"
    if template == ATTENTION:
        scores = next(shapes[graph.nodes[index].output[0]] for index in nodes)
        return f"{template}-{_times(_without_ones(scores))}-{result[-1]}"
    if template in ("matmul", "product"):
        depth = shapes[first.input[0]][0 if integers(first, "transA", [0])[0] else -1]
        return f"{template}-{_times((*_without_ones(result[:-1]), depth, result[-1]))}"
    others = [name for name in first.input if name] if template == "elementwise" else []
    beside = [_beside(graph, name) for name in others if name in graph.weights or shapes[name] != result]
    return "-".join((first.op_type.lower(), _times(_without_ones(result)), *beside))


def _beside(graph: Graph, name: str) -> str:
    """An operand that is not as large as the result, or known before (with a w)."""
    return ("w" if name in graph.weights else "") + _times(_without_ones(graph.shapes[name]) or (1,))


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """Sizes without those of 1 in front, at least one."""
    kept = tuple(shape)
    while len(kept) > 1 and kept[0] == 1:
        kept = kept[1:]
    return kept


def _times(sizes: Iterable[int]) -> str:
    return "x".join(map(str, sizes))
