"""The way back through a view leads to where the view came from, for every element."""

from collections.abc import Callable
from random import Random

import pytest

from ourcompiler.ir import index_map as maps
from ourcompiler.ir.index_map import IndexMap, compose
from ourcompiler.ir.inverse import inverse


def chain(*steps: Callable[[tuple[int, ...]], IndexMap], source: tuple[int, ...]) -> IndexMap:
    whole = maps.identity(source)
    for step in steps:
        made = compose(step(whole.shape), whole)
        assert made is not None
        whole = made
    return whole


def to(*shape: int) -> Callable[[tuple[int, ...]], IndexMap]:
    return lambda source: maps.reshape(source, shape)


def turn(*order: int) -> Callable[[tuple[int, ...]], IndexMap]:
    return lambda source: maps.transpose(source, order)


def rolled(axis: int, shift: int) -> Callable[[tuple[int, ...]], IndexMap]:
    return lambda source: maps.roll(source, axis, shift)


WAYS = {
    "nothing": chain(source=(2, 3)),
    "a reshape": chain(to(4, 6), source=(2, 3, 4)),
    "a transposition": chain(turn(2, 0, 1), source=(2, 3, 5)),
    "heads": chain(to(2, 5, 3, 4), turn(0, 2, 1, 3), source=(2, 5, 12)),
    "heads of the transposed": chain(to(2, 5, 3, 4), turn(0, 2, 3, 1), source=(2, 5, 12)),
    "windows": chain(to(1, 2, 4, 3, 4, 5), turn(0, 1, 3, 2, 4, 5), to(6, 16, 5), source=(1, 8, 12, 5)),
    "rolled windows": chain(
        rolled(1, -2),
        rolled(2, -2),
        to(1, 2, 4, 3, 4, 5),
        turn(0, 1, 3, 2, 4, 5),
        to(6, 16, 5),
        source=(1, 8, 12, 5),
    ),
    "a roll": chain(rolled(0, 3), source=(7, 2)),
    "ones": chain(to(1, 6, 1), turn(2, 1, 0), source=(6,)),
    "channels last": chain(turn(0, 2, 3, 1), to(12, 8), source=(1, 8, 3, 4)),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_way_back_is_known(name: str) -> None:
    back = inverse(WAYS[name])
    assert back is not None
    check(WAYS[name], back)


def check(shown: IndexMap, back: IndexMap) -> None:
    assert (back.shape, back.source) == (shown.source, shown.shape)
    for index in shown.indices():
        element = shown.evaluate(index)
        assert element is not None
        assert back.evaluate(element) == index


NO_WAY = {
    "a repetition": maps.expand((3, 1), (3, 4)),
    "a part": maps.window((5,), (1,), (1,), (3,)),
    "a border": maps.pad((3,), (1,), (0,), 0.0),
    "a choice": maps.gather((4,), 0, (0, 0, 1, 2), (4,)),
}


@pytest.mark.parametrize("name", NO_WAY)
def test_there_is_no_way_back(name: str) -> None:
    assert inverse(NO_WAY[name]) is None


@pytest.mark.parametrize("seed", range(200))
def test_a_way_back_is_never_wrong(seed: int) -> None:
    """Chains drawn at random; most have a way back that is found."""
    random = Random(seed)
    shape = tuple(random.choice((1, 2, 3, 4, 6)) for _ in range(random.randint(1, 4)))
    whole = maps.identity(shape)
    for _ in range(random.randint(1, 5)):
        step = random.choice((_reshaped, _turned, _rolled))(whole.shape, random)
        made = compose(step, whole)
        assert made is not None
        whole = made
    back = inverse(whole)
    if back is not None:
        check(whole, back)


def _reshaped(shape: tuple[int, ...], random: Random) -> IndexMap:
    flat = 1
    for size in shape:
        flat *= size
    made: list[int] = []
    while flat > 1 and len(made) < 3:
        factor = random.choice([one for one in range(1, flat + 1) if flat % one == 0])
        made.append(factor)
        flat //= factor
    return maps.reshape(shape, (*made, flat))


def _turned(shape: tuple[int, ...], random: Random) -> IndexMap:
    order = list(range(len(shape)))
    random.shuffle(order)
    return maps.transpose(shape, order)


def _rolled(shape: tuple[int, ...], random: Random) -> IndexMap:
    axis = random.randrange(len(shape))
    return maps.roll(shape, axis, random.randint(-3, 3))
