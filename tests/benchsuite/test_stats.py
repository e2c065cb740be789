"""Statistics: known values, properties that hold for any samples, intervals that cover what they claim."""

from collections.abc import Callable
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.stats import (
    LEVEL,
    Interval,
    block_medians,
    geometric_mean,
    least_blocks,
    median_interval,
    rate_upper_bound,
    ratio_interval,
    resampled_mean,
    speedup,
    speedup_resamples,
)

REPETITIONS = 500
"""Of the coverage simulations: a true coverage of 95 % is then estimated within ± 1 %."""

latencies = st.floats(min_value=1e2, max_value=1e10)
sides = st.lists(st.tuples(latencies, latencies), min_size=1, max_size=25).map(
    lambda pairs: tuple(np.array(side) for side in zip(*pairs, strict=True))
)


def test_the_median_is_taken_inside_each_block() -> None:
    assert block_medians([[1, 2, 90], [4, 6], [5]]).tolist() == [2.0, 5.0, 5.0]
    assert block_medians([]).tolist() == []


def test_estimates_are_ratios_of_medians_of_block_medians() -> None:
    baseline, other = np.array([30.0, 20.0, 500.0]), np.array([10.0, 20.0, 5.0])
    assert median_interval(baseline).estimate == 30.0
    assert speedup(baseline, other).estimate == 3.0


def test_equal_blocks_have_an_interval_of_no_width() -> None:
    interval = speedup(np.full(10, 300.0), np.full(10, 100.0))
    assert interval == Interval(3.0, 3.0, 3.0)
    assert interval.relative_half_width == 0.0


def test_what_hits_both_sides_of_a_block_cancels() -> None:
    """Pairing: blocks under a wildly varying load still give the exact ratio."""
    load = np.random.default_rng(0).uniform(1, 10, 20)
    together = speedup(200.0 * load, 100.0 * load)
    apart = speedup(200.0 * load, 100.0 * load[::-1])
    assert together.relative_half_width == pytest.approx(0.0)
    assert apart.relative_half_width > 0.1


@pytest.mark.parametrize(("level", "blocks"), [(0.5, 2), (0.95, 6), (0.99, 8)])
def test_too_few_blocks_are_no_interval(level: float, blocks: int) -> None:
    assert least_blocks(level) == blocks
    few, enough = (speedup(np.full(n, 6.0), np.full(n, 2.0), level=level) for n in (blocks - 1, blocks))
    assert few == Interval(0.0, 3.0, inf)
    assert not few.is_known
    assert not few.claims_difference(0.02)
    assert enough == Interval(3.0, 3.0, 3.0)
    assert enough.is_known


def test_the_interval_is_resampled_from_blocks() -> None:
    """Against the exact bootstrap distribution: the ends of a 50 % interval of three blocks are known."""
    medians = np.array([1.0, 2.0, 3.0])
    resamples = speedup_resamples(medians, np.ones(3))
    shares = [np.mean(resamples == value) for value in (1.0, 2.0, 3.0)]
    assert shares == pytest.approx([7 / 27, 13 / 27, 7 / 27], abs=0.03)


@given(sides)
def test_an_interval_contains_its_estimate(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for interval in (speedup(*pair), median_interval(pair[0]), geometric_mean({"a": pair, "b": pair})):
        assert interval is not None
        assert 0 <= interval.low <= interval.estimate <= interval.high
        assert interval.relative_half_width >= 0
        assert not interval.excludes(interval.estimate)


@given(sides, st.floats(min_value=1e-3, max_value=1e3))
def test_the_unit_of_time_does_not_matter(pair: tuple[np.ndarray, np.ndarray], factor: float) -> None:
    plain, scaled = speedup(*pair), speedup(pair[0] * factor, pair[1] * factor)
    one_sided = speedup(pair[0] * factor, pair[1])
    for end in ("low", "estimate", "high"):
        assert getattr(scaled, end) == pytest.approx(getattr(plain, end), rel=1e-9)
        assert getattr(one_sided, end) == pytest.approx(factor * getattr(plain, end), rel=1e-9)


@given(sides, st.randoms(use_true_random=False))
def test_the_estimate_does_not_depend_on_the_order_of_blocks(
    pair: tuple[np.ndarray, np.ndarray], random: object
) -> None:
    order = np.arange(len(pair[0]))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert speedup(pair[0][order], pair[1][order]).estimate == speedup(*pair).estimate


@pytest.mark.parametrize(("first", "second"), [(3, 4), (1, 0), (0, 0)])
@pytest.mark.parametrize("function", [speedup, speedup_resamples])
def test_unpaired_blocks_are_refused(function: Callable[..., object], first: int, second: int) -> None:
    with pytest.raises(ValueError, match=f"blocks must be paired: {first} and {second}"):
        function(np.ones(first), np.ones(second))


@pytest.mark.parametrize("blocks", [10, 20])
@pytest.mark.parametrize(("level", "least", "most"), [(0.95, 0.93, 0.98), (LEVEL, 0.98, 1.0)])
def test_nominal_intervals_cover_the_truth(level: float, least: float, most: float, blocks: int) -> None:
    generator = np.random.default_rng(blocks)
    intervals = (
        median_interval(generator.normal(100.0, 5.0, blocks), level=level) for _ in range(REPETITIONS)
    )
    covered = sum(not interval.excludes(100.0) for interval in intervals)
    assert least <= covered / REPETITIONS <= most


@pytest.mark.parametrize("correlation", [0.0, 0.9, 0.99])
def test_correlation_inside_blocks_does_not_narrow_the_interval(correlation: float) -> None:
    """Iterations that follow an AR(1) process: resampling them would claim far too much, blocks do not."""
    noise = ar1(np.random.default_rng(7), (REPETITIONS, 2, 10, 30), correlation)
    samples = np.round(1e6 * np.exp(0.02 * noise)).astype(np.int64)
    covered = sum(
        not speedup(block_medians(list(first)), block_medians(list(second))).excludes(1.0)
        for first, second in samples
    )
    assert covered / REPETITIONS >= 0.98


def ar1(generator: np.random.Generator, shape: tuple[int, ...], correlation: float) -> np.ndarray:
    """Standard normal noise, correlated along the last axis and independent along the others."""
    fresh = generator.standard_normal(shape)
    noise = np.empty(shape)
    noise[..., 0] = fresh[..., 0]
    for index in range(1, shape[-1]):
        noise[..., index] = (
            correlation * noise[..., index - 1] + np.sqrt(1 - correlation**2) * fresh[..., index]
        )
    return noise


def test_a_wider_level_gives_a_wider_interval() -> None:
    medians = np.random.default_rng(3).normal(100.0, 5.0, 20)
    widths = [median_interval(medians, level=level).relative_half_width for level in (0.5, 0.8, 0.95, 0.99)]
    assert widths == sorted(widths)
    assert len(set(widths)) == 4


def test_the_geometric_mean_of_known_ratios() -> None:
    ones = np.ones(10)
    mean = geometric_mean({"a": (ones * 8, ones), "b": (ones, ones * 2), "c": (ones * 2, ones)})
    assert mean is not None
    assert (mean.low, mean.estimate, mean.high) == pytest.approx((2.0, 2.0, 2.0))
    assert geometric_mean({}) is None


def test_networks_vary_independently_in_a_geometric_mean() -> None:
    """The mean of four equally noisy networks is known twice as well as each of them."""
    generator = np.random.default_rng(5)
    pairs = {str(index): (generator.normal(100, 5, 40), np.full(40, 100.0)) for index in range(16)}
    single = float(np.mean([speedup(*pair).relative_half_width for pair in pairs.values()]))
    means = [
        geometric_mean({name: pairs[name] for name in map(str, range(first, first + 4))})
        for first in range(0, 16, 4)
    ]
    joint = float(np.mean([mean.relative_half_width for mean in means if mean]))
    assert joint == pytest.approx(single / 2, rel=0.2)


@pytest.mark.parametrize(
    ("low", "estimate", "high", "claimed"),
    [
        (1.01, 1.03, 1.05, True),
        (0.95, 0.97, 0.99, True),
        (0.99, 1.03, 1.05, False),  # contains 1
        (1.001, 1.01, 1.02, False),  # excludes 1, but by less than the effect
        (1.001, 1.02, 1.04, True),  # the very edge counts
        (1.0, 1.03, 1.05, False),  # touching 1 is containing it
    ],
)
def test_a_difference_is_claimed_when_clear_and_large(
    low: float, estimate: float, high: float, claimed: bool
) -> None:
    assert Interval(low, estimate, high).claims_difference(0.02) == claimed


@pytest.mark.parametrize(
    ("events", "trials", "bound"),
    [
        (0, 300, 1 - 0.05 ** (1 / 300)),  # the rule of three, exactly
        (1, 10, 0.394163),
        (3, 20, 0.343664),
        (10, 10, 1.0),
        (0, 0, 1.0),
    ],
)
def test_clopper_pearson_upper_bounds(events: int, trials: int, bound: float) -> None:
    assert rate_upper_bound(events, trials) == pytest.approx(bound, abs=1e-5)


def test_blocks_of_one_length_and_of_many_have_the_same_medians() -> None:
    equal = [[3, 1, 2], [9, 7, 8]]
    assert block_medians(equal).tolist() == block_medians([*equal, [5]]).tolist()[:2] == [2.0, 8.0]


def test_a_ratio_of_two_runs_needs_no_pairs() -> None:
    one, other = np.linspace(19.0, 21.0, 12), np.linspace(9.9, 10.1, 30)
    ratio = ratio_interval(one, other)
    assert ratio.estimate == pytest.approx(2.0)
    assert ratio.low < 2.0 < ratio.high
    assert not ratio_interval(one[:5], other).is_known
    mean = resampled_mean([(one, other), (other, one)])
    assert mean is not None
    assert mean.estimate == pytest.approx(1.0)
    assert resampled_mean([]) is None
    with pytest.raises(ValueError, match="both sides"):
        ratio_interval(one, one[:0])


def test_intervals_of_two_runs_cover_what_they_claim() -> None:
    """Two runs of the same latency: about 1 % of the intervals leave out 1."""
    generator = np.random.default_rng(5)
    runs = np.exp(0.02 * generator.standard_normal((REPETITIONS, 2, 12)))
    missed = sum(ratio_interval(first, second).excludes(1.0) for first, second in runs)
    assert missed / REPETITIONS < 0.03


def test_a_claim_is_a_plain_truth_value() -> None:
    """`bench doctor` counts claims and prints the count as JSON, which numpy's numbers are not."""
    assert Interval(1.1, 1.2, 1.3).claims_difference(0.02) is True
    assert Interval(0.9, 1.2, 1.3).claims_difference(0.02) is False
