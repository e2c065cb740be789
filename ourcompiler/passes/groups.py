"""Groups of operators while they grow into kernels, and what can be asked about them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ourcompiler.codegen.role import Role
from ourcompiler.ir.graph import Graph, Node, in_order
from ourcompiler.passes.combination import Order
from ourcompiler.passes.judge import Judge, Ruling

FUSED = "Fused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a node joined those who read it, and why or why not.

    `ruling` is what the table of combinations says about the pair; `past` the exception that is claimed if
    the table refuses it.
    """

    joined: bool
    reason: str
    ruling: Ruling | None = None
    past: str = ""


REFUSED = Verdict(False, "")


@dataclass
class Plan:
    """Groups while they grow: `group_of` has the group of every node that computes something."""

    graph: Graph
    roles: Mapping[int, Role]
    group_of: dict[int, int]
    members: dict[int, list[int]]
    anchors: dict[int, int | None]
    numbers: dict[tuple[str, ...], int] = field(default_factory=dict)
    in_place: set[int] = field(default_factory=set)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    judge: Judge = field(default_factory=Judge)
    order: Order = Order.FIRST_TO_LAST
    watch: "Callable[[Plan, int, int, Ruling], None] | None" = None
    """Is told every yellow pair while the plan grows."""

    def direct_readers(self, number: int) -> list[int]:
        """The nodes that compute with what a node makes, views looked through."""
        outputs = self.graph.nodes[number].outputs
        return [one for name in outputs for one, _ in readers_of(self, name) if one >= 0]


def source_of(plan: Plan, name: str) -> int | None:
    """The node that makes a value, behind all views."""
    producer = plan.graph.producers.get(name)
    while producer is not None and producer.op == "View":
        producer = plan.graph.producers.get(producer.inputs[0])
    return plan.numbers[producer.outputs] if producer is not None else None


def has_one_reader(plan: Plan, number: int) -> bool:
    """Whether what a node makes is read once, views looked through."""
    return len(readers_of(plan, plan.graph.nodes[number].output)) == 1


def readers_of(plan: Plan, value: str) -> list[tuple[int, bool]]:
    """The nodes that compute with a value, and whether they read it as it is, not through a view."""
    found: dict[int, bool] = {}
    waiting = [(value, True)]
    while waiting:
        name, direct = waiting.pop()
        for reader in plan.graph.readers.get(name, ()):
            one = plan.numbers[reader.outputs]
            if plan.roles[one] is Role.VIEW:
                if reader.output in plan.graph.results:
                    found[-1] = False
                waiting.append((reader.output, False))
            else:
                found[one] = found.get(one, True) and direct
    return list(found.items())


def merge(plan: Plan, first: int, second: int) -> None:
    for number in plan.members[first]:
        plan.group_of[number] = second
    plan.members[second] = sorted(plan.members[second] + plan.members.pop(first))
    if plan.anchors[second] is None:
        plan.anchors[second] = plan.anchors[first]
    del plan.anchors[first]


def fused(graph: Graph, nodes: Sequence[Node]) -> Node:
    """The nodes as one, with the views that they read through."""
    inside = list(nodes)
    made = {name for node in nodes for name in node.outputs}
    waiting = [name for node in nodes for name in node.operands]
    while waiting:
        name = waiting.pop()
        producer = graph.producers.get(name)
        if producer is not None and producer.op == "View" and name not in made:
            made.add(name)
            inside.append(producer)
            waiting.extend(producer.operands)
    scalars = {
        name: graph.constants[name]
        for node in inside
        for name in node.operands
        if name in graph.constants and graph.constants[name].size == 1
    }
    read = dict.fromkeys(
        name for node in inside for name in node.operands if name not in made and name not in scalars
    )
    outputs = _read_outside(graph, nodes)
    ordered = in_order(inside, [*read, *scalars])
    types = {name: graph.types[name] for name in (*read, *scalars, *made)}
    body = Graph(tuple(read), tuple((name, name) for name in outputs), ordered, types, scalars, "body")
    origin = tuple(dict.fromkeys(name for node in ordered for name in node.origin))
    return Node(FUSED, tuple(read), tuple(outputs), (), origin, body)


def _read_outside(graph: Graph, nodes: Sequence[Node]) -> list[str]:
    """What the group makes for others."""
    mine = {node.outputs for node in nodes}
    found = []
    for node in nodes:
        for name in node.outputs:
            readers = graph.readers.get(name, ())
            outside = any(
                one.outputs not in mine and (one.op != "View" or _leaves(graph, one, mine)) for one in readers
            )
            if name in graph.results or outside:
                found.append(name)
    return found or [name for node in nodes for name in node.outputs][:1]


def _leaves(graph: Graph, view: Node, mine: set[tuple[str, ...]]) -> bool:
    """Whether anybody outside reads through the view."""
    if view.output in graph.results:
        return True
    return any(
        _leaves(graph, one, mine) if one.op == "View" else one.outputs not in mine
        for one in graph.readers.get(view.output, ())
    )


def behind_views(plan: Plan, name: str) -> set[str]:
    """A value, and what it is a view of."""
    found = {name}
    producer = plan.graph.producers.get(name)
    while producer is not None and producer.op == "View":
        name = producer.inputs[0]
        found.add(name)
        producer = plan.graph.producers.get(name)
    return found
