"""Every activation of a network looked at: finite, free of denormals, of sane size, through the whole depth.

The network runs in unoptimised ONNX Runtime in segments of a few nodes, each a session of its own that gives
out every value it computes. So one pass is enough, and memory holds one segment's activations and weights,
not the network's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelError

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

Array = NDArray[Any]

SEGMENT_BYTES = 128 * 2**20
SEGMENT_NODES = 64
UNKNOWN_BYTES = 16 * 2**20  # for a value whose shape the graph does not say


@dataclass(frozen=True, slots=True)
class ActivationFact:
    """One floating-point value that the network computes, and the node (`name`, `operator`) that computes it.

    A denormal is smaller than the smallest normal number of its type: processors may take 100 times as long
    over it. `rms` is the root of the mean square of the finite elements, `max_abs` their largest magnitude.
    """

    name: str
    operator: str
    shape: tuple[int, ...]
    nan_count: int
    infinite_count: int
    denormal_count: int
    max_abs: float
    rms: float

    @property
    def non_finite_count(self) -> int:
        """Elements that are infinite or not a number."""
        return self.nan_count + self.infinite_count


@dataclass(frozen=True, slots=True)
class ActivationSummary:
    """A survey in a few numbers, and the values, in order of execution, that are not as they should be.

    `zero` lists values whose every element is 0: nothing that leads there can be seen in the outputs.
    """

    value_count: int
    element_count: int
    non_finite: tuple[ActivationFact, ...]
    denormal: tuple[ActivationFact, ...]
    zero: tuple[ActivationFact, ...]
    denormal_count: int
    largest: ActivationFact | None
    smallest_rms: ActivationFact | None

    @property
    def is_sound(self) -> bool:
        """All values are finite and none has a denormal."""
        return not self.non_finite and not self.denormal


def survey(
    model_path: Path, inputs: Mapping[str, Array], segment_bytes: int = SEGMENT_BYTES
) -> tuple[ActivationFact, ...]:
    """Run the ONNX file at `model_path` once and look at every floating-point value, in order of execution.

    About `segment_bytes` of activations are held at a time. Raises `ModelError` when a node does not run.
    """
    from models.count import infer_shapes
    from models.onnx_file import load_graph

    proto = load_graph(model_path)
    nodes = list(proto.graph.node)
    sizes = {name: 4 * int(np.prod(shape)) for name, shape in infer_shapes(load_graph(model_path)).items()}
    last_use = _last_uses(nodes)
    alive: dict[str, Array] = dict(inputs)
    facts: list[ActivationFact] = []
    for first, end in _segments(nodes, sizes, segment_bytes):
        computed = _run(proto, nodes[first:end], alive, model_path.parent)
        for node in nodes[first:end]:
            found = ((name, computed[name]) for name in node.output if name in computed)
            facts.extend(_fact(name, node.op_type, value) for name, value in found if value.dtype.kind == "f")
        alive = {name: value for name, value in (alive | computed).items() if last_use.get(name, -1) >= end}
    return tuple(facts)


def summarise(facts: Sequence[ActivationFact]) -> ActivationSummary:
    """Gather a survey into a verdict."""
    visible = [fact for fact in facts if fact.max_abs > 0]
    return ActivationSummary(
        value_count=len(facts),
        element_count=sum(int(np.prod(fact.shape)) for fact in facts),
        non_finite=tuple(fact for fact in facts if fact.non_finite_count),
        denormal=tuple(fact for fact in facts if fact.denormal_count),
        zero=tuple(fact for fact in facts if not fact.max_abs and not fact.non_finite_count),
        denormal_count=sum(fact.denormal_count for fact in facts),
        largest=max(visible, key=lambda fact: fact.max_abs, default=None),
        smallest_rms=min(visible, key=lambda fact: fact.rms, default=None),
    )


def _fact(name: str, operator: str, value: Array) -> ActivationFact:
    magnitude = np.abs(value)
    finite = magnitude[np.isfinite(magnitude)]
    wide = finite.astype(np.float64)
    return ActivationFact(
        name=name,
        operator=operator,
        shape=value.shape,
        nan_count=int(np.isnan(value).sum()),
        infinite_count=int(np.isinf(value).sum()),
        denormal_count=int(np.count_nonzero((finite > 0) & (finite < np.finfo(value.dtype).tiny))),
        max_abs=float(finite.max(initial=0)),
        rms=float(np.sqrt(np.mean(wide * wide))) if finite.size else 0.0,
    )


def _segments(
    nodes: Sequence["NodeProto"], sizes: Mapping[str, int], segment_bytes: int
) -> Iterator[tuple[int, int]]:
    """Ranges of nodes whose results stay within `segment_bytes` together; a larger node stands alone."""
    first = gathered = 0
    for index, node in enumerate(nodes):
        size = sum(sizes.get(name, UNKNOWN_BYTES) for name in node.output if name)
        if index > first and (gathered + size > segment_bytes or index - first >= SEGMENT_NODES):
            yield first, index
            first, gathered = index, 0
        gathered += size
    if nodes:
        yield first, len(nodes)


def _last_uses(nodes: Sequence["NodeProto"]) -> dict[str, int]:
    """Index of the last node that reads each value."""
    return {name: index for index, node in enumerate(nodes) for name in _reads(node)}


def _reads(node: "NodeProto") -> set[str]:
    """Names that a node reads, also from inside its subgraphs."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in _graphs(attribute):
            own = {value.name for value in graph.input}
            own |= {name for inner in graph.node for name in inner.output}
            names |= set().union(*map(_reads, graph.node), {value.name for value in graph.output}) - own
    return names


def _graphs(attribute: "AttributeProto") -> Iterator["GraphProto"]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _run(
    proto: "ModelProto", nodes: Sequence["NodeProto"], alive: Mapping[str, Array], folder: Path
) -> dict[str, Array]:
    """Run a segment on the values computed before it; give every value that it computes."""
    import onnxruntime as ort

    where = f"nodes {nodes[0].name!r} to {nodes[-1].name!r}"
    segment, fed = _segment(proto, nodes, alive)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    # The graph is given as bytes: this says where its external weights lie.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    names = [value.name for value in segment.graph.output]
    try:
        session = ort.InferenceSession(
            segment.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        values = session.run(names, fed)
    except Exception as error:  # ONNX Runtime's exceptions share no class of their own
        raise ModelError(f"does not run in ONNX Runtime: {error}", where=where) from error
    if not all(isinstance(value, np.ndarray) for value in values):
        raise ModelError("a value is no tensor but a sequence", where=where, hint="export without sequences")
    return dict(zip(names, values, strict=True))


def _segment(
    proto: "ModelProto", nodes: Sequence["NodeProto"], alive: Mapping[str, Array]
) -> tuple["ModelProto", dict[str, Array]]:
    """A model of some of the nodes: its inputs are what they read from before, its outputs their results."""
    import onnx

    reads = set().union(*map(_reads, nodes))
    fed = {name: value for name, value in alive.items() if name in reads}
    segment = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    segment.functions.extend(proto.functions)
    segment.graph.name = "segment"
    segment.graph.node.extend(nodes)
    graph = proto.graph
    segment.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in reads)
    sparse = (tensor for tensor in graph.sparse_initializer if tensor.values.name in reads)
    segment.graph.sparse_initializer.extend(sparse)
    for name, value in fed.items():
        element_type = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        segment.graph.input.append(onnx.helper.make_tensor_value_info(name, element_type, value.shape))
    computed = dict.fromkeys(name for node in nodes for name in node.output if name)
    segment.graph.output.extend(onnx.ValueInfoProto(name=name) for name in computed)
    return segment, fed
