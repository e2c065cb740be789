"""Initialisations recognised from what they drew."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.export.classify import Distribution, distribution, is_constant

SIZES = (64, 1_000, 300_000, 3_000_000)
GENERATOR = np.random.default_rng(11)


def cut_normal(size: int) -> NDArray[np.float32]:
    """A normal distribution cut at two deviations, drawn anew until it fits, as initialisers do."""
    values = GENERATOR.normal(0, 0.02, 2 * size)
    return values[np.abs(values) < 0.04][:size].astype(np.float32)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mean", [0.0, 1.0])
def test_the_parameters_of_an_initialisation_are_found_again(size: int, mean: float) -> None:
    values = GENERATOR.normal(mean, 0.02, size).astype(np.float32)
    found = distribution(values)
    assert found.mean == mean
    assert found.std == pytest.approx(0.02, rel=4 / sqrt(2 * size))
    assert found.kind == "normal"


def test_a_large_sample_gives_the_very_deviation() -> None:
    assert distribution(GENERATOR.normal(0, 0.02, 10**6).astype(np.float32)) == Distribution(
        "normal", 0.0, 0.02
    )


@pytest.mark.parametrize("size", SIZES[1:])
def test_uniform_is_told_from_normal_and_from_a_cut_normal(size: int) -> None:
    bound = 1 / sqrt(96)
    assert distribution(GENERATOR.uniform(-bound, bound, size).astype(np.float32)).kind == "uniform"
    assert distribution(cut_normal(size)).kind == "normal"


@given(st.floats(1e-6, 1e3), st.floats(-3, 3), st.integers(2, 200))
def test_what_is_found_is_within_the_error_of_the_sample(std: float, ratio: float, size: int) -> None:
    values = GENERATOR.normal(ratio * std, std, size)
    found = distribution(values)
    measured = float(values.std())
    # Three standard errors, or the rounding to three digits.
    assert abs(found.mean - float(values.mean())) <= measured * max(3 / sqrt(size), 0.01)
    assert found.std > 0


def test_the_last_bits_of_the_values_do_not_matter() -> None:
    values = GENERATOR.normal(0, 0.0371, 50_000).astype(np.float32)
    nudged = np.nextafter(values, np.float32(np.inf))
    assert distribution(values) == distribution(nudged)


def test_constant() -> None:
    assert is_constant(np.zeros((2, 3)))
    assert is_constant(np.array([True, True]))
    assert not is_constant(np.array([0.0, 1.0]))
