"""Matrices of Winograd's convolution F(m, 3), made from points in exact arithmetic.

A filter of r taps makes m results from m + r − 1 elements by as many multiplications: the polynomials of both
are evaluated at points, multiplied there, and interpolated (Toom and Cook; Winograd 1980; Lavin and Gray
2016, section 4). In two dimensions Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A.

With stride 2 the outer taps meet every other element, and the one in the middle those between (polyphase
components): the former are F(m, 2) of elements side by side, the latter are multiplied as they are.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

Row = tuple[Fraction, ...]
Matrix = tuple[Row, ...]
TAPS = 3


@dataclass(frozen=True, slots=True)
class Transform:
    """`image` is Bᵀ (points × points), `weights` G (points × taps), `result` Aᵀ (results × points); results
    are those of every `stride`-th element.
    """

    results: int
    image: Matrix
    weights: Matrix
    result: Matrix
    stride: int = 1

    @property
    def points(self) -> int:
        """Elements along an axis that a tile reads, and multiplications."""
        return len(self.image)

    @property
    def amplification(self) -> float:
        """How much larger the relative error of a two-dimensional result is than that of the sums over
        channels that it is made from, for operands of independent elements of one variance: those of a
        product are in proportion to the squares of its rows of G and Bᵀ, Aᵀ adds them up along both axes, and
        a result is a sum over taps² of them (after Barabasz et al. 2020, section 3). 1 for no transform.
        """
        weight = [_square(g) * _square(b) for g, b in zip(self.weights, self.image, strict=True)]
        each = [sum(a * a * w for a, w in zip(row, weight, strict=True)) for row in self.result]
        return float(sum(each)) / len(each) / TAPS


def _square(row: Row) -> Fraction:
    return sum((one * one for one in row), Fraction(0))


def _product(roots: tuple[Fraction, ...]) -> Row:
    """Coefficients of the polynomial with these roots, the constant first."""
    found: list[Fraction] = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *found]
        found = [high - root * low for high, low in zip(shifted, [*found, Fraction(0)], strict=True)]
    return tuple(found)


def toom_cook(points: tuple[Fraction, ...], results: int, taps: int = TAPS) -> Transform:
    """The matrices for finite points and the one at infinity; raises ValueError unless there are
    `results + taps − 2` different points.
    """
    count = results + taps - 1
    if len(set(points)) != count - 1 or len(points) != count - 1:
        raise ValueError(f"F({results}, {taps}) needs {count - 1} different points, not {len(points)}")
    image, weights = [], []
    for point in points:
        others = tuple(one for one in points if one != point)
        scale = Fraction(1)
        for one in others:
            scale *= point - one
        image.append((*_product(others), Fraction(0)))
        weights.append(tuple(point**power / scale for power in range(taps)))
    image.append(_product(points))
    weights.append(tuple(Fraction(power == taps - 1) for power in range(taps)))
    result = tuple(
        (*(point**power for point in points), Fraction(power == results - 1)) for power in range(results)
    )
    return Transform(results, tuple(image), tuple(weights), result)


def _both_signs(*points: Fraction) -> tuple[Fraction, ...]:
    return (Fraction(0), *(sign * one for one in points for sign in (1, -1)))


POINTS = {
    1: {
        2: _both_signs(Fraction(1)),
        4: _both_signs(Fraction(2, 3), Fraction(3, 2)),
        6: _both_signs(Fraction(1, 2), Fraction(1), Fraction(2)),
    },
    2: {
        2: _both_signs(Fraction(1))[1:],
        3: _both_signs(Fraction(1)),
        4: _both_signs(Fraction(1, 3), Fraction(3, 2))[1:],
    },
}
"""Points by stride and by results along an axis. In pairs of both signs they share half of the arithmetic;
among pairs of one digit those for 4 results and more amplify errors least (with stride 1 2.3 times less than
the usual 1 and 2). For fewer results 1 needs no multiplications.
"""


def _every_other(outer: Transform) -> Transform:
    """Three taps with stride 2, of which those at both ends are `outer`'s: elements, points and results come
    in turns.
    """
    results, zero = outer.results, Fraction(0)
    count = 2 * results + 1

    def at(places: range, values: Row) -> Row:
        found = dict(zip(places, values, strict=True))
        return tuple(found.get(place, zero) for place in range(count))

    even, one = range(0, count, 2), (Fraction(1),)
    image, weights = [], []
    for number in range(results + 1):
        first, last = outer.weights[number]
        image.append(at(even, outer.image[number]))
        weights.append((first, zero, last))
        if number < results:
            image.append(at(range(2 * number + 1, 2 * number + 2), one))
            weights.append((zero, Fraction(1), zero))
    result = []
    for number, row in enumerate(outer.result):
        found = list(at(even, row))
        found[2 * number + 1] = Fraction(1)
        result.append(tuple(found))
    return Transform(results, tuple(image), tuple(weights), tuple(result), 2)


@cache
def transform(results: int, stride: int = 1) -> Transform:
    """F(results, 3), with stride 1 or 2."""
    points = POINTS[stride][results]
    return toom_cook(points, results) if stride == 1 else _every_other(toom_cook(points, results, 2))
