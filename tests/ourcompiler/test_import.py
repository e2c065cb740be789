"""What ONNX says becomes what we say, and files that lie are refused. The standard's cases are elsewhere."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ourcompiler.errors import CompileError
from ourcompiler.onnx_in.load import import_model, load
from ourcompiler.reference import run

FLOAT = TensorProto.FLOAT


def model(nodes: list[onnx.NodeProto], shape: list[int | str], **weights: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def node(op: str, inputs: list[str], output: str = "y", **more: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=f"the {op}", **more)


def test_a_shape_that_is_computed_is_known() -> None:
    """Shape, Gather and Concat, as exporters write a reshape of any batch."""
    nodes = [
        node("Shape", ["x"], "s"),
        node("Gather", ["s", "zero"], "n"),
        node("Unsqueeze", ["n", "axis"], "u"),
        node("Concat", ["u", "rest"], "shape", axis=0),
        node("Reshape", ["x", "shape"]),
    ]
    weights = {"zero": np.int64(0), "axis": np.array([0]), "rest": np.array([-1])}
    graph = import_model(
        model(nodes, ["n", 3, 4], **{k: np.asarray(v) for k, v in weights.items()}), Path(), {"n": 2}
    )
    assert [one.op for one in graph.nodes] == ["Reshape"]
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(run(graph, {"x": x})["y"], x.reshape(2, 12))


REFUSED = {
    "unbound": (model([node("Relu", ["x"])], ["n", 3]), "input 'x': its dimension 'n' is not bound"),
    "control flow": (model([node("Loop", ["x"])], [3]), "has no operator Loop"),
    "unknown": (model([node("Frobnicate", ["x"], domain="com.acme")], [3]), "of domain 'com.acme'"),
    "a cycle": (
        model([node("Add", ["x", "y"])], [3]),
        "its operand 'y' is made only after it, or by a cycle",
    ),
    "a gap": (model([node("Add", ["x", "nowhere"])], [3]), "its operand 'nowhere' is made by nothing"),
    "nothing": (model([node("Relu", ["x"], "z")], [3]), "nothing makes the output 'y'"),
    "huge": (model([node("Relu", ["x"])], [10**7, 10**7]), r"input 'x': a value of 400.0 TB"),
    "grows": (
        model([node("Expand", ["x", "w"])], [1], w=np.array([10**7, 10**7])),
        r"node 'the Expand' \(Expand\): a value of 400.0 TB",
    ),
    "data": (model([node("Reshape", ["x", "x"])], [1]), "its shape depends on the data"),
    "a lie": (
        model([node("Reshape", ["x", "w"])], [6], w=np.array([5])),
        r"node 'the Reshape' \(Reshape\): \(6,\) has 6 elements, \(5,\) has 5",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compiled_is_refused_by_name(name: str) -> None:
    proto, words = REFUSED[name]
    with pytest.raises(CompileError, match=words):
        import_model(proto, Path(), {})


def test_what_is_not_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    for content in (b"", b"hello", bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(CompileError, match="not an ONNX file"):
            load(path)
    with pytest.raises(CompileError, match="not an ONNX file"):
        load(tmp_path / "missing.onnx")


def test_data_outside_of_the_folder_or_missing_is_refused(tmp_path: Path) -> None:
    for location, words in (
        ("../etc", "outside of the network's folder"),
        ("gone.bin", "its data is missing"),
    ):
        proto = model([node("Add", ["x", "w"])], [3], w=np.zeros(3, np.float32))
        tensor = proto.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
        (tmp_path / "n.onnx").write_bytes(proto.SerializeToString())
        with pytest.raises(CompileError, match=words):
            load(tmp_path / "n.onnx")
