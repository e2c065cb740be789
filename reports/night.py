"""What a night says: which night it is compared with, what went wrong first, and the short summary of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchsuite.journal import Journal
from benchsuite.nights import Acceptance, accepted, regressed
from benchsuite.record import CellKey, CellRecord, RunRecord, RunStatus, Status
from reports.as_markdown import markdown, prose
from reports.cells import Cell, RunData
from reports.compare import Comparison
from reports.compare_table import comparison_table, headline
from reports.history import ChangePoint, Series, day, history_table
from reports.speedup import Speedups, speedup_table
from reports.wording import counted, plural

FINE = frozenset({Status.OK, Status.REFUSED})
MOST_NAMED = 12
RECENT_RUNS = 14


@dataclass(frozen=True, slots=True)
class Before:
    """The night that tonight is compared with; `acceptance` if a person made it a good one, `passed_over` the
    numbers of later nights that were not good.
    """

    run: RunRecord
    acceptance: Acceptance | None = None
    passed_over: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Night:
    """A night and what it is seen beside: `comparison` and `before` are None where none before was good."""

    data: RunData
    result: Speedups
    comparison: Comparison | None
    series: tuple[Series, ...]
    points: tuple[ChangePoint, ...]
    before: Before | None = None

    @property
    def regressions(self) -> int:
        """How many cells became slower or broke."""
        return len(self.comparison.regressions) if self.comparison else 0

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
) -> Before | None:
    """The good night that measured the most of tonight's cells (and the framework `control`, if one is
    named), the latest of those; None where none shares a cell.

    A good night is complete, no cell of it failed, and none became slower or broke since the good night
    before it; or somebody accepted it.
    """
    wanted = {cell.key for cell in cells if not (cell.outcome and cell.outcome.status is Status.REFUSED)}
    slower, taken = regressed(journal), accepted(journal)
    best, most = None, 0
    for run in reversed(earlier):
        if control and control.lower() not in run.options.frameworks:
            continue
        found = journal.cells(run.number)
        good = run.number in taken or (run.number not in slower and _is_whole(run, found))
        shared = len(wanted & _measured(found)) if good else 0
        if shared > most:
            best, most = run, shared
        if most == len(wanted) or (shared and run.number in taken):
            break  # what was accepted stands in the place of all nights before it
    if best is None:
        return None
    later = (run.number for run in earlier if run.number > best.number)
    return Before(best, taken.get(best.number), tuple(later))


def _is_whole(run: RunRecord, found: Sequence[CellRecord]) -> bool:
    fine = (cell.outcome is not None and cell.outcome.status in FINE for cell in found)
    return run.status is RunStatus.COMPLETE and all(fine)


def _measured(found: Sequence[CellRecord]) -> set[CellKey]:
    return {cell.key for cell in found if cell.outcome and cell.outcome.status is Status.OK}


def banners(night: Night) -> tuple[str, ...]:
    """What stands on top, the worst first; empty for a good night."""
    found = []
    if night.failed:
        failed = _named([_why(cell) for cell in night.failed])
        found.append(f"{counted(len(night.failed), 'cell')} failed: {failed}")
    if night.unmeasured:
        networks = dict.fromkeys(cell.record.key.group.model for cell in night.unmeasured)
        found.append(
            f"not whole ({night.data.run.status}): {counted(len(night.unmeasured), 'cell')} of"
            f" {counted(len(networks), 'network')} {plural(len(night.unmeasured), 'was')} not measured:"
            f" {_named(list(networks))}"
        )
    if night.missing:
        missing = (
            f"{counted(len(night.missing), 'cell')} of the good night {plural(len(night.missing), 'is')}"
        )
        found.append(f"{missing} not there: {_named(list(night.missing))}")
    regressions = night.comparison.regressions if night.comparison else ()
    if regressions:
        texts = [
            f"{pair.key} {pair.change}" + (f" {pair.ratio.estimate - 1:+.1%}" if pair.ratio else "")
            for pair in regressions
        ]
        found.append(
            f"{counted(len(regressions), 'regression')}: {_named(texts)} (if this is how fast it is from now"
            f" on: `bench accept {night.data.run.number}`)"
        )
    return tuple(found)


def exit_code(night: Night) -> int:
    """The documented exit codes, as those of `bench run`; a regression is 1 too."""
    if night.data.run.status is RunStatus.INTERRUPTED:
        return 130
    if night.failed or night.regressions:
        return 1
    if night.data.run.status is not RunStatus.COMPLETE:
        return 4
    return 0 if night.data.measured_cells else 3


def summary(night: Night) -> str:
    """The night in Markdown: trouble first, then means with their counts, then changes."""
    data, trouble = night.data, banners(night)
    lines = [f"# Night of {day(data.run.started_at)}, run {data.run.number}: {_verdict(night)}", ""]
    lines += [f"- **{text}**" for text in trouble]
    lines += [f"- {prose(_against(night))}", f"- {_history(night)}", ""]
    lines.append(markdown(speedup_table(data, night.result)))
    if night.comparison:
        lines.append(markdown(comparison_table(night.comparison)))
    if night.points:
        lines.append(markdown(history_table(night.points, night.series)))
    return "\n".join(lines)


def _verdict(night: Night) -> str:
    """In accord with the exit code: cells that are gone may have been taken out on purpose."""
    if exit_code(night) == 0:
        return "good, but cells are gone" if night.missing else "good"
    return "trouble" if banners(night) else "nothing was measured"


def _against(night: Night) -> str:
    if night.comparison is None:
        return "compared with nothing: no earlier night in this journal was a good one"
    run = night.comparison.before.run
    texts = [f"compared with run {run.number} of {day(run.started_at)}"]
    if night.before and night.before.acceptance:
        taken = night.before.acceptance
        texts.append(f" (accepted on {taken.at[:10]}{f': {taken.why}' if taken.why else ''})")
    texts.append(f": {headline(night.comparison)}")
    if night.before and night.before.passed_over:
        numbers = _named([str(number) for number in night.before.passed_over])
        texts.append(f"; not good, or with fewer of tonight's cells, since then: run {numbers}")
    return "".join(texts)


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
