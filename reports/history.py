"""How cells went over many runs, and when they changed for good: change points of the latency's logarithm.

One value a run and cell, the median of block medians. `ruptures` finds the change points (PELT with an l2
cost: the segmentation with the least squares, a penalty for each point). The penalty is in units of the
series' own noise, estimated from the differences of neighbours, which a shift hardly touches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import exp, log

import numpy as np

from benchsuite.journal import Journal
from benchsuite.record import CellKey, RunRecord
from benchsuite.stats import Floats, block_medians
from models.errors import BenchError
from reports.table import Table, TableCell, cells

NIGHTLY = "nightly"
"""The command that makes nights."""
LEAST_RUNS = 3
"""Runs on each side of a change: a single night is an accident, not a change."""
LEAST_EFFECT = 0.02
LEAST_NOISE = 0.005
"""A series of nearly equal values has no noise to speak of; a shift below this is nobody's business."""
MAD_TO_DEVIATION = 1.4826
PENALTY = 3.0
"""In units of variance × log of the runs: the usual 2 of an information criterion, and some caution."""


@dataclass(frozen=True, slots=True)
class Series:
    """One cell over runs: which runs, when, and its latency (ms) in each."""

    key: CellKey
    runs: tuple[int, ...]
    started_at: tuple[str, ...]
    milliseconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """From `run` on the cell took `ratio` times as long as between the change before it and this one."""

    key: CellKey
    run: int
    started_at: str
    ratio: float
    runs_before: int
    runs_after: int


def read_history(journal: Journal, runs: Sequence[RunRecord]) -> tuple[Series, ...]:
    """Series of every cell that was `ok` in some of the runs, oldest run first."""
    found: dict[CellKey, list[tuple[RunRecord, float]]] = {}
    for run in runs:
        for key, samples in journal.samples(run.number).items():
            found.setdefault(key, []).append((run, float(np.median(block_medians(samples))) / 1e6))
    return tuple(
        Series(
            key,
            tuple(run.number for run, _ in points),
            tuple(run.started_at for run, _ in points),
            tuple(value for _, value in points),
        )
        for key, points in found.items()
    )


def is_night(run: RunRecord) -> bool:
    """Whether `bench nightly` made it."""
    return NIGHTLY in run.command[1:2]


def runs_like(runs: Sequence[RunRecord], run: RunRecord) -> tuple[RunRecord, ...]:
    """Earlier runs that belong to the same history, oldest first: of the same device and precision class, and
    nights with nights.
    """
    mine = (is_night(run), run.options.device, run.options.precision)
    return tuple(
        one
        for one in runs
        if one.number < run.number and (is_night(one), one.options.device, one.options.precision) == mine
    )


def change_points(series: Sequence[Series]) -> tuple[ChangePoint, ...]:
    """Changes for good in every series, the latest first; raises `BenchError` without the library."""
    found = [point for one in series for point in _changes(one)]
    return tuple(sorted(found, key=lambda point: (-point.run, point.key)))


def _changes(one: Series) -> list[ChangePoint]:
    values = np.log(np.asarray(one.milliseconds))
    if len(values) < 2 * LEAST_RUNS:
        return []
    bounds = [0, *segment_ends(values)]
    levels = [float(np.median(values[start:end])) for start, end in pairwise(bounds)]
    points = []
    for index in range(1, len(levels)):
        ratio = exp(levels[index] - levels[index - 1])
        if abs(log(ratio)) < log(1 + LEAST_EFFECT):
            continue
        at = bounds[index]
        points.append(
            ChangePoint(
                key=one.key,
                run=one.runs[at],
                started_at=one.started_at[at],
                ratio=ratio,
                runs_before=at - bounds[index - 1],
                runs_after=bounds[index + 1] - at,
            )
        )
    return points


def segment_ends(values: Floats) -> list[int]:
    """Ends of the segments of a series, the last of them its length."""
    try:
        from ruptures import KernelCPD
    except ImportError as error:
        raise missing_library("ruptures", "change points") from error
    differences = np.diff(values)
    spread = float(np.median(np.abs(differences - np.median(differences)))) * MAD_TO_DEVIATION
    deviation = max(spread / 2**0.5, LEAST_NOISE)
    penalty = PENALTY * deviation**2 * log(len(values))
    search = KernelCPD(kernel="linear", min_size=LEAST_RUNS).fit(values.reshape(-1, 1))
    return [int(end) for end in search.predict(pen=penalty)]


def missing_library(name: str, purpose: str) -> BenchError:
    """The error for a library of the extra `reports` that is not installed."""
    return BenchError(
        f"{name} is not installed, which {purpose} need",
        where="the extra `reports`",
        hint="pip install '.[reports]' (`make bench` does)",
    )


def history_table(points: Sequence[ChangePoint], series: Sequence[Series]) -> Table:
    """Every change point, the latest first."""
    count = len({run for one in series for run in one.runs})
    rows = tuple(
        (
            *cells(point.key.group.model, point.key.framework, str(point.key.group.threads)),
            *cells(day(point.started_at), str(point.run)),
            TableCell(f"{point.ratio - 1:+.1%}"),
            *cells(str(point.runs_before), str(point.runs_after)),
        )
        for point in points
    )
    columns = cells(
        *("network", "framework", "threads", "since", "run", "change of time", "runs before", "runs since")
    )
    remark = (
        f"a change is one that lasted at least {LEAST_RUNS} runs and is {LEAST_EFFECT:.0%} or more:"
        " the very last runs cannot show one yet"
    )
    title = f"Changes over {count} runs: {len(points) or 'none'}"
    return Table(title, columns, rows, remarks=(remark,), text_columns=2, key_columns=3)


def day(started_at: str) -> str:
    """The date of a run."""
    return f"{datetime.fromisoformat(started_at):%Y-%m-%d}"


def levels(series: Sequence[Series]) -> Mapping[str, list[tuple[str, float]]]:
    """For every framework the geometric mean, over its cells, of latency ÷ the cell's first latency, by run.

    Only runs that have all of the framework's cells enter: else the mean would go over different networks.
    """
    by_framework: dict[str, list[Series]] = {}
    for one in series:
        by_framework.setdefault(one.key.framework, []).append(one)
    return {name: _level(members) for name, members in by_framework.items()}


def _level(members: Sequence[Series]) -> list[tuple[str, float]]:
    whole = set.intersection(*(set(one.runs) for one in members))
    sums: dict[int, float] = dict.fromkeys(sorted(whole), 0.0)
    when: dict[int, str] = {}
    for one in members:
        values = dict(zip(one.runs, one.milliseconds, strict=True))
        first = values[min(whole)] if whole else 1.0
        when |= dict(zip(one.runs, one.started_at, strict=True))
        for run in sums:
            sums[run] += log(values[run] / first)
    return [(when[run], exp(total / len(members))) for run, total in sums.items()]
