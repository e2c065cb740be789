"""The importer for PyTorch: what it folds, rewrites and refuses; skipped where PyTorch is not installed.

How it runs there is said in `test_onnx_to_torch.py`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="needs PyTorch: bench frameworks install executorch")

from adapters.onnx_to_torch import SHAPE_OPERATORS, import_network  # noqa: E402
from adapters.onnx_to_torch_depthwise import row_sets, with_small_depthwise_kernels  # noqa: E402
from adapters.onnx_to_torch_layers import LINEAR  # noqa: E402
from adapters.onnx_to_torch_linear import with_linears  # noqa: E402
from adapters.onnx_to_torch_norms import with_norms_as_products  # noqa: E402
from adapters.onnx_to_torch_sums import with_sums_as_products  # noqa: E402
from adapters.protocol import Unsupported  # noqa: E402

GENERATOR = np.random.default_rng(4)
ROW = GENERATOR.standard_normal((2, 3, 6)).astype(np.float32)


def weights(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def reference(path: Path, fed: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(
        None, {value.name: np.asarray(x) for value, x in zip(session.get_inputs(), fed, strict=True)}
    )


def imported(path: Path, fed: tuple[np.ndarray, ...], **how: Any) -> list[np.ndarray]:
    network = import_network(path, **how)
    with torch.no_grad():
        results = network(*(torch.from_numpy(np.array(value)) for value in fed))
    return [value.numpy() for value in results]


def model(
    folder: Path, nodes: list[Any], weight: dict[str, np.ndarray], shape: list[Any], outputs: list[str]
) -> Path:
    path = folder / "net.onnx"
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weight.items()],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path.write_bytes(onnx.shape_inference.infer_shapes(built).SerializeToString())
    return path


def test_what_depends_on_shapes_only_is_folded(tmp_path: Path) -> None:
    """A shape taken apart, a range as long as an axis, a tensor of ones: nothing of it is left."""
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["shape"], start=1),
        node("Gather", ["shape", "zero"], ["rows"]),
        node("Constant", [], ["minus"], value_ints=[-1]),
        node("Unsqueeze", ["rows", "first"], ["rows1"]),
        node("Concat", ["minus", "rows1"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["flat"]),
        node("Range", ["zero", "rows", "one"], ["range"]),
        node("Cast", ["range"], ["steps"], to=TensorProto.FLOAT),
        node("ConstantOfShape", ["rows1"], ["zeros"]),
        node("Size", ["x"], ["size"]),
        node("Cast", ["size"], ["count"], to=TensorProto.FLOAT),
        node("Sum", ["steps", "zeros", "count"], ["offset"]),
        node("Add", ["flat", "offset"], ["y"]),
    ]
    weight = {"zero": np.array(0), "one": np.array(1), "first": whole(0)}
    path = model(tmp_path, nodes, weight, [2, 3, 6], ["y"])
    assert set(SHAPE_OPERATORS) <= {row.op_type for row in nodes}
    assert [step.operation.operator for step in import_network(path).steps] == ["Reshape", "Add"]
    np.testing.assert_allclose(imported(path, (ROW,))[0], reference(path, (ROW,))[0])


def test_a_product_and_its_bias_are_one_linear_layer(tmp_path: Path) -> None:
    """Not when the product is read twice; both ONNX nodes keep their names."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="fc1"),
        node("Add", ["bias", "a"], ["b"], name="bias1"),
        node("MatMul", ["b", "v"], ["c"], name="fc2"),
        node("Add", ["c", "bias"], ["d"], name="bias2"),
        node("Mul", ["c", "d"], ["y"], name="mul"),
    ]
    path = model(
        tmp_path, nodes, {"w": weights(6, 5), "v": weights(5, 5), "bias": weights(5)}, [2, 3, 6], ["y"]
    )
    steps = [step.operation for step in import_network(path).steps]
    assert [step.names for step in steps] == [("fc1", "bias1"), ("fc2",), ("bias2",), ("mul",)]
    assert [step.operator for step in steps] == [LINEAR, LINEAR, "Add", "Mul"]
    np.testing.assert_allclose(imported(path, (ROW,))[0], reference(path, (ROW,))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rows", "most"), [(7, 3), (9, 2), (31, 25), (8, 3), (5, 5), (11, 2), (6, 2)])
def test_rows_are_cut_into_symmetric_sets(rows: int, most: int) -> None:
    sets = row_sets(rows, most)
    assert sorted(row for chosen in sets for row in chosen) == list(range(rows))
    assert all(len(chosen) <= most for chosen in sets)
    assert all(sorted(rows - 1 - row for row in chosen) == list(chosen) for chosen in sets)


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((7, 7), {"pads": [3, 3, 3, 3]}),
        ((9, 9), {"pads": [4, 4, 4, 4], "strides": [2, 2]}),
        ((7, 4), {"pads": [5, 0, 3, 2]}),
        ((8, 7), {"pads": [4, 3, 4, 3]}),
        ((31,), {"pads": [15, 15]}),
    ],
    ids=str,
)
def test_a_large_depthwise_kernel_in_pieces_computes_the_same(
    kernel: tuple[int, ...], attributes: dict[str, Any], tmp_path: Path
) -> None:
    shape = [1, 6, 12, 13][: 2 + len(kernel)]
    values = weights(*shape)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="dw", group=6, **attributes)
    path = model(tmp_path, [node], {"w": weights(6, 1, *kernel), "b": weights(6)}, shape, ["y"])
    rewrites = (with_linears, with_small_depthwise_kernels)
    steps = import_network(path, rewrites).steps
    assert len(steps) > 1
    assert {step.operation.names for step in steps} == {("dw",)}
    found = imported(path, (values,), rewrites=rewrites)[0]
    np.testing.assert_allclose(found, reference(path, (values,))[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((5, 5), {"pads": [2, 2, 2, 2]}),
        ((7, 7), {"pads": [0, 0, 0, 0]}),
        ((7, 7), {"auto_pad": "SAME_UPPER"}),
    ],
    ids=str,
)
def test_other_convolutions_stay_whole(
    kernel: tuple[int, ...], attributes: dict[str, Any], tmp_path: Path
) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="dw", group=6, **attributes)
    path = model(tmp_path, [node], {"w": weights(6, 1, *kernel)}, [1, 6, 12, 13], ["y"])
    assert len(import_network(path, (with_small_depthwise_kernels,)).steps) == 1


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean", "ReduceL2", "ReduceSumSquare"])
def test_a_sum_as_a_product_computes_the_same(operator: str, keep: int, axis: int, tmp_path: Path) -> None:
    node = helper.make_node(operator, ["x", "axes"], ["y"], name="sum", keepdims=keep)
    path = model(tmp_path, [node], {"axes": whole(axis)}, [2, 3, 6], ["y"])
    steps = import_network(path, (with_sums_as_products,)).steps
    assert not [step for step in steps if step.operation.operator.startswith("Reduce")]
    assert {step.operation.names for step in steps} == {("sum",)}
    found, expected = imported(path, (ROW,), rewrites=(with_sums_as_products,))[0], reference(path, (ROW,))[0]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("to", "axes"), [(TensorProto.INT64, [1]), (TensorProto.FLOAT, [0, 2])])
def test_sums_of_integers_and_over_several_axes_stay(to: int, axes: list[int], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], to=to),
        helper.make_node("ReduceSum", ["c", "axes"], ["y"]),
    ]
    path = model(tmp_path, nodes, {"axes": whole(*axes)}, [2, 3, 6], ["y"])
    steps = import_network(path, (with_sums_as_products,)).steps
    assert [step.operation.operator for step in steps] == ["Cast", "ReduceSum"]


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_norm_as_products_computes_the_same(bias: bool, tmp_path: Path) -> None:
    inputs = ["x", "scale", *(["bias"] if bias else [])]
    node = helper.make_node("LayerNormalization", inputs, ["y"], name="norm", epsilon=1e-3)
    path = model(tmp_path, [node], {"scale": weights(6), "bias": weights(6)}, [2, 3, 6], ["y"])
    steps = import_network(path, (with_norms_as_products,)).steps
    assert "LayerNormalization" not in {step.operation.operator for step in steps}
    assert {step.operation.names for step in steps} == {("norm",)}
    found = imported(path, (5 + ROW,), rewrites=(with_norms_as_products,))[0]
    np.testing.assert_allclose(found, reference(path, (5 + ROW,))[0], rtol=1e-4, atol=1e-5)


def test_a_layer_norm_over_two_axes_stays(tmp_path: Path) -> None:
    node = helper.make_node("LayerNormalization", ["x", "scale"], ["y"], axis=1)
    path = model(tmp_path, [node], {"scale": weights(3, 6)}, [2, 3, 6], ["y"])
    steps = import_network(path, (with_norms_as_products,)).steps
    assert [step.operation.operator for step in steps] == ["LayerNormalization"]


REFUSED = {
    "operator": (
        helper.make_node("Det", ["x"], ["y"], name="d"),
        r"^Det is not an operator .* \(node 'd'\)$",
    ),
    "domain": (
        helper.make_node("Foo", ["x"], ["y"], name="d", domain="my"),
        r"^my\.Foo is not .* \(node 'd'\)$",
    ),
    "computed shape": (
        helper.make_node("Reshape", ["x", "k"], ["y"], name="d"),
        r"^Reshape reads 'k', whose values are known only when the network runs \(node 'd'\)$",
    ),
    "shapes": (
        helper.make_node("Add", ["x", "w"], ["y"], name="d"),
        r"(?s)^Add cannot be computed .*\(node 'd'\)$",
    ),
    "outputs": (
        helper.make_node("MaxPool", ["x"], ["p", "y"], name="d", kernel_shape=[2]),
        r"MaxPool .*2 outputs",
    ),
    "attribute": (
        helper.make_node("Resize", ["x", "", "s"], ["y"], name="d", antialias=1, mode="linear"),
        r"^Resize with antialias .*\(node 'd'\)$",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    node, text = REFUSED[name]
    before = helper.make_node("Cast", ["x"], ["k"], name="before", to=TensorProto.INT64)
    graph = helper.make_graph(
        [before, node],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 6])],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(weights(4), "w"), numpy_helper.from_array(np.ones(3, np.float32), "s")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("my", 1)]
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())
    with pytest.raises(Unsupported, match=text):
        import_network(path)


def test_a_dimension_without_a_size_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {}, ["batch", 3], ["y"])
    with pytest.raises(Unsupported, match="input 'x' has a dimension without a size"):
        import_network(path)


def test_an_output_that_is_constant_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["w"], ["z"])]
    path = model(tmp_path, nodes, {"w": weights(3)}, [1, 3], ["y", "z"])
    with pytest.raises(Unsupported, match="output 'z' does not depend on the inputs"):
        import_network(path)


def test_an_early_opset_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], {}, [2], ["y"])
    proto = onnx.load(path)
    proto.opset_import[0].version = 12
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(Unsupported, match=r"^opset 12: .* opset 13 and later"):
        import_network(path)


def test_external_weights_are_read_in_place(tmp_path: Path) -> None:
    values = weights(6, 5)
    weight = TensorProto(
        name="w", data_type=TensorProto.FLOAT, dims=[6, 5], data_location=TensorProto.EXTERNAL
    )
    weight.external_data.add(key="location", value="weights.bin")
    weight.external_data.add(key="offset", value="8")
    (tmp_path / "weights.bin").write_bytes(bytes(8) + values.tobytes())
    path = model(tmp_path, [helper.make_node("Mul", ["x", "w"], ["y"])], {}, [6, 5], ["y"])
    proto = onnx.load(path)
    proto.graph.initializer.append(weight)
    path.write_bytes(proto.SerializeToString())
    np.testing.assert_array_equal(imported(path, (values,))[0], values * values)
