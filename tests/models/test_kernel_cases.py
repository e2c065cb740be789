"""Kernels cut out of pinned graphs: all work is in them, each shape once, with the network's own weights."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper, numpy_helper

from models.catalogue import resolve
from models.count import count_model
from models.draw import draw_piece
from models.kernel_cases import Case, find_cases, write_case
from models.kernel_templates import TEMPLATES, attentions, template_of
from models.recipe import read_recipe

node = helper.make_node
SHAPES = {
    "x": (1, 8, 6, 6),
    "one": (4, 8, 1, 1),
    "three": (4, 8, 3, 3),
    "five": (4, 8, 5, 5),
    "half": (4, 4, 3, 3),
    "each": (8, 1, 3, 3),
}
CONSTANTS = set(SHAPES) - {"x"}


@pytest.mark.parametrize(
    ("case", "template"),
    [
        (node("Conv", ["x", "one"], ["y"]), "pointwise"),
        (node("Conv", ["x", "three"], ["y"], pads=[1, 1, 1, 1]), "conv3x3"),
        (node("Conv", ["x", "three"], ["y"], dilations=[2, 2]), "conv"),
        (node("Conv", ["x", "five"], ["y"]), "conv"),
        (node("Conv", ["x", "one"], ["y"], strides=[2, 2]), "strided"),
        (node("Conv", ["x", "half"], ["y"], group=2), "grouped"),
        (node("Conv", ["x", "each"], ["y"], group=8, strides=[2, 2]), "depthwise"),
        (node("MatMul", ["x", "one"], ["y"]), "matmul"),
        (node("MatMul", ["x", "x"], ["y"]), "product"),
        (node("Gemm", ["x", "one"], ["y"]), "matmul"),
        (node("Gelu", ["x"], ["y"]), "elementwise"),
        (node("Softmax", ["x"], ["y"]), "softmax"),
        (node("InstanceNormalization", ["x", "one", "one"], ["y"]), "normalization"),
        (node("Reshape", ["x", "one"], ["y"]), ""),
    ],
)
def test_template_of_a_node(case: NodeProto, template: str) -> None:
    assert template_of(case, SHAPES, CONSTANTS) == template
    assert template == "" or template in TEMPLATES


ATTENTION = [
    node("MatMul", ["q", "k"], ["scores"]),
    node("Mul", ["scores", "scale"], ["scaled"]),
    node("Relu", ["mask"], ["positive"]),
    node("Add", ["scaled", "positive"], ["masked"]),
    node("Softmax", ["masked"], ["shares"]),
    node("MatMul", ["shares", "v"], ["y"]),
]


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        (ATTENTION, [(0, 1, 3, 4, 5)]),  # the mask's own Relu is outside
        (ATTENTION[:5], []),
        ([*ATTENTION, node("Relu", ["scores"], ["z"])], []),  # somebody else reads the scores
        ([*ATTENTION, node("Relu", ["shares"], ["z"])], []),
        ([*ATTENTION, node("Relu", ["y"], ["z"])], [(0, 1, 3, 4, 5)]),
        ([node("Softmax", ["x"], ["p"]), node("MatMul", ["p", "v"], ["y"])], []),
        ([*ATTENTION[:4], node("Relu", ["masked"], ["cut"]), node("Softmax", ["cut"], ["p"])], []),
    ],
)
def test_attentions(nodes: Sequence[NodeProto], found: list[tuple[int, ...]]) -> None:
    assert list(attentions(nodes)) == found


NETWORKS = "swin,regnet,pythia"


@pytest.fixture(scope="module")
def cases() -> tuple[Case, ...]:
    return find_cases(resolve(NETWORKS))


def test_all_multiplications_of_a_network_are_in_its_kernels(cases: Sequence[Case]) -> None:
    for model in resolve(NETWORKS):
        macs = count_model(model).macs
        flops = sum(case.flops * case.occurrences.get(model.name, 0) for case in cases)
        assert macs is not None
        assert flops == 2 * macs, model.name


def test_a_shape_is_there_once_under_a_name_of_its_own(cases: Sequence[Case]) -> None:
    assert len({case.name for case in cases}) == len({case.digest for case in cases}) == len(cases)
    found = next(case for case in cases if case.name == "grouped-576x14x14-576-k3x3-g24")
    assert (found.count, found.flops) == (12, 2 * 576 * 14 * 14 * 9 * 24)
    weights = 576 * 24 * 9 + 576  # and the bias
    assert found.byte_count == 4 * (2 * 576 * 14 * 14 + weights)
    order = [list(TEMPLATES).index(case.template) for case in cases]
    assert order == sorted(order)


def test_names_do_not_depend_on_the_rest_of_a_network(cases: Sequence[Case]) -> None:
    alone = {case.digest for case in find_cases(resolve("swin"))}
    assert alone == {case.digest for case in cases if "swin" in case.occurrences}


def test_a_written_kernel_is_valid_and_has_the_networks_weights(
    cases: Sequence[Case], tmp_path: Path
) -> None:
    models = {model.name: model for model in resolve(NETWORKS)}
    case = next(case for case in cases if case.template == "matmul" and "swin" in case.occurrences)
    path = write_case(case, models, tmp_path)
    assert path.stem == case.name
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    network, nodes = case.source
    original = onnx.load(models[network].graph, load_external_data=False).graph.node[nodes[0]]
    recipe = read_recipe(models[network].graph.parent / "weights.toml")
    row = next(tensor for tensor in recipe.tensors if tensor.name == original.input[1])
    expected = draw_piece(row, recipe.seed, 0, row.element_count).reshape(row.shape)
    np.testing.assert_array_equal(numpy_helper.to_array(proto.graph.initializer[0]), expected)
    before = path.stat().st_mtime_ns
    assert write_case(case, models, tmp_path).stat().st_mtime_ns == before, "made once"


def test_an_attention_keeps_its_mask_and_its_scale(cases: Sequence[Case], tmp_path: Path) -> None:
    models = {model.name: model for model in resolve(NETWORKS)}
    masked = [case for case in cases if case.template == "attention" and "swin" in case.occurrences]
    kinds = set()
    for case in masked:
        proto = onnx.load(write_case(case, models, tmp_path))
        onnx.checker.check_model(proto, full_check=True)
        kinds.add(tuple(one.op_type for one in proto.graph.node))
        values = [numpy_helper.to_array(tensor) for tensor in proto.graph.initializer]
        assert all(np.any(value) for value in values), "nothing is left empty"
    assert len(kinds) > 1, "with a mask and without"
