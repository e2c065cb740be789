"""Where the time of one network goes in every framework, aligned by the original ONNX nodes.

Frameworks fuse differently, so their operators cannot be compared one by one. Two nodes belong together when
some framework runs them in one operator; the connected components of that relation are the finest pieces that
every framework's time can be split into. What a framework names no node for (copies that it put in, operators
whose origin is lost) and what its profiler leaves out are rows of their own, so every column adds up to the
profiled inference.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from adapters.protocol import ProfileEntry
from benchsuite.profiled import Profiled

MOST_OPERATORS = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """Nodes that no framework splits further than this, with each framework's time for them (ns).

    `operators` are the nodes' types in the graph's order; a framework that names none of the nodes has no
    time here.
    """

    nodes: tuple[str, ...]
    operators: tuple[str, ...]
    times_ns: Mapping[str, int]

    @property
    def label(self) -> str:
        """What is computed, in the network's own words: `MatMul, Add ×2, Gelu`."""
        runs = [(name, len(list(same))) for name, same in groupby(self.operators)]
        if len(runs) > MOST_OPERATORS:
            counts = Counter(self.operators)
            runs = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        shown = [f"{name} ×{count}" if count > 1 else name for name, count in runs[:MOST_OPERATORS]]
        more = [f"{len(runs) - MOST_OPERATORS} more kinds"] if len(runs) > MOST_OPERATORS else []
        return ", ".join([*shown, *more])


@dataclass(frozen=True, slots=True)
class Column:
    """What one framework's column holds beside the pieces (ns): all of it adds up to `total_ns`.

    `implicit_ns` are layout transformations that the framework put in, `unattributed_ns` operators of no
    known node and what the profiler leaves out (negative where operators overlap). `plain_ns` is an inference
    as it is timed.
    """

    total_ns: int
    plain_ns: int
    implicit_ns: int
    unattributed_ns: int
    explicit_layout_ns: int
    implicit_layout_ns: int
    source: str

    @property
    def overhead(self) -> float:
        """What profiling adds to an inference, relative to it."""
        return self.total_ns / self.plain_ns - 1


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One network's time by pieces (in the graph's order) and frameworks."""

    pieces: tuple[Piece, ...]
    columns: Mapping[str, Column]

    def by_label(self) -> tuple[tuple[str, int, Mapping[str, int]], ...]:
        """Pieces of the same label added up, with how many they are; the longest first."""
        totals: dict[str, Counter[str]] = {}
        counts: Counter[str] = Counter()
        for piece in self.pieces:
            totals.setdefault(piece.label, Counter()).update(piece.times_ns)
            counts[piece.label] += 1
        rows = ((label, counts[label], dict(times)) for label, times in totals.items())
        return tuple(sorted(rows, key=lambda row: (-max(row[2].values(), default=0), row[0])))


def align(profiles: Mapping[str, Profiled]) -> Breakdown:
    """Split the profiles of one network, by framework, into pieces; raises ValueError for unlike graphs."""
    graphs = {found.node_names for found in profiles.values()}
    if len(graphs) != 1:
        raise ValueError("profiles of different graphs cannot be aligned")
    (names,) = graphs
    operators = next(iter(profiles.values())).node_operators or ("?",) * len(names)
    groups = _components(names, (entry.nodes for one in profiles.values() for entry in one.profile.entries))
    times = {framework: _times(found, groups) for framework, found in profiles.items()}
    members: dict[int, list[tuple[str, str]]] = {}  # in the graph's order, and so are the groups
    for node, operator in zip(names, operators, strict=True):
        members.setdefault(groups[node], []).append((node, operator))
    pieces = [
        Piece(
            tuple(node for node, _ in nodes),
            tuple(operator for _, operator in nodes),
            {framework: spent[group] for framework, spent in times.items() if group in spent},
        )
        for group, nodes in members.items()
    ]
    columns = {framework: _column(found, times[framework]) for framework, found in profiles.items()}
    return Breakdown(tuple(piece for piece in pieces if piece.times_ns), columns)


def _components(names: Sequence[str], sets: Iterable[Sequence[str]]) -> dict[str, int]:
    """For every node the number of its component: nodes of one set are connected."""
    number = {node: index for index, node in enumerate(names)}
    parent = list(range(len(names)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for nodes in sets:
        first, *others = [number[node] for node in nodes if node in number] or [-1]
        for other in others:
            parent[root(other)] = root(first)
    return {node: root(index) for node, index in number.items()}


def _times(found: Profiled, groups: Mapping[str, int]) -> Counter[int]:
    """Time (ns) by component; an entry's nodes all lie in one."""
    times: Counter[int] = Counter()
    for entry in found.profile.entries:
        group = _group(entry, groups)
        if group is not None:
            times[group] += entry.duration_ns
    return times


def _group(entry: ProfileEntry, groups: Mapping[str, int]) -> int | None:
    return next((groups[node] for node in entry.nodes if node in groups), None)


def _column(found: Profiled, times: Mapping[int, int]) -> Column:
    known = set(found.node_names)
    homeless = [entry for entry in found.profile.entries if not known.intersection(entry.nodes)]
    implicit = sum(entry.duration_ns for entry in homeless if entry.layout == "implicit")
    total = found.profile.total_ns
    return Column(
        total_ns=total,
        plain_ns=found.plain_ns,
        implicit_ns=implicit,
        unattributed_ns=total - sum(times.values()) - implicit,
        explicit_layout_ns=found.layout_ns("explicit"),
        implicit_layout_ns=found.layout_ns("implicit"),
        source=found.profile.source,
    )
