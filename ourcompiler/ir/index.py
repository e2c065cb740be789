"""Integer expressions over the dimensions of an iteration space, always in simplest form.

An expression is a constant and a sum of atoms with coefficients. An atom is a dimension, a floor quotient, a
remainder, or an entry of a table. `Space` knows how far each dimension runs, which is what lets most
quotients and remainders disappear (SmartMem section 3.2, "index comprehension" and strength reduction).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import gcd

QUOTIENT_COST, REMAINDER_COST, ENTRY_COST = 20, 21, 30


@dataclass(frozen=True, slots=True)
class Dim:
    """The index along dimension `number` of the iteration space."""

    number: int

    def __str__(self) -> str:
        return f"d{self.number}"


@dataclass(frozen=True, slots=True)
class Quotient:
    """`of` divided by `by`, rounded down."""

    of: "Affine"
    by: int

    def __str__(self) -> str:
        return f"{_grouped(self.of)} // {self.by}"


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is left of `of` after division by `by`: from 0 to `by` - 1."""

    of: "Affine"
    by: int

    def __str__(self) -> str:
        return f"{_grouped(self.of)} % {self.by}"


@dataclass(frozen=True, slots=True)
class Entry:
    """The number at place `at` of a table that is known when compiling."""

    table: tuple[int, ...]
    at: "Affine"

    def __str__(self) -> str:
        return f"[{' '.join(map(str, self.table))}][{self.at}]"


Atom = Dim | Quotient | Remainder | Entry


@dataclass(frozen=True)
class Affine:
    """`constant` plus the sum of atoms times their coefficients; terms are sorted, none is zero."""

    constant: int = 0
    terms: tuple[tuple[Atom, int], ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether no dimension matters."""
        return not self.terms

    @cached_property
    def cost(self) -> int:
        """How dear it is to compute: a division weighs much more than an addition."""
        return len(self.terms) + bool(self.constant) + sum(_atom_cost(atom) for atom, _ in self.terms)

    @cached_property
    def dims(self) -> frozenset[int]:
        """Numbers of the dimensions that it depends on."""
        return frozenset().union(*(_atom_dims(atom) for atom, _ in self.terms))

    def coefficient(self, atom: Atom) -> int:
        """What the atom is multiplied with; 0 when it is not there."""
        return dict(self.terms).get(atom, 0)

    def __str__(self) -> str:
        text = ""
        for atom, coefficient in self.terms:
            sign = ("" if coefficient > 0 else "-") if not text else (" + " if coefficient > 0 else " - ")
            factor = "" if abs(coefficient) == 1 else f"{abs(coefficient)} * "
            alone = len(self.terms) == 1 and coefficient == 1 and not self.constant
            shown = f"({atom})" if isinstance(atom, Quotient | Remainder) and not alone else str(atom)
            text += f"{sign}{factor}{shown}"
        if not text:
            return str(self.constant)
        if self.constant:
            text += f" {'+' if self.constant > 0 else '-'} {abs(self.constant)}"
        return text

    def evaluate(self, index: Sequence[int]) -> int:
        """Its value at one point of the iteration space."""
        return self.constant + sum(factor * _atom_value(atom, index) for atom, factor in self.terms)


ZERO = Affine()


def constant(value: int) -> Affine:
    """An expression that is a number."""
    return Affine(value)


def plus(*parts: Affine) -> Affine:
    """The sum, without recombination of quotients and remainders: `Space.add` does that."""
    sums: dict[Atom, int] = {}
    for part in parts:
        for atom, coefficient in part.terms:
            sums[atom] = sums.get(atom, 0) + coefficient
    return _affine(sum(part.constant for part in parts), sums)


def times(part: Affine, factor: int) -> Affine:
    """The product with a number."""
    return _affine(part.constant * factor, {atom: value * factor for atom, value in part.terms})


def minus(left: Affine, right: Affine) -> Affine:
    """The difference."""
    return plus(left, times(right, -1))


@dataclass(frozen=True)
class Space:
    """An iteration space: dimension `i` runs from 0 to `extents[i]` - 1. Empty dimensions count as one."""

    extents: tuple[int, ...]

    def dims(self) -> tuple[Affine, ...]:
        """Every dimension as an expression; one that runs over a single point is 0."""
        return tuple(self.dim(number) for number in range(len(self.extents)))

    def dim(self, number: int) -> Affine:
        """One dimension as an expression."""
        return Affine(0, ((Dim(number), 1),)) if self.extents[number] > 1 else ZERO

    def bounds(self, expression: Affine) -> tuple[int, int]:
        """Numbers that it is never below and never above."""
        low = high = expression.constant
        for atom, factor in expression.terms:
            ends = sorted(factor * end for end in self._atom_bounds(atom))
            low, high = low + ends[0], high + ends[1]
        for atom, factor in expression.terms:
            if isinstance(atom, Quotient) and factor == 1:
                # x + y // b = (b·x + y) // b, where what x and y share is seen
                rest = minus(expression, Affine(0, ((atom, 1),)))
                inner = self.bounds(plus(times(rest, atom.by), atom.of))
                low, high = max(low, inner[0] // atom.by), min(high, inner[1] // atom.by)
        return low, high

    def _atom_bounds(self, atom: Atom) -> tuple[int, int]:
        match atom:
            case Dim(number):
                return 0, max(self.extents[number] - 1, 0)
            case Quotient(of, by):
                low, high = self.bounds(of)
                return low // by, high // by
            case Remainder(of, by):
                low, high = self.bounds(of)
                return (low % by, high % by) if low // by == high // by else (0, by - 1)
            case Entry(table, at):
                low, high = self.bounds(at)
                part = table[max(low, 0) : high + 1]
                return min(part), max(part)

    def add(self, *parts: Affine) -> Affine:
        """The sum, with quotients and remainders of the same thing put together: `8 * (x // 8) + x % 8` is
        `x`.
        """
        total = plus(*parts)
        found = self._recombined(total)
        while found is not None:
            total, found = found, self._recombined(found)
        return total

    def _recombined(self, total: Affine) -> Affine | None:
        """A cheaper form of a sum, or None."""
        for atom, factor in total.terms:
            if isinstance(atom, Remainder):
                # c·(y % b) = c·y − c·b·(y // b)
                whole = self.quotient(atom.of, atom.by)
                rest = minus(total, Affine(0, ((atom, factor),)))
                candidate = plus(rest, times(atom.of, factor), times(whole, -factor * atom.by))
                if candidate.cost < total.cost:
                    return candidate
        return None

    def multiply(self, part: Affine, factor: int) -> Affine:
        """The product with a number."""
        return times(part, factor)

    def quotient(self, of: Affine, by: int) -> Affine:
        """`of` divided by the positive number `by`, rounded down."""
        if by == 1:
            return of
        whole, rest = self._within_one(of, by) or _split(of, by)
        low, high = self.bounds(rest)
        if low // by == high // by:
            return self.add(whole, constant(low // by))
        match rest:
            case Affine(0, ((Quotient(inner, divisor), 1),)):
                return self.add(whole, self.quotient(inner, divisor * by))
        for head, _, unit in self._heads(rest, by):
            return self.add(whole, self.quotient(head, by // unit))
        return self.add(whole, Affine(0, ((Quotient(rest, by), 1),)))

    def remainder(self, of: Affine, by: int) -> Affine:
        """What is left of `of` after division by the positive number `by`."""
        if by == 1:
            return ZERO
        near = self._within_one(of, by)
        rest = near[1] if near else self._without_inner_remainders(_split(of, by)[1], by)
        low, high = self.bounds(rest)
        if low // by == high // by:
            return self.add(rest, constant(-(low // by) * by))
        for head, tail, unit in self._heads(rest, by):
            return self.add(times(self.remainder(head, by // unit), unit), tail)
        return Affine(0, ((Remainder(rest, by), 1),))

    def _within_one(self, of: Affine, by: int) -> tuple[Affine, Affine] | None:
        """`of` = by·whole + rest, where rest is always between the same two multiples of `by`: with every
        coefficient taken relative to the nearest multiple, or None. `1279·i + j` is `1280·i + (j − i)`.
        """
        whole, rest = _split(of, by, nearest=True)
        low, high = self.bounds(rest)
        return (whole, rest) if low // by == high // by else None

    def _without_inner_remainders(self, of: Affine, by: int) -> Affine:
        """c·(x % a) and c·x leave the same after division by `by` when `by` divides c·a."""
        for atom, factor in of.terms:
            if isinstance(atom, Remainder) and factor * atom.by % by == 0:
                bare = plus(minus(of, Affine(0, ((atom, factor),))), times(atom.of, factor))
                return self._without_inner_remainders(_split(bare, by)[1], by)
        return of

    def _heads(self, of: Affine, by: int) -> Iterator[tuple[Affine, Affine, int]]:
        """Ways to write `of` as unit·head + tail, where unit divides `by` and tail is from 0 to unit − 1.

        Then `of // by` is `head // (by // unit)`, and `of % by` is unit·(head % (by // unit)) + tail.
        """
        terms = sorted(of.terms, key=lambda term: -abs(term[1]))
        for count in range(len(terms), 0, -1):
            unit = gcd(by, *(factor for _, factor in terms[:count]))
            if unit == 1:
                continue
            tail = _affine(of.constant % unit, dict(terms[count:]))
            low, high = self.bounds(tail)
            if low >= 0 and high < unit:
                head = {atom: factor // unit for atom, factor in terms[:count]}
                yield _affine(of.constant // unit, head), tail, unit

    def entry(self, table: Sequence[int], at: Affine, *, guarded: bool = False) -> Affine:
        """An entry of a table; a table of even steps is arithmetic, and so is a staircase.

        Raises ValueError when `at` leaves the table, unless a guard keeps such points from being asked for
        (`guarded`): there the nearest entry stands.
        """
        low, high = self.bounds(at)
        if not guarded and not 0 <= low <= high < len(table):
            raise ValueError(f"index from {low} to {high} in a table of {len(table)}")
        part = tuple(table[min(max(place, 0), len(table) - 1)] for place in range(low, high + 1))
        step = part[1] - part[0] if len(part) > 1 else 0
        if all(after - before == step for before, after in pairwise(part)):
            return self.add(times(at, step), constant(part[0] - step * low))
        stairs = _stairs(part)
        if stairs is not None:
            width, ahead, rise = stairs
            stair = self.quotient(self.add(at, constant(ahead - low)), width)
            return self.add(times(stair, rise), constant(part[0]))
        return Affine(0, ((Entry(part, plus(at, constant(-low))), 1),))

    def linear(self, index: Iterable[Affine], shape: Sequence[int]) -> Affine:
        """The place in a dense row-major array of that shape."""
        place = ZERO
        for one, size in zip(index, shape, strict=True):
            place = self.add(times(place, size), one)
        return place

    def delinear(self, place: Affine, shape: Sequence[int]) -> tuple[Affine, ...]:
        """The index along each dimension of a dense row-major array, from the place in it."""
        index, below = [], 1
        for axis in reversed(range(len(shape))):
            outer = self.quotient(place, below)
            size = max(shape[axis], 1)
            index.append(self.remainder(outer, size) if axis else outer)
            below *= size
        return tuple(reversed(index))

    def substitute(self, expression: Affine, dims: Sequence[Affine]) -> Affine:
        """The expression with each dimension replaced by an expression of this space."""
        parts = [times(self._atom_with(atom, dims), factor) for atom, factor in expression.terms]
        return self.add(constant(expression.constant), *parts)

    def _atom_with(self, atom: Atom, dims: Sequence[Affine]) -> Affine:
        match atom:
            case Dim(number):
                return dims[number]
            case Quotient(of, by):
                return self.quotient(self.substitute(of, dims), by)
            case Remainder(of, by):
                return self.remainder(self.substitute(of, dims), by)
            case Entry(table, at):
                return self.entry(table, self.substitute(at, dims), guarded=True)


def _stairs(table: Sequence[int]) -> tuple[int, int, int] | None:
    """Width, how much of the first stair is missing, and rise, when every stair is as wide and as high:
    `table[i]` is then `table[0] + rise * ((i + missing) // width)`.
    """
    edges = [place for place, (before, after) in enumerate(pairwise(table), 1) if before != after]
    widths = [end - start for start, end in pairwise((0, *edges, len(table)))]
    rises = {table[edge] - table[edge - 1] for edge in edges}
    width = max(widths)
    if len(rises) != 1 or any(one != width for one in widths[1:-1]):
        return None
    return width, width - widths[0], rises.pop()


def _grouped(of: Affine) -> str:
    """In parentheses unless it is a dimension."""
    return str(of) if str(of).isalnum() else f"({of})"


def _affine(value: int, sums: Mapping[Atom, int]) -> Affine:
    return Affine(value, tuple(sorted(((a, f) for a, f in sums.items() if f), key=_order)))


def _order(term: tuple[Atom, int]) -> tuple[int, str]:
    """Large steps first, as one writes the address of an array."""
    return -abs(term[1]), str(term[0])


def _split(of: Affine, by: int, *, nearest: bool = False) -> tuple[Affine, Affine]:
    """`of` = by·whole + rest. Coefficients that `by` divides go to the whole; those beyond it, nearer to the
    multiple above (or, if `nearest`, all), leave what they are away from the nearest multiple.
    """
    whole, rest = {}, {}
    for atom, factor in of.terms:
        is_near = nearest or factor % by == 0 or (factor > by and 2 * (factor % by) > by)
        whole[atom] = (2 * factor + by) // (2 * by) if is_near else 0
        rest[atom] = factor - by * whole[atom]
    return _affine(of.constant // by, whole), _affine(of.constant % by, rest)


def _atom_cost(atom: Atom) -> int:
    match atom:
        case Dim():
            return 0
        case Quotient(of, _):
            return QUOTIENT_COST + of.cost
        case Remainder(of, _):
            return REMAINDER_COST + of.cost
        case Entry(_, at):
            return ENTRY_COST + at.cost


def _atom_dims(atom: Atom) -> frozenset[int]:
    match atom:
        case Dim(number):
            return frozenset((number,))
        case Quotient(of, _) | Remainder(of, _):
            return of.dims
        case Entry(_, at):
            return at.dims


def _atom_value(atom: Atom, index: Sequence[int]) -> int:
    match atom:
        case Dim(number):
            return index[number]
        case Quotient(of, by):
            return of.evaluate(index) // by
        case Remainder(of, by):
            return of.evaluate(index) % by
        case Entry(table, at):
            return table[at.evaluate(index)]
