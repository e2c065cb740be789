"""Rows that would begin in the same set of a cache lie a line further apart; only the clock notices."""

from pathlib import Path

import numpy as np
import pytest

from ourcompiler import reference
from ourcompiler.build import Builder
from ourcompiler.codegen.gemm_parts import LINE
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.conv import conv_facts
from ourcompiler.passes.layout import choose, storages
from ourcompiler.pipeline import optimize
from ourcompiler.selftest.compare import error_of
from ourcompiler.selftest.together import run_all
from ourcompiler.targets import runnable_here

WIDE = 1024


def feed_forward(wide: int, shape: tuple[int, ...] = (2, 9, 256), *, also_sum: bool = False) -> Graph:
    """Two products with an activation between them, and perhaps a second reader of what lies between."""
    builder, draw = Builder(), np.random.default_rng(wide).standard_normal
    x = builder.input("x", TensorType(DType.F32, shape))
    up = builder.constant((draw((shape[-1], wide)) / 16).astype(np.float32))
    down = builder.constant((draw((wide, 320)) / 32).astype(np.float32))
    (bent,) = builder.add("Gelu", builder.add("MatMul", (x, up)), approximate="none")
    (made,) = builder.add("MatMul", (bent, down))
    outputs = [("y", made)]
    if also_sum:
        (flat,) = builder.add("Reshape", (bent,), shape=(2 * 9 * wide,))
        outputs.append(("s", builder.add("Exp", (flat,))[0]))
    return builder.graph(outputs)


def row_steps(graph: Graph) -> set[int]:
    """How far apart rows of the wide values lie."""
    graph = optimize(graph)
    chosen = storages(choose(graph))
    wide = [one for name, one in chosen.items() if name not in graph.constants and one.shape[-1] >= WIDE]
    return {one.count // int(np.prod(one.shape[:-1])) for one in wide}


def test_rows_of_a_cache_set_lie_a_line_further_apart() -> None:
    assert row_steps(feed_forward(WIDE)) == {WIDE + LINE}
    assert row_steps(feed_forward(3 * WIDE)) == {3 * WIDE + LINE}


def test_other_rows_lie_side_by_side() -> None:
    assert row_steps(feed_forward(WIDE + LINE)) == {WIDE + LINE}
    assert row_steps(feed_forward(WIDE + WIDE // 4)) == {WIDE + WIDE // 4}
    assert row_steps(feed_forward(WIDE, (1, 256))) == {WIDE}


def convolutions(channels: int, groups: int = 1) -> Graph:
    """A convolution of one tap, one of nine, and two that read what that one makes."""
    builder, draw = Builder(), np.random.default_rng(channels).standard_normal
    made = [builder.input("x", TensorType(DType.F32, (1, 32, 9, 7)))]
    for inputs, outputs, tap, parts in (
        (32, channels, 1, 1),
        (channels, channels, 3, groups),
        (channels, 40, 1, 1),
        (channels, 24, 3, 1),
    ):
        filters = draw((outputs, inputs // parts, tap, tap)) / (inputs // parts * tap**2) ** 0.5
        weights = builder.constant(filters.astype(np.float32))
        facts = conv_facts(2, group=parts, pads=tap // 2)
        made += builder.add("Conv", [made[min(len(made) - 1, 2)], weights, ""], **facts)
    return builder.graph([("y", made[3]), ("z", made[4])])


@pytest.mark.parametrize("channels", [512, 1024, 512 + LINE])
def test_positions_of_a_cache_set_lie_a_line_further_apart(channels: int) -> None:
    graph = optimize(convolutions(channels, channels))
    chosen = storages(choose(graph))
    wide = [one for name, one in chosen.items() if name not in graph.constants and channels in one.shape]
    apart = channels if channels % 512 else channels + LINE
    assert [one.count for one in wide] == [9 * 7 * apart] * 2


@pytest.mark.parametrize("name", runnable_here())
def test_results_are_the_same(name: str, tmp_path: Path) -> None:
    graphs = {
        "usual": feed_forward(WIDE),
        "matrix": feed_forward(WIDE, (13, 256)),
        "two": feed_forward(WIDE, also_sum=True),
        "depthwise": convolutions(512, 512),
        "grouped": convolutions(512, 32),
        "dense": convolutions(512),
    }
    inputs: dict[str, dict[str, Array]] = {
        key: {"x": np.random.default_rng(7).standard_normal(graph.types["x"].shape, np.float32)}
        for key, graph in graphs.items()
    }
    found = run_all(graphs, inputs, tmp_path, target_name=name)
    for key, graph in graphs.items():
        exact = reference.run(graph, inputs[key])
        for output, value in found[key].items():
            assert error_of(value, exact[output]) <= 1e-5, (key, output)
