"""Exported graphs cleaned and named."""

from onnx import ModelProto

from models.export.strip import first_uses, strip, unique
from models.export.traced import Traced


def stripped(traced: Traced) -> ModelProto:
    return strip(traced.graph, "tiny", {"val_3": "block.fc.weight"}, {"block.fc.weight"})


def test_nothing_of_the_exporter_stays(traced: Traced) -> None:
    model = stripped(traced)
    text = str(model)
    assert not any(word in text for word in ("noise", "metadata", "somewhere", "pytorch", "2.13", "node_"))
    assert model.graph.name == "tiny"
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]


def test_a_node_is_named_after_its_module(traced: Traced) -> None:
    names = [node.name for node in stripped(traced).graph.node]
    assert names == ["block.fc/MatMul", "block.fc/Add", "Where", "Add", "Reshape"]


def test_a_node_is_named_after_the_module_that_owns_its_weight(traced: Traced) -> None:
    model = strip(traced.graph, "tiny", {"val_3": "conv.weight"}, {"conv.weight"})
    assert model.graph.node[0].name == "conv/MatMul"


def test_constants_are_renamed_where_they_are_read(traced: Traced) -> None:
    assert list(stripped(traced).graph.node[0].input) == ["x", "block.fc.weight"]


def test_shapes_of_computed_values_stay_in_the_order_of_the_nodes(traced: Traced) -> None:
    infos = stripped(traced).graph.value_info
    assert [info.name for info in infos] == ["val_4", "linear", "chosen", "sum"]
    assert [size.dim_value for size in infos[0].type.tensor_type.shape.dim] == [1, 64]


def test_first_uses_gives_each_name_once(traced: Traced) -> None:
    assert first_uses(traced.graph)[:4] == ["x", "val_3", "val_4", "block.fc.bias"]


def test_a_taken_name_gets_the_first_free_number() -> None:
    taken: set[str] = set()
    assert [unique("a", taken) for _ in range(3)] == ["a", "a_1", "a_2"]
