"""ONNX to .mnn with MNN's own converter, called without the Python package around it that phones home."""

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from adapters.graph_names import operator_place
from adapters.interface import Interface, Port, onnx_interface
from adapters.protocol import Converted, Unsupported

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

MODEL_NAME = "model.mnn"
WEIGHTS_SUFFIX = ".weight"
NODES_NAME = "nodes.json"
SUCCESS = "Converted Success!"
MISSING_OPERATORS = re.compile(r"These Op Not Support: (?P<operators>.+)")

FLAGS = {
    "transformer_fuse": "--transformerFuse",
    "external_weights": "--saveExternalData",
    "native_group_convolution": "--groupConvNative",
}
"""Options that are there or not ("1" or "0")."""
VALUES = {
    "optimize_level": "--optimizeLevel",
    "optimize_prefer": "--optimizePrefer",
    "matmul_to_convolution": "--convertMatmulToConv",
    "gelu_approximation": "--useGeluApproximation",
}
ERF_GELU = "erf"
CONVERTER_OPTIONS = (*FLAGS, *VALUES, "gelu")

NATIVE_DTYPES = {
    "float32": "float32",
    "int32": "int32",
    "int64": "int32",
    "bool": "int32",
    "uint8": "uint8",
}
"""What a tensor of an ONNX dtype is at MNN's border."""

REDUCTIONS_OF_OLD = frozenset({"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"})
"""Reductions that MNN's converter understands only with everything written out in attributes. It overlooks
axes that are an input (since opset 18) and reduces to one number, and takes a `keepdims` that is left out as
0, not as ONNX's 1; both without a word.
"""


def convert_onnx(source: Path, folder: Path, options: Mapping[str, str]) -> Converted:
    """Convert the ONNX file `source` into `folder`: the .mnn file, its weights, `interface.json`, names.

    Raises `Unsupported` for operators that the converter does not have, dtypes that MNN has no border for,
    and shapes that are known only when the network runs.
    """
    from models.onnx_file import load_graph

    native_interface(onnx_interface(source)).write(folder)
    proto = load_graph(source)
    (folder / NODES_NAME).write_text(json.dumps(node_rows(proto)) + "\n", encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        log = _run_converter(_adapted(source, proto, options, Path(scratch)), folder / MODEL_NAME, options)
    _check(source, folder / MODEL_NAME, log)
    return Converted(MODEL_NAME)


def native_interface(interface: Interface) -> Interface:
    """The inputs and outputs as MNN has them: ONNX's names and layout, int64 and bool as int32."""
    for port in interface.inputs:
        if any(size < 1 for size in port.shape):
            raise Unsupported(f"input {port.name!r} has a dimension without a size: {list(port.shape)}")
    return Interface(tuple(map(_native, interface.inputs)), tuple(map(_native, interface.outputs)))


def _native(port: Port) -> Port:
    if port.dtype not in NATIVE_DTYPES:
        raise Unsupported(f"MNN has no tensor of {port.dtype} at its border: {port.name!r}")
    return replace(port, native_dtype=NATIVE_DTYPES[port.dtype])


def node_rows(proto: "ModelProto") -> list[dict[str, Any]]:
    """Names and operators of the original nodes, in order: what a profile is led back to."""
    return [
        {
            "name": node.name,
            "operator": node.op_type,
            "reads": list(filter(None, node.input)),
            "writes": list(filter(None, node.output)),
        }
        for node in proto.graph.node
    ]


def _adapted(source: Path, proto: "ModelProto", options: Mapping[str, str], scratch: Path) -> Path:
    """The file to convert: `source` itself, or one beside links to its weights that avoids what MNN's
    converter gets wrong.
    """
    from models.onnx_file import external_files

    changed = write_out_reductions(proto)
    if options["gelu"] == ERF_GELU:
        changed = gelu_as_erf(proto) or changed
    if not changed:
        return source
    target = scratch / source.name
    target.write_bytes(proto.SerializeToString())
    for location in external_files(source):
        link = scratch / location
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((source.parent / location).resolve())
    return target


def write_out_reductions(proto: "ModelProto") -> bool:
    """Say axes and `keepdims` of `REDUCTIONS_OF_OLD` in attributes; returns whether there were any.

    Raises `Unsupported` for axes that are not a constant of the file.
    """
    from onnx import helper

    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    found = [node for node in proto.graph.node if node.op_type in REDUCTIONS_OF_OLD]
    for node in found:
        if not any(attribute.name == "keepdims" for attribute in node.attribute):
            node.attribute.append(helper.make_attribute("keepdims", 1))
        if len(node.input) > 1 and node.input[1]:
            node.attribute.append(helper.make_attribute("axes", _constant_axes(node, constants)))
        del node.input[1:]
    return bool(found)


def _constant_axes(node: "NodeProto", constants: Mapping[str, "TensorProto"]) -> list[int]:
    from onnx import numpy_helper

    axes = constants.get(node.input[1])
    if axes is None or not (axes.raw_data or axes.int64_data):
        reason = "MNN's converter overlooks axes that are an input"
        raise Unsupported(f"operator {node.op_type} (node {node.name!r}): {reason}")
    return [int(axis) for axis in numpy_helper.to_array(axes).ravel()]


def gelu_as_erf(proto: "ModelProto") -> bool:
    """Write `Gelu` without approximation as x/2 · (1 + erf(x/√2)); returns whether there was any.

    MNN's kernel for `Gelu` is the tanh approximation whatever the network asks for.
    """
    nodes: list[NodeProto] = []
    for node in proto.graph.node:
        exact = node.op_type == "Gelu" and not any(
            attribute.name == "approximate" and attribute.s == b"tanh" for attribute in node.attribute
        )
        nodes += _erf_nodes(node) if exact else [node]
    changed = len(nodes) > len(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return changed


def _erf_nodes(node: "NodeProto") -> list["NodeProto"]:
    from onnx import helper

    (x,), (y,) = node.input, node.output
    names = {part: f"{y}__{part}" for part in ("root", "one", "half", "scaled", "erf", "sum", "product")}
    values = {"root": 0.5**0.5, "one": 1.0, "half": 0.5}
    constants = [
        helper.make_node("Constant", [], [names[part]], value_float=value) for part, value in values.items()
    ]
    return [
        *constants,
        helper.make_node("Mul", [x, names["root"]], [names["scaled"]]),
        helper.make_node("Erf", [names["scaled"]], [names["erf"]]),
        helper.make_node("Add", [names["erf"], names["one"]], [names["sum"]]),
        helper.make_node("Mul", [x, names["sum"]], [names["product"]]),
        helper.make_node("Mul", [names["product"], names["half"]], [y], name=node.name),
    ]


def converter_arguments(source: Path, target: Path, options: Mapping[str, str]) -> list[str]:
    """The command line of `mnnconvert`."""
    arguments = ["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target)]
    arguments += ["--bizCode", "bench"]
    arguments += [flag for option, flag in FLAGS.items() if options[option] == "1"]
    for option, flag in VALUES.items():
        arguments += [flag, options[option]]
    return arguments


def _run_converter(source: Path, target: Path, options: Mapping[str, str]) -> str:
    """Call the converter's extension module; `MNN.tools` and `mnnconvert` would call pip and report the use
    of it. Returns what it printed, which is all that it tells.
    """
    import _tools

    with tempfile.TemporaryFile() as log:
        with _captured(log):
            _tools.mnnconvert(converter_arguments(source, target, options))
        log.seek(0)
        text = log.read().decode(errors="replace")
    print(text, file=sys.stderr)
    return text


@contextlib.contextmanager
def _captured(log: IO[bytes]) -> Iterator[None]:
    """Both output descriptors of this process into a file; it is C++ that prints."""
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(log.fileno(), number)
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def _check(source: Path, target: Path, log: str) -> None:
    """The converter returns the same whatever came of it."""
    missing = MISSING_OPERATORS.search(log)
    if missing is not None:
        operators = [name.rpartition("::")[2] for name in missing["operators"].split()]
        places = "; ".join(operator_place(source, operator) for operator in operators)
        raise Unsupported(f"{places}: MNN's converter does not have it")
    if SUCCESS not in log or not target.exists():
        last = next((line for line in reversed(log.splitlines()) if line.strip()), "it said nothing")
        raise RuntimeError(f"MNN's converter failed: {last.strip()}")
