"""A name for every node of an ONNX graph: profiles of frameworks are compared by them.

ONNX lets nodes have no name, and files exist in which several have the same one. Every node writes a tensor
of its own, so that tensor's name tells it from all others, in every tool and at every time.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto


def node_names(graph: "GraphProto") -> tuple[str, ...]:
    """A name for each node, in the graph's order, all different: its own where no earlier node has it, else
    that of the first tensor it writes, with the operator after it where a node is called so already.
    """
    taken = {node.name for node in graph.node if node.name}
    seen: set[str] = set()
    found = []
    for index, node in enumerate(graph.node):
        name = node.name
        if not name or name in seen:
            name = next(filter(None, node.output), f"{node.op_type}_{index}")
            while name in taken:
                name = f"{name}_{node.op_type}"
        taken.add(name)
        seen.add(name)
        found.append(name)
    return tuple(found)


def has_own_names(graph: "GraphProto") -> bool:
    """Whether every node has a name and no two the same: then they are `node_names`."""
    names = {node.name for node in graph.node}
    return "" not in names and len(names) == len(graph.node)


def name_nodes(graph: "GraphProto") -> None:
    """Give every node its name of `node_names`, in `graph` itself."""
    for node, name in zip(graph.node, node_names(graph), strict=True):
        node.name = name
