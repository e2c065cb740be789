"""The A/A self-test, and the rate of false differences under the noise of a recorded busy machine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchsuite.device.replay import Fault, Recording, ReplayDevice, read_recording
from benchsuite.doctor import EFFECT, detectable_difference, diagnose, run_trial
from benchsuite.policy import Policy
from benchsuite.stats import LEVEL, Interval, speedup
from models.errors import BenchError
from models.model import Model

BUSY = Path(__file__).parents[1] / "data" / "recordings" / "busy.json"
POLICY = Policy(block_seconds=0.02)
"""Blocks as long as those of the recording, which `bench doctor` made with its own defaults."""
REPETITIONS = 5
COMPARISONS = 225
"""In each repetition: once through the recording. Repetitions differ in the order inside the blocks."""
MOST_FALSE = 0.01

Trial = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def recording() -> Recording:
    return read_recording(BUSY)


@pytest.fixture(scope="module")
def busy(recording: Recording, network: Model, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Block medians of one framework against itself under the recorded noise."""
    cache = tmp_path_factory.mktemp("cache")
    trials = [
        run_trial(
            ReplayDevice("replay:busy", recording, seed=seed),
            network,
            "ort",
            1,
            policy=POLICY,
            cache=cache,
            blocks=COMPARISONS * POLICY.least_blocks,
            seed=seed,
        )
        for seed in range(REPETITIONS)
    ]
    return np.concatenate([one.first for one in trials]), np.concatenate([one.second for one in trials])


def rate(trial: Trial, level: float) -> float:
    """Share of comparisons, of blocks that no other shares, which claim a difference of at least 2 %."""
    blocks = POLICY.least_blocks
    pieces = [slice(index * blocks, (index + 1) * blocks) for index in range(len(trial[0]) // blocks)]
    return float(
        np.mean(
            [
                speedup(trial[0][piece], trial[1][piece], level=level).claims_difference(EFFECT)
                for piece in pieces
            ]
        )
    )


def test_the_recording_is_of_a_busy_machine(recording: Recording) -> None:
    """Otherwise the tests below would show nothing: a tenth of its samples are 20 % off and more."""
    assert np.quantile(np.abs(np.log(recording.noise)), 0.9) > np.log(1.2)
    assert BUSY.stat().st_size < 300_000


def test_false_differences_under_recorded_noise(busy: Trial) -> None:
    """At the level of our intervals they are rare enough; at the usual 95 % they would not be."""
    assert rate(busy, LEVEL) <= MOST_FALSE < rate(busy, 0.95)


def test_a_true_difference_is_found_under_recorded_noise(busy: Trial) -> None:
    """The interval is not merely too wide for any claim: half the speed is seen nearly always."""
    assert rate((busy[0] * 3, busy[1]), LEVEL) > 0.9


def test_comparisons_share_no_blocks() -> None:
    first = np.concatenate([np.full(10, 100.0), np.full(10, 130.0), np.full(5, 900.0)])
    diagnosis = diagnose(first, np.full(25, 100.0), blocks=10)
    assert (diagnosis.comparisons, diagnosis.false_positives, diagnosis.exclusions) == (2, 1, 1)
    assert diagnosis.rate == 0.5
    assert diagnosis.rate_bound == pytest.approx(0.975, abs=1e-3)
    assert diagnosis.spread == pytest.approx(np.log(1.3) / 2)


def test_a_difference_below_the_effect_is_no_false_positive() -> None:
    diagnosis = diagnose(np.full(10, 101.0), np.full(10, 100.0), blocks=10)
    assert (diagnosis.false_positives, diagnosis.exclusions) == (0, 1)


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="9 blocks are too few for a comparison of 10"):
        diagnose(np.ones(9), np.ones(9), blocks=10)


def test_the_detectable_difference_is_what_most_comparisons_find() -> None:
    intervals = [Interval(1 / (1 + width), 1.0, 1 + width) for width in (0.01, 0.02, 0.03, 0.04, 0.2)]
    assert detectable_difference(intervals) == pytest.approx(0.04 + 0.2 * 0.16)
    assert detectable_difference(intervals[:1]) == pytest.approx(0.01)


@pytest.fixture
def trial(network: Model, tmp_path: Path) -> Callable[..., object]:
    quiet = Recording({}, [1.0], {"*": 1e7})

    def run(
        *faults: Fault, idle_workers: int = 0, report: Callable[[int, int], None] | None = None
    ) -> object:
        device = ReplayDevice("replay:quiet", replace(quiet, faults=faults))
        options = {} if report is None else {"report": report}
        result = run_trial(
            device,
            network,
            "ort",
            1,
            policy=POLICY,
            cache=tmp_path,
            blocks=12,
            idle_workers=idle_workers,
            **options,
        )
        return result, device

    return run


def test_a_trial_measures_two_workers(trial: Callable[..., object]) -> None:
    reports: list[tuple[int, int]] = []
    result, device = trial(report=lambda done, total: reports.append((done, total)))
    assert result.first.tolist() == result.second.tolist() == [1e7] * 12
    assert len(result.series_ns) == 12 * 2 * 2
    assert result.seconds_a_block == pytest.approx(0.04)
    assert device.spawned == {"ort": 2}
    assert reports == [(number, 12) for number in range(1, 13)]


def test_idle_workers_are_loaded_but_not_measured(trial: Callable[..., object]) -> None:
    result, device = trial(idle_workers=3)
    assert device.spawned == {"ort": 5}
    assert len(result.series_ns) == 12 * 2 * 2


@pytest.mark.parametrize(("kind", "status"), [("crash", "crashed"), ("hang", "timeout"), ("error", "failed")])
def test_a_framework_that_cannot_run_is_an_error(
    trial: Callable[..., object], kind: str, status: str
) -> None:
    with pytest.raises(BenchError) as caught:
        trial(Fault("ort", kind, at=5))
    assert caught.value.what.startswith(f"{status}: ")
    assert caught.value.where == "tiny/ort"
