"""The table's word on a verdict: what places and roles allow is fused only if the table, a measurement or the
cost model allow it too, or if it is one of the named ways past the paper.
"""

from dataclasses import replace

from ourcompiler.codegen.role import Role
from ourcompiler.ir.graph import Graph
from ourcompiler.passes.combination import Colour
from ourcompiler.passes.groups import Plan, Verdict, fused
from ourcompiler.passes.judge import Ruling
from ourcompiler.passes.kinds import pair_kinds
from ourcompiler.passes.price import growth, packing_repeats


def ruled(plan: Plan, number: int, reader: int, verdict: Verdict) -> Verdict:
    """The verdict with the ruling on the pair, and refused where the ruling refuses it. `verdict.past` names
    the exception that it claims in case the pair is red.
    """
    if reader < 0 or plan.group_of[number] == plan.group_of[reader]:
        return verdict
    found = ruling(plan, number, reader, verdict.past, wanted=verdict.joined)
    if not verdict.joined or found.allowed:
        return replace(verdict, ruling=found, past=found.past)
    if found.colour is Colour.RED:
        return Verdict(False, f"the table refuses {found.pair}", found)
    what = "measured" if found.measured else "estimated"
    return Verdict(False, f"one kernel is {what} to be slower", found)


def ruling(plan: Plan, number: int, reader: int, past: str, *, wanted: bool = True) -> Ruling:
    """About a node and one that reads it; what is not wanted anyway is not priced."""
    kinds = pair_kinds(plan, number, reader)
    colour = plan.judge.colour(*kinds)
    match colour:
        case Colour.GREEN:
            return Ruling(*kinds, colour, True)
        case Colour.RED:
            exempt = plan.judge.is_exempt(past, *kinds)
            return Ruling(*kinds, colour, exempt, past=past if exempt else "")
    if not wanted:
        return Ruling(*kinds, colour, False)
    found = plan.judge.yellow(kinds, bodies(plan, number, reader), repeats(plan, number, reader))
    if plan.watch is not None:
        plan.watch(plan, number, reader, found)
    return found


def bodies(plan: Plan, number: int, reader: int) -> tuple[Graph, Graph, Graph]:
    """The groups of both, and both as one."""
    first = plan.members[plan.group_of[number]]
    second = plan.members[plan.group_of[reader]]
    made = []
    for members in (first, second, sorted((*first, *second))):
        body = fused(plan.graph, [plan.graph.nodes[one] for one in members]).body
        assert body is not None
        made.append(body)
    return made[0], made[1], made[2]


def repeats(plan: Plan, number: int, reader: int) -> float:
    """How often an element of a group is computed when the group is part of its reader's: what follows an
    anchor, once; what a product packs, once for each block of columns; what is broadcast, once for each
    place.
    """
    graph, node, other = plan.graph, plan.graph.nodes[number], plan.graph.nodes[reader]
    if plan.anchors[plan.group_of[number]] is not None:
        return 1.0
    if plan.roles[reader] is Role.PRODUCT:
        members = sorted((*plan.members[plan.group_of[number]], reader))
        body = fused(graph, [graph.nodes[one] for one in members]).body
        assert body is not None
        return float(packing_repeats(body, other, plan.judge.target))
    if plan.roles[reader] is not Role.POINTWISE:
        return 1.0
    return max(1.0, growth(graph.types[node.output].shape, graph.types[other.output].shape))
