"""Small networks of every kind of operator that the phone's frameworks are tried on: emulation is slow."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import compose

from models.tiny_set import TINY_NETWORKS, write_tiny

NETWORKS: Mapping[str, Callable[[Path], Path]] = {
    name.partition("-")[2]: partial(write_tiny, name) for name in TINY_NETWORKS
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


SHAPES = {"convolutions": (1, 3, 16, 16), "grouped": (1, 16, 10, 10), "upsampling": (1, 4, 12, 12)}


def inputs_of(name: str) -> dict[str, np.ndarray]:
    """Inputs of a network, the same at every call."""
    generator = np.random.default_rng(7)
    if name == "attention":
        return {
            "ids": generator.integers(0, 11, (1, 6)),
            "context": generator.standard_normal((1, 6, 8)).astype(np.float32),
        }
    return {"x": generator.standard_normal(SHAPES[name]).astype(np.float32)}
