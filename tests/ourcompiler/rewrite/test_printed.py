"""The rules that DNNFusion prints (section 4.2, Table 4): no more operations than there, where they hold."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from ourcompiler.ir.types import DType
from ourcompiler.reference import run
from ourcompiler.rewrite.cost import graph_cost
from ourcompiler.rewrite.passes import rewrite
from ourcompiler.rewrite.reductions import KEEP
from ourcompiler.rewrite.rule import Example

M, N = 6, 7
MATRIX = dict.fromkeys("abcx", (M, N))


@dataclass(frozen=True)
class Printed:
    """The left side, and its operations before and after as the paper counts them."""

    text: str
    before: int
    after: int
    where: Mapping[str, str] = field(default_factory=dict)


ROWS = {
    "reciprocals": Printed("Reciprocal(a) * Reciprocal(a * b)", 4 * M * N, 4 * M * N),
    "square roots of what is not negative": Printed(
        "Mul(Mul(a, s), Mul(s, c))", 5 * M * N, 3 * M * N, {"s": "Sqrt(Abs(b))"}
    ),
    "absolute values": Printed("Abs(a) * b * Abs(c)", 4 * M * N, 3 * M * N),
    "sums": Printed("Mul(Mul(a, s), Mul(s, c))", 5 * M * N, 3 * M * N + M, {"s": f"ReduceSum(b, {KEEP})"}),
    "a common factor": Printed("a * c + a * b", 3 * M * N, 2 * M * N),
    "a common factor of 1": Printed("a + a * b", 2 * M * N, 2 * M * N),
    "a square": Printed("t * t - t * c", 5 * M * N, 3 * M * N, {"t": "a + b"}),
    "a product of powers": Printed(f"ReduceProd(Exp(x), {KEEP})", 2 * M * N, M * N + M),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_printed_rule_needs_no_more_than_the_paper_says(name: str) -> None:
    row, generator = ROWS[name], np.random.default_rng(9)
    example = Example(row.text, MATRIX, row.where, (0.5, 2.0), DType.F64)
    graph = example.graph(generator)
    after = rewrite(graph)
    assert graph_cost(graph).flops <= row.before
    assert graph_cost(after).flops <= row.after
    assert graph_cost(after) < graph_cost(graph)
    feeds = example.feeds(graph, generator)
    np.testing.assert_allclose(run(after, feeds)["y0"], run(graph, feeds)["y0"], rtol=1e-12)


def test_a_printed_rule_does_not_fire_where_it_is_wrong() -> None:
    """√b ⊙ √b is NaN for negative b, not b."""
    example = Example("Mul(Mul(a, s), Mul(s, c))", MATRIX, {"s": "Sqrt(b)"})
    graph = example.graph(np.random.default_rng(9))
    assert "Sqrt" in [node.op for node in rewrite(graph).nodes]
