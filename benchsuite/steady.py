"""When is a framework warm, how many inferences make a block, and when has a group been measured enough."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from benchsuite.policy import Policy
from benchsuite.stats import Floats, speedup

NANO = 1e9
STEADY_RATIO = 0.97
CHECK_EVERY_BLOCKS = 5


def is_warm(run_ns: Sequence[int], policy: Policy) -> bool:
    """Whether warm-up may end: at least two runs and the least time, and the later half is no longer faster.

    Ends in any case at the policy's limit, so that a framework that never settles is measured as it is.
    """
    spent_seconds = sum(run_ns) / NANO
    if len(run_ns) < 2:
        return False
    if spent_seconds >= policy.warm_up_limit_seconds:
        return True
    if spent_seconds < policy.warm_up_seconds:
        return False
    half = len(run_ns) // 2
    return median(run_ns[half:]) >= STEADY_RATIO * median(run_ns[:half])


def next_warm_up_runs(run_ns: Sequence[int], policy: Policy) -> int:
    """How many inferences to ask for next while warming up: one, then about a quarter second of them."""
    if not run_ns:
        return 1
    return max(1, min(1000, math.ceil(0.25 * NANO / max(1, run_ns[-1]))))


def iterations_for_block(run_ns: Sequence[int], policy: Policy) -> int:
    """Timed inferences in one block: enough to last `block_seconds`, from the last warm-up runs."""
    typical = median(run_ns[-max(1, len(run_ns) // 2) :])
    return max(1, min(100_000, math.ceil(policy.block_seconds * NANO / max(1.0, typical))))


def rewarm_for_block(run_ns: Sequence[int], policy: Policy) -> int:
    """Untimed inferences before a block's timed ones; none when a single inference refills the caches many
    times.
    """
    typical = median(run_ns[-max(1, len(run_ns) // 2) :])
    if typical > policy.block_seconds * NANO:
        return 0
    return max(1, math.ceil(policy.rewarm_seconds * NANO / max(1.0, typical)))


def is_measured(medians: Mapping[str, Floats], elapsed_seconds: float, policy: Policy) -> bool:
    """Whether a group may end: enough blocks, and either narrow intervals, or the cap on blocks or time.

    Only looked at every few blocks: each look at the data is a chance to stop by luck.
    """
    count = min((len(values) for values in medians.values()), default=0)
    if count < policy.least_blocks:
        return False
    if count >= policy.most_blocks or elapsed_seconds >= policy.group_seconds:
        return True
    if (count - policy.least_blocks) % CHECK_EVERY_BLOCKS:
        return False
    return widest_interval(medians) <= policy.interval_width


def widest_interval(medians: Mapping[str, Floats]) -> float:
    """Relative half width of the widest speedup interval against the group's first framework.

    A group of one framework has no speedup: then it is the width of its own median's interval.
    """
    baseline, *others = medians.values()
    if not others:
        return speedup(baseline, np.ones_like(baseline)).relative_half_width
    return max(speedup(baseline, other).relative_half_width for other in others)
