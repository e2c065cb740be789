"""Concat in place: who makes a part writes it where it belongs in the whole, so that nothing is joined.

A part's layout is the whole's layout behind an offset, and both share one buffer. Where one part cannot be
written there by its producer (it is an input, a constant, or part of another whole), it alone is copied.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ourcompiler.ir.graph import Graph, Node, attributes
from ourcompiler.ir.index import constant
from ourcompiler.ir.index_map import IndexMap, compose, identity
from ourcompiler.ir.inverse import inverse
from ourcompiler.storage import Storage, dense

MOST_COPIED = 1
"""With more parts to copy, one kernel that joins them all is as good."""


@dataclass
class Placement:
    """Layouts with those of parts, whose buffer each part lies in, and what is left to run of each Concat:
    nothing, or a node that copies one part.
    """

    storages: dict[str, Storage]
    owners: dict[str, str] = field(default_factory=dict)
    left: dict[str, Node | None] = field(default_factory=dict)

    def owner(self, name: str) -> str:
        """The value whose buffer a value lies in."""
        while name in self.owners:
            name = self.owners[name]
        return name


@dataclass(frozen=True, slots=True)
class Part:
    """An operand of a Concat: what lies in memory, the way back through its view, where it starts."""

    name: str
    source: str
    back: IndexMap | None
    start: int


def is_joined(node: Node) -> bool:
    """Whether a kernel does nothing but join values, perhaps seen through views."""
    if node.body is None:
        return False
    ops = [one.op for one in node.body.nodes]
    return ops.count("Concat") == 1 and set(ops) <= {"View", "Concat"} and len(node.outputs) == 1


def place(graph: Graph, storages: Mapping[str, Storage]) -> Placement:
    """Parts in their wholes, the later wholes first; `graph` is fused."""
    found = Placement(dict(storages))
    for node in reversed(graph.nodes):
        if is_joined(node):
            _place(graph, node, found)
    return found


def parts(node: Node) -> list[Part]:
    """The operands of the Concat in a body."""
    assert node.body is not None
    body = node.body
    (concat,) = (one for one in body.nodes if one.op == "Concat")
    axis = concat["axis"] % body.types[concat.output].rank
    found, start = [], 0
    for name in concat.inputs:
        shape = body.types[name].shape
        source, shown = name, identity(shape)
        while (view := body.producers.get(source)) is not None:
            through = compose(shown, view["map"])
            if through is None:
                break
            source, shown = view.inputs[0], through
        back = inverse(shown) if source in body.inputs else None
        found.append(Part(name, source, back, start))
        start += shape[axis]
    return found


def can_place(graph: Graph, part: Part, taken: Mapping[str, str]) -> bool:
    """Whether the part's producer can write it anywhere."""
    is_made = part.source in graph.producers and part.source not in graph.results
    return part.back is not None and is_made and part.source not in taken


def _place(graph: Graph, node: Node, found: Placement) -> None:
    assert node.body is not None
    out = node.output
    (concat,) = (one for one in node.body.nodes if one.op == "Concat")
    if concat.output != out:
        return
    axis = concat["axis"] % graph.types[out].rank
    whole = found.storages.get(out) or dense(graph.types[out].shape)
    taken = dict(found.owners)
    placed, rest = [], []
    for part in parts(node):
        if can_place(graph, part, taken):
            taken[part.source] = out
            placed.append(part)
        else:
            rest.append(part)
    if len(rest) > MOST_COPIED or not placed:
        return
    for part in placed:
        assert part.back is not None
        found.owners[part.source] = out
        found.storages[part.source] = _within(whole, part.back, axis, part.start)
    found.left[out] = _copy(node, rest[0], whole, axis, found) if rest else None


def _within(whole: Storage, back: IndexMap, axis: int, start: int) -> Storage:
    """The layout of a part: that of the whole, from `start` on along the axis."""
    space = back.space
    index = list(back.results)
    index[axis] = space.add(index[axis], constant(start))
    return Storage(back.shape, whole.at(space, index), whole.count)


def _copy(node: Node, part: Part, whole: Storage, axis: int, found: Placement) -> Node:
    """A kernel that writes one part into the whole."""
    assert node.body is not None
    body = node.body
    shape = body.types[part.name].shape
    made = f"{part.name} in {node.output}"
    kept = tuple(one for one in body.nodes if one.op == "View" and _leads_to(body, one, part.name))
    last = Node("View", (part.name,), (made,), attributes({"map": identity(shape)}))
    types = {**body.types, made: body.types[part.name]}
    read = tuple(name for name in node.inputs if name == part.source)
    small = replace(body, inputs=read, nodes=(*kept, last), outputs=((made, made),), types=types)
    found.owners[made] = node.output
    found.storages[made] = _within(whole, identity(shape), axis, part.start)
    return Node(node.op, read, (made,), (), node.origin, small)


def _leads_to(body: Graph, view: Node, name: str) -> bool:
    """Whether a view is on the way to a value."""
    while True:
        if view.output == name:
            return True
        readers = [one for one in body.readers.get(view.output, ()) if one.op == "View"]
        if not readers:
            return False
        view = readers[0]
