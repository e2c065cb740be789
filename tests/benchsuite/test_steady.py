"""When warm-up ends, how long a block is, and when a group is done."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchsuite.policy import Policy
from benchsuite.steady import (
    CHECK_EVERY_BLOCKS,
    is_measured,
    is_warm,
    iterations_for_block,
    next_warm_up_runs,
    rewarm_for_block,
    widest_interval,
)

POLICY = Policy(
    block_seconds=0.2,
    rewarm_seconds=0.005,
    warm_up_seconds=0.5,
    warm_up_limit_seconds=5.0,
    least_blocks=10,
    most_blocks=40,
    group_seconds=240.0,
    interval_width=0.01,
)
MS = 1_000_000
durations = st.lists(st.integers(min_value=1, max_value=10**11), min_size=1, max_size=50)


@pytest.mark.parametrize(
    ("run_ms", "warm"),
    [
        ([], False),
        ([10_000], False),  # a single run says nothing, however long
        ([100, 100], False),  # too short
        ([300, 300], True),
        ([600, 400], False),  # still getting faster
        ([100, 98] * 4, True),  # within 3 %: settled
        ([600, 400, 400, 400], False),
        ([600, *[400] * 7], True),
        ([4000, 900], False),
        ([4000, 1001], True),  # never settled, but the limit is reached
    ],
)
def test_warm_up_ends_when_settled(run_ms: list[int], warm: bool) -> None:
    assert is_warm([value * MS for value in run_ms], POLICY) == warm


@given(st.lists(st.integers(10**6, 10**10), min_size=1, max_size=30))
def test_warm_up_ends_however_the_framework_behaves(run_ns: list[int]) -> None:
    """Asking as the harness asks, with any series of latencies, the limit ends it."""
    done: list[int] = []
    asked = 0
    while not is_warm(done, POLICY):
        runs = next_warm_up_runs(done, POLICY)
        assert 1 <= runs <= 1000
        done += [run_ns[(asked + index) % len(run_ns)] for index in range(runs)]
        asked += runs
        assert asked <= 1 + runs + POLICY.warm_up_limit_seconds * 1e9 / min(run_ns)


@pytest.mark.parametrize(
    ("last_ms", "runs"), [(None, 1), (1000.0, 1), (250.0, 1), (100.0, 3), (1.0, 250), (0.0001, 1000)]
)
def test_warm_up_asks_for_a_quarter_second(last_ms: float | None, runs: int) -> None:
    assert next_warm_up_runs([] if last_ms is None else [1, int(last_ms * MS)], POLICY) == runs


@pytest.mark.parametrize(("run_ms", "iterations"), [(1, 200), (150, 2), (200, 1), (5000, 1), (3, 67)])
def test_a_block_outlasts_its_time(run_ms: int, iterations: int) -> None:
    assert iterations_for_block([run_ms * MS] * 6, POLICY) == iterations


def test_the_first_slow_runs_do_not_count() -> None:
    assert iterations_for_block([900 * MS, 100 * MS, 10 * MS, 10 * MS], POLICY) == 20


@given(durations)
def test_a_block_has_a_sane_number_of_inferences(run_ns: list[int]) -> None:
    assert 1 <= iterations_for_block(run_ns, POLICY) <= 100_000
    assert rewarm_for_block(run_ns, POLICY) >= 0


@pytest.mark.parametrize(("run_ms", "rewarm"), [(1, 5), (2, 3), (100, 1), (200, 1), (201, 0), (5000, 0)])
def test_long_inferences_need_no_rewarming(run_ms: int, rewarm: int) -> None:
    assert rewarm_for_block([run_ms * MS] * 4, POLICY) == rewarm


def noisy(count: int, deviation: float) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {name: generator.normal(100.0, 100.0 * deviation, count) for name in ("ours", "theirs")}


@pytest.mark.parametrize(
    ("blocks", "deviation", "elapsed_seconds", "measured"),
    [
        (0, 0.0, 1000.0, False),
        (9, 0.0, 1000.0, False),  # never below the least, whatever the time
        (10, 0.0, 0.0, True),
        (11, 0.0, 0.0, False),  # looked at every few blocks only
        (15, 0.0, 0.0, True),
        (10, 0.2, 0.0, False),  # too wide
        (39, 0.2, 0.0, False),
        (40, 0.2, 0.0, True),  # the cap on blocks
        (12, 0.2, 240.0, True),  # the cap on time
    ],
)
def test_a_group_is_measured(blocks: int, deviation: float, elapsed_seconds: float, measured: bool) -> None:
    assert is_measured(noisy(blocks, deviation), elapsed_seconds, POLICY) == measured


def test_the_framework_with_the_fewest_blocks_decides() -> None:
    assert not is_measured({"ours": np.ones(10), "theirs": np.ones(9)}, 0.0, POLICY)
    assert not is_measured({}, 1000.0, POLICY)


def test_looks_are_rare() -> None:
    """Between the least and the most blocks a steady group could end at these counts only."""
    ends = [count for count in range(1, 40) if is_measured(noisy(count, 0.0), 0.0, POLICY)]
    assert ends == list(range(10, 40, CHECK_EVERY_BLOCKS))


def test_the_widest_interval_is_of_the_worst_pair() -> None:
    generator = np.random.default_rng(2)
    steady, shaky = np.full(20, 100.0), generator.normal(100.0, 10.0, 20)
    wide = widest_interval({"base": steady, "shaky": shaky})
    assert wide > 0.02
    assert widest_interval({"base": steady, "steady": steady * 2, "shaky": shaky}) == wide
    assert widest_interval({"base": steady, "steady": steady * 2}) == 0.0


def test_a_framework_alone_is_judged_by_its_own_median() -> None:
    shaky = np.random.default_rng(2).normal(100.0, 10.0, 20)
    assert widest_interval({"shaky": shaky}) > 0.02
    assert widest_interval({"steady": np.full(20, 7.0)}) == 0.0


def test_every_limit_has_its_reason() -> None:
    assert Policy.__doc__ is not None
    assert [field.name for field in fields(Policy) if f"{field.name}:" not in Policy.__doc__] == []


def test_blocks_follow_the_policy() -> None:
    assert iterations_for_block([MS] * 4, replace(POLICY, block_seconds=0.02)) == 20
    assert rewarm_for_block([MS] * 4, replace(POLICY, rewarm_seconds=0.05)) == 50
