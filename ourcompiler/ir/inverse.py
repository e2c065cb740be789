"""The way back through an index map: for an element of the source, where the view shows it.

A map of reshapes, transpositions and rolls puts the digits of its dimensions into another order. Each
dimension is cut into digits where a quotient or a remainder cuts it; if the steps of all digits together
count through the source exactly once, the digits of a place give the way back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from ourcompiler.ir.index import Affine, Atom, Dim, Quotient, Remainder, Space, constant
from ourcompiler.ir.index_map import IndexMap, index_map


@dataclass(frozen=True, slots=True)
class Digit:
    """Dimension `dim`, divided by `below`, from 0 to `count` − 1; one more of it is `step` places further."""

    dim: int
    below: int
    count: int
    step: int


def inverse(shown: IndexMap) -> IndexMap | None:
    """The map from elements of the source to elements of the view, or None where there is no such map, or
    none that is known here.
    """
    if shown.guards or prod(shown.shape) != prod(shown.source) or not prod(shown.shape):
        return None
    straight, shifts = _without_rolls(shown)
    found = digits(straight.place, shown.shape)
    if found is None or not _count_through(found, prod(shown.source)):
        return None
    space = Space(shown.source)
    dims = [
        space.remainder(space.add(dim, constant(-shift)), size) if shift else dim
        for dim, shift, size in zip(space.dims(), shifts, shown.source, strict=True)
    ]
    place = space.linear(dims, shown.source)
    results = []
    for axis in range(len(shown.shape)):
        own = [one for one in found if one.dim == axis]
        parts = [
            space.multiply(space.remainder(space.quotient(place, one.step), one.count), one.below)
            for one in own
        ]
        results.append(space.add(*parts) if parts else constant(0))
    return index_map(shown.source, shown.shape, results)


def _without_rolls(shown: IndexMap) -> tuple[IndexMap, tuple[int, ...]]:
    """The map without rolls of whole axes of the source, and how far each axis is rolled."""
    results, shifts = [], []
    for result, size in zip(shown.results, shown.source, strict=True):
        straight, shift = _without_roll(result, size, shown.space)
        results.append(straight)
        shifts.append(shift)
    return replace(shown, results=tuple(results)), tuple(shifts)


def _without_roll(result: Affine, size: int, space: Space) -> tuple[Affine, int]:
    match result:
        case Affine(0, ((Remainder(of, by), 1),)) if by == size and of.constant:
            return space.remainder(Affine(0, of.terms), size), of.constant % size
    return result, 0


def digits(place: Affine, extents: Sequence[int]) -> list[Digit] | None:
    """The digits whose sum of steps is the place; None where quotients and remainders mix dimensions."""
    cuts: dict[int, set[int]] = {axis: {1} for axis, extent in enumerate(extents) if extent > 1}
    for atom, _ in place.terms:
        found = _cuts(atom)
        if found is None:
            return None
        cuts[found[0]].update(one for one in found[1] if one < extents[found[0]])
    result = []
    for dim, places in cuts.items():
        chain = [*sorted(places), extents[dim]]
        for below, above in pairwise(chain):
            if above % below:
                return None
            at = [0] * len(extents)
            at[dim] = below
            result.append(Digit(dim, below, above // below, place.evaluate(at) - place.constant))
    return result if place.constant == 0 else None


def _cuts(atom: Atom) -> tuple[int, list[int]] | None:
    """The dimension of an atom and where it cuts it."""
    match atom:
        case Dim(number):
            return number, []
        case Quotient(Affine(0, ((inner, 1),)), by) | Remainder(Affine(0, ((inner, 1),)), by):
            found = _cuts(inner)
            if found is None:
                return None
            dim, places = found
            scale = _scale(inner)
            return (dim, [*places, by * scale]) if scale else None
    return None


def _scale(atom: Atom) -> int:
    """How many of its dimension are one of the atom."""
    match atom:
        case Quotient(Affine(0, ((inner, 1),)), by):
            return by * _scale(inner)
        case Remainder(Affine(0, ((inner, 1),)), _):
            return _scale(inner)
    return 1


def _count_through(found: Sequence[Digit], count: int) -> bool:
    """Whether the digits go through every place exactly once."""
    expected = 1
    for digit in sorted(found, key=lambda one: one.step):
        if digit.step != expected:
            return False
        expected *= digit.count
    return expected == count
