"""ncnn: what pnnx makes is loaded or refused by the layer's name; outputs have their batch axis again."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("ncnn", reason="not installed: bench frameworks install ncnn")

from adapters import ncnn_convert
from adapters.interface import onnx_interface
from adapters.ncnn import NCNN, NcnnSession
from adapters.protocol import Prepared, Setting, Unsupported

SETTING = Setting(1, "fp32")
RELU = """7767517
3 3
Input in0 0 1 in0
Padding pad 1 1 in0 1 0=0
ReLU relu 1 1 1 out0
"""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A network of one ReLU as ncnn writes it, with the interface that the converter leaves beside it."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 5]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "net", [x], [y])
    source = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), source)
    ncnn_convert._named(onnx_interface(source)).write(tmp_path)
    (tmp_path / "net.ncnn.param").write_text(RELU)
    (tmp_path / "net.ncnn.bin").write_bytes(b"")
    return tmp_path / "net.ncnn.param"


def load(network: Path) -> NcnnSession:
    session = NCNN.load(Prepared(network), SETTING)
    assert isinstance(session, NcnnSession)
    return session


def test_outputs_follow_the_inputs(network: Path) -> None:
    session = load(network)
    values = np.random.default_rng(0).standard_normal((1, 3, 4, 5)).astype(np.float32)
    for sign in (1, -1):
        session.feed({"x": sign * values})
        session.run()
        np.testing.assert_array_equal(session.outputs()["y"], np.maximum(sign * values, 0))


def test_it_tells_how_it_runs(network: Path) -> None:
    facts = load(network).describe()
    assert (facts["threads"], facts["precision"], facts["winograd"]) == ("1", "fp32", "1")


def test_a_layer_that_is_not_there_is_named(network: Path) -> None:
    network.write_text(RELU.replace("ReLU", "Tensor.reshape"))
    with pytest.raises(Unsupported, match=r"layer Tensor\.reshape, which pnnx made, is none of ncnn's"):
        load(network)


def test_a_broken_file_is_refused(network: Path) -> None:
    network.write_text("nothing that ncnn wrote")
    with pytest.raises(Unsupported, match="ncnn cannot load what pnnx made"):
        load(network)


def test_there_is_no_profiler(network: Path) -> None:
    with pytest.raises(Unsupported, match="no profiler"):
        load(network).profile({}, 1)


def test_a_network_beyond_2_gb_is_refused(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncnn_convert, "ONE_FILE_BYTES", 100)
    with pytest.raises(Unsupported, match="end at 2 GB"):
        ncnn_convert.convert_onnx(network.parent / "net.onnx", network.parent)


def test_weights_beside_the_network_go_inside(tmp_path: Path) -> None:
    """pnnx does not look for files beside the one that it reads."""
    weight = numpy_helper.from_array(np.ones(300, np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [300]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "net", [x], [y], [weight])
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx", save_as_external_data=True, size_threshold=0)
    ncnn_convert._save_whole(onnx.load(tmp_path / "net.onnx"), tmp_path / "whole.onnx")
    whole = onnx.load(tmp_path / "whole.onnx", load_external_data=False)
    np.testing.assert_array_equal(numpy_helper.to_array(whole.graph.initializer[0]), np.ones(300))


def test_an_input_of_another_dtype_is_refused(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.BOOL, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Not", ["x"], ["y"])], "net", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "net.onnx")
    with pytest.raises(Unsupported, match="input 'x' is of bool: ncnn takes float32, int64, int32"):
        ncnn_convert.convert_onnx(tmp_path / "net.onnx", tmp_path)
