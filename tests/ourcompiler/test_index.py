"""Index arithmetic: whatever is simplified keeps its value at every point, and disappears where it can."""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ourcompiler.ir.index import ENTRY_COST, Affine, Space, constant, times
from ourcompiler.ir.index_map import (
    IndexMap,
    compose,
    expand,
    gather,
    identity,
    pad,
    reshape,
    roll,
    transpose,
    window,
)

Tree = tuple[object, ...] | int
EXTENTS = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)


def trees(rank: int) -> st.SearchStrategy[Tree]:
    """Expressions as they are written: nested tuples of operators."""
    leaves = st.one_of(st.integers(-9, 9), st.integers(0, rank - 1).map(lambda number: ("dim", number)))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(st.just("add"), inner, inner),
            st.tuples(st.just("mul"), inner, st.integers(-8, 12)),
            st.tuples(st.just("div"), inner, st.integers(1, 12)),
            st.tuples(st.just("mod"), inner, st.integers(1, 12)),
        ),
        max_leaves=8,
    )


def value(tree: Tree, index: Sequence[int]) -> int:
    match tree:
        case int():
            return tree
        case ("dim", int(number)):
            return index[number]
        case ("add", left, right):
            return value(left, index) + value(right, index)
        case ("mul", inner, int(factor)):
            return value(inner, index) * factor
        case ("div", inner, int(by)):
            return value(inner, index) // by
        case ("mod", inner, int(by)):
            return value(inner, index) % by
    raise AssertionError(tree)


def built(tree: Tree, space: Space) -> Affine:
    match tree:
        case int():
            return constant(tree)
        case ("dim", int(number)):
            return space.dim(number)
        case ("add", left, right):
            return space.add(built(left, space), built(right, space))
        case ("mul", inner, int(factor)):
            return times(built(inner, space), factor)
        case ("div", inner, int(by)):
            return space.quotient(built(inner, space), by)
        case ("mod", inner, int(by)):
            return space.remainder(built(inner, space), by)
    raise AssertionError(tree)


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, ...], Tree]:
    extents = draw(EXTENTS)
    return extents, draw(trees(len(extents)))


@settings(max_examples=400, deadline=None)
@given(cases())
def test_a_simplified_expression_has_the_same_value_everywhere(case: tuple[tuple[int, ...], Tree]) -> None:
    extents, tree = case
    space = Space(extents)
    expression = built(tree, space)
    low, high = space.bounds(expression)
    for index in product(*map(range, extents)):
        found = expression.evaluate(index)
        assert found == value(tree, index), str(expression)
        assert low <= found <= high


@st.composite
def chains(draw: st.DrawFn) -> list[IndexMap]:
    """Views of views: each is drawn for the shape that is left by the one before."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    chain: list[IndexMap] = []
    for _ in range(draw(st.integers(1, 5))):
        chain.append(draw(steps(shape)))
        shape = chain[-1].shape
        if prod(shape) > 400 or not prod(shape):
            break
    return chain


@st.composite
def steps(draw: st.DrawFn, shape: tuple[int, ...]) -> IndexMap:
    rank = len(shape)
    kind = draw(st.sampled_from(["reshape", "transpose", "window", "expand", "gather", "pad", "roll"]))
    if kind == "reshape":
        return reshape(shape, draw(factorings(prod(shape))))
    if kind == "transpose":
        return transpose(shape, draw(st.permutations(range(rank))))
    if kind == "expand":
        return expand(shape, (draw(st.integers(1, 3)), *shape))
    axis = draw(st.integers(0, rank - 1))
    if kind == "gather":
        table = draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=4))
        return gather(shape, axis, table, (len(table),))
    if kind == "roll":
        return roll(shape, axis, draw(st.integers(-7, 7)))
    if kind == "pad":
        before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        only = [0] * rank
        return pad(
            shape, [*only[:axis], before, *only[axis + 1 :]], [*only[:axis], after, *only[axis + 1 :]], 7
        )
    start = draw(st.integers(0, shape[axis] - 1))
    step = draw(st.sampled_from([1, 2, 3, -1, -2]))
    count = len(range(start, shape[axis] if step > 0 else -1, step))
    starts = [start if one == axis else 0 for one in range(rank)]
    every = [step if one == axis else 1 for one in range(rank)]
    return window(
        shape, starts, every, tuple(count if one == axis else size for one, size in enumerate(shape))
    )


@st.composite
def factorings(draw: st.DrawFn, count: int) -> tuple[int, ...]:
    shape = []
    while count > 1 and len(shape) < 4:
        shape.append(draw(st.sampled_from([one for one in range(1, count + 1) if count % one == 0])))
        count //= shape[-1]
    return (*shape, count)


def shown(view: IndexMap, values: np.ndarray) -> np.ndarray:
    """What the view shows of an array, element by element."""
    found = [view.evaluate(index) for index in view.indices()]
    elements = [view.fill if one is None else values[one] for one in found]
    return np.array(elements).reshape(view.shape)


@settings(max_examples=300, deadline=None)
@given(chains())
def test_a_view_of_views_shows_what_they_show_one_after_another(chain: list[IndexMap]) -> None:
    values = np.arange(prod(chain[0].source)).reshape(chain[0].source)
    expected, whole = values, identity(chain[0].source)
    for view in chain:
        expected = shown(view, expected)
        together = compose(view, whole)
        assert together is not None
        whole = together
    np.testing.assert_array_equal(shown(whole, values), expected)


def test_each_view_is_what_numpy_does() -> None:
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    shape = values.shape
    np.testing.assert_array_equal(shown(reshape(shape, (4, 6)), values), values.reshape(4, 6))
    np.testing.assert_array_equal(shown(transpose(shape, (2, 0, 1)), values), values.transpose(2, 0, 1))
    np.testing.assert_array_equal(
        shown(window(shape, (1, 2, 0), (1, -1, 2), (1, 3, 2)), values), values[1:, ::-1, ::2]
    )
    np.testing.assert_array_equal(
        shown(expand((3, 1), (2, 3, 4)), values[0, :, :1]), np.broadcast_to(values[0, :, :1], (2, 3, 4))
    )
    table = [2, 0, 0, 1]
    np.testing.assert_array_equal(
        shown(gather(shape, 1, table, (2, 2)), values), values[:, np.reshape(table, (2, 2))]
    )
    np.testing.assert_array_equal(
        shown(pad(shape, (0, 1, -1), (0, 2, 0), 9), values),
        np.pad(values[:, :, 1:], ((0, 0), (1, 2), (0, 0)), constant_values=9),
    )
    np.testing.assert_array_equal(shown(roll(shape, 2, 3), values), np.roll(values, 3, 2))


SIMPLIFIED = {
    "what is split is merged again": (
        lambda: compose(reshape((4, 2, 7), (8, 7)), reshape((8, 7), (4, 2, 7))),
        "(d0, d1) -> (d0, d1)",
    ),
    "heads of an attention": (
        lambda: compose(transpose((49, 3, 4, 32), (1, 2, 0, 3)), reshape((49, 384), (49, 3, 4, 32))),
        "(d0, d1, d2, d3) -> (d2, 128 * d0 + 32 * d1 + d3)",
    ),
    "windows of an image": (
        lambda: compose(
            reshape((8, 8, 7, 7, 96), (64, 49, 96)),
            compose(transpose((8, 7, 8, 7, 96), (0, 2, 1, 3, 4)), reshape((56, 56, 96), (8, 7, 8, 7, 96))),
        ),
        "(d0, d1, d2) -> (7 * (d0 // 8) + (d1 // 7), 7 * (d0 % 8) + (d1 % 7), d2)",
    ),
    "depth to space and back": (
        lambda: compose(
            reshape((2, 8, 3, 8), (16, 24)),
            compose(transpose((2, 3, 8, 8), (0, 2, 1, 3)), reshape((6, 64), (2, 3, 8, 8))),
        ),
        "(d0, d1) -> (3 * (d0 // 8) + (d1 // 8), 8 * (d0 % 8) + (d1 % 8))",
    ),
    "the worked rule of the paper": (
        lambda: reshape((12, 5), (60,)),
        "(d0) -> (d0 // 5, d0 % 5)",
    ),
}


@pytest.mark.parametrize("name", SIMPLIFIED)
def test_maps_are_as_simple_as_by_hand(name: str) -> None:
    make, text = SIMPLIFIED[name]
    assert str(make()) == text


def test_a_reshape_is_seen_through_whatever_it_was_written_as() -> None:
    there = compose(transpose((1, 6, 8), (1, 0, 2)), reshape((6, 8), (1, 6, 8)))
    assert there is not None
    assert there.is_reshape
    assert not transpose((6, 8), (1, 0)).is_reshape
    assert not window((6, 8), (0, 0), (1, 1), (3, 8)).is_reshape


def test_the_rule_for_two_remainders_is_the_papers() -> None:
    """i % Ca % Cb is i % Cb when Cb divides Ca (SmartMem section 3.2)."""
    space = Space((100,))
    twice = space.remainder(space.remainder(space.dim(0), 12), 4)
    assert str(twice) == "d0 % 4"


def test_a_table_of_even_steps_is_arithmetic() -> None:
    space = Space((4,))
    assert str(space.entry([7, 5, 3, 1], space.dim(0))) == "-2 * d0 + 7"
    assert space.entry([0, 5, 6, 1], space.dim(0)).cost > ENTRY_COST
    with pytest.raises(ValueError, match="index from 0 to 3 in a table of 2"):
        space.entry([0, 5], space.dim(0))


STAIRS = {
    "(d0) -> (d0 // 2)": (0, 0, 1, 1, 2, 2),
    "(d0) -> ((d0 + 2) // 3)": (0, 1, 1, 1, 2),
    "(d0) -> (2 * (d0 // 3) + 1)": (1, 1, 1, 3, 3, 3, 5),
    "(d0) -> (-(d0 // 2) + 3)": (3, 3, 2, 2, 1, 1),
    "(d0) -> ((d0 + 3) // 4)": (0, 1, 1, 1, 1),
}


@pytest.mark.parametrize("text", STAIRS)
def test_a_table_that_is_a_staircase_is_a_quotient(text: str) -> None:
    table = STAIRS[text]
    view = gather((6,), 0, table, (len(table),))
    assert str(view) == text
    assert [view.evaluate((place,)) for place in range(len(table))] == [(one,) for one in table]


@pytest.mark.parametrize("table", [(0, 0, 0, 1, 1, 2), (0, 0, 1, 1, 3, 3), (2, 2, 0, 0, 1, 1)])
def test_a_staircase_that_is_worn_stays_a_table(table: tuple[int, ...]) -> None:
    assert gather((6,), 0, table, (len(table),)).cost > ENTRY_COST


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_a_table_says_the_same_however_it_is_written(table: list[int]) -> None:
    view = gather((4,), 0, table, (len(table),))
    assert [view.evaluate((place,)) for place in range(len(table))] == [(one,) for one in table]


def test_views_of_nothing_are_made_all_the_same() -> None:
    for source, shape in (((0, 3), (3, 0)), ((2, 0), (0,)), ((0,), (1, 0, 5))):
        assert not reshape(source, shape).indices()


def test_views_that_do_not_fit_or_have_other_fills() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        compose(identity((2, 3)), identity((3, 2)))
    zeros = pad((3,), (1,), (1,), 0.0)
    assert compose(pad((5,), (1,), (1,), -1.0), zeros) is None
    both = compose(pad((5,), (1,), (1,), 0.0), zeros)
    assert both is not None
    assert both.evaluate((0,)) is both.evaluate((1,)) is None
    assert both.evaluate((2,)) == (0,)


def test_the_shift_of_relative_positions_is_a_diagonal() -> None:
    """Pad on the left, reshape, drop the first row, reshape back, keep the first columns (Transformer-XL)."""
    length = 5
    wide = 2 * length - 1
    space = Space((length, length))
    row, column = space.dims()
    place = space.linear((row, column), (length, wide))
    dropped = space.delinear(space.add(place, constant(length)), (2 * length, length))
    padded = space.delinear(space.linear(dropped, (2 * length, length)), (length, 2 * length))
    assert str(padded[0]) == "d0"
    assert padded[1] == space.add(times(row, -1), column, constant(length))
