"""Layouts for a memory with k contiguous dimensions: every one is one-to-one, and what is demanded lies side
by side; SmartMem's Figure 4.
"""

from itertools import product
from math import ceil, prod

import numpy as np
import pytest

from ourcompiler.build import Builder
from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.index import Affine
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.conv import conv_facts
from ourcompiler.passes.texture import Chosen, Digit, Placing, Wish, choose, copies, layouts, place
from ourcompiler.pipeline import optimize
from ourcompiler.selftest.random_graphs import draw
from ourcompiler.selftest.tour import network
from ourcompiler.targets import Memory, memories, memory

TEXTURE, BUFFER = memory("texture"), memory("buffer")
SHAPES = [(5,), (4, 6), (7, 3), (2, 5, 3), (1, 8, 4), (3, 1, 9), (2, 3, 4, 5), (1, 12, 2, 7)]


def places(shape: tuple[int, ...], placing: Placing) -> dict[tuple[int, ...], tuple[int, int, int]]:
    """Where every element lies: x, y, component."""
    parts: tuple[Affine, ...] = (placing.x, placing.y, placing.component)
    return {
        index: tuple(one.evaluate(index) for one in parts)  # type: ignore[misc]
        for index in product(*map(range, shape))
    }


def check_one_to_one(shape: tuple[int, ...], placing: Placing, kind: Memory) -> None:
    found = places(shape, placing)
    assert len(set(found.values())) == prod(shape)
    for x, y, component in found.values():
        assert 0 <= x < placing.width
        assert 0 <= y < placing.height
        assert 0 <= component < kind.vector
    if kind.width:
        assert placing.width <= kind.width
        assert placing.height <= kind.height


def along(shape: tuple[int, ...], digit: Digit) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
    """Neighbours along a dimension: an element, the next one, and the number of the first along it."""
    found = []
    for index in product(*map(range, shape)):
        number = index[digit.axis] // digit.below % digit.count
        if number + 1 < digit.count:
            after = list(index)
            after[digit.axis] += digit.below
            found.append((index, tuple(after), number))
    return found


def check_walks(shape: tuple[int, ...], placing: Placing, serves: tuple[Digit, ...]) -> None:
    """The first dimension goes through the components of a texel and then to the one below, the second one to
    the texel beside.
    """
    found = places(shape, placing)
    for before, after, number in along(shape, serves[0]):
        (x, y, part), (next_x, next_y, next_part) = found[before], found[after]
        assert part == number % 4
        assert (next_x - x, 4 * next_y + next_part - (4 * y + part)) == (0, 1)
    for before, after, _ in along(shape, serves[1]) if len(serves) > 1 else []:
        (x, y, part), (next_x, next_y, next_part) = found[before], found[after]
        assert (next_x - x, next_y - y, next_part - part) == (1, 0, 0)


def digits(shape: tuple[int, ...]) -> list[Digit]:
    """Whole axes, and both parts of an even one."""
    whole = [Digit(axis, 1, size) for axis, size in enumerate(shape) if size > 1]
    halves = [
        Digit(axis, *part)
        for axis, size in enumerate(shape)
        if size > 2 and size % 2 == 0
        for part in ((1, 2), (2, size // 2))
    ]
    return [*whole, *halves]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_choice_of_one_or_two_dimensions_is_right_in_a_texture(shape: tuple[int, ...]) -> None:
    every = digits(shape)
    chosen = [(one,) for one in every]
    chosen += [
        (first, second)
        for first, second in product(every, every)
        if first.axis != second.axis or first.below * first.count == second.below
    ]
    for serves in chosen:
        placing = place(shape, serves, TEXTURE)
        check_one_to_one(shape, placing, TEXTURE)
        check_walks(shape, placing, serves)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_buffer_serves_one_dimension_and_is_dense(shape: tuple[int, ...]) -> None:
    for digit in digits(shape):
        placing = place(shape, (digit,), BUFFER)
        found = places(shape, placing)
        assert sorted(x for x, _, _ in found.values()) == list(range(prod(shape)))
        assert all(found[after][0] - found[before][0] == 1 for before, after, _ in along(shape, digit))


def test_a_chunk_is_four_times_the_second_dimension() -> None:
    """SmartMem section 3.3: D1 in groups of four, 4 x |D3| elements a chunk."""
    placing = place((6, 2, 5), (Digit(0, 1, 6), Digit(2, 1, 5)), TEXTURE)
    assert str(placing) == "x = d2, y = 2 * d1 + (d0 // 4), component = d0 % 4"
    assert (placing.width, placing.height) == (5, 2 * ceil(6 / 4))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_single_element_lies_somewhere(shape: tuple[int, ...]) -> None:
    for kind in (TEXTURE, BUFFER):
        check_one_to_one(shape, place(shape, (), kind), kind)


@pytest.mark.parametrize(("width", "height"), [(8, 64), (16, 32), (30, 20), (64, 8), (5, 200)])
def test_limits_of_the_memory_are_kept(width: int, height: int) -> None:
    small = Memory("small", 2, 4, width, height)
    shape = (6, 9, 5)
    serves = (Digit(0, 1, 6), Digit(2, 1, 5))
    placing = place(shape, serves, small)
    check_one_to_one(shape, placing, small)
    check_walks(shape, placing, serves)


@pytest.mark.parametrize(("width", "height"), [(4, 1000), (1000, 1), (10, 4)])
def test_what_is_larger_than_the_memory_is_told(width: int, height: int) -> None:
    wish = Wish("Conv", Digit(0, 1, 6), 1.0), Wish("MatMul", Digit(2, 1, 5), 1.0)
    with pytest.raises(CompileError, match="value 'v'"):
        choose("v", (6, 9, 5), wish, Memory("small", 2, 4, width, height))


def figure_4() -> Graph:
    """MatMul, Transpose, Reshape; read by Reduce over D3, Reduce' over D1, and Conv with an Add."""
    builder, numbers = Builder("figure 4"), np.random.default_rng(0)

    def weight(*shape: int) -> str:
        return builder.constant(numbers.standard_normal(shape).astype(np.float32), "w")

    x = builder.input("x", TensorType(DType.F32, (1, 48, 10)))
    (made,) = builder.add("MatMul", (x, weight(10, 24)), hints=["made"])
    (turned,) = builder.add("Transpose", (made,), perm=(0, 2, 1))
    (image,) = builder.add("Reshape", (turned,), shape=(1, 24, 6, 8))
    (channels,) = builder.add("ReduceMax", (image,), axes=(1,), keepdims=True)
    (columns,) = builder.add("ReduceMax", (image,), axes=(3,), keepdims=True)
    (conv,) = builder.add("Conv", (image, weight(16, 24, 1, 1), weight(16)), **conv_facts(2))
    (total,) = builder.add("Add", (conv, builder.input("r", TensorType(DType.F32, (1, 16, 6, 8)))))
    return builder.graph([("a", channels), ("b", columns), ("c", total)])


def test_figure_4() -> None:
    """Transpose and Reshape are gone; one layout serves D3 (Reduce and Conv with Add) and D1 (Reduce')."""
    graph = optimize(figure_4())
    assert len(graph.nodes) == 4
    (made,) = (one for one in layouts(graph, TEXTURE) if one.name.startswith("made"))
    assert made.shape == (1, 48, 24)
    assert made.serves == (Digit(2, 1, 24), Digit(1, 1, 8))
    assert set(made.readers) == {"ReduceMax along d2", "Conv along d2", "ReduceMax along d1"}
    assert (made.copies, made.strided) == ((), ())
    check_one_to_one(made.shape, made.placing, TEXTURE)
    check_walks(made.shape, made.placing, made.serves)


def test_figure_4_in_a_buffer_has_a_conflict() -> None:
    """k = 1: the second dimension is read strided, since one reader does not pay for a copy."""
    (made,) = (one for one in layouts(optimize(figure_4()), BUFFER) if one.name.startswith("made"))
    assert made.serves == (Digit(2, 1, 24),)
    assert made.strided == ("ReduceMax along d1",)
    assert made.copies == ()


def test_a_copy_is_made_where_it_pays_and_is_counted() -> None:
    shape = (4, 6, 8)
    wishes = [
        Wish(f"reader {axis}", Digit(axis, 1, size), 2.0 * prod(shape)) for axis, size in enumerate(shape)
    ]
    found = choose("v", shape, wishes, TEXTURE)
    assert [one.axis for one in found.serves] == [0, 1]
    assert [one.serves for one in found.copies] == [(Digit(2, 1, 8),)]
    assert found.copies[0].readers == ("reader 2 along d2",)
    assert copies([found]) == (1, prod(shape))
    check_walks(shape, found.copies[0].placing, found.copies[0].serves)
    cheap = choose("v", shape, [*wishes[:2], Wish("rare", Digit(2, 1, 8), 0.5 * prod(shape))], TEXTURE)
    assert (cheap.copies, cheap.strided) == ((), ("rare along d2",))
    same = choose("v", shape, [wishes[0], wishes[0]], TEXTURE)
    assert (same.serves, same.copies) == ((Digit(0, 1, 4),), ())


def test_what_nobody_folds_lies_as_what_it_is_combined_with() -> None:
    builder = Builder("sum")
    x = builder.input("x", TensorType(DType.F32, (1, 8, 5, 5)))
    weight = builder.constant(np.ones((8, 8, 1, 1), np.float32), "w")
    (one,) = builder.add("Conv", (x, weight), **conv_facts(2), hints=["one"])
    (pooled,) = builder.add("ReduceMax", (one,), axes=(1,), keepdims=True)
    (other,) = builder.add("Conv", (x, weight), **conv_facts(2), hints=["other"])
    (total,) = builder.add("Add", (one, other))
    found = {
        each.name: each for each in layouts(optimize(builder.graph([("y", total), ("z", pooled)])), TEXTURE)
    }
    chosen: list[Chosen] = [each for each in found.values() if each.shape == (1, 8, 5, 5)]
    assert len(chosen) == 2
    assert {each.serves for each in chosen} == {(Digit(1, 1, 8),)}
    assert "as what it is combined with" in {each.reason for each in chosen}


@pytest.mark.parametrize("kind", memories().values(), ids=lambda one: one.name)
def test_every_layout_of_random_graphs_is_one_to_one(kind: Memory) -> None:
    for graph in (network(), *(draw(seed).graph for seed in range(60))):
        whole = optimize(graph)
        for one in layouts(whole, kind):
            if prod(one.shape) > 3000:
                continue
            for each in (one, *one.copies):
                check_one_to_one(each.shape, each.placing, kind)
                if kind is TEXTURE and each.serves:
                    check_walks(each.shape, each.placing, each.serves)


def test_a_memory_that_there_is_not_is_told() -> None:
    with pytest.raises(CompileError, match="no memory 'tape'"):
        memory("tape")
