"""The oracle: runs any graph with NumPy, straight from the rows of its operators. Slow and plain."""

from collections.abc import Mapping

import numpy as np

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import ABSENT, Array, Graph, Node
from ourcompiler.ops.catalogue import OPS


def run(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The results by their public names; `inputs` by the names of the graph's inputs.

    Raises `CompileError` for an input that is missing or has another type or shape, and for operands that an
    operator refuses when it sees them (an index outside, say).
    """
    values: dict[str, Array] = dict(graph.constants)
    for name in graph.inputs:
        one = graph.types[name]
        if name not in inputs:
            raise CompileError(f"input {name!r} is missing", hint=f"give one of {one}")
        value = np.asarray(inputs[name])
        if value.dtype != one.dtype.numpy or value.shape != one.shape:
            raise CompileError(f"input {name!r} is {value.dtype}{list(value.shape)}, not {one}")
        values[name] = value
    last = _last_readers(graph)
    for number, node in enumerate(graph.nodes):
        operands = [None if name == ABSENT else values[name] for name in node.inputs]
        for name, value in zip(node.outputs, compute(node, operands), strict=True):
            values[name] = value
        for name in last.get(number, ()):
            del values[name]
    return {name: values[value] for name, value in graph.outputs}


def compute(node: Node, operands: list[Array | None]) -> tuple[Array, ...]:
    """What one node makes of its operands; a fused one runs its body."""
    if node.body is not None:
        named = dict(zip(node.body.inputs, operands, strict=True))
        found = run(node.body, {name: value for name, value in named.items() if value is not None})
        return tuple(found[name] for name, _ in node.body.outputs)
    try:
        return OPS[node.op].reference(operands, dict(node.attributes))
    except ValueError as error:
        where = node.origin[0] if node.origin else node.output
        raise CompileError(str(error), where=f"node {where!r} ({node.op})") from error


def _last_readers(graph: Graph) -> dict[int, list[str]]:
    """Values that nobody needs after the node of that number."""
    last: dict[str, int] = {}
    for number, node in enumerate(graph.nodes):
        for name in (*node.operands, *node.outputs):
            last[name] = number
    found: dict[int, list[str]] = {}
    for name, number in last.items():
        if name not in graph.results:
            found.setdefault(number, []).append(name)
    return found
