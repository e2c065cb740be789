"""The fusion plan: which operators become one kernel (DNNFusion section 4.3).

Every kernel has at most one anchor: a product, rows, a fold or something sequential. What is computed
element by element joins what it reads (as an epilogue) or what reads it (as a prologue); views join every
reader. A node joins only the one node that reads it, so no way leads out of a group and back into it.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod

from ourcompiler.codegen.contraction import contraction
from ourcompiler.codegen.element import INLINE
from ourcompiler.codegen.gemm_left import left_rows
from ourcompiler.codegen.nest import COSTLY
from ourcompiler.codegen.role import ANCHORS, Role, role
from ourcompiler.codegen.rows import folds_row
from ourcompiler.ir.graph import Graph, Node, attributes, in_order
from ourcompiler.ir.index_map import identity
from ourcompiler.ops.catalogue import OPS
from ourcompiler.passes import concat
from ourcompiler.passes.chain import join_attention, join_chain, join_finish
from ourcompiler.passes.combination import Order
from ourcompiler.passes.groups import (
    REFUSED,
    Plan,
    Verdict,
    behind_views,
    fused,
    has_one_reader,
    merge,
    readers_of,
    source_of,
)
from ourcompiler.passes.grow import ends_alike, order, orders
from ourcompiler.passes.judge import Judge, Ruling
from ourcompiler.passes.price import packing_repeats, price
from ourcompiler.passes.ruling import bodies, ruled

FEW_ROWS = 4
"""A limit of the code generator: a fold is packed for rows that are all in one tile."""
FOLD_SHARE = 8
"""A fold of so small a share of the product's work may be repeated by every block of columns: blocks run side
by side, which a model of one thread does not see.
"""
MANY_COLUMNS = 32
"""A limit of the code generator: with fewer, the left side is read in place, and packing it is for nothing.
"""


Watch = Callable[[Plan, int, int, Ruling], None]
"""Is told every yellow pair while a plan grows."""


def fuse(graph: Graph, judge: Judge | None = None) -> Graph:
    """The graph with one `Fused` node for each kernel; without a judge, the standard one."""
    return _built(planned(graph, judge or Judge()))


def decisions(plan: Plan) -> list[tuple[str, str, Verdict]]:
    """For every node that computes something: its result, its operator, and what was decided about it."""
    nodes = plan.graph.nodes
    return [
        (nodes[number].output, nodes[number].op, verdict) for number, verdict in sorted(plan.verdicts.items())
    ]


def planned(graph: Graph, judge: Judge, watch: Watch | None = None) -> Plan:
    """Which nodes are one kernel, and what was decided about each: the plan with the fewest kernels of all
    orders that are tried, the first of those.
    """
    return min(
        (_grown(graph, judge, one, watch) for one in orders(judge)), key=lambda plan: len(plan.members)
    )


def _grown(graph: Graph, judge: Judge, chosen: Order, watch: Watch | None) -> Plan:
    nodes = graph.nodes
    roles = {number: role(graph, node) for number, node in enumerate(nodes)}
    work = [number for number in roles if roles[number] is not Role.VIEW]
    plan = Plan(
        graph,
        roles,
        {number: number for number in work},
        {number: [number] for number in work},
        {number: number if roles[number] in ANCHORS else None for number in work},
        {node.outputs: number for number, node in enumerate(nodes)},
        judge=judge,
        order=chosen,
        watch=watch,
    )
    for number in work:
        if nodes[number].op == "Concat" and is_in_place(plan, number):
            plan.in_place.add(number)
    for number in order(plan, work, chosen):
        _join_readers(plan, number)
    for number in work:
        if nodes[number].op == "Softmax":
            join_attention(plan, number)
    for number in work:
        if nodes[number].op == "MatMul" and roles[number] is Role.PRODUCT:
            join_chain(plan, number)
    for number in work:
        if roles[number] is Role.PRODUCT:
            join_finish(plan, number)
    return plan


def is_in_place(plan: Plan, number: int) -> bool:
    """Whether producers can write the parts of a Concat where they belong, all but one at most: none but
    all where its reader can choose among the parts itself. Parts that are all computed element by element can
    as well be computed where the whole is read.
    """
    node = fused(plan.graph, [plan.graph.nodes[number]])
    taken = {one: "" for other in plan.in_place for one in _sources(plan, other)}
    fitting, anchored = 0, 0
    found = concat.parts(node)
    for part in found:
        if concat.can_place(plan.graph, part, taken):
            taken[part.source] = ""
            fitting += 1
            anchored += _ends_anchor(plan, source_of(plan, part.source))
    copied = 0 if _joins_its_reader(plan, number) else concat.MOST_COPIED
    return anchored > 0 and 0 < fitting >= len(found) - copied


def _joins_its_reader(plan: Plan, number: int) -> bool:
    """Whether the joined value need not be in memory: the one product that reads it could pack it, or the
    one operator that computes element by element choose among its parts.
    """
    node = plan.graph.nodes[number]
    readers = readers_of(plan, node.output)
    if len(readers) != 1 or readers[0][0] < 0:
        return False
    reader, direct = readers[0]
    other = plan.graph.nodes[reader]
    if plan.roles[reader] is Role.POINTWISE:
        is_alike = plan.graph.types[other.output].shape == plan.graph.types[node.output].shape
        return direct and is_alike and other.op not in INLINE
    return plan.roles[reader] is Role.PRODUCT and packs_once(plan, number, other)


def _ends_anchor(plan: Plan, number: int | None) -> bool:
    """Whether a node follows an anchor element by element, so that it will be part of the anchor's kernel."""
    while number is not None and plan.roles[number] is Role.POINTWISE:
        sources = [source_of(plan, name) for name in plan.graph.nodes[number].operands]
        number = next((one for one in sources if one is not None and has_one_reader(plan, one)), None)
    return number is not None and plan.roles[number] in ANCHORS


def _sources(plan: Plan, number: int) -> list[str]:
    """What lies in memory of the parts of a Concat."""
    return [part.source for part in concat.parts(fused(plan.graph, [plan.graph.nodes[number]]))]


def _join_readers(plan: Plan, number: int) -> None:
    """Join a node with those that read it, where that is right and pays; note why, or why not."""
    if plan.verdicts.get(number, REFUSED).joined:
        return
    verdict, reader = _verdict_on_readers(plan, number)
    plan.verdicts[number] = verdict
    if verdict.joined:
        anchor = plan.anchors[plan.group_of[number]]
        merge(plan, plan.group_of[number], plan.group_of[reader])
        if anchor is not None and plan.roles[anchor] is Role.ROWS:
            _keep_rows(plan, anchor)


def _keep_rows(plan: Plan, rows: int) -> None:
    """A kernel of rows stays one when a fold of its rows joins it."""
    group = plan.group_of[rows]
    other = plan.anchors[group]
    if other is not None and plan.roles[other] is Role.FOLD:
        plan.anchors[group] = rows


def _verdict_on_readers(plan: Plan, number: int) -> tuple[Verdict, int]:
    node = plan.graph.nodes[number]
    readers = readers_of(plan, node.output)
    groups = {plan.group_of.get(reader, -1) for reader, _ in readers}
    if len(node.outputs) != 1:
        return Verdict(False, "it has several results"), -1
    if node.output in plan.graph.results:
        return Verdict(False, "it is a result of the network"), -1
    if len(groups) != 1:
        return Verdict(False, f"{len(groups)} kernels read it" if groups else "nothing reads it"), -1
    if len(readers) > 1 and not _is_cheap(plan, number):
        return Verdict(False, f"{len(readers)} operators read it, and it is dear to compute again"), -1
    verdicts = [
        ruled(plan, number, reader, _verdict(plan, number, reader, direct)) for reader, direct in readers
    ]
    return next((one for one in verdicts if not one.joined), verdicts[0]), readers[0][0]


def _is_cheap(plan: Plan, number: int) -> bool:
    """Whether a value may be computed once for each of several readers in one kernel."""
    group = plan.group_of[number]
    return plan.anchors[group] is None and all(
        plan.graph.nodes[one].op not in COSTLY for one in plan.members[group]
    )


def _verdict(plan: Plan, number: int, reader: int, direct: bool) -> Verdict:
    """Whether the group of a node may become part of the group of one that reads it."""
    if reader < 0 or plan.group_of[number] == plan.group_of[reader]:
        return Verdict(False, "a result of the network is seen through it")
    if number in plan.in_place or reader in plan.in_place:
        return Verdict(False, "parts are written where they belong in the whole")
    before, after = plan.anchors[plan.group_of[number]], plan.anchors[plan.group_of[reader]]
    if before is None:
        return _as_prologue(plan, number, reader, after)
    if _rides_along(plan, number, reader, before, after):
        past = "packed-rows" if plan.roles[reader] is Role.PRODUCT else "riding-folds"
        return Verdict(True, f"{_kind(plan, before)} rides along with {_kind(plan, reader)}", past=past)
    if after is not None:
        return Verdict(False, f"two anchors: {_kind(plan, before)} and {_kind(plan, after)}")
    if not direct:
        return Verdict(False, "it is read through a view that cannot be moved behind the reader")
    if not _is_epilogue(plan, number, reader, before):
        return Verdict(False, "the reader is not element by element with it")
    return Verdict(True, f"element by element after {_kind(plan, before)}")


def _kind(plan: Plan, number: int) -> str:
    """An operator with its mapping type, as DNNFusion's Table 2 has it."""
    op = plan.graph.nodes[number].op
    return f"{op} ({OPS[op].mapping.value})"


def _is_epilogue(plan: Plan, number: int, reader: int, before: int) -> bool:
    """Whether a node computes element by element with what a kernel makes."""
    graph, node, other = plan.graph, plan.graph.nodes[number], plan.graph.nodes[reader]
    if (
        plan.roles[before] is Role.SEQUENTIAL
        or plan.roles[reader] is not Role.POINTWISE
        or other.op in INLINE
    ):
        return False
    shape = graph.types[node.output].shape
    return graph.types[other.output].shape == shape and ends_alike(plan, reader, shape)


def _as_prologue(plan: Plan, number: int, reader: int, after: int | None) -> Verdict:
    """Whether what is computed element by element may be computed where it is read."""
    graph, node, other = plan.graph, plan.graph.nodes[number], plan.graph.nodes[reader]
    if after is not None and not _reads_once(plan, number, reader, after):
        return Verdict(False, f"{_kind(plan, after)} would compute it more than once")
    if other.op in INLINE and other.op != "Concat":
        return Verdict(False, f"what {other.op} chooses from lies in memory")
    if plan.roles[reader] is not Role.PRODUCT and not _is_worth_repeating(graph, node, other):
        return Verdict(False, "the reader broadcasts it, and it is dear to compute again")
    return Verdict(True, f"element by element before {_kind(plan, reader)}", past="read-once")


def _is_worth_repeating(graph: Graph, node: Node, reader: Node) -> bool:
    """A value that the reader broadcasts is computed again for each place: only if that is cheap."""
    repeats = graph.types[reader.output].element_count > graph.types[node.output].element_count
    return not repeats or node.op not in COSTLY


def _rides_along(plan: Plan, number: int, reader: int, before: int, after: int | None) -> bool:
    """Whether an anchor can be part of another kernel: rows and means that a product's left side is packed
    from, and folds of the row that is being computed.
    """
    if after is not None and plan.roles[after] is Role.PRODUCT:
        return number == before and reader == after and _packs(plan, before, after)
    if plan.roles[before] is Role.ROWS and after == reader and plan.roles[reader] is Role.FOLD:
        members = [plan.graph.nodes[one] for one in (*plan.members[plan.group_of[number]], reader)]
        body = fused(plan.graph, members).body
        return body is not None and folds_row(body, plan.graph.nodes[before])
    if plan.roles[before] is not Role.FOLD or plan.roles[reader] is not Role.POINTWISE:
        return False
    if plan.graph.nodes[reader].op in INLINE:
        return False
    mine = _row_of(plan, before)
    if mine is None or (after is not None and _row_of(plan, after) != mine):
        return False
    shape = plan.graph.types[plan.graph.nodes[reader].output].shape
    own = plan.graph.types[plan.graph.nodes[number].output]
    within = own.element_count * mine[-1] == prod(mine)
    if after is None and not ends_alike(plan, reader, mine):
        return False
    return within and (shape == mine or (after is not None and prod(shape) == own.element_count))


def _row_of(plan: Plan, anchor: int) -> tuple[int, ...] | None:
    """The shape of what a fold along the last axis folds; None for any other anchor."""
    node = plan.graph.nodes[anchor]
    if plan.roles[anchor] is not Role.FOLD or not node.op.startswith("Reduce"):
        return None
    one = plan.graph.types[node.inputs[0]]
    return one.shape if [axis % one.rank for axis in node["axes"]] == [one.rank - 1] else None


def _packs(plan: Plan, before: int, after: int) -> bool:
    """Whether packing the left side of a product can compute the anchor on the way."""
    node, product = plan.graph.nodes[before], plan.graph.nodes[after]
    members = [plan.graph.nodes[one] for one in (*plan.members[plan.group_of[before]], after)]
    body = fused(plan.graph, members).body
    assert body is not None
    if plan.roles[before] is Role.FOLD:
        what = contraction(body, product)
        is_left = node.output not in behind_views(plan, product.inputs[1])
        if not node.op.startswith("Reduce") or not is_left or what.row_count > FEW_ROWS:
            return False
        again = packing_repeats(body, product, plan.judge.target)
        folded = plan.graph.types[node.inputs[0]].element_count
        is_lost_in_it = FOLD_SHARE * folded <= what.row_count * what.columns * what.depth_count
        return is_lost_in_it or price(*bodies(plan, before, after), again, plan.judge.target).pays
    return left_rows(body, product) == node


def _reads_once(plan: Plan, number: int, reader: int, anchor: int) -> bool:
    """Whether a prologue is computed about once an element."""
    node = plan.graph.nodes[anchor]
    kind = plan.roles[anchor]
    if reader != anchor:
        return True  # part of the epilogue: element by element
    match kind:
        case Role.ROWS:
            return plan.graph.nodes[number].output == node.inputs[0] or _through_views(
                plan, number, node.inputs[0]
            )
        case Role.FOLD:
            return node.op.startswith(("Reduce", "Arg"))
        case Role.SEQUENTIAL:
            return node.op in ("CumSum", "CumProd")
        case Role.PRODUCT:
            return packs_once(plan, number, node)
    return False


def packs_once(plan: Plan, number: int, product: Node) -> bool:
    """Whether what a product reads is computed about once while it is packed: a right side that is packed
    anyway, or a left side without a window and with many columns to pay for it.
    """
    mine = set(plan.graph.nodes[number].outputs)
    if mine & behind_views(plan, product.inputs[1]):
        return True
    if not mine & behind_views(plan, product.inputs[0]):
        return False
    right = plan.graph.types[product.inputs[1]].shape
    if product.op == "Conv":
        return prod(right[2:]) == 1 and right[0] // product["group"] >= MANY_COLUMNS
    return right[-1] >= MANY_COLUMNS


def _through_views(plan: Plan, number: int, name: str) -> bool:
    producer = plan.graph.producers.get(name)
    while producer is not None and producer.op == "View":
        name = producer.inputs[0]
        producer = plan.graph.producers.get(name)
    return name in plan.graph.nodes[number].outputs


def _built(plan: Plan) -> Graph:
    """One node for each group, and a copy for each result that no kernel of its own writes."""
    graph = plan.graph
    kernels = [fused(graph, [graph.nodes[number] for number in members]) for members in plan.members.values()]
    outputs, seen, types = [], set[str](), {}
    for public, value in graph.outputs:
        producer = graph.producers.get(value)
        if value in seen or producer is None:
            shown = identity(graph.types[value].shape)
            copy = Node("View", (value,), (f"{value} as {public}",), attributes({"map": shown}))
            types[copy.output] = graph.types[value]
            with_copy = replace(
                graph, types={**graph.types, **types}, outputs=(*graph.outputs, (public, copy.output))
            )
            kernels.append(fused(with_copy, [copy]))
            value = copy.output
        elif producer.op == "View":
            kernels.append(fused(graph, [producer]))
        seen.add(value)
        outputs.append((public, value))
    known = [*graph.inputs, *graph.constants]
    return replace(graph, outputs=tuple(outputs)).with_nodes(in_order(kernels, known), types)
