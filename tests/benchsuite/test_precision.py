"""The precision probe: emulated classes are told apart, and ONNX Runtime is what it says."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.ort import ORT
from adapters.protocol import Prepared, Setting
from benchsuite.precision import (
    DEPTH,
    classify,
    precision_network,
    probe_answers,
    probe_inputs,
    probe_weights,
)

Array = NDArray[np.float32]
Rounding = Callable[[Array], Array]


def kept(bits: int) -> Rounding:
    """Round to so many mantissa bits, to nearest."""

    def rounded(value: Array) -> Array:
        step = np.uint32(1 << (23 - bits))
        return ((value.view(np.uint32) + step // 2) & ~(step - np.uint32(1))).view(np.float32)

    return rounded


def half(value: Array) -> Array:
    with np.errstate(over="ignore"):
        return value.astype(np.float16).astype(np.float32)


ROUNDINGS = {"fp32": lambda value: value, "tf32": kept(10), "fp16": half, "bf16": kept(7)}


def computed(rounding: Rounding) -> dict[str, Array]:
    """The probe with inputs and weights rounded, sums in fp32."""
    inputs = {name: rounding(value) for name, value in probe_inputs().items()}
    weights = {name: rounding(value) for name, value in probe_weights().items()}
    taps = np.ascontiguousarray(np.diagonal(weights["k"][:, :, 1, 1]))
    with np.errstate(invalid="ignore"):
        return {"y": inputs["a"] @ weights["w"], "z": inputs["x"] * taps[:, None, None]}


@pytest.mark.parametrize("name", ROUNDINGS)
def test_every_class_is_told_apart(name: str) -> None:
    found = classify(computed(ROUNDINGS[name]))
    assert found.name == name
    assert found.sums_exact
    assert found.full_range == (name != "fp16")


def test_a_narrow_accumulator_shows_in_the_sums() -> None:
    """Inputs are exact in fp16; adding one after the other in fp16 loses them."""
    outputs = computed(ROUNDINGS["fp32"])
    inputs, weights = probe_inputs()["a"][-3].astype(np.float16), probe_weights()["w"].astype(np.float16)
    sums = np.zeros(outputs["y"].shape[1] - DEPTH, np.float16)
    for index in range(DEPTH):
        sums = sums + inputs[index] * weights[index, DEPTH:]
    outputs["y"][-3, DEPTH:] = sums
    found = classify(outputs)
    assert (found.name, found.sums_exact) == ("fp32", False)


def test_only_the_convolution_may_be_narrow() -> None:
    assert classify({**computed(ROUNDINGS["fp32"]), "z": computed(ROUNDINGS["bf16"])["z"]}).name == "bf16"


def test_exact_answers_are_exact() -> None:
    found = classify(probe_answers())
    assert (found.name, found.matmul_bits, found.conv_bits) == ("fp32", np.inf, np.inf)


def test_nonsense_is_no_class() -> None:
    nothing = {name: np.full_like(value, np.nan) for name, value in probe_answers().items()}
    assert classify(nothing).name == "coarser than bf16"
    with pytest.raises(ValueError, match="shapes"):
        classify({"y": np.zeros((2, 2)), "z": np.zeros((2, 2))})


def test_onnx_runtime_computes_in_fp32(tmp_path: Path) -> None:
    model, inputs = precision_network(tmp_path)
    session = ORT.load(Prepared(tmp_path / f"{model.name}.onnx"), Setting(1, "fp32"))
    with np.load(inputs) as archive:
        session.feed({name: archive[name] for name in archive.files})
    session.run()
    found = classify(session.outputs())
    assert found.name == "fp32"
    assert min(found.matmul_bits, found.conv_bits) > 20
    assert found.sums_exact
    assert found.full_range
