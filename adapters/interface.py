"""Inputs and outputs of a converted network: from ONNX's names, layouts and dtypes to the framework's, and
back.

A converter may rename, reorder, transpose (NCHW to NHWC) and narrow (int64 to int32) what goes in and out. It
writes down how in `interface.json`, beside what it made; a session maps with it, outside the timed region.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.protocol import Unsupported

INTERFACE_NAME = "interface.json"

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output: `name`, `shape`, `dtype` are ONNX's, `key` and `native_dtype` the framework's.

    `axes` are those of `np.transpose` from ONNX's layout to the framework's, empty when they are the same.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    key: str
    native_dtype: str
    axes: tuple[int, ...] = ()

    def to_native(self, value: Array) -> Array:
        """The framework's array, contiguous, for ONNX's `value`."""
        moved = value.transpose(self.axes) if self.axes else value
        return np.ascontiguousarray(moved, dtype=self.native_dtype)

    def to_onnx(self, value: Array) -> Array:
        """ONNX's array, an own copy, for the framework's `value`; raises `Unsupported` when the number of
        elements is not the network's.
        """
        native_shape = tuple(self.shape[axis] for axis in self.axes) if self.axes else self.shape
        if value.size != int(np.prod(native_shape)):
            raise Unsupported(
                f"output {self.name!r} has {list(value.shape)} elements, expected {list(native_shape)}"
            )
        shaped = value.reshape(native_shape)
        moved = shaped.transpose(np.argsort(self.axes)) if self.axes else shaped
        return np.array(moved, dtype=self.dtype, order="C")


@dataclass(frozen=True, slots=True)
class Interface:
    """All inputs and outputs of a network, in ONNX's order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def write(self, folder: Path) -> None:
        """Write `interface.json` into the folder."""
        text = json.dumps(asdict(self), indent=1)
        (folder / INTERFACE_NAME).write_text(text + "\n", encoding="utf-8")


def read_interface(folder: Path) -> Interface:
    """Read `interface.json` of a folder that a converter made."""
    document = json.loads((folder / INTERFACE_NAME).read_text(encoding="utf-8"))
    return Interface(_ports(document["inputs"]), _ports(document["outputs"]))


def onnx_interface(source: Path) -> Interface:
    """The inputs and outputs of an ONNX file as ports that change nothing; output shapes must be static.

    Raises `Unsupported` for an output whose shape depends on the input's values.
    """
    from models.count import infer_shapes
    from models.onnx_file import load_graph, true_inputs

    proto = load_graph(source)
    shapes = infer_shapes(load_graph(source))
    inputs = [
        _port(value, tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim))
        for value in true_inputs(proto.graph)
    ]
    outputs = [_port(value, shapes.get(value.name)) for value in proto.graph.output]
    return Interface(tuple(inputs), tuple(outputs))


def _port(value: Any, shape: Sequence[int] | None) -> Port:
    import onnx

    if shape is None or any(size < 0 for size in shape):
        raise Unsupported(f"output {value.name!r} has a shape that is known only when the network runs")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
    return Port(value.name, tuple(shape), dtype, value.name, dtype)


def _ports(rows: Sequence[dict[str, Any]]) -> tuple[Port, ...]:
    return tuple(Port(**{**row, "shape": tuple(row["shape"]), "axes": tuple(row["axes"])}) for row in rows)
