"""The engine: what it may change, what it keeps, and that it says what it did."""

from pathlib import Path

import numpy as np
import pytest

from ourcompiler.build import Builder
from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.parse import parse as parse_graph
from ourcompiler.ir.text import write_graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.reference import run
from ourcompiler.rewrite.catalogue import RULES
from ourcompiler.rewrite.engine import Trace
from ourcompiler.rewrite.expression import parse, patterns
from ourcompiler.rewrite.passes import rewrite, without
from ourcompiler.rewrite.rule import Example


def graph_of(text: str, **given: object) -> Graph:
    return Example(text, given).graph(np.random.default_rng(3))


def test_a_result_keeps_its_public_name() -> None:
    graph = graph_of("Neg(Neg(x))")
    after = rewrite(graph)
    assert after.nodes == ()
    assert after.outputs == (("y0", "x"),)
    assert after.inputs == graph.inputs


def test_what_goes_leaves_its_origin() -> None:
    builder = Builder()
    x = builder.input("x", TensorType(DType.F32, (4,)))
    one = builder.constant(np.float32(1))
    (a,) = builder.add("Exp", (x,), origin=("exp",))
    (b,) = builder.add("Mul", (a, one), origin=("times one",))
    (c,) = builder.add("Sigmoid", (b,), origin=("sigmoid",))
    (d,) = builder.add("Mul", (b, c), origin=("product",))
    after = rewrite(builder.graph([("y", d)]))
    assert [(node.op, node.origin) for node in after.nodes] == [
        ("Exp", ("exp", "times one")),
        ("Swish", ("sigmoid", "product")),
    ]


def test_a_rule_waits_for_those_who_read_between() -> None:
    """Sigmoid(x) is a result: without it SiLU would cost more, not less."""
    graph = Example("x * s; s", {}, {"s": "Sigmoid(x)"}).graph(np.random.default_rng(3))
    assert [node.op for node in rewrite(graph).nodes] == ["Sigmoid", "Mul"]


def test_the_trace_says_what_was_done() -> None:
    trace: Trace = []
    rewrite(graph_of("x * Sigmoid(x)", x=(2, 3)), trace=trace)
    (only,) = trace
    assert only.rule == "SiLU"
    assert only.origin == ("Sigmoid.0", "Mul.1")
    assert only.before == "%sigmoid = Sigmoid(%x); %mul = Mul(%x, %sigmoid)"
    assert only.after == "%mul = Swish(%x) {alpha=1.0f}"
    assert str(only).startswith("SiLU: Sigmoid.0, Mul.1\n")


def test_rules_are_switched_off_by_name_and_by_family() -> None:
    graph = graph_of("x * Sigmoid(x)")
    assert rewrite(graph, without(["SiLU"])) == graph
    assert rewrite(graph, without(["activation"])) == graph
    assert len(without([])) == len(RULES)
    with pytest.raises(CompileError, match="no rule or family is called 'Silu'"):
        without(["Silu"])


def test_the_same_graph_comes_out_every_time() -> None:
    graph = graph_of(
        "Softmax((x @ A) @ Transpose(x @ B, perm=(1, 0)), axis=1) @ (x @ C)",
        x=(5, 4),
        A=(4, 4),
        B=(4, 4),
        C=(4, 4),
    )
    assert rewrite(graph) == rewrite(graph)


def test_what_comes_out_can_be_printed_and_read(tmp_path: Path) -> None:
    graph = graph_of(
        "Softmax((x @ A) @ Transpose(x @ B, perm=(1, 0)), axis=1) @ x", x=(5, 4), A=(4, 4), B=(4, 4)
    )
    after = rewrite(graph)
    path = tmp_path / "01-rewrite.ir"
    write_graph(after, path)
    assert parse_graph(path.read_text(), tmp_path) == after


def chain(length: int) -> Graph:
    builder = Builder()
    value = builder.input("x", TensorType(DType.F32, (8,)))
    for number in range(length):
        factor = builder.constant(np.float32(1 + number % 3 / 10))
        (value,) = builder.add("Mul" if number % 2 else "Add", (value, factor), origin=(f"n{number}",))
        if number % 7 == 0:
            (value,) = builder.add("Tanh", (value,))
    return builder.graph([("y", value)])


def test_long_chains_need_about_as_many_steps_as_they_have_nodes() -> None:
    graph, trace = chain(600), []
    after = rewrite(graph, trace=trace)
    assert len(trace) < len(graph.nodes)
    x = np.linspace(-1, 1, 8, dtype=np.float32)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(graph, {"x": x})["y"], rtol=1e-4)


def test_a_chain_has_every_grouping() -> None:
    assert len(patterns("a * b * c")) == 3
    assert len(patterns("a * b * c * d")) == 15
    assert len(patterns("Mul(Mul(a, b), c)")) == 1
    assert len(patterns("p + c", {"p": "a * b * c"})) == 3


@pytest.mark.parametrize("text", ["x if y else z", "x.y", "[x]", "'x'"])
def test_what_is_no_formula_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no formula"):
        parse(text)
