"""In which precision does a framework really compute? A probe network with exact answers tells.

Its inputs and weights are 1 + 2^-k, k from 1 to 22: every one is exact in fp32 and rounds to something else
with fewer bits. A matrix product with a diagonal matrix and a convolution with only a centre tap carry them
from the input to the output, so the relative error is the rounding unit of whatever they passed through.
Magnitudes of 2^20 and 2^-40 tell fp16 (overflow, zero) from classes with fp32's range; a row that sums one 1
and many 2^-13 (each exact in all classes, the sum exact in fp32 in any order) tells a narrow accumulator.
docs/fairness.md has the arithmetic.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, log2
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.model import Model

Array = NDArray[Any]

ROWS, DEPTH, SUM_COLUMNS = 128, 512, 32
CHANNELS, PIXELS = 128, 28
LADDER = 22
"""The finest step: 1 + 2^-22 is the last but one above 1 in fp32."""
LARGE_ROW, SMALL_ROW, SUM_ROW = ROWS - 1, ROWS - 2, ROWS - 3
LARGE, SMALL, SUMMAND = 2.0**20, 2.0**-40, 2.0**-13
NAME = "precision-probe"
MANTISSA_CLASSES = ((14.0, "fp32"), (8.5, "tf32"), (5.5, "bf16"), (-inf, "coarser than bf16"))
"""Least bits that survive, and the class that they mean. Fp32's own rounding, Winograd's included, is below
2^-16; fp16 and TF32 (10 bits) lose 2^-11 or 2^-12, bf16 (7 bits) 2^-8 of the ladder.
"""
ACCUMULATOR_ERROR = 2.0**-14


@dataclass(frozen=True, slots=True)
class Precision:
    """What a probe found: the class, bits that survived in a matrix product and in a convolution (`inf`: all
    of them), whether sums are exact, and whether 2^20 and 2^-40 are there.
    """

    name: str
    matmul_bits: float
    conv_bits: float
    sums_exact: bool
    full_range: bool


def ladder(*shape: int) -> Array:
    """1 + 2^-k, with every k from 1 to `LADDER` in turn along every axis; fp32."""
    step = np.indices(shape).sum(axis=0) % LADDER + 1
    return np.asarray(1.0 + np.exp2(-step), np.float32)


def probe_inputs() -> dict[str, Array]:
    """What the probe is fed: `a` (rows, depth) and `x` (1, channels, pixels, pixels)."""
    half = DEPTH // 2
    rows = np.ones((ROWS, DEPTH), np.float32)
    rows[:, :half] = ladder(ROWS, half)
    rows[LARGE_ROW], rows[SMALL_ROW], rows[SUM_ROW] = LARGE, SMALL, SUMMAND
    rows[SUM_ROW, 0] = 1.0
    return {"a": rows, "x": ladder(1, CHANNELS, PIXELS, PIXELS)}


def probe_weights() -> dict[str, Array]:
    """`w` (depth, depth + sums): a diagonal and columns of ones; `k` (channels, channels, 3, 3): centre taps
    on a diagonal. Half of each diagonal is 1, where the inputs carry the ladder, half carries it itself.
    """
    half, middle = DEPTH // 2, CHANNELS // 2
    diagonal, taps = np.ones(DEPTH, np.float32), np.ones(CHANNELS, np.float32)
    diagonal[half:], taps[middle:] = ladder(half), ladder(middle)
    kernel = np.zeros((CHANNELS, CHANNELS, 3, 3), np.float32)
    kernel[np.arange(CHANNELS), np.arange(CHANNELS), 1, 1] = taps
    sums = np.ones((DEPTH, SUM_COLUMNS), np.float32)
    return {"w": np.concatenate([np.diag(diagonal), sums], axis=1), "k": kernel}


def probe_answers() -> dict[str, Array]:
    """What exact arithmetic gives: `y` and `z` in fp64."""
    inputs = {name: value.astype(np.float64) for name, value in probe_inputs().items()}
    weights = {name: value.astype(np.float64) for name, value in probe_weights().items()}
    taps = np.diagonal(weights["k"][:, :, 1, 1])
    return {"y": inputs["a"] @ weights["w"], "z": inputs["x"] * taps[:, None, None]}


def classify(outputs: Mapping[str, Array]) -> Precision:
    """The class that the probe's outputs `y` and `z` show; raises ValueError when they are none of it."""
    answers = probe_answers()
    y, z = (np.asarray(outputs[name], np.float64) for name in ("y", "z"))
    if y.shape != answers["y"].shape or z.shape != answers["z"].shape:
        raise ValueError(f"the probe's outputs have shapes {y.shape} and {z.shape}")
    with np.errstate(invalid="ignore", over="ignore"):
        ladder_rows = (slice(SUM_ROW), slice(DEPTH))
        matmul = _bits(y[ladder_rows], answers["y"][ladder_rows])
        conv = _bits(z, answers["z"])
        ends = y[[LARGE_ROW, SMALL_ROW], 0] / answers["y"][[LARGE_ROW, SMALL_ROW], 0]
        full_range = bool(np.all(np.abs(ends - 1) < 0.5))
        sums = y[SUM_ROW, DEPTH:] / answers["y"][SUM_ROW, DEPTH:]
        exact = bool(np.all(np.abs(sums - 1) < ACCUMULATOR_ERROR))
    return Precision(_name(min(matmul, conv), full_range), matmul, conv, exact, full_range)


def _bits(found: Array, expected: Array) -> float:
    """-log2 of the largest relative error."""
    worst = float(np.max(np.abs(found / expected - 1)))
    if not worst >= 0:  # NaN
        return -inf
    return -log2(worst) if worst else inf


def _name(bits: float, full_range: bool) -> str:
    name = next(name for least, name in MANTISSA_CLASSES if bits >= least)
    return "fp16" if name in ("tf32", "bf16") and not full_range else name


def precision_network(folder: Path) -> tuple[Model, Path]:
    """The probe as an ONNX file in `folder` (written once) and the file of its inputs."""
    from models.onnx_file import read_user_model

    path, inputs = folder / f"{NAME}.onnx", folder / f"{NAME}.npz"
    if not (path.exists() and inputs.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        _write(path)
        np.savez(inputs, allow_pickle=False, **probe_inputs())
    return read_user_model(path, {}), inputs


def _write(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = [numpy_helper.from_array(value, name) for name, value in probe_weights().items()]
    image = [1, CHANNELS, PIXELS, PIXELS]
    shapes = {"a": [ROWS, DEPTH], "x": image, "y": [ROWS, DEPTH + SUM_COLUMNS], "z": image}
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("MatMul", ["a", "w"], ["y"], "product"),
        helper.make_node("Conv", ["x", "k"], ["z"], "convolution", pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(nodes, "precision", ends[:2], ends[2:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))
