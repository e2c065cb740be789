"""The set `tiny`: networks of microseconds with every kind of operator, for slow devices and first tries.

Made in code, the same bytes at every call: emulated phones take minutes for one inference of the 18.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.model import Model

if TYPE_CHECKING:  # `bench models list` shall not wait for them
    import numpy as np
    from onnx import ModelProto, NodeProto

    Array = np.ndarray[Any, np.dtype[np.float32]]

TINY = "tiny"
FILE_BYTES = 1 << 16
Shape = tuple[int, ...]
Ends = Mapping[str, tuple[str, Shape]]
"""Inputs or outputs by name: element type and shape."""


class _Weights:
    """Normally distributed float32, by name, in the order in which they are asked for."""

    def __init__(self) -> None:
        import numpy as np

        self._generator = np.random.default_rng(0)

    def __call__(self, *shape: int, divisor: float = 1.0) -> "Array":
        return (self._generator.standard_normal(shape) / divisor).astype("float32")


def convolutions() -> "ModelProto":
    """A convolution, a strided one, swish, pooling, a classifier. Input (1, 3, 16, 16), output (1, 10)."""
    node, draw = _node, _Weights()
    nodes = [
        node("Conv", ["x", "w0", "b0"], "c0", pads=[1, 1, 1, 1]),
        node("Relu", ["c0"], "r0"),
        node("Conv", ["r0", "w1"], "c1", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Sigmoid", ["c1"], "s"),
        node("Mul", ["c1", "s"], "swish"),
        node("GlobalAveragePool", ["swish"], "p"),
        node("Flatten", ["p"], "f"),
        node("Gemm", ["f", "w2", "b2"], "y"),
    ]
    weights = {
        "w0": draw(8, 3, 3, 3, divisor=5),
        "b0": draw(8),
        "w1": draw(16, 8, 3, 3, divisor=8),
        "w2": draw(16, 10),
        "b2": draw(10),
    }
    return _model(nodes, {"x": ("FLOAT", (1, 3, 16, 16))}, {"y": ("FLOAT", (1, 10))}, weights)


def grouped() -> "ModelProto":
    """Grouped and depthwise convolutions with a residual, as in mobile networks. (1, 16, 10, 10) to the
    same.
    """
    node, draw = _node, _Weights()
    nodes = [
        node("Conv", ["x", "w0"], "g", pads=[1, 1, 1, 1], group=4),
        node("Clip", ["g", "zero", "six"], "r6"),
        node("Conv", ["r6", "w1"], "d", pads=[2, 2, 2, 2], group=16),
        node("Conv", ["d", "w2"], "e"),
        node("Add", ["e", "x"], "y"),
    ]
    weights = {
        "w0": draw(16, 4, 3, 3, divisor=6),
        "w1": draw(16, 1, 5, 5, divisor=5),
        "w2": draw(16, 16, 1, 1, divisor=4),
        "zero": _constant(0.0),
        "six": _constant(6.0),
    }
    end = ("FLOAT", (1, 16, 10, 10))
    return _model(nodes, {"x": end}, {"y": end}, weights)


def attention() -> "ModelProto":
    """Token ids and a sequence to two heads of attention and a projection with GELU.

    Inputs `ids` (1, 6) and `context` (1, 6, 8), outputs `mixed` (1, 6, 8) and `y` (1, 6, 5).
    """
    node, draw = _node, _Weights()
    nodes = [
        node("Gather", ["table", "ids"], "tokens"),
        node("Add", ["tokens", "context"], "sum"),
        node("LayerNormalization", ["sum", "scale", "bias"], "normed"),
        node("Reshape", ["normed", "split_shape"], "split"),
        node("Transpose", ["split"], "q", perm=[0, 2, 1, 3]),
        node("Transpose", ["split"], "k", perm=[0, 2, 3, 1]),
        node("MatMul", ["q", "k"], "scores"),
        node("Softmax", ["scores"], "attended", axis=-1),
        node("MatMul", ["attended", "q"], "values"),
        node("Transpose", ["values"], "turned", perm=[0, 2, 1, 3]),
        node("Reshape", ["turned", "joined_shape"], "joined"),
        node("Add", ["joined", "sum"], "mixed"),
        node("MatMul", ["mixed", "weight"], "projected"),
        node("Gelu", ["projected"], "y"),
    ]
    weights = {
        "table": draw(11, 8),
        "scale": draw(8),
        "bias": draw(8),
        "weight": draw(8, 5, divisor=3),
        "split_shape": _constant([1, 6, 2, 4], "int64"),
        "joined_shape": _constant([1, 6, 8], "int64"),
    }
    inputs = {"ids": ("INT64", (1, 6)), "context": ("FLOAT", (1, 6, 8))}
    return _model(nodes, inputs, {"mixed": ("FLOAT", (1, 6, 8)), "y": ("FLOAT", (1, 6, 5))}, weights)


def upsampling() -> "ModelProto":
    """Two scales, one pooled and enlarged again, joined, as in detectors and diffusion models.

    Input (1, 4, 12, 12), output (1, 6, 12, 12).
    """
    node, draw = _node, _Weights()
    nodes = [
        node("MaxPool", ["x"], "small", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["small", "w0"], "c0", pads=[1, 1, 1, 1]),
        node("InstanceNormalization", ["c0", "scale", "bias"], "normed"),
        node("HardSwish", ["normed"], "h"),
        node("Resize", ["h", "", "factors"], "large", mode="nearest", nearest_mode="floor",
             coordinate_transformation_mode="asymmetric"),
        node("Concat", ["large", "x"], "both", axis=1),
        node("Conv", ["both", "w1"], "y"),
    ]  # fmt: skip
    weights = {
        "w0": draw(8, 4, 3, 3, divisor=6),
        "scale": draw(8),
        "bias": draw(8),
        "factors": _constant([1.0, 1.0, 2.0, 2.0]),
        "w1": draw(6, 12, 1, 1, divisor=3),
    }
    return _model(nodes, {"x": ("FLOAT", (1, 4, 12, 12))}, {"y": ("FLOAT", (1, 6, 12, 12))}, weights)


TINY_NETWORKS: Mapping[str, Callable[[], "ModelProto"]] = {
    f"{TINY}-{make.__name__}": make for make in (convolutions, grouped, attention, upsampling)
}


def tiny_model(name: str, folder: Path | None = None) -> Model:
    """A network of the set, its file written anew (16 KiB) into `folder`, by default bench's cache.

    Raises `ModelError` when that cannot be written.
    """
    from platformdirs import user_cache_path

    from models.onnx_file import read_user_model

    folder = folder or user_cache_path("bench") / TINY
    return read_user_model(write_tiny(name, folder / f"{name}.onnx"), {})


def write_tiny(name: str, path: Path) -> Path:
    """Write a network of the set as one ONNX file, whole or not at all; returns its path."""
    from models.cache import explained

    data = TINY_NETWORKS[name]().SerializeToString(deterministic=True)
    with explained(path.parent, FILE_BYTES):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(partial, path)
    return path


def _constant(values: Any, dtype: str = "float32") -> Any:
    import numpy as np

    return np.array(values, dtype)


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> "NodeProto":
    from onnx import helper

    return helper.make_node(operator, inputs, [output], name=output, **attributes)


def _model(nodes: "list[NodeProto]", inputs: Ends, outputs: Ends, weights: Mapping[str, Any]) -> "ModelProto":
    from onnx import TensorProto

    from models.tiny_graphs import make_network

    values_in, values_out = (
        [(name, TensorProto.DataType.Value(kind), list(shape)) for name, (kind, shape) in side.items()]
        for side in (inputs, outputs)
    )
    return make_network(nodes, values_in, values_out, weights)
