"""Pure statistics of latencies: medians of blocks, speedups with block-bootstrap intervals, geometric means.

Iterations inside a block are correlated (same clock, same neighbours, same cache state), so intervals come
from resampling *blocks*; resampling iterations would make them too narrow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, isfinite, log, log1p, log2
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.99
"""A table has dozens of intervals: at 95 % each one would hold a false difference. On a busy machine 1.7 % of
A/A comparisons of ten blocks claim 2 % or more at a level of 95 %, and 0.4 % at 99 % (tests/data/recordings).
"""
BOUND_LEVEL = 0.95
"""Of the upper bound of a rate; one bound is not dozens."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval; the same unit for all three."""

    low: float
    estimate: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether there were enough blocks for an interval at all: else it is everything from 0 up."""
        return isfinite(self.high)

    @property
    def relative_half_width(self) -> float:
        """The larger distance from the estimate to an end, relative to the estimate."""
        return max(self.high - self.estimate, self.estimate - self.low) / self.estimate

    def excludes(self, value: float) -> bool:
        """Whether the value lies outside."""
        return not self.low <= value <= self.high

    def claims_difference(self, effect: float) -> bool:
        """Whether a reader would conclude `not 1.0, and by at least effect`: the interval excludes 1 and the
        estimate is at least `effect` (relative) away from it.
        """
        return self.excludes(1.0) and abs(log(self.estimate)) >= log1p(effect)


def block_medians(samples_of_blocks: Sequence[Sequence[int]]) -> Floats:
    """Median of each block's samples, in the samples' unit."""
    if len({len(samples) for samples in samples_of_blocks}) == 1:  # the rule, and many times as fast
        result: Floats = np.median(np.asarray(samples_of_blocks, dtype=np.float64), axis=1)
        return result
    return np.array([np.median(np.asarray(samples)) for samples in samples_of_blocks], dtype=np.float64)


def median_interval(medians: Floats, *, level: float = LEVEL, seed: int = 0) -> Interval:
    """Median of block medians with its block-bootstrap interval."""
    return _interval(_resampled(medians, seed), float(np.median(medians)), len(medians), level)


def speedup(baseline: Floats, other: Floats, *, level: float = LEVEL, seed: int = 0) -> Interval:
    """Baseline time ÷ other time: ratio of medians of block medians, with its interval.

    Both have one value a block and the same blocks in the same order: whole blocks are drawn, so what hits
    both in one block (heat, a neighbour's load) cancels. Raises ValueError when the lengths differ or are
    zero.
    """
    resampled = speedup_resamples(baseline, other, seed=seed)
    return _interval(resampled, float(np.median(baseline) / np.median(other)), len(baseline), level)


def speedup_resamples(baseline: Floats, other: Floats, *, seed: int = 0) -> Floats:
    """`RESAMPLES` values of the speedup under the block bootstrap; raises ValueError for unpaired blocks."""
    if len(baseline) != len(other) or not len(baseline):
        raise ValueError(f"blocks must be paired: {len(baseline)} and {len(other)}")
    return _resampled(baseline, seed) / _resampled(other, seed)


def geometric_mean(
    pairs: Mapping[str, tuple[Floats, Floats]], *, level: float = LEVEL, seed: int = 0
) -> Interval | None:
    """Geometric mean of the speedups of several networks with its interval; None for no network.

    The networks' blocks are drawn independently: they were measured one after another. The interval says how
    well *these* networks' mean is known, not how another set of networks would come out.
    """
    if not pairs:
        return None
    logs = np.zeros(RESAMPLES)
    estimate = 0.0
    for index, (baseline, other) in enumerate(pairs.values()):
        logs += np.log(speedup_resamples(baseline, other, seed=seed + index))
        estimate += float(np.log(np.median(baseline) / np.median(other)))
    fewest = min(len(baseline) for baseline, _ in pairs.values())
    return _interval(np.exp(logs / len(pairs)), float(np.exp(estimate / len(pairs))), fewest, level)


def ratio_interval(one: Floats, other: Floats, *, level: float = LEVEL, seed: int = 0) -> Interval:
    """Median of `one` ÷ median of `other`, measured at different times: the blocks of each are drawn by
    themselves. Raises ValueError where one is empty.
    """
    return _required(resampled_mean([(one, other)], level=level, seed=seed))


def resampled_mean(
    pairs: Sequence[tuple[Floats, Floats]], *, level: float = LEVEL, seed: int = 0
) -> Interval | None:
    """Geometric mean of the ratios of unpaired block medians with its interval; None for no pair.

    Raises ValueError where one side of a pair is empty.
    """
    if not pairs:
        return None
    logs, estimate, fewest = np.zeros(RESAMPLES), 0.0, inf
    for index, (one, other) in enumerate(pairs):
        if not len(one) or not len(other):
            raise ValueError("a ratio needs blocks on both sides")
        first, second = seed + 2 * index, seed + 2 * index + 1
        logs += np.log(_resampled(one, first) / _resampled(other, second))
        estimate += float(np.log(np.median(one) / np.median(other)))
        fewest = min(fewest, len(one), len(other))
    mean = float(np.exp(estimate / len(pairs)))
    return _interval(np.exp(logs / len(pairs)), mean, int(fewest), level)


def _required(interval: Interval | None) -> Interval:
    assert interval is not None
    return interval


def rate_upper_bound(events: int, trials: int, *, level: float = BOUND_LEVEL) -> float:
    """One-sided upper confidence bound of a rate after `events` in `trials` (Clopper–Pearson)."""
    from scipy.special import betaincinv

    return 1.0 if events >= trials else float(betaincinv(events + 1, trials - events, level))


def _interval(resampled: Floats, estimate: float, block_count: int, level: float) -> Interval:
    """Percentile interval, widened for few blocks, that always contains its estimate."""
    if block_count < least_blocks(level):
        return Interval(0.0, estimate, inf)
    tail = _tail(block_count, level)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(min(float(low), estimate), estimate, max(float(high), estimate))


def least_blocks(level: float = LEVEL) -> int:
    """Blocks below which no resampling has this confidence: all of n values lie on one side of the true
    median with probability 2^(1 - n), and then even the widest percentiles miss it.
    """
    return 1 + ceil(log2(1 / (1 - level)))


@lru_cache(maxsize=256)
def _tail(block_count: int, level: float) -> float:
    """Tail probability of the *expanded* percentile interval (Hesterberg, The American Statistician 69,
    2015).

    A plain percentile interval of n values is too narrow by about sqrt((n - 1) / n) and a normal instead of a
    t quantile; taking the percentiles further out by that factor repairs its coverage for small n.
    """
    from scipy.special import stdtrit

    t_quantile = float(stdtrit(block_count - 1, (1 + level) / 2))
    return NormalDist().cdf(-t_quantile * (block_count / (block_count - 1)) ** 0.5)


@lru_cache(maxsize=64)
def _draws(block_count: int, seed: int) -> NDArray[np.intp]:
    """The blocks drawn in each resample, shape (RESAMPLES, blocks); the same for both sides of a ratio."""
    return np.random.default_rng(seed).integers(0, block_count, size=(RESAMPLES, block_count))


def _resampled(medians: Floats, seed: int) -> Floats:
    """`RESAMPLES` medians of resampled blocks. Kept: a report asks for those of one cell many times."""
    return _kept_medians(np.ascontiguousarray(medians, np.float64).tobytes(), seed)


@lru_cache(maxsize=1024)  # 16 kB each
def _kept_medians(content: bytes, seed: int) -> Floats:
    medians = np.frombuffer(content, np.float64)
    result = _resampled_medians(medians, _draws(len(medians), seed))
    result.flags.writeable = False
    return result


def _resampled_medians(medians: Floats, draws: NDArray[np.intp]) -> Floats:
    ordered = np.sort(medians[draws], axis=1)  # with so few columns several times as fast as np.median
    count = draws.shape[1]
    result: Floats = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    return result
