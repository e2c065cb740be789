"""How near a cell comes to what its device can do: multiply-accumulates a second, and percent of the
roofline.

The least time of an inference is what its arithmetic needs at the measured peak, or what reading its weights
and inputs once needs at the measured bandwidth, whichever is longer. Percent of the roofline is that least
time ÷ the latency. Activations are not counted: they may stay in the caches, so the least time really is one.
An algorithm with fewer multiplications (Winograd) can go past 100 %, because what is counted is the network's
own.
"""

from dataclasses import dataclass

from benchsuite.ceiling import Ceiling, Work, ceiling_of, work_of
from benchsuite.device.protocol import Facts
from benchsuite.record import GroupKey

GIGA = 1e9
FP32_BYTES = 4
NO_CEILING = (
    "no percent of the roofline: peak and bandwidth were not measured in this run"
    " (by an older bench, or with --set probe_seconds=0)"
)
PUBLISHED = "GMACs/s with the published count of multiply-accumulates: this run did not count them itself"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a cell stands. `share` is the least time ÷ its latency and `bound` what that least time is made
    of (`arithmetic` or `memory`): None and "" where the run has no ceiling.
    """

    gmacs_per_second: float
    intensity: float
    share: float | None = None
    bound: str = ""


def work_in(facts: Facts, model: str) -> tuple[Work | None, bool]:
    """A network's work from the run's facts; else with the published figures of the zoo (then True)."""
    counted = work_of(facts, model)
    if counted is not None:
        return counted, False
    from models.zoo import zoo_rows

    row = next((row for row in zoo_rows() if row.name == model), None)
    if row is None:
        return None, False
    return Work(round(row.macs), round(row.parameters * FP32_BYTES), 0), True


def position(facts: Facts, key: GroupKey, latency_ms: float | None) -> Position | None:
    """Where a latency stands; None when nothing was measured or nobody knows the network's work."""
    work, _ = work_in(facts, key.model)
    if work is None or not work.macs or not latency_ms:
        return None
    seconds = latency_ms / 1e3
    rate, intensity = work.macs / seconds / GIGA, work.flops / max(work.bytes, 1)
    ceiling = ceiling_of(facts, key.threads)
    if ceiling is None:
        return Position(rate, intensity)
    arithmetic, memory = least_seconds(work, ceiling)
    bound = "arithmetic" if arithmetic >= memory else "memory"
    return Position(rate, intensity, max(arithmetic, memory) / seconds, bound)


def least_seconds(work: Work, ceiling: Ceiling) -> tuple[float, float]:
    """Least seconds for the arithmetic and for the memory traffic."""
    return work.flops / ceiling.flops_per_second, work.bytes / ceiling.bytes_per_second
