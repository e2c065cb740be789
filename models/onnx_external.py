"""The tensors of an ONNX file whose bytes lie in other files: where, and whether those can be trusted."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from models.dtypes import BY_ONNX_NUMBER
from models.errors import ModelError

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

EXTERNAL = 1  # TensorProto.DataLocation


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes `offset` … `offset + length` of the file `location`, relative to the folder of the model."""

    tensor: str
    location: str
    offset: int
    length: int


def external_spans(model: "ModelProto", where: str) -> list[Span]:
    """Every piece of external data that the model refers to; raises `ModelError` when one makes no sense."""
    return [_span(tensor, where) for tensor in all_tensors(model) if tensor.data_location == EXTERNAL]


def check_external(spans: list[Span], folder: Path, where: str) -> None:
    """Raise `ModelError` unless every span lies in an existing, long enough file inside `folder`."""
    root = folder.resolve()
    ends: dict[str, int] = {}
    for span in spans:
        ends[span.location] = max(ends.get(span.location, 0), span.offset + span.length)
    for location, end in ends.items():
        path = (root / location).resolve()
        if PurePosixPath(location).is_absolute() or ".." in PurePosixPath(location).parts:
            raise _leaves_folder(location, where)
        if not path.is_relative_to(root):
            raise _leaves_folder(location, where)
        if not path.is_file():
            hint = f"put {PurePosixPath(location).name} into {path.parent}"
            raise ModelError(f"the weights file {location!r} is missing", where=where, hint=hint)
        if path.stat().st_size < end:
            what = f"the weights file {location!r} is too short: {path.stat().st_size:,} bytes of {end:,}"
            raise ModelError(what, where=where, hint="download or export it again")


def all_tensors(model: "ModelProto") -> Iterator["TensorProto"]:
    """Every tensor in the model: initialisers and attributes, also in subgraphs and functions."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)


def tensor_byte_count(tensor: "TensorProto") -> int:
    """Size of the values, from shape and element type; 0 for types without a fixed whole number of bytes."""
    row = BY_ONNX_NUMBER.get(tensor.data_type)
    return prod(tensor.dims) * row.byte_count if row else 0


def _graph_tensors(graph: "GraphProto") -> Iterator["TensorProto"]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: "Iterable[NodeProto]") -> Iterator["TensorProto"]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: "AttributeProto") -> Iterator["TensorProto"]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
        yield from (sparse.values, sparse.indices)
    for graph in (attribute.g, *attribute.graphs):
        yield from _graph_tensors(graph)


def _span(tensor: "TensorProto", where: str) -> Span:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", 0)) or tensor_byte_count(tensor)
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or not entries.get("location"):
        what = f"tensor {tensor.name!r} says no sensible place for its external data: {entries}"
        raise ModelError(what, where=where, hint="export the network again")
    return Span(tensor.name, entries["location"], offset, length)


def _leaves_folder(location: str, where: str) -> ModelError:
    return ModelError(
        f"the weights file {location!r} is outside the folder of the network",
        where=where,
        hint="only files beside the network are read: put the weights there, and export it again if need be",
    )
