"""Two runs side by side: what became faster or slower, what broke, and how sure that is.

The two were measured at different times, so their blocks are not paired: each run's blocks are drawn by
themselves. An interval then holds what varied within the runs, not what changed between them (another kernel,
a warmer room, a neighbour). `relative_to` names a framework that is in both runs and did not change: speedups
over it are compared instead of latencies, and what hit both frameworks of a run alike cancels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from benchsuite.record import CellKey
from benchsuite.stats import Floats, Interval, ratio_interval, resampled_mean
from models.errors import BenchError
from models.suggest import nearest
from reports.cells import Cell, RunData
from reports.detectable import UNMEASURED, Detectable


class Change(StrEnum):
    """What became of a cell."""

    BROKE = "broke"
    SLOWER = "slower"
    SAME = "same"
    FASTER = "faster"
    MENDED = "mended"
    NEITHER = "not measured"


REGRESSIONS = frozenset({Change.SLOWER, Change.BROKE})


@dataclass(frozen=True, slots=True)
class Pair:
    """A cell that both runs have. `ratio` is its time in the second run ÷ in the first (with `relative_to`:
    that, ÷ the same of the other framework); None where one of the two does not count.
    """

    key: CellKey
    before: Cell
    after: Cell
    ratio: Interval | None
    change: Change


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Geometric mean of the ratios of one framework at one thread count, over cells that count in both."""

    framework: str
    threads: int
    ratio: Interval | None
    count: int
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two runs, cell by cell; `only_before` and `only_after` are cells that just one of them has."""

    before: RunData
    after: RunData
    pairs: tuple[Pair, ...]
    aggregates: tuple[Aggregate, ...]
    only_before: tuple[CellKey, ...]
    only_after: tuple[CellKey, ...]
    detectable: Detectable
    relative_to: str = ""

    @cached_property
    def regressions(self) -> tuple[Pair, ...]:
        """Cells that became slower beyond the detectable difference, or broke."""
        return tuple(pair for pair in self.pairs if pair.change in REGRESSIONS)


def compare(
    before: RunData,
    after: RunData,
    *,
    detectable: Detectable = UNMEASURED,
    relative_to: str | None = None,
) -> Comparison:
    """Compare cell by cell; raises `BenchError` for runs without a common cell, or without `relative_to`."""
    first, second = _cells(before), _cells(after)
    common = [key for key in first if key in second]
    if not common:
        raise BenchError(
            f"runs {before.run.number} and {after.run.number} have no cell in common",
            where="bench compare",
            hint="compare runs of the same networks, frameworks, threads and device (`bench runs`)",
        )
    control = _control(before, after, relative_to)
    medians = (_medians(before, control), _medians(after, control))
    wanted = [key for key in common if key.framework != control]
    pairs = tuple(_pair(key, first[key], second[key], medians, detectable.share) for key in wanted)
    return Comparison(
        before=before,
        after=after,
        pairs=pairs,
        aggregates=_aggregates(pairs, medians, [*first, *second]),
        only_before=tuple(key for key in first if key not in second),
        only_after=tuple(key for key in second if key not in first),
        detectable=detectable,
        relative_to=control,
    )


Medians = Mapping[CellKey, Floats]
"""Block medians of the cells that count; with a control, divided by its median in the same block."""


def _cells(data: RunData) -> dict[CellKey, Cell]:
    return {cell.record.key: cell for group in data.groups for cell in group.cells.values()}


def _control(before: RunData, after: RunData, wanted: str | None) -> str:
    if wanted is None:
        return ""
    known = [name for name in before.frameworks if name in after.frameworks]
    if wanted.lower() not in known:
        raise BenchError(
            f"{wanted!r} is not in both runs",
            where="--relative-to",
            hint=nearest(wanted, known, otherwise=f"one of {', '.join(known) or 'none: leave it out'}"),
        )
    return wanted.lower()


def _medians(data: RunData, control: str) -> Medians:
    found = {}
    for group in data.groups:
        for name, cell in group.cells.items():
            if not cell.counts or (control and not group.cells[control].counts):
                continue
            if control:
                own, other = group.paired(name, control)
                found[cell.record.key] = own / other
            else:
                medians = group.medians[name]
                found[cell.record.key] = medians[~np.isnan(medians)]
    return found


def _pair(
    key: CellKey, before: Cell, after: Cell, medians: tuple[Medians, Medians], detectable: float
) -> Pair:
    first, second = medians[0].get(key), medians[1].get(key)
    if first is None or second is None or not len(first) or not len(second):
        return Pair(key, before, after, None, _status_change(before, after))
    ratio = ratio_interval(second, first)
    return Pair(key, before, after, ratio, _change(ratio, detectable))


def _status_change(before: Cell, after: Cell) -> Change:
    unmeasured = after.record.outcome is None or before.record.outcome is None
    if unmeasured or before.counts == after.counts:  # with a control: it is what does not count
        return Change.NEITHER
    return Change.BROKE if before.counts else Change.MENDED


def _change(ratio: Interval, detectable: float) -> Change:
    if not ratio.is_known or not ratio.claims_difference(detectable):
        return Change.SAME
    return Change.SLOWER if ratio.estimate > 1 else Change.FASTER


def _aggregates(
    pairs: Sequence[Pair], medians: tuple[Medians, Medians], every: Sequence[CellKey]
) -> tuple[Aggregate, ...]:
    places = dict.fromkeys((pair.key.framework, pair.key.group.threads) for pair in pairs)
    return tuple(_aggregate(framework, threads, pairs, medians, every) for framework, threads in places)


def _aggregate(
    framework: str,
    threads: int,
    pairs: Sequence[Pair],
    medians: tuple[Medians, Medians],
    every: Sequence[CellKey],
) -> Aggregate:
    mine = [pair.key for pair in pairs if pair.ratio and _at(pair.key) == (framework, threads)]
    known = {key.group.model for key in mine}
    missing = dict.fromkeys(
        key.group.model for key in every if _at(key) == (framework, threads) and key.group.model not in known
    )
    ratio = resampled_mean([(medians[1][key], medians[0][key]) for key in mine]) if mine else None
    return Aggregate(framework, threads, ratio, len(mine), tuple(missing))


def _at(key: CellKey) -> tuple[str, int]:
    return key.framework, key.group.threads
