"""The products of a planned network that a tiling can be for."""

from collections.abc import Mapping
from dataclasses import dataclass

from ourcompiler.codegen import finish, gemm, winograd_plan
from ourcompiler.codegen.attention import parts
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.lower import anchor_of
from ourcompiler.codegen.role import Role
from ourcompiler.ir.graph import Graph, Node
from ourcompiler.program import groups_of
from ourcompiler.storage import Storage
from ourcompiler.targets import Target
from ourcompiler.tilings import Problem, Tiling


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a network: its kernel's node, how often the network has one like it, and how it is cut."""

    problem: Problem
    tiling: Tiling
    node: Node
    count: int
    multiplies: int


def products(
    graph: Graph, target: Target, storages: Mapping[str, Storage], *, winograd: bool = True
) -> list[Product]:
    """Every product of a planned graph that a tiling can be for, each problem once, most work first."""
    found: dict[Problem, Product] = {}
    for node, group in groups_of(graph, target, storages, winograd=winograd):
        anchor = _product(group)
        if anchor is None:
            continue
        planned = gemm.plan(group, anchor)
        problem, how = gemm.tiling(group, anchor, planned)
        what = planned[0]
        multiplies = what.batch_count * what.row_count * what.columns * what.depth_count
        before = found.get(problem)
        count = 1 if before is None else before.count + 1
        found[problem] = Product(problem, how, before.node if before else node, count, multiplies)
    return sorted(found.values(), key=lambda one: (-one.count * one.multiplies, one.problem))


def _product(group: Group) -> Node | None:
    """The product that a kernel is made around; attention, chains and Winograd's method have a plan of their
    own.
    """
    anchor, kind = anchor_of(group)
    if anchor is None or kind is not Role.PRODUCT or parts(group.body) is not None:
        return None
    by_tiles = winograd_plan.plan(group, anchor) is not None and finish.finish(group.body, anchor) is None
    return None if by_tiles else anchor
