"""Which original ONNX nodes a fused operator of a framework covers, told from names of nodes and tensors.

Optimisers keep the names of the tensors that they leave in place. So what an operator covers is found by
going backwards in the original graph from the tensors that it writes, up to tensors that another operator
writes. Where a tensor was renamed, the operator's own name helps: optimisers name an operator after a node or
a tensor that it replaces, with something appended.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.protocol import ProfileEntry

IMPLICIT = "implicit"
CONVOLUTION = "Conv"


@dataclass(frozen=True, slots=True)
class OriginalGraph:
    """Names only: for every tensor the node that writes it, and for every node the tensors that it reads; and
    which nodes are convolutions.
    """

    writer: Mapping[str, str]
    reads: Mapping[str, tuple[str, ...]]
    convolutions: frozenset[str] = frozenset()

    def named_by(self, name: str) -> str | None:
        """The node whose name, or whose tensor's name, `name` is or begins with; the longest such."""
        for end in range(len(name), 0, -1):
            if name[:end] in self.reads:
                return name[:end]
            if name[:end] in self.writer:
                return self.writer[name[:end]]
        return None

    @property
    def place(self) -> Mapping[str, int]:
        """Every node's place in the graph's order."""
        return {node: place for place, node in enumerate(self.reads)}


def read_original(path: Path) -> OriginalGraph:
    """Read an ONNX file's names, without its weights."""
    from models.onnx_file import load_graph

    nodes = load_graph(path).graph.node
    writer = {tensor: node.name for node in nodes for tensor in node.output if tensor}
    return OriginalGraph(
        writer,
        {node.name: tuple(filter(None, node.input)) for node in nodes},
        frozenset(node.name for node in nodes if node.op_type == CONVOLUTION),
    )


def covering(
    entries: Sequence[ProfileEntry],
    written: Sequence[Sequence[str]],
    original: OriginalGraph,
    absorbed: Sequence[int] = (),
) -> tuple[ProfileEntry, ...]:
    """The entries with the original nodes that they cover; `written` are the tensors that each writes.

    A node belongs to the entry that writes its tensor, else to the one named after it, else to the entry
    before it that `absorbed` so many followers (an addition, an activation), else to every entry that needs
    it. Implicit layout transformations compute nothing of the network: they cover no node, though what they
    write may have the name of an original tensor.
    """
    owner = _owners(entries, written, original)
    _absorb(owner, absorbed, original)
    place = original.place
    own: list[list[str]] = [[] for _ in entries]
    for node, index in owner.items():
        own[index].append(node)
    boundary = {tensor for tensors in written for tensor in tensors}
    found: list[ProfileEntry] = []
    for index, (entry, tensors) in enumerate(zip(entries, written, strict=True)):
        if entry.layout == IMPLICIT:
            found.append(replace(entry, nodes=()))
            continue
        starts = [*tensors, *(tensor for node in own[index] for tensor in original.reads[node])]
        nodes = {*own[index], *_needed(starts, boundary - set(tensors), owner, index, original)}
        found.append(replace(entry, nodes=tuple(sorted(nodes, key=place.__getitem__))))
    return tuple(found)


def _absorb(owner: dict[str, int], absorbed: Sequence[int], original: OriginalGraph) -> None:
    """Give nodes that nobody owns to an entry that wrote what they read and took followers in.

    A convolution that is named after its last follower, or writes that one's tensor, has them already: they
    lie between the two.
    """
    done = {index for node, index in owner.items() if node not in original.convolutions}
    left = {index: count for index, count in enumerate(absorbed) if index not in done}
    for node, reads in original.reads.items():  # in topological order: followers of followers too
        if node in owner:
            continue
        before = (owner.get(original.writer.get(tensor, "")) for tensor in reads)
        taker = next((index for index in before if index is not None and left.get(index)), None)
        if taker is not None:
            owner[node] = taker
            left[taker] -= 1


def _owners(
    entries: Sequence[ProfileEntry], written: Sequence[Sequence[str]], original: OriginalGraph
) -> dict[str, int]:
    """For every node that can be told by a tensor or a name, the entry that covers it; tensors count more."""
    owner: dict[str, int] = {}
    computing = [index for index, entry in enumerate(entries) if entry.layout != IMPLICIT]
    for index in computing:
        for tensor in written[index]:
            if tensor in original.writer:
                owner.setdefault(original.writer[tensor], index)
    for index in computing:
        node = original.named_by(entries[index].name)
        if node is not None:
            owner.setdefault(node, index)
    return owner


def _needed(
    starts: Sequence[str], boundary: set[str], owner: Mapping[str, int], index: int, original: OriginalGraph
) -> Iterator[str]:
    """Nodes from which the tensors `starts` follow, without passing the boundary or another's node."""
    waiting, seen = [tensor for tensor in starts if tensor not in boundary], set[str]()
    while waiting:
        node = original.writer.get(waiting.pop())
        if node is None or node in seen or owner.get(node, index) != index:
            continue
        seen.add(node)
        yield node
        waiting += [tensor for tensor in original.reads[node] if tensor not in boundary]
