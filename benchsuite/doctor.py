"""The A/A self-test: the same framework twice. How often would this machine claim a difference that is not
there?
"""

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from adapters.catalogue import adapter
from adapters.protocol import Setting
from benchsuite.device.protocol import Device
from benchsuite.loaded import Loaded, loaded
from benchsuite.policy import Policy
from benchsuite.stats import Floats, Interval, rate_upper_bound, speedup
from benchsuite.steady import NANO, iterations_for_block, rewarm_for_block
from models.model import Model

EFFECT = 0.02
POWER = 0.8

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """What an A/A test measured: block medians (ns) of both sides, and every sample in the order of time."""

    first: Floats
    second: Floats
    series_ns: tuple[int, ...]
    seconds_a_block: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What this machine's numbers are worth, for comparisons of `blocks` blocks each.

    `false_positives` counts comparisons that claim a difference of at least `effect` where there is none, and
    `rate_bound` is the upper 95 % bound of their rate; `exclusions` counts intervals that leave out 1.0 at
    all (about 5 % are expected); `detectable` is the smallest true difference that would be seen in `POWER`
    of the cases.
    """

    comparisons: int
    blocks: int
    effect: float
    false_positives: int
    rate_bound: float
    exclusions: int
    detectable: float
    spread: float

    @property
    def rate(self) -> float:
        """Rate of false positives."""
        return self.false_positives / self.comparisons if self.comparisons else float("nan")


def diagnose(first: Floats, second: Floats, blocks: int, effect: float = EFFECT) -> Diagnosis:
    """Cut the blocks into comparisons that share none, and judge each as a report would.

    Raises ValueError when there are not enough blocks for one comparison.
    """
    count = len(first) // blocks
    if not count:
        raise ValueError(f"{len(first)} blocks are too few for a comparison of {blocks}")
    pieces = [slice(index * blocks, (index + 1) * blocks) for index in range(count)]
    intervals = [speedup(first[piece], second[piece], seed=index) for index, piece in enumerate(pieces)]
    false = sum(interval.claims_difference(effect) for interval in intervals)
    return Diagnosis(
        comparisons=count,
        blocks=blocks,
        effect=effect,
        false_positives=false,
        rate_bound=rate_upper_bound(false, count),
        exclusions=sum(interval.excludes(1.0) for interval in intervals),
        detectable=detectable_difference(intervals),
        spread=float(np.std(np.log([interval.estimate for interval in intervals]))),
    )


def detectable_difference(intervals: Sequence[Interval]) -> float:
    """The relative difference that `POWER` of these comparisons would have found.

    Making one side slower by a factor scales a ratio's interval by it, so a comparison finds every factor
    that lifts its lower end above 1 (or, for the other side, pushes its upper end below 1).
    """
    needed = [max(1 / interval.low, interval.high) - 1 for interval in intervals]
    return float(np.quantile(needed, POWER))


def run_trial(
    device: Device,
    model: Model,
    framework: str,
    threads: int,
    *,
    policy: Policy,
    cache: Path,
    blocks: int,
    seed: int = 0,
    idle_workers: int = 0,
    report: Report = lambda done, total: None,
) -> Trial:
    """Measure `blocks` blocks of one framework against itself, two workers, in seeded random order.

    `idle_workers` more workers hold the network loaded without running, to show whether they disturb. Raises
    `BenchError` when the framework cannot run the network.
    """
    setting = Setting(threads, "fp32")
    load = partial(loaded, device, adapter(framework), model, setting, policy=policy, cache=cache, seed=seed)
    with ExitStack() as workers:
        held = [workers.enter_context(load()) for _ in range(2 + idle_workers)]
        return measure_blocks(held[:2], policy, blocks, seed, report)


def measure_blocks(
    pair: Sequence[Loaded],
    policy: Policy,
    blocks: int,
    seed: int,
    report: Report = lambda done, total: None,
) -> Trial:
    """Measure two loaded workers against each other in `blocks` blocks, in seeded random order."""
    warm_up_ns = pair[-1].warm_up_ns
    iterations, rewarm = iterations_for_block(warm_up_ns, policy), rewarm_for_block(warm_up_ns, policy)
    medians = np.empty((2, blocks))
    series: list[int] = []
    order = random.Random(seed)
    for number in range(blocks):
        for side in order.sample(range(2), 2):
            request = {"do": "run", "iterations": iterations, "rewarm": rewarm}
            samples = pair[side].ask(**request)["run_ns"]
            medians[side, number] = np.median(samples)
            series += samples
        report(number + 1, blocks)
    return Trial(medians[0], medians[1], tuple(series), sum(series) / NANO / blocks)
