"""Products of which only what lies between two diagonals is read: the rest is not computed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourcompiler import reference
from ourcompiler.build import Builder
from ourcompiler.codegen.band import Band, bands
from ourcompiler.codegen.lower import Value, Workspace, lower
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.index import Space, constant
from ourcompiler.ir.index_map import IndexMap, index_map
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.kernel.check import execute, poison
from ourcompiler.kernel.ir import Apply, Expr, Number, index
from ourcompiler.pipeline import optimize
from ourcompiler.program import groups_of
from ourcompiler.selftest.interpret import interpret
from ourcompiler.selftest.together import run_all
from ourcompiler.targets import runnable_here, target

HEADS, DEPTH = 2, 12


def shifted(rows: int, sign: int, wide: int) -> IndexMap:
    """Element (head, row, column) is the one of column `column ± row`, the latter from the other end."""
    space = Space((HEADS, rows, wide - rows + 1))
    head, row, column = space.dims()
    start = constant(0 if sign > 0 else rows - 1)
    at = space.add(space.add(column, space.multiply(row, sign)), start)
    return index_map(space.extents, (HEADS, rows, wide), (head, row, at))


def positions(rows: int, sign: int, wide: int, *, also_whole: bool = False) -> Graph:
    """Scores by position, of which each row reads a part that begins one further on (or back), go into a
    softmax; perhaps something else reads all of them.
    """
    builder = Builder()
    x = builder.input("x", TensorType(DType.F32, (HEADS, rows, DEPTH)))
    y = builder.input("y", TensorType(DType.F32, (HEADS, DEPTH, wide)))
    (scores,) = builder.add("MatMul", (x, y))
    (seen,) = builder.add("View", (scores,), map=shifted(rows, sign, wide))
    outputs = [("o", builder.add("Softmax", (seen,), axis=2)[0])]
    if also_whole:
        outputs.append(("s", builder.add("ReduceMax", (scores,), axes=(2,), keepdims=False)[0]))
    return builder.graph(outputs)


CASES = [(40, -1, 79), (40, 1, 79), (33, -1, 65), (5, 1, 200), (64, -1, 127), (64, 1, 127)]


@pytest.mark.parametrize("name", runnable_here())
def test_what_is_read_is_right(name: str, tmp_path: Path) -> None:
    graphs = {str(case): positions(*case) for case in CASES}
    graphs |= {f"{case} and all": positions(*case, also_whole=True) for case in CASES[:2]}
    draw = np.random.default_rng(7)
    inputs = {
        key: {one: draw.standard_normal(graph.types[one].shape, np.float32) for one in ("x", "y")}
        for key, graph in graphs.items()
    }
    found = run_all(graphs, inputs, tmp_path, target_name=name)
    for key, graph in graphs.items():
        for public, exact in reference.run(graph, inputs[key]).items():
            assert np.linalg.norm(found[key][public] - exact) <= 1e-6 * np.linalg.norm(exact), (key, public)


def test_what_is_not_read_is_not_computed() -> None:
    """Tiles outside the band stay as they were."""
    graph = optimize(positions(64, -1, 127))
    node, group = groups_of(graph, target("avx512"), {})[0]
    assert group.bands == {node.output: Band(1, 63, 126)}
    lowered, draw = lower(group, node), np.random.default_rng(3)
    values = {one: draw.standard_normal(graph.types[one].shape, np.float32) for one in ("x", "y")}
    values[node.output] = np.full((HEADS, 64, 127), poison(DType.F32), np.float32)
    arrays = [
        values[one.name].reshape(-1) if isinstance(one, Value) else np.zeros(one.count, np.float32)
        for one in lowered.arguments
        if isinstance(one, Value | Workspace)
    ]
    after = execute(lowered.kernel, arrays)
    place = [one.name if isinstance(one, Value) else "" for one in lowered.arguments].index(node.output)
    made = after[place].reshape(HEADS, 64, 127)
    row, column = np.indices(made.shape[1:])
    is_read = (row + column >= 63) & (row + column <= 126)
    np.testing.assert_allclose(
        made[:, is_read], np.matmul(values["x"], values["y"])[:, is_read], rtol=1e-5, atol=1e-5
    )
    left_out = values[node.output][:1, :1, :1].view(np.uint32)
    assert (made[:, :14, :32].view(np.uint32) == left_out).all(), "far from the diagonals"
    assert (made[:, 56:, 96:].view(np.uint32) == left_out).all()


@pytest.mark.parametrize("name", ["avx512", "avx2", "aarch64"])
@pytest.mark.parametrize("case", CASES[:4], ids=str)
def test_nothing_else_is_read(case: tuple[int, int, int], name: str) -> None:
    """In memory that is full of what is no number."""
    graph, draw = positions(*case), np.random.default_rng(5)
    inputs = {one: draw.standard_normal(graph.types[one].shape, np.float32) for one in ("x", "y")}
    found, exact = interpret(graph, inputs, target(name))["o"], reference.run(graph, inputs)["o"]
    assert np.linalg.norm(found - exact) <= 1e-6 * np.linalg.norm(exact)


def test_without_a_band_all_is_computed() -> None:
    assert bands(optimize(positions(40, -1, 79, also_whole=True))) == {}
    assert bands(optimize(positions(5, 1, 200))) == {}, "hardly anything is left out"


def test_a_value_without_elements_has_no_band() -> None:
    builder = Builder()
    (empty,) = builder.add("Relu", (builder.input("x", TensorType(DType.F32, (0, 5))),))
    (turned,) = builder.add("Transpose", (empty,), perm=(1, 0))
    (total,) = builder.add("ReduceSum", (turned,), axes=(1,), keepdims=False)
    assert bands(optimize(builder.graph([("o", total)]))) == {}


@given(
    st.sampled_from([1, -1]),
    st.tuples(st.integers(-40, 60), st.integers(0, 40)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.data(),
)
def test_a_tile_is_touched_where_it_has_an_element(
    sign: int, ends: tuple[int, int], sizes: tuple[int, int], data: st.DataObject
) -> None:
    band = Band(sign, ends[0], sum(ends))
    row, column = np.indices(sizes)
    inside = (band.low <= column + sign * row) & (column + sign * row <= band.high)
    assert band.share(*sizes) == pytest.approx(inside.mean())
    first = [data.draw(st.integers(0, size - 1)) for size in sizes]
    count = [data.draw(st.integers(1, size - at)) for at, size in zip(first, sizes, strict=True)]
    tile = inside[first[0] : first[0] + count[0], first[1] : first[1] + count[1]]
    touches = band.touches((index(first[0]), count[0]), (index(first[1]), count[1]))
    assert value(touches) == bool(tile.any())


def value(expr: Expr) -> int | bool:
    """The value of an expression of numbers."""
    if isinstance(expr, Number):
        return int(expr.value)
    assert isinstance(expr, Apply)
    match expr.function, [value(one) for one in expr.arguments]:
        case "and", [left, right]:
            return bool(left and right)
        case "less_equal", [left, right]:
            return left <= right
        case "add", [left, right]:
            return left + right
        case "sub", [left, right]:
            return left - right
    raise AssertionError(expr)
