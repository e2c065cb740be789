"""Names for nodes that have none: all different, the same every time, and a node's own name is kept."""

import pytest
from onnx import GraphProto, helper

from models.onnx_names import has_own_names, name_nodes, node_names


def chain(*names: str) -> GraphProto:
    """One Relu after another with these names; the tensors are t0, t1 …"""
    nodes = [
        helper.make_node("Relu", ["x" if not place else f"t{place - 1}"], [f"t{place}"], name=name)
        for place, name in enumerate(names)
    ]
    return helper.make_graph(nodes, "chain", [], [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("a", "b", "c"), ("a", "b", "c")),
        (("", "", ""), ("t0", "t1", "t2")),
        (("same", "same", "same"), ("same", "t1", "t2")),
        (("", "t0", ""), ("t0_Relu", "t0", "t2")),  # another node is called as this one's tensor
        (("t1", "", "t1_Relu"), ("t1", "t1_Relu_Relu", "t1_Relu")),
    ],
)
def test_every_node_has_a_name_of_its_own(given: tuple[str, ...], expected: tuple[str, ...]) -> None:
    graph = chain(*given)
    assert node_names(graph) == expected
    assert has_own_names(graph) == (given == expected)
    name_nodes(graph)
    assert has_own_names(graph)
    assert node_names(graph) == expected


def test_a_tensor_left_out_names_nobody() -> None:
    dropout = helper.make_node("Dropout", ["x"], ["", "mask"])
    assert node_names(helper.make_graph([dropout], "one", [], [])) == ("mask",)
