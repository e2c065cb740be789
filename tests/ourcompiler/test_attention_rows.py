"""Attention by blocks of rows: how many are in a block, and scores that are infinite or no numbers."""

from pathlib import Path

import numpy as np
import pytest

from ourcompiler import reference
from ourcompiler.build import Builder
from ourcompiler.compile import program_of
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.pipeline import optimize
from ourcompiler.selftest.together import run_all
from ourcompiler.targets import runnable_here, target, targets

HEADS, DEPTH = 64, 16


def attention(rows: int) -> Graph:
    """Softmax(q kᵀ + mask) v of some heads; keys are turned already."""
    builder = Builder()
    shapes = {"q": (HEADS, rows, DEPTH), "k": (HEADS, DEPTH, rows), "m": (HEADS, rows, rows)}
    q, k, m = (builder.input(one, TensorType(DType.F32, shape)) for one, shape in shapes.items())
    v = builder.input("v", TensorType(DType.F32, shapes["q"]))
    (scores,) = builder.add("Add", (*builder.add("MatMul", (q, k)), m))
    (weights,) = builder.add("Softmax", (scores,), axis=2)
    return builder.graph([("o", builder.add("MatMul", (weights, v))[0])])


def drawn(rows: int) -> dict[str, Array]:
    """Inputs of small numbers; of the first head some keys are hidden, of the second all of one row's."""
    draw = np.random.default_rng(rows)
    graph = attention(rows)
    found: dict[str, Array] = {
        name: draw.standard_normal(graph.types[name].shape, np.float32) for name in ("q", "k", "m", "v")
    }
    found["m"][0, :, rows // 2 :] = -np.inf
    found["m"][1, 1] = -np.inf
    return found


@pytest.mark.parametrize("name", runnable_here())
def test_rows_that_are_no_numbers_stay_alone(name: str, tmp_path: Path) -> None:
    """One score that is none makes its row none, at the row's start, middle and end, and no other row."""
    sizes = (7, 49, 130, 200)
    inputs = {str(rows): drawn(rows) for rows in sizes}
    for rows in sizes:
        for row, column in ((0, 0), (2, rows // 2), (rows - 1, rows - 1)):
            inputs[str(rows)]["m"][2, row, column] = np.nan
    found = run_all({str(rows): attention(rows) for rows in sizes}, inputs, tmp_path, target_name=name)
    for rows in sizes:
        with np.errstate(invalid="ignore"):
            exact = reference.run(attention(rows), inputs[str(rows)])["o"]
        made = found[str(rows)]["o"]
        np.testing.assert_array_equal(np.isnan(made), np.isnan(exact))
        assert np.isnan(made).all(axis=2).sum() == 4
        lost = np.nan_to_num(made - exact)
        assert np.linalg.norm(lost) <= 1e-6 * np.linalg.norm(np.nan_to_num(exact))


@pytest.mark.parametrize("name", list(targets()))
def test_scores_of_a_block_stay_in_the_first_cache(name: str) -> None:
    """In half of it, or they are one tile's; of batches that fit into the second one a task has all rows."""
    wanted = target(name)
    for rows, fits in ((49, True), (600, False)):
        (kernel,) = program_of(optimize(attention(rows)), wanted).kernels.values()
        tasks = kernel.phases[-1].tasks
        if fits:
            assert (tasks, len(kernel.phases)) == (HEADS, 1)
        else:
            of_a_task = -(-rows // (tasks // HEADS))
            assert 8 * of_a_task * rows <= wanted.l1_bytes or of_a_task <= wanted.registers // 2
