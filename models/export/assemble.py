"""Put a traced network together again as an ONNX file whose weights lie in a file of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from models.errors import ModelError
from models.export.strip import first_uses, strip, unique
from models.export.traced import Traced
from models.recipe import ALIGNMENT_BYTES

Array = NDArray[np.generic]

# Shapes, axes and scalars stay in the graph, where a reader and shape inference see them.
INLINE_BYTES = 256


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant of the graph; training changes a weight; `offset` is -1 for one that stays inline."""

    name: str
    values: Array
    is_weight: bool
    offset: int


def assemble(traced: Traced, name: str) -> tuple[ModelProto, tuple[Constant, ...]]:
    """The cleaned graph, still without constants, and its constants in the order of first use, placed.

    Tables with equal content become one; weights are never merged. Raises `ModelError` when a large float
    constant comes from nowhere: it could be a weight or a table.
    """
    names = first_uses(traced.graph)
    taken = {name for name in names if name not in traced.constants}
    new_names: dict[str, str] = {}
    tables: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    constants: list[Constant] = []
    end = 0
    for old in names:
        if old not in traced.constants:
            continue
        values, (wanted, is_weight) = traced.constants[old], _origin(traced, old, name)
        content = None if is_weight else (values.dtype.str, values.shape, values.tobytes())
        if content in tables:
            new_names[old] = tables[content]
            continue
        new_names[old] = unique(wanted, taken)
        if content is not None:
            tables[content] = new_names[old]
        offset = -1
        if not _is_inline(values) or (is_weight and values.size > 1):
            offset = -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            end = offset + values.nbytes
        constants.append(Constant(new_names[old], values, is_weight, offset))
    weights = {constant.name for constant in constants if constant.is_weight}
    return strip(traced.graph, name, new_names, weights), tuple(constants)


def add_constants(graph: ModelProto, constants: Sequence[Constant], location: str) -> bytes:
    """The ONNX file as bytes: small constants inside, the others as places in the file `location`."""
    complete = ModelProto()
    complete.CopyFrom(graph)
    complete.graph.initializer.extend(_tensor(constant, location) for constant in constants)
    return complete.SerializeToString(deterministic=True)


def write_complete(graph: ModelProto, constants: Sequence[Constant], path: Path) -> None:
    """Write the ONNX file `path` with the values the constants have now, the large ones in `<path>.data`."""
    weights = path.with_name(path.name + ".data")
    content = add_constants(graph, constants, weights.name)
    with weights.open("wb") as file:
        for constant in external(constants):
            file.seek(constant.offset)
            file.write(_little_endian(constant.values).data)
    path.write_bytes(content)


def external(constants: Sequence[Constant]) -> Iterator[Constant]:
    """Those that lie in the weights' file, in its order."""
    return (constant for constant in constants if constant.offset >= 0)


def _little_endian(values: Array) -> Array:
    """Row-major, in the byte order of ONNX."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))


def _is_inline(values: Array) -> bool:
    return values.nbytes <= INLINE_BYTES


def _origin(traced: Traced, constant: str, network: str) -> tuple[str, bool]:
    """The name for a constant, that of the module's tensor it was made from, and whether that is a weight.

    The exporter folds a BatchNorm into the convolution before it, and calls a bias that this makes
    `<weight>_bias`; it knows no origin for it.
    """
    sources = traced.origins.get(constant)
    if sources is None and constant.removesuffix("_bias") in traced.weights:
        return constant.removesuffix(".weight_bias") + ".bias", True
    values = traced.constants[constant]
    if sources is None and values.dtype.kind == "f" and not _is_inline(values):
        raise ModelError("cannot tell whether this constant is a weight", where=f"{network}: {constant}")
    weights = [source for source in sources or () if source in traced.weights]
    if weights:
        return weights[0], True
    return (sources[0] if sources and len(sources) == 1 else constant), False


def _tensor(constant: Constant, location: str) -> TensorProto:
    values = constant.values
    tensor = TensorProto(
        name=constant.name, dims=values.shape, data_type=helper.np_dtype_to_tensor_dtype(values.dtype)
    )
    if constant.offset < 0:
        tensor.raw_data = _little_endian(values).tobytes()
        return tensor
    tensor.data_location = TensorProto.EXTERNAL
    places = {"location": location, "offset": constant.offset, "length": values.nbytes}
    for key, value in places.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
