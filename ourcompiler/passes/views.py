"""Layout transformations become index maps: no Reshape, Transpose, Slice, … is left (SmartMem section 3.2).

Every operator that only moves elements is a `View` of what lies in memory; views of views are one view. A
view of a constant is computed. What reads a view finds its elements through the map.
"""

from collections.abc import Mapping

import numpy as np

from ourcompiler.ir.graph import Array, Graph, Node, attributes
from ourcompiler.ir.index import Affine, Atom, Dim, Entry, Quotient, Remainder
from ourcompiler.ir.index_map import IndexMap, compose
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import View

FOLDED_GROWTH = 2
"""A view of a constant is computed unless it is more than so many times as large."""


def eliminate(graph: Graph) -> Graph:
    """The graph with views in the place of everything that moves elements."""
    nodes: list[Node] = []
    sources: dict[str, tuple[str, IndexMap, tuple[str, ...]]] = {}  # views so far: of what, how, from where
    constants = dict(graph.constants)
    same: dict[str, str] = {}
    for node in graph.nodes:
        read = tuple(same.get(name, name) for name in node.inputs)
        node = Node(node.op, read, node.outputs, node.attributes, node.origin, node.body)
        code = OPS[node.op].code if node.op in OPS else None
        if not isinstance(code, View):
            nodes.append(node)
            continue
        maps = code.views(graph.types[node.inputs[0]], dict(node.attributes))
        for name, shown in zip(node.outputs, maps, strict=True):
            source, whole, origin = _composed(read[0], shown, node.origin, sources)
            if source in constants and _is_worth(shown, constants[source]):
                constants[name] = taken(whole, constants[source])
            elif whole.is_identity and name not in graph.results:
                same[name] = source
            else:
                sources[name] = source, whole, origin
                nodes.append(Node("View", (source,), (name,), attributes({"map": whole}), origin))
    return Graph(graph.inputs, graph.outputs, (), graph.types, constants, graph.name).with_nodes(nodes)


def _composed(
    source: str,
    shown: IndexMap,
    origin: tuple[str, ...],
    sources: Mapping[str, tuple[str, IndexMap, tuple[str, ...]]],
) -> tuple[str, IndexMap, tuple[str, ...]]:
    """The view of what lies in memory, unless two fills differ."""
    if source not in sources:
        return source, shown, origin
    base, inner, before = sources[source]
    whole = compose(shown, inner)
    if whole is None:
        return source, shown, origin
    return base, whole, tuple(dict.fromkeys((*before, *origin)))


def _is_worth(shown: IndexMap, constant: Array) -> bool:
    return int(np.prod(shown.shape)) <= max(FOLDED_GROWTH * constant.size, 1024)


def taken(shown: IndexMap, array: Array) -> Array:
    """The elements that a view shows; without a copy where NumPy can show them too."""
    if shown.is_reshape:
        return array.reshape(shown.shape)
    order = _permutation(shown)
    if order is not None:
        return array.transpose(order)
    grid = np.indices(shown.shape, sparse=True) if shown.shape else []
    places = tuple(evaluated(one, grid) for one in shown.results)
    if not shown.guards:
        found: Array = array[places] if places else array
        return np.array(np.broadcast_to(found, shown.shape), order="C")
    inside = np.array(True)
    for guard in shown.guards:
        where = evaluated(guard.index, grid)
        inside = inside & (where >= 0) & (where < guard.size)
    kept = tuple(np.clip(one, 0, size - 1) for one, size in zip(places, array.shape, strict=True))
    found = np.where(inside, array[kept], np.asarray(shown.fill, array.dtype))
    return np.array(np.broadcast_to(found, shown.shape), order="C")


def _permutation(shown: IndexMap) -> list[int] | None:
    """The axes of the source in the order in which the view has them, if the view does nothing else."""
    if shown.guards or len(shown.shape) != len(shown.source):
        return None
    dims = shown.space.dims()
    order: list[int] = []
    for dim, size in zip(dims, shown.shape, strict=True):
        fitting = [
            axis
            for axis, one in enumerate(shown.results)
            if axis not in order and one == dim and shown.source[axis] == size
        ]
        if not fitting:
            return None
        order.append(fitting[0])
    return order


def evaluated(expression: Affine, grid: object) -> Array:
    """An expression over whole dimensions at once."""
    total: Array = np.asarray(expression.constant)
    for atom, factor in expression.terms:
        total = total + factor * _atom(atom, grid)
    return total


def _atom(atom: Atom, grid: object) -> Array:
    match atom:
        case Dim(number):
            return np.asarray(grid[number])  # type: ignore[index]
        case Quotient(of, by):
            return evaluated(of, grid) // by
        case Remainder(of, by):
            return evaluated(of, grid) % by
        case Entry(table, at):
            entries: Array = np.asarray(table)
            return np.asarray(entries[np.clip(evaluated(at, grid), 0, len(table) - 1)])
