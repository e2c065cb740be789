"""Every reason to doubt a number, as a value with advice; computed from the journal, so old runs gain new
doubts too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from statistics import median

import numpy as np

from benchsuite.policy import Policy
from benchsuite.record import Block, CellRecord, GroupRecord
from benchsuite.stats import Floats, block_medians, median_interval

DRIFT = 0.05
NOISY = 0.05
CLOCK_CHANGE = 0.05
ORDER_EFFECT = 0.03
OTHERS_BUSY = 0.10
STEAL = 0.02
SESSION_SHIFT = 0.05
LEAST_BLOCKS_TO_JUDGE = 6
LEAST_SECONDS_TO_JUDGE = 0.3


@dataclass(frozen=True, slots=True)
class Doubt:
    """One reason why a cell's latency may not be what it seems, and what to do about it."""

    kind: str
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.text}: {self.advice}"


Check = Callable[[GroupRecord, CellRecord, tuple[Block, ...], Floats], Doubt | None]


def doubts_of(group: GroupRecord, framework: str) -> tuple[Doubt, ...]:
    """All doubts about one cell of a group; none for a cell that has no blocks."""
    cell = group.cells[framework]
    blocks = tuple(block for block in group.blocks if framework in block.turns)
    if not blocks:
        return ()
    medians = block_medians([block.turns[framework].run_ns for block in blocks])
    found = (check(group, cell, blocks, medians) for check in CHECKS)
    return tuple(doubt for doubt in found if doubt is not None)


def _few_blocks(
    group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats
) -> Doubt | None:
    least = Policy().least_blocks
    if len(blocks) >= least:
        return None
    return Doubt("few blocks", f"only {len(blocks)} of at least {least} blocks", "give the run more --budget")


def _noisy(group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats) -> Doubt | None:
    width = median_interval(medians).relative_half_width
    if width <= NOISY or not isfinite(width):
        return None
    return Doubt(
        "noisy",
        f"the latency's interval is ±{width:.0%}",
        "stop other work on the machine, or let it run longer (--set most_blocks=100)",
    )


def _drift(group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats) -> Doubt | None:
    """The last third of the blocks against the first: heat, or a neighbour that came or went."""
    if len(blocks) < LEAST_BLOCKS_TO_JUDGE:
        return None
    third = len(medians) // 3
    ratio = float(np.median(medians[-third:]) / np.median(medians[:third]))
    if abs(ratio - 1) <= DRIFT:
        return None
    what, advice = (
        ("slower", "cool the device down, measure again") if ratio > 1 else ("faster", "warm up longer")
    )
    return Doubt(
        "throttled" if ratio > 1 else "drift", f"became {abs(ratio - 1):.0%} {what} during the run", advice
    )


def _clock_changed(
    group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats
) -> Doubt | None:
    resident = [block.after.resident_mhz for block in blocks if block.after.resident_mhz]
    seen = [state.clock_mhz for block in blocks for state in (block.before, block.after) if state.clock_mhz]
    clocks = resident or seen
    if not clocks or max(clocks) - min(clocks) <= CLOCK_CHANGE * max(clocks):
        return None
    return Doubt(
        "clock changed",
        f"the clock moved between {min(clocks):.0f} and {max(clocks):.0f} MHz",
        "fix the governor (performance) and leave boost off",
    )


def _unstable_order(
    group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats
) -> Doubt | None:
    """Whether a framework is slower when it comes first in a block than when it comes later."""
    first = [value for value, block in zip(medians, blocks, strict=True) if _position(block, cell) == 0]
    later = [value for value, block in zip(medians, blocks, strict=True) if _position(block, cell) > 0]
    if min(len(first), len(later)) < LEAST_BLOCKS_TO_JUDGE:
        return None
    effect = abs(median(first) / median(later) - 1)
    # An effect inside the noise of the medians themselves is no effect.
    if effect <= max(ORDER_EFFECT, 2 * median_interval(medians).relative_half_width):
        return None
    return Doubt(
        "unstable order",
        f"the place in the block changes the latency by {effect:.0%}",
        "raise --set rewarm_seconds=0.05",
    )


def _others_busy(
    group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats
) -> Doubt | None:
    """Processor time that neither the workers nor idling explains."""
    shares = [share for block in blocks if (share := _share_of_others(block)) is not None]
    if not shares or median(shares) <= OTHERS_BUSY:
        return None
    return Doubt(
        "busy machine",
        f"other programs used {median(shares):.0%} of the processor during the blocks",
        "stop other work on the machine",
    )


def _stolen(group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats) -> Doubt | None:
    first, last = blocks[0].before, blocks[-1].after
    if first.steal_seconds is None or last.steal_seconds is None:
        return None
    total = (last.total_seconds or 0.0) - (first.total_seconds or 0.0)
    share = (last.steal_seconds - first.steal_seconds) / total if total > 0 else 0.0
    if share <= STEAL:
        return None
    return Doubt(
        "stolen time",
        f"the hypervisor took {share:.0%} of the processor away",
        "measure on a machine of your own",
    )


def _sessions_differ(
    group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats
) -> Doubt | None:
    """Blocks from before and after a resume that do not look like the same machine."""
    sessions = [block.session for block in blocks]
    levels = [
        float(np.median(medians[[index for index, number in enumerate(sessions) if number == session]]))
        for session in sorted(set(sessions))
        if sessions.count(session) >= LEAST_BLOCKS_TO_JUDGE // 2
    ]
    if len(levels) < 2 or max(levels) / min(levels) - 1 <= SESSION_SHIFT:
        return None
    return Doubt(
        "sessions differ",
        f"latency differs by {max(levels) / min(levels) - 1:.0%} between before and after a resume",
        "measure this network again in one go",
    )


def _restarted(
    group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats
) -> Doubt | None:
    if not cell.restarts:
        return None
    return Doubt(
        "restarted", f"its worker died and was started anew {cell.restarts}×", "look at the cell's log"
    )


def _unfit(group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats) -> Doubt | None:
    """A phone that was measured although it did not cool down in time, or that warmed up while measured."""
    waited = [block.before.unfit for block in blocks if block.before.unfit]
    hot = sum(1 for block in blocks if block.after.thermal_status)
    if not waited and not hot:
        return None
    text = f"measured hot or low: {waited[0]}" if waited else f"thermal status above none after {hot} blocks"
    return Doubt("not fit", text, "cool or charge the phone, measure again")


def _clock_capped(
    group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats
) -> Doubt | None:
    shares = [one.clock_limit_share for block in blocks for one in (block.before, block.after)]
    known = [share for share in shares if share is not None]
    if not known or min(known) >= 1 - CLOCK_CHANGE:
        return None
    return Doubt(
        "clock capped",
        f"the system allowed only {min(known):.0%} of the highest clock",
        "cool the phone down",
    )


def _unchecked(
    group: GroupRecord, cell: CellRecord, blocks: tuple[Block, ...], medians: Floats
) -> Doubt | None:
    """A program of the user's own that writes no outputs: its numbers do not enter speedups."""
    if not cell.unchecked:
        return None
    return Doubt(
        "outputs not checked",
        f"outputs {cell.unchecked}",
        "have it read {input} and write {output} (docs/runners.md); until then it has no speedup",
    )


CHECKS: tuple[Check, ...] = (
    _unfit,
    _clock_capped,
    _few_blocks,
    _noisy,
    _drift,
    _clock_changed,
    _unstable_order,
    _others_busy,
    _stolen,
    _sessions_differ,
    _restarted,
    _unchecked,
)


def _position(block: Block, cell: CellRecord) -> int:
    return block.turns[cell.key.framework].position


def _share_of_others(block: Block) -> float | None:
    """Part of the whole processor that other programs used during a block; None where the device does not
    tell, or the block is too short for the kernel's clock ticks.
    """
    before, after = block.before, block.after
    if None in (before.busy_seconds, after.busy_seconds, before.total_seconds, after.total_seconds):
        return None
    total = (after.total_seconds or 0.0) - (before.total_seconds or 0.0)
    if total < LEAST_SECONDS_TO_JUDGE:
        return None
    busy = (after.busy_seconds or 0.0) - (before.busy_seconds or 0.0)
    ours = sum(turn.cpu_ns for turn in block.turns.values()) / 1e9
    return max(0.0, busy - ours) / total
