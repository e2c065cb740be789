"""Small networks of every kind of operator that the phone's frameworks are tried on: emulation is slow."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, compose, helper

from models.tiny_graphs import normal, write_attention_block, write_graph

FLOAT = TensorProto.FLOAT


def write_convolutions(path: Path) -> Path:
    """A convolution, batch normalisation folded in, a strided one, pooling, a classifier."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c0"], ["r0"], name="relu"),
        node("Conv", ["r0", "w1"], ["c1"], name="strided", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Sigmoid", ["c1"], ["s"], name="sigmoid"),
        node("Mul", ["c1", "s"], ["swish"], name="swish"),
        node("GlobalAveragePool", ["swish"], ["p"], name="pool"),
        node("Flatten", ["p"], ["f"], name="flatten"),
        node("Gemm", ["f", "w2", "b2"], ["y"], name="classify"),
    ]
    weights = {
        "w0": normal(8, 3, 3, 3) / 5,
        "b0": normal(8),
        "w1": normal(16, 8, 3, 3) / 8,
        "w2": normal(16, 10),
        "b2": normal(10),
    }
    return write_graph(path, nodes, [("x", FLOAT, [1, 3, 16, 16])], [("y", FLOAT, [1, 10])], weights)


def write_grouped(path: Path) -> Path:
    """Grouped and depthwise convolutions with a residual, as in mobile networks."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0"], ["g"], name="grouped", pads=[1, 1, 1, 1], group=4),
        node("Clip", ["g", "zero", "six"], ["r6"], name="relu6"),
        node("Conv", ["r6", "w1"], ["d"], name="depthwise", pads=[2, 2, 2, 2], group=16),
        node("Conv", ["d", "w2"], ["e"], name="pointwise"),
        node("Add", ["e", "x"], ["y"], name="residual"),
    ]
    weights = {
        "w0": normal(16, 4, 3, 3) / 6,
        "w1": normal(16, 1, 5, 5) / 5,
        "w2": normal(16, 16, 1, 1) / 4,
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    ends = [(name, FLOAT, [1, 16, 10, 10]) for name in ("x", "y")]
    return write_graph(path, nodes, ends[:1], ends[1:], weights)


NETWORKS = {
    "convolutions": write_convolutions,
    "grouped": write_grouped,
    "attention": write_attention_block,
}


def write_every_kind(path: Path) -> Path:
    """All of `NETWORKS` side by side in one file: under emulation loading takes longer than computing."""
    whole: onnx.ModelProto | None = None
    for name, write in NETWORKS.items():
        one = compose.add_prefix(onnx.load(write(path.with_name(f"{name}.onnx"))), f"{name}_")
        whole = one if whole is None else compose.merge_models(whole, one, io_map=[])
    assert whole is not None
    del whole.opset_import[1:]  # merging lists the same one once more each time
    onnx.save(whole, path)
    return path


def inputs_of(name: str) -> dict[str, np.ndarray]:
    """Inputs of a network, the same at every call."""
    generator = np.random.default_rng(7)
    if name == "attention":
        return {
            "ids": generator.integers(0, 11, (1, 6)),
            "context": generator.standard_normal((1, 6, 8)).astype(np.float32),
        }
    shape = (1, 3, 16, 16) if name == "convolutions" else (1, 16, 10, 10)
    return {"x": generator.standard_normal(shape).astype(np.float32)}
