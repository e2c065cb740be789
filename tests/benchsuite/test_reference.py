"""Reference outputs: computed once, kept, right, and refused with a reason."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchsuite import reference
from benchsuite.group import inputs_file
from benchsuite.policy import Policy
from benchsuite.reference import reference_outputs
from models.draw import draw_inputs
from models.errors import BenchError, ModelError
from models.model import Model
from models.onnx_file import read_user_model

POLICY = Policy()


def save_network(path: Path, operator: str) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x", "x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))


def add_network(path: Path) -> Model:
    """y = x + x."""
    save_network(path, "Add")
    return read_user_model(path, {})


def test_outputs_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = add_network(tmp_path / "net.onnx")
    inputs = inputs_file(model, 3, tmp_path / "cache")
    found = reference_outputs(model, model.graph, inputs, cache=tmp_path / "cache", policy=POLICY)
    assert list(found) == ["y"]
    np.testing.assert_array_equal(found["y"], 2 * draw_inputs(model, 3)["x"])
    monkeypatch.setattr(reference, "WorkerClient", None)
    again = reference_outputs(model, model.graph, inputs, cache=tmp_path / "cache", policy=POLICY)
    np.testing.assert_array_equal(again["y"], found["y"])


def test_other_inputs_have_outputs_of_their_own(tmp_path: Path) -> None:
    model = add_network(tmp_path / "net.onnx")
    outputs = [
        reference_outputs(
            model, model.graph, inputs_file(model, seed, tmp_path), cache=tmp_path, policy=POLICY
        )["y"]
        for seed in (0, 1)
    ]
    assert not np.array_equal(*outputs)


def test_a_network_that_the_reference_cannot_run(tmp_path: Path) -> None:
    model = add_network(tmp_path / "net.onnx")
    inputs = inputs_file(model, 0, tmp_path)
    save_network(tmp_path / "broken.onnx", "NoSuchOperator")
    with pytest.raises(ModelError) as caught:
        reference_outputs(model, tmp_path / "broken.onnx", inputs, cache=tmp_path / "cache", policy=POLICY)
    assert caught.value.what.startswith("the reference (unoptimised ONNX Runtime) cannot run this network: ")
    assert "NoSuchOperator" in caught.value.what
    assert caught.value.where == "net"
    assert list((tmp_path / "cache").rglob("*.npz")) == []


def test_inputs_are_drawn_once(tmp_path: Path) -> None:
    model = add_network(tmp_path / "net.onnx")
    path = inputs_file(model, 0, tmp_path / "cache")
    stamp = path.stat().st_mtime_ns
    assert inputs_file(model, 0, tmp_path / "cache") == path
    assert path.stat().st_mtime_ns == stamp
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["x"], draw_inputs(model, 0)["x"])


def test_a_cache_that_is_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(BenchError, match="the cache is not a folder"):
        inputs_file(add_network(tmp_path / "net.onnx"), 0, tmp_path / "cache")
