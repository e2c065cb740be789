"""Any ONNX file of the user's as a network: read without its weights, checked, with its dimensions bound."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from models.dtypes import BY_ONNX_NUMBER, ElementType
from models.errors import ModelError
from models.model import InputSpec, Model
from models.onnx_external import (
    Span,
    check_external,
    external_spans,
    tensor_byte_count,
)
from models.onnx_names import has_own_names, name_nodes
from models.onnx_wire import describe_damage

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorShapeProto, ValueInfoProto

DIGEST_DIGITS = 16
PROTOBUF_LIMIT_BYTES = 2**31
# Operators that hand the values of their first input on, so that an index can be followed through them.
HAND_ON = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
# Without an embedding to say more: token types and masks are 0 or 1, bytes are pixels.
DEFAULT_HIGH = {"uint8": 256}


def read_user_model(path: Path, dims: Mapping[str, int]) -> Model:
    """Read and check the ONNX file at `path`, binding symbolic dimensions from `dims` (others are ignored).

    Weights are not read into memory, but hashed from the disk. Raises `ModelError` for everything that can be
    wrong with the file, with a message of its own for each.
    """
    proto = load_graph(path)
    where = str(path)
    _check_promises(proto, where)
    spans = external_spans(proto, where)
    check_external(spans, path.parent, where)
    _check_model(path)
    values = true_inputs(proto.graph)
    bound = _bind(values, dims, where)
    named = has_own_names(proto.graph)
    return Model(
        name=re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-.") or "network",
        title=path.name,
        inputs=tuple(_input_spec(value, bound, proto.graph, where) for value in values),
        graph=path.absolute(),  # workers have folders of their own
        digest=_digest(path, spans, bound, named),
        weight_byte_count=sum(map(tensor_byte_count, proto.graph.initializer)),
        dims=bound,
        has_own_names=named,
    )


def load_graph(path: Path) -> "ModelProto":
    """Parse an ONNX file without its external data; raises `ModelError` when it is missing or not ONNX."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    where = str(path)
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "no such file"
        raise ModelError(what, where=where, hint="give the path of an .onnx file")
    if path.stat().st_size >= PROTOBUF_LIMIT_BYTES:
        hint = "save it with external data: `onnx.save(model, path, save_as_external_data=True)`"
        raise ModelError("2 GB or more in one file, which ONNX does not allow", where=where, hint=hint)
    try:
        proto = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise ModelError(
            f"cannot be read: {error.strerror}", where=where, hint="check its permissions"
        ) from error
    except (DecodeError, ValueError) as error:
        what, hint = describe_damage(path.read_bytes(), has_parsed=False)
        raise ModelError(what, where=where, hint=hint) from error
    if not proto.ir_version or not proto.graph.node:
        what, hint = describe_damage(path.read_bytes(), has_parsed=True)
        raise ModelError(what, where=where, hint=hint)
    return proto


def external_files(path: Path) -> tuple[str, ...]:
    """Locations of the weights files beside the ONNX file, relative to its folder, each once."""
    return tuple(dict.fromkeys(span.location for span in external_spans(load_graph(path), str(path))))


def bind_dims(proto: "ModelProto", dims: Mapping[str, int]) -> None:
    """Put sizes in the place of symbolic dimensions, in `proto` itself."""
    for value in true_inputs(proto.graph):
        for axis, dim in enumerate(_shape(value).dim):
            size = dims.get(_dim_name(value.name, axis, dim))
            if size and _is_free(dim):
                dim.dim_value = size
    for value in (*proto.graph.value_info, *proto.graph.output):
        for dim in _shape(value).dim:
            if dim.dim_param in dims:
                dim.dim_value = dims[dim.dim_param]


def write_bound(path: Path, dims: Mapping[str, int], target: Path) -> None:
    """Write the ONNX file at `path` to `target` with symbolic dimensions replaced and every node named;
    weights files stay.
    """
    proto = load_graph(path)
    name_nodes(proto.graph)
    bind_dims(proto, dims)
    target.write_bytes(proto.SerializeToString(deterministic=True))


def _check_promises(proto: "ModelProto", where: str) -> None:
    """Versions that the installed onnx knows, outputs, and shapes: with messages better than the
    checker's.
    """
    import onnx

    hint = "install a later onnx, or export the network for an earlier version"
    if proto.ir_version > onnx.IR_VERSION:
        what = (
            f"written in ONNX IR version {proto.ir_version}; onnx {onnx.__version__} knows {onnx.IR_VERSION}"
        )
        raise ModelError(what, where=where, hint=hint)
    newest = onnx.defs.onnx_opset_version()
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            what = f"written for opset {opset.version}; onnx {onnx.__version__} knows opset {newest}"
            raise ModelError(what, where=where, hint=hint)
    if not proto.graph.output:
        raise ModelError("the network has no outputs", where=where, hint="export it again with its outputs")
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            what = f"{value.name!r} has no shape, not even a number of axes"
            raise ModelError(what, where=where, hint="export the network with shapes of inputs and outputs")


def _check_model(path: Path) -> None:
    """Run ONNX's own checker on the file (on the path, since it then leaves external data on the disk)."""
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split("\n\n")[0].split())
        hint = "export the network again; `python -m onnx.bin.checker` gives the whole message"
        raise ModelError(f"not valid ONNX: {reason}", where=str(path), hint=hint) from error


def true_inputs(graph: "GraphProto") -> list["ValueInfoProto"]:
    """Inputs that the caller feeds: up to IR version 3 the weights are listed as inputs too."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _bind(values: list["ValueInfoProto"], dims: Mapping[str, int], where: str) -> tuple[tuple[str, int], ...]:
    free: dict[str, str] = {}
    for value in values:
        for axis, dim in enumerate(_shape(value).dim):
            if _is_free(dim):
                free.setdefault(_dim_name(value.name, axis, dim), value.name)
    unbound = [name for name in free if name not in dims]
    if unbound:
        listed = ", ".join(f"{name!r} (of input {free[name]!r})" for name in unbound)
        options = " ".join(f"--dim {name}=1" for name in unbound)
        raise ModelError(f"dimensions without a size: {listed}", where=where, hint=f"add {options}")
    for name in free:
        if dims[name] < 1:
            raise ModelError(f"dimension {name}={dims[name]} is not at least 1", where=where)
    return tuple(sorted((name, dims[name]) for name in free))


def _shape(value: "ValueInfoProto") -> "TensorShapeProto":
    return value.type.tensor_type.shape


def _is_free(dim: "TensorShapeProto.Dimension") -> bool:
    return not dim.HasField("dim_value") or dim.dim_value < 1


def _dim_name(input_name: str, axis: int, dim: "TensorShapeProto.Dimension") -> str:
    """The name for `--dim`: the symbol in the file, or `input.axis` where it has none."""
    return dim.dim_param or f"{input_name}.{axis}"


def _input_spec(
    value: "ValueInfoProto", bound: tuple[tuple[str, int], ...], graph: "GraphProto", where: str
) -> InputSpec:
    dtype = _element_type(value, where)
    sizes = dict(bound)
    shape = tuple(
        sizes[_dim_name(value.name, axis, dim)] if _is_free(dim) else dim.dim_value
        for axis, dim in enumerate(_shape(value).dim)
    )
    if dtype.is_float:
        return InputSpec(value.name, shape, dtype.name, "normal")
    high = min(_rows_indexed(value.name, graph), default=DEFAULT_HIGH.get(dtype.name, 2))
    return InputSpec(value.name, shape, dtype.name, "integers", 0, high)


def _element_type(value: "ValueInfoProto", where: str) -> ElementType:
    import onnx

    kind = value.type.WhichOneof("value") or "unknown"
    number = value.type.tensor_type.elem_type
    if kind == "tensor_type" and number in BY_ONNX_NUMBER:
        return BY_ONNX_NUMBER[number]
    found = kind.removesuffix("_type")
    if kind == "tensor_type":
        names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
        found = names.get(number, f"number {number}")
    known = ", ".join(row.name for row in BY_ONNX_NUMBER.values())
    raise ModelError(
        f"input {value.name!r} is of type {found}, for which no values can be drawn",
        where=where,
        hint=f"export a network whose inputs are tensors of {known}",
    )


def _rows_indexed(name: str, graph: "GraphProto") -> Iterator[int]:
    """Sizes of the axes that the input is an index into: an embedding's number of rows, say."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info):
        sizes.setdefault(value.name, tuple(dim.dim_value for dim in _shape(value).dim))
    followed = {name}
    for node in graph.node:  # ONNX lists nodes after the ones they read from
        if node.op_type in HAND_ON and node.input[0] in followed:
            followed.add(node.output[0])
        if node.op_type == "Gather" and node.input[1] in followed and sizes.get(node.input[0]):
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            if (size := sizes[node.input[0]][axis]) > 0:
                yield size


def _digest(path: Path, spans: list[Span], bound: tuple[tuple[str, int], ...], named: bool) -> str:
    """Hash of the file, its weights files, the bound dimensions and whether nodes got names; streamed,
    whatever their size.
    """
    digest = hashlib.sha256(repr(bound).encode() + (b"" if named else b" nodes named"))
    for location in ("", *sorted({span.location for span in spans})):
        with (path.parent / location if location else path).open("rb") as file:
            digest.update(location.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:DIGEST_DIGITS]
