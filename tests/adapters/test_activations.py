"""A survey of activations: every value is looked at, in whatever segments."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from adapters.activations import summarise, survey
from models.errors import ModelError

FLOAT = TensorProto.FLOAT
INPUT = np.array([[-2.0, -1.0, 0.0, 1.0]], np.float32)
node = helper.make_node


def save(
    folder: Path, nodes: list[onnx.NodeProto], outputs: list[str], tensors: tuple[onnx.TensorProto, ...] = ()
) -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", FLOAT, [1, 4])],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        tensors,
    )
    path = folder / "net.onnx"
    path.write_bytes(
        helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
        ).SerializeToString()
    )
    return path


def constant(name: str, *values: float) -> onnx.TensorProto:
    return helper.make_tensor(name, FLOAT, [len(values)], values)


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Eight nodes with a skip over all of them, an integer value, and weights in another file."""
    weight = TensorProto(name="weight", data_type=FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="weights.bin")
    np.eye(4, dtype=np.float32).tofile(tmp_path / "weights.bin")
    nodes = [
        node("Relu", ["x"], ["relu"]),
        node("MatMul", ["relu", "weight"], ["product"]),
        node("ArgMax", ["product"], ["largest"], axis=1),
        node("Cast", ["largest"], ["as_float"], to=FLOAT),
        node("Add", ["product", "as_float"], ["sum"]),
        node("Split", ["sum"], ["left", "right"], axis=1, num_outputs=2),
        node("Concat", ["right", "left"], ["swapped"], axis=1),
        node("Add", ["swapped", "relu"], ["y"]),
    ]
    return save(tmp_path, nodes, ["y"], (weight,))


@pytest.mark.parametrize("segment_bytes", [1, 40, 10**9])
def test_every_float_value_is_surveyed(chain: Path, segment_bytes: int) -> None:
    facts = survey(chain, {"x": INPUT}, segment_bytes)
    assert [(fact.name, fact.operator, fact.shape) for fact in facts] == [
        ("relu", "Relu", (1, 4)),
        ("product", "MatMul", (1, 4)),
        ("as_float", "Cast", (1, 1)),
        ("sum", "Add", (1, 4)),
        ("left", "Split", (1, 2)),
        ("right", "Split", (1, 2)),
        ("swapped", "Concat", (1, 4)),
        ("y", "Add", (1, 4)),
    ]
    assert [fact.max_abs for fact in facts] == [1, 1, 3, 4, 3, 4, 4, 4]
    assert facts[-1].rms == pytest.approx(np.sqrt((3**2 + 4**2 + 3**2 + 4**2) / 4))
    summary = summarise(facts)
    assert summary.is_sound
    assert (summary.value_count, summary.element_count) == (8, 25)
    assert summary.largest is not None
    assert summary.largest.name == "sum"
    assert summary.smallest_rms is not None
    assert summary.smallest_rms.name == "relu"


def test_what_is_unsound_is_counted(tmp_path: Path) -> None:
    nodes = [
        node("Div", ["x", "zero"], ["divided"]),
        node("Mul", ["x", "tiny"], ["small"]),
        node("Mul", ["x", "zero"], ["nothing"]),
        node("Sum", ["divided", "small", "nothing"], ["y"]),
    ]
    path = save(tmp_path, nodes, ["y"], (constant("zero", 0.0), constant("tiny", 1e-39)))
    summary = summarise(survey(path, {"x": INPUT}))
    assert not summary.is_sound
    assert [(fact.name, fact.nan_count, fact.infinite_count) for fact in summary.non_finite] == [
        ("divided", 1, 3),
        ("y", 1, 3),
    ]
    assert [(fact.name, fact.denormal_count) for fact in summary.denormal] == [("small", 3)]
    assert summary.denormal_count == 3
    assert [fact.name for fact in summary.zero] == ["nothing"]


def test_half_precision_has_denormals_of_its_own(tmp_path: Path) -> None:
    nodes = [
        node("Mul", ["x", "factor"], ["y"]),
        node("Cast", ["y"], ["half"], to=TensorProto.FLOAT16),
    ]
    path = save(tmp_path, nodes, ["half"], (constant("factor", 1e-5),))
    facts = survey(path, {"x": INPUT})
    assert [fact.denormal_count for fact in facts] == [0, 3]


def test_a_subgraph_reads_values_from_outside(tmp_path: Path) -> None:
    branches = {
        key: helper.make_graph(
            [node(operator, ["early"], ["inner"])],
            key,
            [],
            [helper.make_tensor_value_info("inner", FLOAT, [1, 4])],
        )
        for key, operator in {"then_branch": "Abs", "else_branch": "Neg"}.items()
    }
    nodes = [
        node("Neg", ["x"], ["early"]),
        node("ReduceSum", ["x"], ["total"], keepdims=0),
        node("Less", ["total", "limit"], ["is_less"]),
        node("If", ["is_less"], ["y"], **branches),
    ]
    limit = helper.make_tensor("limit", FLOAT, [], [0.0])
    facts = survey(save(tmp_path, nodes, ["y"], (limit,)), {"x": INPUT}, segment_bytes=1)
    assert [fact.name for fact in facts] == ["early", "total", "y"]


def test_a_node_that_does_not_run_is_named(tmp_path: Path) -> None:
    wrong = node("MatMul", ["x", "weight"], ["y"], name="product")
    with pytest.raises(ModelError) as caught:
        survey(save(tmp_path, [wrong], ["y"], (constant("weight", 1.0, 2.0),)), {"x": INPUT})
    assert caught.value.where == "nodes 'product' to 'product'"
    assert caught.value.what.startswith("does not run in ONNX Runtime: ")


def test_sequences_are_refused(tmp_path: Path) -> None:
    nodes = [node("SplitToSequence", ["x"], ["parts"]), node("ConcatFromSequence", ["parts"], ["y"], axis=0)]
    with pytest.raises(ModelError, match="a value is no tensor but a sequence"):
        survey(save(tmp_path, nodes, ["y"]), {"x": INPUT})


def test_an_empty_survey_is_sound() -> None:
    summary = summarise(())
    assert summary.is_sound
    assert summary.largest is None
