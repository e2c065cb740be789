"""Which distribution a weight was drawn from, told from its values."""

from dataclasses import dataclass
from math import floor, log10, sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

CHUNK_VALUES = 2**20
# Excess kurtosis: 0 for a normal distribution, -0.63 for one cut at two deviations, -1.2 for a uniform one.
UNIFORM_BELOW = -0.9
# A decimal this close to the measured value, in standard errors, is as likely the true one as any other.
STANDARD_ERRORS = 3.0
# More digits would tie a recipe to the last bits of one machine's arithmetic.
MOST_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Distribution:
    """`kind` is normal or uniform; `mean` and `std` are those of the distribution, not of its parameters."""

    kind: str
    mean: float
    std: float


def distribution(values: Array) -> Distribution:
    """The distribution that at least two float values, not all equal, look drawn from.

    `std` and `mean` are the shortest decimals within three standard errors, so that what an initialisation
    used is found again (0.02, 0, 1), else they are rounded to the third significant digit of `std`.
    """
    mean, variance, kurtosis = _moments(values.reshape(-1))
    std = sqrt(variance)
    # The variance of a sample's variance is (kurtosis + 2) * variance**2 / n; that of its root follows.
    # Two values have an excess kurtosis of exactly -2, which rounding may put just below.
    std_error = std * sqrt(max(0.0, kurtosis + 2) / (4 * values.size))
    last_digit = MOST_DIGITS - 1 - floor(log10(std))
    return Distribution(
        kind="uniform" if kurtosis < UNIFORM_BELOW else "normal",
        mean=_shortest(mean, STANDARD_ERRORS * std / sqrt(values.size), 0, last_digit),
        std=_shortest(std, STANDARD_ERRORS * std_error, last_digit - MOST_DIGITS + 1, last_digit),
    )


def _shortest(value: float, tolerance: float, first_digit: int, last_digit: int) -> float:
    """`value` with the fewest decimals, `first_digit` to `last_digit`, that stay within `tolerance`."""
    candidates = (round(value, digits) + 0.0 for digits in range(first_digit, last_digit))  # + 0.0: no -0.0
    return next((short for short in candidates if abs(short - value) <= tolerance), round(value, last_digit))


def is_constant(values: Array) -> bool:
    """Whether all elements are equal."""
    return bool((values == values.flat[0]).all())


def _moments(flat: Array) -> tuple[float, float, float]:
    """Mean, variance and excess kurtosis in float64, a chunk at a time."""
    chunks = [flat[start : start + CHUNK_VALUES] for start in range(0, flat.size, CHUNK_VALUES)]
    mean = sum(float(chunk.sum(dtype=np.float64)) for chunk in chunks) / flat.size
    second = fourth = 0.0
    for chunk in chunks:
        squares = np.square(chunk.astype(np.float64) - mean)
        second += float(squares.sum())
        fourth += float(np.square(squares).sum())
    variance = second / flat.size
    return mean, variance, fourth / flat.size / variance**2 - 3
