"""Views move behind what is computed element by element, so that it joins the operator before the view.

`Add(View(x), y)` is `View(Add(x, View⁻¹(y)))` where the view only puts elements elsewhere. So a residual
sum behind a window's way back joins the projection before it (the pair rules of SmartMem's Table 4: what has
a variable layout does not need the transformation in front of it).
"""

from collections.abc import Mapping
from itertools import count

from ourcompiler.ir.graph import Attribute, Graph, Node, attributes
from ourcompiler.ir.index_map import IndexMap, compose, expand
from ourcompiler.ir.inverse import inverse
from ourcompiler.ir.types import TensorType
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import Pointwise

ROUNDS = 64
MARK = "~"


def sink(graph: Graph) -> Graph:
    """The graph with views as late as they can be, to a fixed point."""
    for _ in range(ROUNDS):
        changed = _once(graph)
        if changed is None:
            return graph
        graph = changed
    return graph


def _once(graph: Graph) -> Graph | None:
    """Every pointwise node at most once; None when nothing moves any more."""
    nodes: list[Node] = []
    types = dict(graph.types)
    moved = False
    touched: set[str] = set()
    for node in graph.nodes:
        found = None if touched & set(node.operands) else _moved(graph, node, types)
        if found is None:
            nodes.append(node)
        else:
            nodes.extend(found)
            touched.update(node.outputs)
            moved = True
    return graph.with_nodes(nodes, types) if moved else None


def _moved(graph: Graph, node: Node, types: dict[str, TensorType]) -> list[Node] | None:
    """The node in front of a view that it read through."""
    row = OPS.get(node.op)
    if row is None or not isinstance(row.code, Pointwise) or len(node.outputs) != 1:
        return None
    apart = _through_concat(graph, node, types)
    if apart is not None:
        return apart
    for name in node.operands:
        view = graph.producers.get(name)
        if view is None or not _may_pass(graph, node, view):
            continue
        back = inverse(view["map"])
        if back is None:
            continue
        others = _others(graph, node, name, back, types)
        if others is None:
            continue
        before, read = others
        source = view.inputs[0]
        inner = fresh(node.output, types)
        types[inner] = TensorType(types[node.output].dtype, types[source].shape)
        read = [source if one == name else one for one in read]
        computed = Node(node.op, tuple(read), (inner,), node.attributes, node.origin)
        shown: dict[str, Attribute] = {"map": view["map"]}
        return [*before, computed, Node("View", (inner,), (node.output,), attributes(shown), view.origin)]
    return None


def _through_concat(graph: Graph, node: Node, types: dict[str, TensorType]) -> list[Node] | None:
    """A function of joined values as the joined functions of each: so it joins those who make the parts."""
    joined = graph.producers.get(node.inputs[0])
    if len(node.inputs) != 1 or joined is None:
        return None
    if joined.op != "Concat" or joined.output in graph.results or len(graph.readers[joined.output]) != 1:
        return None
    if any(name not in graph.producers or len(graph.readers[name]) != 1 for name in joined.inputs):
        return None
    made, parts = [], []
    for name in joined.inputs:
        part = fresh(node.output, types)
        types[part] = TensorType(types[node.output].dtype, types[name].shape)
        made.append(Node(node.op, (name,), (part,), node.attributes, node.origin))
        parts.append(part)
    return [*made, Node("Concat", tuple(parts), node.outputs, joined.attributes, joined.origin)]


def _may_pass(graph: Graph, node: Node, view: Node) -> bool:
    """A view of the node's whole shape that nobody else reads, of something that is computed here."""
    if view.op != "View" or view.output in graph.results or len(graph.readers[view.output]) != 1:
        return False
    source = view.inputs[0]
    producer = graph.producers.get(source)
    if producer is None or source in graph.results or len(graph.readers[source]) != 1:
        return False
    return graph.types[view.output].shape == graph.types[node.output].shape


def _others(
    graph: Graph, node: Node, name: str, back: IndexMap, types: dict[str, TensorType]
) -> tuple[list[Node], list[str]] | None:
    """The other operands as the moved node reads them: through the way back."""
    before: list[Node] = []
    read: list[str] = []
    shape = graph.types[node.output].shape
    for operand in node.inputs:
        one = graph.types[operand] if operand else None
        is_number = one is not None and one.element_count == 1 and one.rank <= len(back.shape)
        if operand == name or one is None or is_number:
            read.append(operand)
            continue
        if _joins_directly(graph, operand, shape):
            return None
        wide = expand(one.shape, shape)
        through = compose(back, wide)
        if through is None:
            return None
        made = fresh(operand, types)
        types[made] = TensorType(one.dtype, through.shape)
        before.append(Node("View", (operand,), (made,), attributes({"map": through})))
        read.append(made)
    return before, read


def _joins_directly(graph: Graph, operand: str, shape: tuple[int, ...]) -> bool:
    """Whether the node could as well join the one that makes this operand: then nothing is gained, and
    the view would be moved to and fro.
    """
    producer = graph.producers.get(operand)
    if producer is None or producer.op == "View" or operand in graph.results:
        return False
    return len(graph.readers[operand]) == 1 and graph.types[operand].shape == shape


def fresh(name: str, types: Mapping[str, TensorType]) -> str:
    """The name with a number that no value has yet."""
    base = name.partition(MARK)[0]
    return next(made for number in count(1) if (made := f"{base}{MARK}{number}") not in types)
