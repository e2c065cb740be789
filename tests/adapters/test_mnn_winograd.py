"""How large Winograd tiles may be: decided by what the outputs say, and only where it can matter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from adapters import mnn_winograd
from adapters.interface import Port
from models.tiny import write_convolutions

EXACT, NEAR, FAR = np.ones(4), np.ones(4) * (1 + 1e-5), np.ones(4) * (1 + 1e-3)


@pytest.mark.parametrize(
    ("outputs", "level"),
    [
        ({"3": NEAR, "1": EXACT, "0": EXACT}, "3"),
        ({"3": FAR, "1": NEAR, "0": EXACT}, "1"),
        ({"3": EXACT, "1": FAR, "0": EXACT}, "0"),
    ],
)
def test_the_largest_tiles_that_agree_with_the_next_smaller_are_taken(
    outputs: dict[str, Any], level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_convolutions(tmp_path / "net.onnx", channels=4, pixels=8, layers=1)
    monkeypatch.setattr(
        mnn_winograd, "_outputs", lambda path, options: [outputs[options["winograd_memory_level"]]]
    )
    assert mnn_winograd.largest_accurate_level(tmp_path / "net.onnx", tmp_path / "model.mnn", {}) == level


@pytest.mark.parametrize(
    ("facts", "may"),
    [
        ({"kernel_shape": [3, 3]}, True),
        ({"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1]}, True),
        ({}, True),  # the shape is the weights'
        ({"kernel_shape": [1, 1]}, False),
        ({"kernel_shape": [3, 5]}, False),
        ({"kernel_shape": [3, 3], "strides": [2, 2]}, False),
        ({"kernel_shape": [3, 3], "dilations": [2, 2]}, False),
    ],
)
def test_only_convolutions_that_mnn_would_tile_ask_for_a_trial(facts: dict[str, Any], may: bool) -> None:
    assert mnn_winograd._is_candidate(helper.make_node("Conv", ["x", "w"], ["y"], **facts)) is may
    assert not mnn_winograd._is_candidate(helper.make_node("MatMul", ["x", "w"], ["y"]))


def test_what_is_drawn_is_the_same_every_time_and_valid_as_an_index() -> None:
    first, second = (mnn_winograd._drawn(Port("x", (2, 3), "float32", "x", "float32")) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.std() > 0
    assert not mnn_winograd._drawn(Port("ids", (2, 3), "int64", "ids", "int32")).any()
