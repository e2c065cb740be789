"""Whether a graph is whole: every value made once, before it is read, and of the type that it should have."""

from ourcompiler.errors import InvalidGraphError
from ourcompiler.ir.graph import ABSENT, Graph, Node
from ourcompiler.ir.types import type_of
from ourcompiler.ops.catalogue import OPS


def verify(graph: Graph, step: str) -> None:
    """Raises `InvalidGraphError` that names the step after which the graph is broken, and where."""
    known = {*graph.inputs, *graph.constants}
    for name in known:
        if name not in graph.types:
            raise _broken(step, name, "has no type")
    for name, array in graph.constants.items():
        if type_of(array) != graph.types[name]:
            raise _broken(step, name, f"is a constant of {type_of(array)}, not {graph.types[name]}")
    for node in graph.nodes:
        _verify_node(graph, node, known, step)
        known.update(node.outputs)
    for public, value in graph.outputs:
        if value not in known:
            raise _broken(step, public, f"is {value!r}, which nothing makes")


def _verify_node(graph: Graph, node: Node, known: set[str], step: str) -> None:
    for name in node.inputs:
        if name != ABSENT and name not in known:
            raise _broken(step, node.output, f"reads {name!r} before it is made")
    for name in node.outputs:
        if name in known:
            raise _broken(step, name, "is made twice")
        if name not in graph.types:
            raise _broken(step, name, "has no type")
    if node.body is None:
        _verify_types(graph, node, step)
        return
    if node.body.inputs != node.inputs or tuple(value for _, value in node.body.outputs) != node.outputs:
        raise _broken(step, node.output, "has a body with other inputs or outputs")
    for name in (*node.inputs, *node.outputs):
        if node.body.types[name] != graph.types[name]:
            raise _broken(step, name, f"is {graph.types[name]}, inside of its kernel {node.body.types[name]}")
    verify(node.body, step)


def _verify_types(graph: Graph, node: Node, step: str) -> None:
    """What the operator's row infers is what stands in the graph."""
    operands = [None if name == ABSENT else graph.types[name] for name in node.inputs]
    try:
        inferred = OPS[node.op].infer(operands, dict(node.attributes))
    except (ValueError, KeyError) as error:
        raise _broken(step, node.output, f"has operands that do not fit {node.op}: {error}") from error
    for name, one in zip(node.outputs, inferred, strict=True):
        if graph.types[name] != one:
            raise _broken(step, name, f"is {graph.types[name]}, but {node.op} makes {one}")


def _broken(step: str, name: str, what: str) -> InvalidGraphError:
    return InvalidGraphError(f"after the step {step!r} the value {name!r} {what}", where=step)
