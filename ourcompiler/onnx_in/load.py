"""Reading an ONNX file: every node becomes rows of ours, shapes known, in an order that can run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper

from ourcompiler.build import LARGEST_BYTES, Builder
from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import ABSENT, Array, Graph
from ourcompiler.ir.types import TensorType
from ourcompiler.onnx_in.catalogue import CONTROL_FLOW, CONVERTERS, FOREIGN, OTHERWISE, REFUSED
from ourcompiler.onnx_in.site import Site, element_type

STANDARD_DOMAINS = ("", "ai.onnx")


def load(path: Path, dimensions: Mapping[str, int] | None = None) -> Graph:
    """The network of an ONNX file, with symbolic dimensions bound by name.

    Raises `CompileError` with the node's name for what cannot be compiled, is damaged, or does not fit.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError, ValueError) as error:
        raise CompileError(f"not an ONNX file: {error}", where=str(path)) from error
    if not model.graph.node and not model.graph.output:
        raise CompileError("not an ONNX file: it holds no network", where=str(path))
    return import_model(model, path.parent, dimensions or {}, path.stem)


def import_model(
    model: onnx.ModelProto, folder: Path, dimensions: Mapping[str, int], name: str = "network"
) -> Graph:
    """The network of a loaded model; tensors outside of it lie in `folder`. Raises like `load`."""
    builder, names = Builder(name), {"": ABSENT}
    for tensor in model.graph.initializer:
        array = _tensor(tensor, folder)
        names[tensor.name] = builder.constant(array, tensor.name)
    for value in model.graph.input:
        if value.name not in names:
            names[value.name] = builder.input(value.name, _type(value, dimensions))
    opsets = {one.domain: one.version for one in model.opset_import}
    opset = next((opsets[domain] for domain in STANDARD_DOMAINS if domain in opsets), 1)
    for node in _in_order(model.graph.node, names):
        _convert(node, builder, names, opset, folder)
    outputs = []
    for value in model.graph.output:
        if value.name not in names:
            raise CompileError(f"nothing makes the output {value.name!r}", where=name)
        outputs.append((value.name, names[value.name]))
    return builder.graph(outputs)


def _convert(node: onnx.NodeProto, builder: Builder, names: dict[str, str], opset: int, folder: Path) -> None:
    label = node.name or next(filter(None, node.output), "")
    where = f"node {label!r} ({node.op_type})"
    if node.op_type == "If" and node.domain in STANDARD_DOMAINS:
        _take_branch(node, builder, names, opset, folder, where)
        return
    convert = CONVERTERS.get(node.op_type) if node.domain in STANDARD_DOMAINS else None
    if convert is None:
        is_standard = node.domain in STANDARD_DOMAINS
        domain = "" if is_standard else f" of domain {node.domain!r}"
        hint = REFUSED.get(node.op_type, OTHERWISE if is_standard else FOREIGN)
        raise CompileError(f"the compiler has no operator {node.op_type}{domain}", where=where, hint=hint)
    inputs = tuple(names[one] for one in node.input)
    _check_attributes(node, opset, where)
    site = Site(node, builder, inputs, opset, where)
    try:
        made = convert(site)
    except (ValueError, TypeError, IndexError, KeyError, ArithmeticError) as error:
        hint = f"compare the node with {node.op_type} of opset {opset} in the standard"
        raise CompileError(
            f"its operands or attributes do not fit: {error}", where=where, hint=hint
        ) from error
    names |= {output: value for output, value in zip(node.output, made, strict=False) if output}
    _check_outputs(node, names, where)


def _check_attributes(node: onnx.NodeProto, opset: int, where: str) -> None:
    """Raises `CompileError` for an attribute of another kind than the standard's."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return  # older than the first version that the standard tells of
    for one in node.attribute:
        expected = schema.attributes.get(one.name)
        kind = onnx.AttributeProto.AttributeType.Name(one.type)
        wanted = kind if expected is None else str(expected.type).rpartition(".")[2]
        if kind != wanted:
            hint = f"opset {opset} has {wanted} there: export the network again"
            raise CompileError(f"its attribute {one.name!r} is of kind {kind}", where=where, hint=hint)


def _take_branch(
    node: onnx.NodeProto, builder: Builder, names: dict[str, str], opset: int, folder: Path, where: str
) -> None:
    """One branch in place of the node, when it is known which is taken: exporters ask for shapes so."""
    known = builder.known(names[node.input[0]])
    if known is None or known.size != 1:
        raise CompileError("which branch is taken depends on the data", where=where, hint=CONTROL_FLOW)
    wanted = "then_branch" if known.reshape(-1)[0] else "else_branch"
    branch = next((one.g for one in node.attribute if one.name == wanted), None)
    if branch is None:
        raise CompileError(f"it has no {wanted}", where=where)
    inner = dict(names)
    for tensor in branch.initializer:
        inner[tensor.name] = builder.constant(_tensor(tensor, folder), tensor.name)
    for one in _in_order(branch.node, inner):
        _convert(one, builder, inner, opset, folder)
    pairs = zip(node.output, branch.output, strict=False)
    names |= {output: inner[value.name] for output, value in pairs if value.name in inner}
    _check_outputs(node, names, where)


def _check_outputs(node: onnx.NodeProto, names: Mapping[str, str], where: str) -> None:
    missing = [one for one in node.output if one not in names]
    if missing:
        hint = f"see which outputs {node.op_type} has in the standard"
        raise CompileError(f"nothing makes its output {missing[0]!r}", where=where, hint=hint)


def _in_order(nodes: Sequence[onnx.NodeProto], known: Mapping[str, str]) -> list[onnx.NodeProto]:
    """The nodes as they stand, which must be an order; raises `CompileError` for a cycle or a gap."""
    made = set(known)
    for node in nodes:
        for one in node.input:
            if one not in made:
                label = node.name or (node.output[0] if node.output else node.op_type)
                later = any(one in other.output for other in nodes)
                why = "is made only after it, or by a cycle" if later else "is made by nothing"
                raise CompileError(f"its operand {one!r} {why}", where=f"node {label!r} ({node.op_type})")
        repeated = [one for one in node.output if one and one in made]
        if repeated:
            raise CompileError(f"{repeated[0]!r} is made twice", where=f"node {node.name!r} ({node.op_type})")
        made.update(one for one in node.output if one)
    return list(nodes)


def _type(value: onnx.ValueInfoProto, dimensions: Mapping[str, int]) -> TensorType:
    where = f"input {value.name!r}"
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise CompileError("it is no tensor of a known rank", where=where)
    shape = []
    for one in tensor.shape.dim:
        size = one.dim_value if one.HasField("dim_value") else dimensions.get(one.dim_param)
        if size is None:
            free = one.dim_param or "?"
            raise CompileError(f"its dimension {free!r} is not bound", where=where, hint=f"--dim {free}=SIZE")
        if size < 0:
            raise CompileError(f"a dimension of {size}", where=where)
        shape.append(int(size))
    found = TensorType(element_type(tensor.elem_type, where), tuple(shape))
    if found.byte_count > LARGEST_BYTES:
        raise CompileError(f"a value of {found.byte_count / 1e12:.1f} TB ({found})", where=where)
    return found


def _tensor(tensor: onnx.TensorProto, folder: Path) -> Array:
    """A constant; those in files of their own are mapped, not read."""
    where = f"constant {tensor.name!r}"
    dtype = element_type(tensor.data_type, where).numpy
    one = TensorType(element_type(tensor.data_type, where), tuple(tensor.dims))
    if any(size < 0 for size in tensor.dims) or one.byte_count > LARGEST_BYTES:
        raise CompileError(f"a constant of shape {list(tensor.dims)}", where=where)
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise CompileError(f"its data does not fit its shape: {error}", where=where) from error
    facts = {entry.key: entry.value for entry in tensor.external_data}
    file = (folder / facts.get("location", "")).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise CompileError(f"its data lies outside of the network's folder: {file}", where=where)
    offset = int(facts.get("offset", 0))
    if not file.is_file() or file.stat().st_size < offset + one.byte_count:
        raise CompileError(
            f"its data is missing: {file.name} has no {one.byte_count} bytes at {offset}", where=where
        )
    if not one.element_count:
        return np.zeros(one.shape, dtype)
    return np.memmap(file, dtype, mode="r", offset=offset, shape=one.shape)
