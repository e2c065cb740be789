"""ONNX to .tflite with onnx2tf's direct flatbuffer back end; runs in the environment `onnx2tf`.

onnx2tf's command and its `convert()` rewrite the ONNX file that they are given (they name its nodes), so the
back end gets the network in memory and never learns where the file lies.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.interface import Interface, Port, onnx_interface
from adapters.protocol import Converted, Unsupported
from adapters.tflite_flatbuffer import write_model
from adapters.tflite_layout import find_layouts
from adapters.tflite_weights import load_mapped, reading_mapped

MODEL_NAME = "model.tflite"
OPERATORS_NAME = "operators.json"
OUTPUT_NAME = "onnx2tf"
REFUSAL = re.compile(r"op=(?P<operator>\S*) node=(?P<node>.*?) reason_code=\S* message=(?P<reason>.*)", re.S)
CHANNELS_LAST = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}
CONVOLUTIONAL = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"}
    | {"BatchNormalization", "InstanceNormalization", "GroupNormalization", "Resize", "LRN", "DepthToSpace"}
    | {"SpaceToDepth", "PRelu"}
)
SHAPE_KEEPING = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pad", "Cast", "Clip", "Identity", "Relu", "Sigmoid", "Tanh", "Neg", "Sqrt"}
    | {"LeakyRelu", "Elu", "HardSwish", "HardSigmoid", "Exp", "Abs", "Pow", "Concat", "QuantizeLinear"}
)
"""What an input may pass on its way to a convolution without a reason to be transposed back."""


class _WrittenError(Exception):
    """Raised to leave onnx2tf after the float32 file: it would go on with a float16 one."""


def convert_onnx(source: Path, folder: Path, options: Mapping[str, str]) -> Converted:
    """Convert the ONNX file `source` into `folder`: the .tflite file, `interface.json`, `operators.json`.

    Raises `Unsupported` for an operator, with its node's name, that the back end refuses, and for shapes that
    are known only when the network runs.
    """
    interface = onnx_interface(source)
    for port in interface.inputs:
        if 0 in port.shape:
            raise Unsupported(f"input {port.name!r} has a dimension without a size: {list(port.shape)}")
    network, weights = load_mapped(source)
    node_operators = name_nodes(network.graph)
    kept = inputs_to_keep(network.graph, interface, options["input_layout"])
    with reading_mapped(weights):
        written, report = _export(network, kept, source, folder)
    inputs = [_native_ports(port, written) for port in interface.inputs]
    outputs = [_native_ports(port, written) for port in interface.outputs]
    find_layouts(inputs, outputs, source, folder / MODEL_NAME).write(folder)
    rows = operator_rows(written, report, node_operators)
    (folder / OPERATORS_NAME).write_text(json.dumps(rows) + "\n", encoding="utf-8")
    return Converted(MODEL_NAME)


def name_nodes(graph: Any) -> dict[str, str]:
    """Give every node without a name one, in memory: the back end makes tensor names of them.

    Returns the operator of each node that had a name before.
    """
    named = {node.name: node.op_type for node in graph.node if node.name}
    for index, node in enumerate(graph.node):
        if not node.name:
            node.name = f"{node.op_type}_unnamed_{index}"
    return named


def has_static_shapes(source: Path) -> bool:
    """Whether no shape inside the network depends on values.

    onnx2tf marks what it splits as dynamic even then, and with one such mark tflite-runtime 2.14 leaves the
    whole network to slow kernels instead of XNNPACK.
    """
    from models.count import infer_shapes
    from models.onnx_file import load_graph

    shapes = infer_shapes(load_graph(source))
    outputs = (name for node in load_graph(source).graph.node for name in node.output if name)
    return all(name in shapes for name in outputs)


def is_approximate_gelu(node: Any) -> bool:
    """Whether it is the Gelu that is computed with tanh."""
    return node.op_type == "Gelu" and any(
        attribute.name == "approximate" and attribute.s == b"tanh" for attribute in node.attribute
    )


def inputs_to_keep(graph: Any, interface: Interface, layout: str) -> list[str]:
    """Inputs whose layout stays ONNX's.

    onnx2tf turns every input of rank 3 to 5 into channels-last; where the network does not begin with a
    convolution that only costs a transposition back (the sequences of transformers). `layout` is `as-used`
    for this rule, `onnx` to keep all, `channels-last` to keep none.
    """
    names = [port.name for port in interface.inputs if len(port.shape) in CHANNELS_LAST]
    if layout == "channels-last":
        return []
    return [name for name in names if layout == "onnx" or not feeds_convolution(graph, name)]


def feeds_convolution(graph: Any, name: str) -> bool:
    """Whether a value reaches an operator with a channel axis through others that keep its shape."""
    reached = {name}
    for node in graph.node:  # in topological order, as ONNX demands
        if not reached.intersection(node.input):
            continue
        if node.op_type in CONVOLUTIONAL:
            return True
        if node.op_type in SHAPE_KEEPING:
            reached.update(node.output)
    return False


def _export(network: Any, kept: list[str], source: Path, folder: Path) -> tuple[Any, Mapping[str, Any]]:
    """Run the back end up to its float32 file; returns its graph as written, and its table of tensors."""
    from onnx2tf import tflite_builder

    written: list[Any] = []
    gelus = {node.name for node in network.graph.node if is_approximate_gelu(node)}
    is_static = has_static_shapes(source)

    def write(*, schema_tflite: Any, model_ir: Any, output_tflite_path: str, timing: Any = None) -> None:
        # Without this the file permits float16 where the processor has it: not what fp32 means here.
        model_ir.metadata.pop("__tflite_model_metadata_entries__", None)
        if is_static:
            for tensor in model_ir.tensors.values():
                tensor.shape_signature = list(tensor.shape)
        written.append(write_model(schema_tflite, model_ir, folder / MODEL_NAME, gelus))
        raise _WrittenError

    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        tflite_builder.write_model_file = write
        try:
            tflite_builder.export_tflite_model_flatbuffer_direct(
                onnx_graph=network,
                output_folder_path=scratch,
                output_file_name=OUTPUT_NAME,
                keep_shape_absolutely_input_names=kept or None,
                flatbuffer_direct_show_progress=False,
            )
        except _WrittenError:
            report = Path(scratch) / f"{OUTPUT_NAME}_tensor_correspondence_report.json"
            return written[0], json.loads(report.read_text(encoding="utf-8"))
        except NotImplementedError as error:
            raise Unsupported(_refusal(str(error))) from error
    raise RuntimeError("onnx2tf ended without a float32 file: see the log")


def _refusal(text: str) -> str:
    found = REFUSAL.search(text)
    if found is None:
        return f"onnx2tf cannot convert it: {text}"
    return f"operator {found['operator']} (node {found['node']!r}): onnx2tf says {found['reason'].strip()}"


def _native_ports(port: Port, written: Any) -> tuple[Port, ...]:
    """What the input or output may be in the .tflite file, by its shape there: one, or two if C = H = W."""
    tensor = written.tensors.get(port.name)
    if tensor is None:
        raise Unsupported(f"onnx2tf dropped {port.name!r}: it is constant, or nothing uses it")
    shape, kept = tuple(tensor.shape), port.shape or (1,)
    axes = CHANNELS_LAST.get(len(port.shape), ())
    as_it_is = replace(port, native_dtype=str(tensor.dtype).lower())
    layouts = [as_it_is] if shape == kept else []
    if axes and shape == tuple(port.shape[axis] for axis in axes) and max(shape[1:]) > 1:
        layouts.append(replace(as_it_is, axes=axes))
    if not layouts:
        raise Unsupported(f"onnx2tf made {list(shape)} of {port.name!r}, which is {list(port.shape)} in ONNX")
    return tuple(layouts)


def operator_rows(
    written: Any, report: Mapping[str, Any], node_operators: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One row an operator of the .tflite file, in order: its type and the ONNX nodes that it covers.

    onnx2tf notes the node that an operator was made for; nodes that it folded into another operator are found
    by the tensor that now holds their result. `nodes` maps each name to its ONNX operator, `inputs` and
    `outputs` are tensor names.
    """
    covered: dict[str, list[str]] = {}
    for record in report["records"]:
        covered.setdefault(str(record["resolved_tflite_tensor_name"]), []).append(record["onnx_op_name"])
    rows = []
    for operator in written.operators:
        names = [operator.onnx_node_name] if operator.onnx_node_name else []
        for tensor in operator.outputs:
            names += covered.get(tensor, [])
        nodes = {name: node_operators[name] for name in names if name in node_operators}
        ends = {"inputs": list(operator.inputs), "outputs": list(operator.outputs)}
        rows.append({"type": operator.op_type, "nodes": nodes, **ends})
    return rows
