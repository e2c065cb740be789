"""The mapping type of operators, of views between them, and of the way from an operator to the end of its
group (DNNFusion Table 2: an operator whose operands differ has the most complex type).
"""

from math import prod

from ourcompiler.ir.graph import Graph, Node
from ourcompiler.ir.index_map import IndexMap
from ourcompiler.ir.inverse import inverse
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import Mapping5, Pointwise
from ourcompiler.passes.combination import most_complex
from ourcompiler.passes.groups import Plan


def kind_of(graph: Graph, node: Node) -> Mapping5:
    """The type of an operator: one-to-one with a computed operand that is broadcast is one-to-many."""
    row = OPS[node.op]
    if row.mapping is not Mapping5.ONE_TO_ONE or not isinstance(row.code, Pointwise):
        return row.mapping
    count = graph.types[node.output].element_count
    computed = [graph.types[name] for name in node.operands if name not in graph.constants]
    is_broadcast = any(one.element_count < count for one in computed)
    return Mapping5.ONE_TO_MANY if is_broadcast else Mapping5.ONE_TO_ONE


def view_kind(shown: IndexMap) -> Mapping5:
    """The type of a view, by what it does with places."""
    if shown.is_identity:
        return Mapping5.ONE_TO_ONE
    if shown.is_reshape:
        return Mapping5.REORGANIZE
    if prod(shown.shape) > prod(shown.source) and not shown.guards:
        return Mapping5.ONE_TO_MANY
    return Mapping5.SHUFFLE if inverse(shown) is not None else Mapping5.ONE_TO_ONE


def between(plan: Plan, number: int, reader: int) -> Mapping5:
    """The type of the views through which a node reads another: the most complex of all ways."""
    wanted = set(plan.graph.nodes[number].outputs)
    found = []
    for name in plan.graph.nodes[reader].operands:
        kinds = []
        producer = plan.graph.producers.get(name)
        while producer is not None and producer.op == "View":
            kinds.append(view_kind(producer["map"]))
            name = producer.inputs[0]
            producer = plan.graph.producers.get(name)
        if name in wanted:
            found.append(most_complex(kinds))
    return most_complex(found)


def pair_kinds(plan: Plan, number: int, reader: int) -> tuple[Mapping5, Mapping5]:
    """The types of a pair: of the whole group that ends with a node, as it is seen by the reader, and of the
    way from the reader to the end of its group.
    """
    own = [kind_of(plan.graph, plan.graph.nodes[one]) for one in plan.members[plan.group_of[number]]]
    table = plan.judge.table
    first = table.type_of(sorted(own, key=list(Mapping5).index))
    view = between(plan, number, reader)
    if view is not Mapping5.ONE_TO_ONE:
        first = table.result(first, view)
    return first, to_the_end(plan, reader, {})


def to_the_end(plan: Plan, number: int, known: dict[int, Mapping5]) -> Mapping5:
    """The type of everything that a node's group does from that node on."""
    if number not in known:
        graph, mine = plan.graph, plan.group_of[number]
        own = kind_of(graph, graph.nodes[number])
        after = [
            plan.judge.table.result(own, to_the_end(plan, reader, known))
            for reader in plan.direct_readers(number)
            if plan.group_of.get(reader) == mine
        ]
        known[number] = most_complex(after) if after else own
    return known[number]
