"""What a night says: which night it is compared with, what went wrong first, and the short summary of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchsuite.journal import Journal
from benchsuite.record import CellRecord, RunRecord, RunStatus, Status
from reports.as_markdown import markdown
from reports.cells import Cell, RunData
from reports.compare import Comparison
from reports.compare_table import comparison_table, headline
from reports.history import ChangePoint, Series, day, history_table
from reports.speedup import Speedups, speedup_table

FINE = frozenset({Status.OK, Status.REFUSED})
MOST_NAMED = 12
RECENT_RUNS = 14


@dataclass(frozen=True, slots=True)
class Night:
    """A night and what it is seen beside; `comparison` is None where no earlier night was good."""

    data: RunData
    result: Speedups
    comparison: Comparison | None
    series: tuple[Series, ...]
    points: tuple[ChangePoint, ...]

    @property
    def failed(self) -> tuple[Cell, ...]:
        """Cells that ended badly."""
        return tuple(
            cell
            for cell in _cells(self.data)
            if cell.record.outcome and cell.record.outcome.status not in FINE
        )

    @property
    def unmeasured(self) -> tuple[Cell, ...]:
        """Cells that have no status: the budget ended first, or the run was interrupted."""
        return tuple(cell for cell in _cells(self.data) if cell.record.outcome is None)

    @property
    def missing(self) -> tuple[str, ...]:
        """Networks and the like that the good night had and this one has not."""
        return tuple(map(str, self.comparison.only_before)) if self.comparison else ()


def last_good(
    journal: Journal, earlier: Sequence[RunRecord], cells: Sequence[CellRecord], control: str = ""
) -> RunRecord | None:
    """The latest earlier night that is complete, had no failure, and measured some cell of tonight's (and the
    framework `control`, if one is named).
    """
    wanted = {cell.key for cell in cells}
    for run in reversed(earlier):
        if run.status is not RunStatus.COMPLETE or (
            control and control.lower() not in run.options.frameworks
        ):
            continue
        found = journal.cells(run.number)
        fine = all(cell.outcome is not None and cell.outcome.status in FINE for cell in found)
        if fine and wanted & {
            cell.key for cell in found if cell.outcome and cell.outcome.status is Status.OK
        }:
            return run
    return None


def banners(night: Night) -> tuple[str, ...]:
    """What stands on top, the worst first; empty for a good night."""
    found = []
    if night.failed:
        found.append(f"{len(night.failed)} cells failed: {_named([_why(cell) for cell in night.failed])}")
    if night.unmeasured:
        networks = dict.fromkeys(cell.record.key.group.model for cell in night.unmeasured)
        found.append(
            f"not whole ({night.data.run.status}): {len(night.unmeasured)} cells of {len(networks)} networks"
            f" were not measured: {_named(list(networks))}"
        )
    if night.missing:
        found.append(
            f"{len(night.missing)} cells of the good night are not there: {_named(list(night.missing))}"
        )
    regressions = night.comparison.regressions if night.comparison else ()
    if regressions:
        texts = [
            f"{pair.key} {pair.change}" + (f" {pair.ratio.estimate - 1:+.1%}" if pair.ratio else "")
            for pair in regressions
        ]
        found.append(f"{len(regressions)} regressions: {_named(texts)}")
    return tuple(found)


def exit_code(night: Night) -> int:
    """The documented exit codes, as those of `bench run`; a regression is 1 too."""
    regressed = bool(night.comparison and night.comparison.regressions)
    if night.data.run.status is RunStatus.INTERRUPTED:
        return 130
    if night.failed or regressed:
        return 1
    if night.data.run.status is not RunStatus.COMPLETE:
        return 4
    return 0 if night.data.measured_cells else 3


def summary(night: Night) -> str:
    """The night in Markdown: trouble first, then means with their counts, then changes."""
    data, trouble = night.data, banners(night)
    verdict = "trouble" if trouble else "good" if data.measured_cells else "nothing was measured"
    lines = [f"# Night of {day(data.run.started_at)}, run {data.run.number}: {verdict}", ""]
    lines += [f"- **{text}**" for text in trouble]
    lines += [f"- {_against(night)}", f"- {_history(night)}", ""]
    lines.append(markdown(speedup_table(data, night.result)))
    if night.comparison:
        lines.append(markdown(comparison_table(night.comparison)))
    if night.points:
        lines.append(markdown(history_table(night.points, night.series)))
    return "\n".join(lines)


def _against(night: Night) -> str:
    if night.comparison is None:
        return "compared with nothing: no earlier night in this journal was complete and without failures"
    before = night.comparison.before.run
    return f"compared with run {before.number} of {day(before.started_at)}: {headline(night.comparison)}"


def _history(night: Night) -> str:
    runs = sorted({run for one in night.series for run in one.runs})
    recent = [point for point in night.points if point.run in runs[-RECENT_RUNS:]]
    if not recent:
        return f"history of {len(runs)} runs: no change in the last {min(RECENT_RUNS, len(runs))}"
    texts = [f"{point.key} {point.ratio - 1:+.1%} since {day(point.started_at)}" for point in recent]
    return f"history of {len(runs)} runs: {_named(texts)}"


def _why(cell: Cell) -> str:
    return f"{cell.record.key} {cell.status} ({cell.reason})"


def _named(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    return ", ".join(texts[:MOST_NAMED]) + more


def _cells(data: RunData) -> tuple[Cell, ...]:
    return tuple(cell for group in data.groups for cell in group.cells.values())
