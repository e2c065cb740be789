"""Products and attentions whose sides are rows that the data choose."""

from pathlib import Path

import numpy as np
import pytest

from ourcompiler import reference
from ourcompiler.build import Builder
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType, TensorType
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
