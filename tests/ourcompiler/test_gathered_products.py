"""Products and attentions whose sides are rows that the data choose."""

from pathlib import Path

import numpy as np
import pytest

from ourcompiler import reference
from ourcompiler.build import Builder
from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.pipeline import optimize
from ourcompiler.selftest.together import run_all
from ourcompiler.targets import runnable_here

ROWS, FROM, CHOSEN, DEPTH = 24, 40, 48, 32


def matrix(rows: int) -> TensorType:
    """So many rows of a product's depth."""
    return TensorType(DType.F32, (rows, DEPTH))


def product(side: str) -> Graph:
    """Chosen rows as the left side or, turned, as the right one; the other side is known, or an input."""
    builder = Builder()
    x, y = builder.input("x", matrix(ROWS)), builder.input("y", matrix(FROM))
    (rows,) = builder.add("Gather", (y, builder.input("i", TensorType(DType.I64, (CHOSEN,)))), axis=0)
    (turned,) = builder.add("Transpose", (rows if side == "right" else x,), perm=(1, 0))
    if side == "left of a known one":
        turned = builder.constant(np.random.default_rng(1).standard_normal((DEPTH, 600)).astype(np.float32))
    (made,) = builder.add("MatMul", (x if side == "right" else rows, turned))
    return builder.graph([("o", made)])


def attention(*, also_values: bool) -> Graph:
    """Keys are chosen rows, and perhaps the values too."""
    builder = Builder()
    queries, source = builder.input("x", matrix(ROWS)), builder.input("y", matrix(FROM))
    chosen = builder.input("i", TensorType(DType.I64, (CHOSEN,)))
    (keys,) = builder.add("Gather", (source, chosen), axis=0)
    (turned,) = builder.add("Transpose", (keys,), perm=(1, 0))
    (scores,) = builder.add("MatMul", (queries, turned))
    (weights,) = builder.add("Softmax", (scores,), axis=1)
    values = builder.input("v", matrix(FROM if also_values else CHOSEN))
    if also_values:
        (values,) = builder.add("Gather", (values, chosen), axis=0)
    return builder.graph([("o", builder.add("MatMul", (weights, values))[0])])


def windows(rows: int, depth: int) -> Graph:
    """Keys and values of two heads lie side by side in windows of four rows; the data choose windows for
    both.
    """
    builder = Builder()
    queries = builder.input("x", TensorType(DType.F32, (2, rows, depth)))
    source = builder.input("y", TensorType(DType.F32, (FROM // 4, 4, 4 * depth)))
    chosen = builder.input("i", TensorType(DType.I64, (CHOSEN,)))
    (both,) = builder.add("Gather", (source, chosen), axis=0)
    (heads,) = builder.add("Reshape", (both,), shape=(4 * CHOSEN, 2, 2, depth))
    shape = (4 * CHOSEN, 1, 2, depth)
    parts = [
        builder.add("Slice", (heads,), starts=(0, at, 0, 0), steps=(1, 1, 1, 1), shape=shape) for at in (0, 1)
    ]
    keys, values = (builder.add("Reshape", one, shape=(4 * CHOSEN, 2, depth))[0] for one in parts)
    (turned,) = builder.add("Transpose", (keys,), perm=(1, 2, 0))
    (scores,) = builder.add("MatMul", (queries, turned))
    (weights,) = builder.add("Softmax", (scores,), axis=2)
    (side,) = builder.add("Transpose", (values,), perm=(1, 0, 2))
    return builder.graph([("o", builder.add("MatMul", (weights, side))[0])])


def test_chosen_keys_and_values_are_one_kernel() -> None:
    """What both are chosen from is read in place."""
    graph = optimize(windows(8, DEPTH))
    assert [node.op for node in graph.nodes] == ["Fused"]
    assert graph.nodes[0].body is not None
    assert {"Gather", "Softmax"} <= {node.op for node in graph.nodes[0].body.nodes}


def test_chosen_rows_that_another_kernel_reads_lie_in_memory() -> None:
    builder = Builder()
    x, y = builder.input("x", matrix(ROWS)), builder.input("y", matrix(FROM))
    (rows,) = builder.add("Gather", (y, builder.input("i", TensorType(DType.I64, (CHOSEN,)))), axis=0)
    (turned,) = builder.add("Transpose", (rows,), perm=(1, 0))
    (weights,) = builder.add("Softmax", builder.add("MatMul", (x, turned)), axis=1)
    (made,) = builder.add("MatMul", (weights, rows))
    (total,) = builder.add("ReduceSum", (rows,), axes=(0,), keepdims=False)
    graph = optimize(builder.graph([("o", made), ("s", total)]))
    assert len(graph.nodes) >= 3


@pytest.mark.parametrize("depth", [DEPTH, 24, 5])
@pytest.mark.parametrize("name", runnable_here())
def test_windows_that_the_data_choose(name: str, depth: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(depth)
    graphs = {f"{rows} rows": windows(rows, depth) for rows in (1, 4, 9, 70)}
    inputs = {}
    for key, graph in graphs.items():
        shapes = {one: graph.types[one].shape for one in ("x", "y")}
        drawn = {one: draw.standard_normal(shape, np.float32) for one, shape in shapes.items()}
        inputs[key] = {**drawn, "i": draw.integers(-FROM // 4, FROM // 4, CHOSEN)}
    found = run_all(graphs, inputs, tmp_path, target_name=name)
    for key, graph in graphs.items():
        exact = reference.run(graph, inputs[key])["o"]
        assert np.linalg.norm(found[key]["o"] - exact) <= 1e-6 * np.linalg.norm(exact), key


def test_an_index_outside_is_told_from_inside_an_attention(tmp_path: Path) -> None:
    graph = windows(4, DEPTH)
    inputs = {one: np.zeros(graph.types[one].shape, np.float32) for one in ("x", "y")}
    for wrong in (FROM // 4, -FROM // 4 - 1):
        given = {"a": {**inputs, "i": np.full(CHOSEN, wrong)}}
        with pytest.raises(CompileError, match="outside what it chooses from"):
            run_all({"a": graph}, given, tmp_path)


@pytest.mark.parametrize("name", runnable_here())
def test_rows_that_the_data_choose_are_multiplied(name: str, tmp_path: Path) -> None:
    graphs = {side: product(side) for side in ("right", "left", "left of a known one")}
    graphs |= {"keys": attention(also_values=False), "keys and values": attention(also_values=True)}
    draw = np.random.default_rng(0)
    drawn: dict[str, Array] = {
        "i": draw.integers(-FROM, FROM, CHOSEN),
        "x": draw.standard_normal((ROWS, DEPTH), np.float32),
        "y": draw.standard_normal((FROM, DEPTH), np.float32),
    }
    inputs = {key: dict(drawn) for key in graphs}
    for key in ("keys", "keys and values"):
        inputs[key]["v"] = draw.standard_normal(graphs[key].types["v"].shape, np.float32)
    found = run_all(graphs, inputs, tmp_path, target_name=name)
    for key, graph in graphs.items():
        exact = reference.run(graph, inputs[key])["o"]
        error = np.linalg.norm(found[key]["o"] - exact) / np.linalg.norm(exact)
        assert error <= 1e-6, key
