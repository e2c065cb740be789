"""Every rule draws its own tests: it fires on its graphs, keeps their meaning, makes them cheaper, and does
not fire where its precondition is broken.
"""

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType
from ourcompiler.reference import run
from ourcompiler.rewrite.catalogue import RULES
from ourcompiler.rewrite.cost import graph_cost
from ourcompiler.rewrite.engine import Trace
from ourcompiler.rewrite.passes import rewrite
from ourcompiler.rewrite.rule import Drawn, Family, Rule

NAMES = [rule.name for rule in RULES]
BY_NAME = {rule.name: rule for rule in RULES}
ABOUT_TYPES = {Family.FOLD, Family.IDENTITY}
DRAWS = 3


def generator(name: str, number: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(name.encode()), number])


def drawn(rule: Rule) -> Iterator[Drawn]:
    """Its graphs, in single and double precision."""
    for number in range(DRAWS):
        yield from rule.draw(generator(rule.name, number))
    if rule.family not in ABOUT_TYPES:
        wide = [replace(one, dtype=DType.F64) for one in rule.examples if one.dtype is DType.F32]
        yield from replace(rule, examples=tuple(wide)).draw(generator(rule.name, DRAWS))


def assert_same(graph: Graph, after: Graph, feeds: dict[str, Array]) -> None:
    """Within rounding of the largest element, NaN where it was."""
    expected, found = run(graph, feeds), run(after, feeds)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        if value.dtype.kind != "f":
            np.testing.assert_array_equal(found[name], value)
            continue
        finite = np.abs(value[np.isfinite(value)]).max(initial=1.0)
        tolerance = 1e-10 if value.dtype == np.float64 else 1e-5
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance * finite)


def origins(graph: Graph) -> set[str]:
    return {name for node in graph.nodes for name in node.origin}


def with_all_values(graph: Graph) -> Graph:
    """The same graph, every value of which is a result."""
    names = [name for node in graph.nodes for name in node.outputs]
    return replace(graph, outputs=(*graph.outputs, *((f"also {name}", name) for name in names)))


def test_every_rule_has_its_own_name() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_is_whole(name: str) -> None:
    rule = BY_NAME[name]
    assert rule.source
    assert rule.precondition
    assert rule.examples
    assert rule.refuses


@pytest.mark.parametrize("name", NAMES)
def test_it_fires_keeps_the_meaning_and_costs_less(name: str) -> None:
    for graph, feeds in drawn(BY_NAME[name]):
        trace: Trace = []
        after = rewrite(graph, (BY_NAME[name],), trace=trace)
        assert {one.rule for one in trace} == {name}, graph
        assert graph_cost(after) < graph_cost(graph)
        assert_same(graph, after, feeds)
        assert not after.nodes or origins(after) == origins(graph)


@pytest.mark.parametrize("name", NAMES)
def test_it_does_not_fire_where_it_does_not_hold(name: str) -> None:
    for number in range(DRAWS):
        for graph, _ in BY_NAME[name].draw_refused(generator(name, number)):
            trace: Trace = []
            rewrite(graph, (BY_NAME[name],), trace=trace)
            assert trace == []


@pytest.mark.parametrize("name", NAMES)
def test_values_that_others_need_stay(name: str) -> None:
    """With everything between read from outside, it may fire only where that is cheaper still."""
    for graph, feeds in BY_NAME[name].draw(generator(name, 0)):
        everything = with_all_values(graph)
        after = rewrite(everything, (BY_NAME[name],))
        assert graph_cost(after) <= graph_cost(everything)
        assert_same(everything, after, feeds)


@pytest.mark.parametrize("name", NAMES)
def test_all_rules_together_keep_the_meaning(name: str) -> None:
    """And twice is the same as once."""
    for graph, feeds in BY_NAME[name].draw(generator(name, 0)):
        after = rewrite(graph)
        assert_same(graph, after, feeds)
        again: Trace = []
        rewrite(after, trace=again)
        assert again == []
