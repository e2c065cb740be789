"""In which order nodes are asked to join their readers: as the graph has them, or from DNNFusion's seeds."""

from collections.abc import Iterator, Sequence

from ourcompiler.codegen.element import INLINE
from ourcompiler.codegen.role import Role
from ourcompiler.ops.table import Mapping5
from ourcompiler.passes.combination import Order
from ourcompiler.passes.groups import Plan, readers_of, source_of
from ourcompiler.passes.judge import Judge
from ourcompiler.passes.kinds import kind_of


def orders(judge: Judge) -> tuple[Order, ...]:
    """The orders that are tried."""
    chosen = judge.table.order
    return (Order.FIRST_TO_LAST, Order.SEEDS) if chosen is Order.FEWEST else (chosen,)


def order(plan: Plan, work: Sequence[int], chosen: Order) -> Iterator[int]:
    """Every node at least twice, the last time backwards, so that what grew later is seen by all before it.

    A node joins only when all its readers are in one group, in whatever order nodes are asked: no order makes
    a cycle.
    """
    if chosen is Order.SEEDS:
        for seed in seeds(plan, work):
            yield from _block(plan, seed)
    yield from work
    yield from reversed(work)


def seeds(plan: Plan, work: Sequence[int]) -> list[int]:
    """One-to-one operators, the smallest intermediate result first; ties as the graph has them (DNNFusion
    section 4.3).
    """
    graph = plan.graph
    found = [number for number in work if kind_of(graph, graph.nodes[number]) is Mapping5.ONE_TO_ONE]
    return sorted(found, key=lambda number: (graph.types[graph.nodes[number].output].byte_count, number))


def _block(plan: Plan, seed: int) -> Iterator[int]:
    """Towards the successors, then towards the predecessors, as long as the block grows."""
    number = seed
    while True:
        yield number
        after = {one for one in plan.direct_readers(number) if plan.group_of[one] == plan.group_of[seed]}
        if len(after) != 1:
            break
        (number,) = after
    waiting, seen = [seed], {seed}
    while waiting:
        for name in plan.graph.nodes[waiting.pop()].operands:
            source = source_of(plan, name)
            if source is None or source in seen or source not in plan.group_of:
                continue
            seen.add(source)
            yield source
            if plan.group_of[source] == plan.group_of[seed]:
                waiting.append(source)


def ends_alike(plan: Plan, number: int, shape: tuple[int, ...]) -> bool:
    """Whether all that a node's group does after that node is element by element over this shape. A group may
    have grown at its end before an anchor joins it: then the anchor's results are nobody else's indices.
    """
    waiting, seen = [number], {number}
    mine = plan.group_of[number]
    while waiting:
        for reader, direct in readers_of(plan, plan.graph.nodes[waiting.pop()].output):
            if reader < 0 or plan.group_of.get(reader) != mine or reader in seen:
                continue
            node = plan.graph.nodes[reader]
            is_alike = plan.graph.types[node.output].shape == shape and node.op not in INLINE
            if not direct or plan.roles[reader] is not Role.POINTWISE or not is_alike:
                return False
            seen.add(reader)
            waiting.append(reader)
    return True
