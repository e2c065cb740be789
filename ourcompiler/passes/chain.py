"""Groups of two products: attention, and a narrow MLP."""

from ourcompiler.codegen import attention, finish
from ourcompiler.codegen.role import Role, role
from ourcompiler.passes.groups import Plan, Verdict, behind_views, fused, merge, readers_of, source_of
from ourcompiler.passes.ruling import ruled

ATTENTION = "one block of rows serves attention's products"
CHAIN = "one block of rows serves two products"
CHOSEN = "rows are chosen while they are packed"
FINISH = "a block of rows serves what goes over them"
CHAIN_CACHE_BYTES = 1 << 20
"""The second cache of a core, about; the plan of kernels is the same for every target."""


def join_attention(plan: Plan, number: int) -> None:
    """Product, softmax and product become one kernel, where one block of rows serves both."""
    node = plan.graph.nodes[number]
    after = readers_of(plan, node.output)
    before = _only_reader_of_softmax(plan, number)
    if len(after) != 1 or not after[0][1] or after[0][0] < 0 or before is None:
        return
    second = after[0][0]
    if plan.roles[second] is not Role.PRODUCT or plan.graph.nodes[second].inputs[0] != node.output:
        return
    groups = [plan.group_of[before], plan.group_of[number], plan.group_of[second]]
    if len(set(groups)) != 3:
        return
    members = sorted(one for group in groups for one in plan.members[group])
    whole = fused(plan.graph, [plan.graph.nodes[one] for one in members])
    assert whole.body is not None
    found = attention.parts(whole.body)
    if found is None or not attention.fits(whole.body, found):
        return
    verdicts = [_ruled(plan, group, ATTENTION, "attention") for group in groups[:2]]
    if not all(one.joined for one in verdicts):
        return
    for group, verdict in zip(groups[:2], verdicts, strict=True):
        plan.anchors[groups[2]] = number
        plan.verdicts[max(plan.members[group])] = verdict
        merge(plan, group, groups[2])
    _join_chosen_rows(plan, groups[2])


def _join_chosen_rows(plan: Plan, group: int) -> None:
    """Keys and values that the data choose (BiFormer, section 3.2) are read where they lie while they are
    packed, which is done once: as a whole they would be far more than what they are chosen from.
    """
    nodes = plan.graph.nodes
    sources = {source_of(plan, name) for one in plan.members[group] for name in nodes[one].operands}
    for source in sorted(one for one in sources if one is not None):
        own = plan.group_of[source]
        name = nodes[source].output
        if nodes[source].op != "Gather" or own == group or plan.members[own] != [source]:
            continue
        readers = [reader for reader, _ in readers_of(plan, name)]
        is_packed = all(
            plan.group_of.get(one) == group
            and plan.roles[one] is Role.PRODUCT
            and name in behind_views(plan, nodes[one].inputs[1])
            for one in readers
        )
        if name in plan.graph.results or not is_packed:
            continue
        verdicts = [ruled(plan, source, one, Verdict(True, CHOSEN, past="read-once")) for one in readers]
        plan.verdicts[source] = next((one for one in verdicts if not one.joined), verdicts[0])
        if all(one.joined for one in verdicts):
            merge(plan, own, group)


def join_chain(plan: Plan, number: int) -> None:
    """Two products become one kernel where a block of rows of the first is all that the second needs, and
    both right sides fit into the second cache: a transformer's MLP, while it is narrow.
    """
    group = plan.group_of[number]
    last = plan.graph.nodes[max(plan.members[group])]
    readers = readers_of(plan, last.output)
    if plan.anchors[group] != number or len(readers) != 1 or not readers[0][1] or readers[0][0] < 0:
        return
    second = readers[0][0]
    other = plan.group_of[second]
    is_left = plan.graph.nodes[second].inputs[0] == last.output and plan.graph.nodes[second].op == "MatMul"
    if last.output in plan.graph.results or not is_left or plan.anchors[other] != second or other == group:
        return
    members = sorted((*plan.members[group], *plan.members[other]))
    body = fused(plan.graph, [plan.graph.nodes[one] for one in members]).body
    assert body is not None
    found = attention.parts(body)
    if found is None or found.softmax is not None or not attention.fits(body, found):
        return
    if attention.pays(body, found, CHAIN_CACHE_BYTES):
        verdict = _ruled(plan, group, CHAIN, "chained-products")
        plan.verdicts[max(plan.members[group])] = verdict
        if verdict.joined:
            merge(plan, group, other)


def _ruled(plan: Plan, group: int, reason: str, past: str) -> Verdict:
    """The verdict on a group and its only reader, with the table's word."""
    last = max(plan.members[group])
    reader = plan.direct_readers(last)[0]
    return ruled(plan, last, reader, Verdict(True, reason, past=past))


def join_finish(plan: Plan, number: int) -> None:
    """What goes over the rows of a product joins it, where a block of rows is all that it needs."""
    group = plan.group_of[number]
    if plan.anchors[group] != number:
        return
    last = plan.graph.nodes[max(plan.members[group])]
    readers = readers_of(plan, last.output)
    others = {plan.group_of.get(reader, -1) for reader, _ in readers}
    if len(others) != 1 or last.output in plan.graph.results:
        return
    (other,) = others
    anchor = plan.anchors.get(other, -1)
    if other in (-1, group) or (anchor is not None and plan.roles.get(anchor) is not Role.ROWS):
        return
    if set(plan.members[other]) & plan.in_place:
        return
    body = fused(
        plan.graph, [plan.graph.nodes[one] for one in sorted((*plan.members[group], *plan.members[other]))]
    ).body
    assert body is not None
    products = [node for node in body.nodes if role(body, node) is Role.PRODUCT]
    found = finish.finish(body, products[-1])
    if found is None or found.middle != last.output or not finish.fits(body, found):
        return
    if finish.pays(body, found, CHAIN_CACHE_BYTES):
        verdict = _ruled(plan, group, FINISH, "finished-rows")
        plan.verdicts[max(plan.members[group])] = verdict
        if verdict.joined:
            merge(plan, group, other)
            plan.anchors[other] = number


def _only_reader_of_softmax(plan: Plan, number: int) -> int | None:
    """The product whose result nothing but the softmax's kernel reads."""
    group = plan.group_of[number]
    made = {name for one in plan.members[group] for name in plan.graph.nodes[one].outputs}
    found = []
    for one in plan.members[group]:
        for name in plan.graph.nodes[one].operands:
            source = source_of(plan, name)
            if source is None or set(plan.graph.nodes[source].outputs) & made:
                continue
            anchor = plan.anchors.get(plan.group_of[source])
            if (
                anchor is not None
                and plan.graph.nodes[anchor].op == "MatMul"
                and plan.roles[anchor] is Role.PRODUCT
            ):
                outputs = plan.graph.nodes[source].outputs
                readers = {plan.group_of.get(reader, -1) for reader, _ in readers_of(plan, outputs[0])}
                if readers == {group} and outputs[0] not in plan.graph.results:
                    found.append(anchor)
    return found[0] if len(set(found)) == 1 else None
