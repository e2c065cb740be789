"""The fusion plan and the table: no red pair but by a named exception, right results with any colours."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest

from ourcompiler import reference
from ourcompiler.build import Builder
from ourcompiler.compile import program_of
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.table import Mapping5
from ourcompiler.passes.combination import Colour, Combinations, Order, recoloured, standard
from ourcompiler.passes.fuse import fuse, planned
from ourcompiler.passes.groups import Plan, readers_of
from ourcompiler.passes.judge import Judge
from ourcompiler.passes.kinds import kind_of
from ourcompiler.pipeline import optimize, states
from ourcompiler.selftest.compare import drawn, failures, largest_error, nudged
from ourcompiler.selftest.random_graphs import Drawn, draw
from ourcompiler.selftest.tour import network
from ourcompiler.targets import target

GRAPHS, COMPILED = 120, 40
MANY = Mapping5.MANY_TO_MANY
DEAR = (Mapping5.ONE_TO_MANY, MANY)


def before_fusion(graph: Graph) -> Graph:
    *_, last = states(graph, stop_after="sink")
    return last.graph


def crossings(plan: Plan) -> Iterator[list[int]]:
    """Ways inside a group from something one-to-many or many-to-many to something many-to-many, found by
    looking at the finished groups and not at what the plan noted.
    """
    kinds = {one: kind_of(plan.graph, plan.graph.nodes[one]) for one in plan.group_of}
    for start, kind in kinds.items():
        waiting = [[start]] if kind in DEAR else []
        while waiting:
            way = waiting.pop()
            for name in plan.graph.nodes[way[-1]].outputs:
                for reader, _ in readers_of(plan, name):
                    if plan.group_of.get(reader) != plan.group_of[start]:
                        continue
                    if kinds[reader] is MANY:
                        yield way
                    else:
                        waiting.append([*way, reader])


@pytest.mark.parametrize("order", [Order.FIRST_TO_LAST, Order.SEEDS])
def test_a_red_pair_is_one_kernel_only_by_a_named_exception(order: Order) -> None:
    judge = Judge(table=replace(standard(), order=order))
    graphs = [network(), *(draw(seed).graph for seed in range(GRAPHS))]
    count, used = 0, set()
    for graph in graphs:
        plan = planned(before_fusion(graph), judge)
        for way in crossings(plan):
            rulings = [plan.verdicts[one].ruling for one in way]
            exempt = [one for one in rulings if one is not None and one.past]
            assert exempt, [plan.graph.nodes[one].output for one in way]
            count += 1
            used |= {one.past for one in exempt}
    assert count > 20
    assert used <= set(standard().past)


def test_whoever_joined_was_allowed_by_the_ruling() -> None:
    for seed in range(GRAPHS):
        for verdict in planned(before_fusion(draw(seed).graph), Judge()).verdicts.values():
            if not verdict.joined:
                continue
            assert verdict.ruling is not None
            assert verdict.ruling.allowed
            if verdict.ruling.colour is Colour.RED:
                pair = (verdict.ruling.first, verdict.ruling.second)
                assert standard().exception(verdict.ruling.past, *pair) is not None


def test_without_exceptions_the_plan_is_the_papers() -> None:
    judge = Judge(table=replace(standard(), past={}))
    for graph in (network(), *(draw(seed).graph for seed in range(GRAPHS))):
        assert list(crossings(planned(before_fusion(graph), judge))) == []


def test_attention_is_an_exception_that_can_be_taken_away() -> None:
    graph = before_fusion(network())
    past = {name: one for name, one in standard().past.items() if name != "attention"}
    assert len(fuse(graph, Judge()).nodes) == 3
    assert len(fuse(graph, Judge(table=replace(standard(), past=past))).nodes) == 5


def coloured(seed: int) -> Combinations:
    """The table with colours of chance."""
    random = Random(seed)
    colours = {pair: random.choice(list(Colour)) for pair in standard().cells}
    return replace(recoloured(standard(), colours), order=random.choice(list(Order)))


def test_any_colours_give_a_plan_without_cycles_that_computes_the_same() -> None:
    """A cycle is an error of `in_order`, which every fused graph goes through."""
    for seed in range(GRAPHS):
        case = draw(seed)
        whole = optimize(case.graph, judge=Judge(table=coloured(seed)))
        found = reference.run(whole, case.inputs)
        wanted = reference.run(case.graph, case.inputs)
        error = largest_error(found, wanted)
        assert error <= 1e-4 or error <= 30 * largest_error(nudged(case), wanted), seed


@pytest.mark.parametrize("seed", range(3))
def test_code_is_right_with_any_colours(seed: int, tmp_path: Path) -> None:
    seeds = range(seed * COMPILED, (seed + 1) * COMPILED)
    assert failures(drawn(seeds), tmp_path, judge=Judge(table=coloured(seed))) == {}


@pytest.mark.parametrize("order", Order)
def test_code_is_right_in_any_order_of_growth(order: Order, tmp_path: Path) -> None:
    judge = Judge(table=replace(standard(), order=order))
    assert failures(drawn(range(COMPILED)), tmp_path, judge=judge) == {}


def test_all_red_is_a_kernel_an_operator() -> None:
    judge = Judge(table=recoloured(standard(), dict.fromkeys(standard().cells, Colour.RED)))
    graph = before_fusion(network())
    plan = planned(graph, replace(judge, table=replace(judge.table, past={})))
    assert all(len(members) == 1 for members in plan.members.values())
    assert {one.reason for one in plan.verdicts.values() if one.ruling and "table" in one.reason}


def test_the_same_graph_gives_the_same_plan() -> None:
    for seed in range(30):
        graph = before_fusion(draw(seed).graph)
        for order in Order:
            judge = Judge(table=replace(standard(), order=order))
            assert fuse(graph, judge) == fuse(graph, judge)


def test_fewest_is_never_more_than_either_order() -> None:
    def count(graph: Graph, order: Order) -> int:
        return len(planned(graph, Judge(table=replace(standard(), order=order))).members)

    for seed in range(40):
        graph = before_fusion(draw(seed).graph)
        each = [count(graph, order) for order in (Order.FIRST_TO_LAST, Order.SEEDS)]
        assert count(graph, Order.FEWEST) == min(each)


def test_what_joins_a_product_late_is_element_by_element_to_the_end() -> None:
    """From the seed the sum joins the softmax behind a transposition; the product must not join it then."""
    builder = Builder("late")
    x = builder.input("x", TensorType(DType.F32, (8, 12)))
    weight = builder.constant(np.ones((12, 12), np.float32), "w")
    (product,) = builder.add("MatMul", (x, weight))
    (total,) = builder.add("Add", (product, builder.constant(np.ones((8, 12), np.float32), "c")))
    (turned,) = builder.add("Transpose", (total,), perm=(1, 0))
    (result,) = builder.add("Softmax", (turned,), axis=0)
    graph = builder.graph([("y", result)])
    plan = planned(before_fusion(graph), Judge(table=replace(standard(), order=Order.SEEDS)))
    groups = [{plan.graph.nodes[one].op for one in members} for members in plan.members.values()]
    assert not any({"MatMul", "Softmax"} <= ops for ops in groups)


@pytest.mark.parametrize("is_summed", [True, False])
def test_a_part_that_nobody_makes_is_copied_only_where_the_reader_cannot_choose(
    is_summed: bool, tmp_path: Path
) -> None:
    """A class token in front of what a product makes, as vision transformers have it: the sum with positions
    reads both where they are; where a product and the sum behind it read the whole, it is written.
    """
    builder = Builder("token")
    token = builder.constant(np.full((1, 24), 0.5, np.float32), "token")
    x = builder.input("x", TensorType(DType.F32, (8, 24)))
    weight = builder.constant(np.linspace(-1, 1, 576, dtype=np.float32).reshape(24, 24), "w")
    (made,) = builder.add("MatMul", (x, weight))
    (whole,) = builder.add("Concat", (token, made), axis=0)
    if is_summed:
        (whole,) = builder.add("Add", (whole, builder.constant(np.ones((9, 24), np.float32), "positions")))
    (again,) = builder.add("MatMul", (whole, weight))
    graph = builder.graph([("y", builder.add("Add", (again, whole))[0])])
    program = program_of(optimize(graph), target("host"))
    kinds = [step.kernel.partition("_")[0] for step in program.steps]
    assert kinds == ["matmul", "pointwise" if is_summed else "copy", "matmul"]
    rows = np.random.default_rng(5).standard_normal((8, 24), np.float32)
    assert failures({"token": Drawn(graph, {"x": rows})}, tmp_path) == {}
