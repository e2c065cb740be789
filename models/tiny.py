"""Small networks made in code: the doctor's probe, and what tests run. No file, no download."""

from pathlib import Path

import numpy as np

from models.model import Model

PROBE_CHANNELS = 48
PROBE_PIXELS = 56
PROBE_LAYERS = 3


def probe_network(folder: Path) -> Model:
    """A few milliseconds of convolutions, normal for the networks measured here; written into `folder`
    once.
    """
    from models.onnx_file import read_user_model

    path = folder / f"probe-{PROBE_LAYERS}x{PROBE_CHANNELS}x{PROBE_PIXELS}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_convolutions(path, channels=PROBE_CHANNELS, pixels=PROBE_PIXELS, layers=PROBE_LAYERS)
    return read_user_model(path, {})


def write_convolutions(path: Path, *, channels: int, pixels: int, layers: int) -> None:
    """Write a chain of 3×3 convolutions with ReLU, NCHW, batch 1, as one ONNX file with its weights
    inside.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    scale = (2.0 / (9 * channels)) ** 0.5
    nodes, weights, value = [], [], "x"
    for layer in range(layers):
        weight = (generator.standard_normal((channels, channels, 3, 3)) * scale).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        last = "y" if layer == layers - 1 else f"r{layer}"
        conv = helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], f"c{layer}", pads=[1, 1, 1, 1])
        nodes.append(conv)
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [last], name=last))
        value = last
    shape = [1, channels, pixels, pixels]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "probe", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))
