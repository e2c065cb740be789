"""Parameters and MACs of single nodes, worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from models.count import count, count_model
from models.model import Model
from models.onnx_file import read_user_model

Save = Callable[..., Path]
FLOAT = TensorProto.FLOAT
value = helper.make_tensor_value_info
node = helper.make_node
OUTPUTS = [value("y", FLOAT, None)]  # the shape is to be inferred

CASES = [
    (node("Conv", ["x", "w"], ["y"]), (1, 8, 10, 10), (16, 8, 3, 3), 16 * 8 * 8 * 8 * 9),
    (node("Conv", ["x", "w"], ["y"], group=8), (1, 8, 10, 10), (8, 1, 3, 3), 8 * 8 * 8 * 9),
    (node("Conv", ["x", "w"], ["y"], strides=[2]), (2, 8, 9), (4, 8, 3), 2 * 4 * 4 * 8 * 3),
    (node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), (1, 8, 5, 5), (8, 4, 2, 2), 200 * 4 * 4),
    (node("Gemm", ["x", "w"], ["y"]), (3, 5), (5, 7), 3 * 5 * 7),
    (node("Gemm", ["x", "w"], ["y"], transA=1, transB=1), (5, 3), (7, 5), 3 * 5 * 7),
    (node("MatMul", ["x", "w"], ["y"]), (2, 4, 3, 5), (5, 7), 2 * 4 * 3 * 5 * 7),
    (node("MatMul", ["x", "w"], ["y"]), (2, 1, 3, 5), (4, 5, 7), 2 * 4 * 3 * 5 * 7),
    (node("MatMul", ["x", "w"], ["y"]), (5,), (5, 7), 5 * 7),
    (node("Einsum", ["x", "w"], ["y"], equation="bij, jk -> bik"), (2, 3, 5), (5, 7), 2 * 3 * 5 * 7),
    (node("Einsum", ["x", "w"], ["y"], equation="...ij,...jk->...ik"), (2, 3, 5), (2, 5, 7), 2 * 3 * 5 * 7),
    (node("Add", ["x", "w"], ["y"]), (3, 5), (5,), 0),
]


@pytest.mark.parametrize(
    ("case", "shape", "weight", "macs"), CASES, ids=lambda case: getattr(case, "op_type", "")
)
def test_macs_of_a_node(
    save: Save, case: NodeProto, shape: tuple[int, ...], weight: tuple[int, ...], macs: int
) -> None:
    tensors = [helper.make_tensor("w", FLOAT, weight, np.zeros(int(np.prod(weight))))]
    path = save(nodes=[case], inputs=[value("x", FLOAT, shape)], outputs=OUTPUTS, tensors=tensors)
    counts = count(path)
    assert (counts.macs, counts.parameters, counts.nodes) == (macs, np.prod(weight), 1)
    assert counts.nodes_by_operator == {case.op_type: 1}


def test_integers_and_exact_constants_are_no_parameters(save: Save) -> None:
    tensors = [
        helper.make_tensor("weight", FLOAT, [4], np.zeros(4)),
        helper.make_tensor("mask", FLOAT, [9], np.zeros(9)),
        helper.make_tensor("index", TensorProto.INT64, [5], np.zeros(5, int)),
    ]
    path = save(tensors=tensors)
    assert count(path).parameters == 13
    assert count(path, constants={"mask"}).parameters == 4


def test_a_pinned_network_is_counted_without_its_weights(tiny: Model) -> None:
    counts = count_model(tiny)
    assert counts.parameters == 8 * 16 + 16 + 16 + 1
    assert counts.macs == 8 * 16
    assert counts.nodes_by_operator == {"Gemm": 1, "Mul": 1, "Where": 1}


def test_unknown_shapes_are_told(save: Save) -> None:
    path = save(
        nodes=[node("MatMul", ["x", "weight"], ["y"], name="product")],
        inputs=[value("x", FLOAT, ["batch", 4])],
        outputs=[value("y", FLOAT, ["batch"])],
    )
    assert count(path).macs is None
    assert count(path).uncounted == ("product",)
    assert count(path, dims={"batch": 3}).macs == 12
    assert count_model(read_user_model(path, {"batch": 5})).macs == 20


def test_shapes_that_contradict_one_another_do_not_stop_the_count(save: Save) -> None:
    relu, same = node("Relu", ["x"], ["y"]), node("Add", ["y", "weight"], ["z"])
    outputs = [value("y", FLOAT, [4]), value("z", FLOAT, [1, 4])]
    assert count(save(nodes=[relu, same], outputs=outputs)).nodes_by_operator == {"Add": 1, "Relu": 1}


def test_shapes_follow_through_the_graph(save: Save) -> None:
    nodes = [
        node("Reshape", ["x", "shape"], ["square"]),
        node("Transpose", ["square"], ["turned"], perm=[1, 0]),
        node("MatMul", ["turned", "weight"], ["y"]),
    ]
    tensors = [
        helper.make_tensor("shape", TensorProto.INT64, [2], [512, -1]),
        helper.make_tensor("weight", FLOAT, [512, 3], np.zeros(1536, np.float32).tobytes(), raw=True),
    ]
    path = save(nodes=nodes, inputs=[value("x", FLOAT, [1024])], outputs=OUTPUTS, tensors=tensors)
    counts = count(path)
    assert (counts.macs, counts.parameters) == (2 * 512 * 3, 1536)


def test_operators_come_most_frequent_first(save: Save) -> None:
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Abs", ["a"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("Add", ["c", "weight"], ["y"]),
    ]
    assert list(count(save(nodes=nodes)).nodes_by_operator) == ["Relu", "Abs", "Add"]
