"""Names of an ONNX file's nodes, for refusals and profiles: what a framework says is led back to them."""

from pathlib import Path


def node_names(source: Path) -> frozenset[str]:
    """Names of all nodes of the graph, not of the bodies inside its nodes; weights are not read."""
    from models.onnx_file import load_graph

    return frozenset(node.name for node in load_graph(source).graph.node if node.name)


def operator_place(source: Path, operator: str) -> str:
    """`operator X (node 'name')` for the first node of that operator type, or without the node if there is
    none.
    """
    from models.onnx_file import load_graph

    nodes = (node.name for node in load_graph(source).graph.node if node.op_type == operator)
    name = next(nodes, None)
    return f"operator {operator}" if name is None else f"operator {operator} (node {name!r})"
