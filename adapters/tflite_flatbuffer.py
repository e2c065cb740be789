"""Write a .tflite file whose weights lie behind the flatbuffer, so that it may be larger than 2 GB.

A flatbuffer's own offsets end at 2 GB. TFLite's schema therefore lets a `Buffer` name an `offset` and a
`size` in the file instead of holding `data`; LiteRT 2.3 and tflite-runtime 2.14 both map such files. It also
spares onnx2tf the copies of the weights that its own writer makes (11 times the weights in memory).
"""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL_BYTES = 1024
"""Shapes, axes and scalars stay inside: the interpreter looks at them while it prepares."""
ALIGNMENT_BYTES = 64
FILE_IDENTIFIER = b"TFL3"
UNSET_OFFSET = 2**62
"""Takes as many bytes as every other offset, so that the flatbuffer's length does not depend on them."""

Array = NDArray[Any]


def write_model(schema: Any, model_ir: Any, path: Path, approximate_gelus: Collection[str] = ()) -> Any:
    """Write onnx2tf's `model_ir` (its `ModelIR`) and return what was really written of it.

    `schema` is onnx2tf's table of the flatbuffer's classes, `approximate_gelus` the names of the ONNX nodes
    Gelu with `approximate="tanh"`. Only the weights of the main graph are moved behind the flatbuffer; bodies
    of If and Loop keep theirs inside.
    """
    from onnx2tf.tflite_builder import model_writer

    written = model_writer._sanitize_model_ir_for_serialization(model_ir)
    weights = {name: tensor.data for name, tensor in written.tensors.items() if _is_large(tensor)}
    for name in weights:
        written.tensors[name] = dataclasses.replace(written.tensors[name], data=b"")
    model = model_writer.build_model_object(schema_tflite=schema, model_ir=written)
    _approximate(schema, written, model, approximate_gelus)
    buffers = []
    for name, tensor in zip(written.tensors, model.subgraphs[0].tensors, strict=True):
        if name in weights:
            buffer = model.buffers[tensor.buffer]
            buffer.data, buffer.offset, buffer.size = None, UNSET_OFFSET, weights[name].nbytes
            buffers.append((buffer, weights[name]))
    end = _aligned(len(_pack(model)))
    for buffer, values in buffers:
        buffer.offset = end
        end = _aligned(end + values.nbytes)
    with path.open("wb") as file:
        file.write(_pack(model))
        for buffer, values in buffers:
            file.seek(buffer.offset)
            np.ascontiguousarray(values).tofile(file)
        file.truncate(end)
    return written


def _approximate(schema: Any, written: Any, model: Any, nodes: Collection[str]) -> None:
    """Give GELU its attribute, which onnx2tf 2.6.9 drops: it would compute the exact one (error 3e-4)."""
    found = set()
    for operator, made in zip(written.operators, model.subgraphs[0].operators, strict=True):
        if operator.op_type == "GELU" and operator.onnx_node_name in nodes:
            made.builtinOptionsType = schema["BuiltinOptions"].GeluOptions
            made.builtinOptions = schema["GeluOptionsT"](approximate=True)
            found.add(operator.onnx_node_name)
    if found != set(nodes):
        raise RuntimeError(f"onnx2tf made no GELU of {', '.join(sorted(set(nodes) - found))}")


def _is_large(tensor: Any) -> bool:
    is_numbers = isinstance(tensor.data, np.ndarray) and str(tensor.dtype).upper() != "STRING"
    return is_numbers and tensor.data.nbytes > SMALL_BYTES


def _pack(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(2**20)
    builder.Finish(model.Pack(builder), file_identifier=FILE_IDENTIFIER)
    return bytes(builder.Output())


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
