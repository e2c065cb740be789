"""The speedup table: a row a network, a column a framework, intervals, geometric mean with its count."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchsuite.stats import Floats, Interval, geometric_mean, speedup
from models.errors import BenchError
from models.suggest import nearest
from reports.cells import Group, RunData
from reports.footnotes import Footnotes
from reports.table import Style, Table, TableCell, cells


@dataclass(frozen=True, slots=True)
class SpeedupRow:
    """Baseline time ÷ framework time, with its interval; None where one of the two does not count."""

    model: str
    threads: int
    framework: str
    baseline: str
    speedup: Interval | None


@dataclass(frozen=True, slots=True)
class Mean:
    """Geometric mean over the networks where both frameworks count; `missing` names the others."""

    framework: str
    threads: int
    interval: Interval | None
    count: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Speedups:
    """All speedups of a run against one baseline."""

    baseline: str
    rows: tuple[SpeedupRow, ...]
    means: tuple[Mean, ...]


def choose_baseline(data: RunData, wanted: str | None) -> str:
    """The wanted framework, else the one named last in the run; raises `BenchError` for one that was not
    in the run.
    """
    if wanted is None:
        return data.frameworks[-1]
    if wanted.lower() not in data.frameworks:
        raise BenchError(
            f"framework {wanted!r} is not in run {data.run.number}",
            where="--baseline",
            hint=nearest(wanted, data.frameworks, otherwise=f"one of {', '.join(data.frameworks)}"),
        )
    return wanted.lower()


def speedups(data: RunData, baseline: str) -> Speedups:
    """Speedup of every framework over the baseline, in every group."""
    others = [name for name in data.frameworks if name != baseline]
    rows = [_row(group, name, baseline) for group in data.groups for name in others]
    threads = dict.fromkeys(group.key.threads for group in data.groups)
    means = [_mean(data, name, baseline, count) for count in threads for name in others]
    return Speedups(baseline, tuple(rows), tuple(means))


def _both_count(group: Group, framework: str, baseline: str) -> bool:
    return group.cells[framework].counts and group.cells[baseline].counts


def _row(group: Group, framework: str, baseline: str) -> SpeedupRow:
    interval = (
        speedup(*group.paired(baseline, framework)) if _both_count(group, framework, baseline) else None
    )
    return SpeedupRow(group.key.model, group.key.threads, framework, baseline, interval)


def _mean(data: RunData, framework: str, baseline: str, threads: int) -> Mean:
    groups = [group for group in data.groups if group.key.threads == threads]
    pairs: dict[str, tuple[Floats, Floats]] = {
        group.key.model: group.paired(baseline, framework)
        for group in groups
        if _both_count(group, framework, baseline)
    }
    missing = tuple(group.key.model for group in groups if group.key.model not in pairs)
    return Mean(framework, threads, geometric_mean(pairs), len(pairs), missing)


def speedup_table(data: RunData, result: Speedups) -> Table:
    """The table that people look at: latency of the baseline, latency and speedup of every other
    framework.
    """
    notes = Footnotes()
    others = [name for name in data.frameworks if name != result.baseline]
    found = {(row.model, row.threads, row.framework): row.speedup for row in result.rows}
    columns = _columns(data, result.baseline, others, notes)
    rows = [_table_row(group, result.baseline, others, found, notes) for group in data.groups]
    threads = dict.fromkeys(group.key.threads for group in data.groups)
    footers = [_mean_row(result, others, count, notes) for count in threads]
    run = data.run
    title = (
        f"Run {run.number}: speedup over {result.baseline} on {run.options.device}, {run.options.precision}"
    )
    return Table(title, columns, tuple(rows), tuple(footers), notes.texts, text_columns=1, key_columns=2)


def _columns(data: RunData, baseline: str, others: list[str], notes: Footnotes) -> tuple[TableCell, ...]:
    columns = [*cells("network", "threads"), framework_cell(data, baseline, f"{baseline} ms", notes)]
    for name in others:
        columns += [framework_cell(data, name, f"{name} ms", notes), TableCell(f"{name} speedup")]
    return tuple(columns)


def _table_row(
    group: Group,
    baseline: str,
    others: list[str],
    found: Mapping[tuple[str, int, str], Interval | None],
    notes: Footnotes,
) -> tuple[TableCell, ...]:
    row = [*cells(group.key.model, str(group.key.threads)), latency_cell(group, baseline, notes)]
    for name in others:
        interval = found[group.key.model, group.key.threads, name]
        row += [latency_cell(group, name, notes), _speedup_cell(interval)]
    return tuple(row)


def framework_cell(data: RunData, framework: str, text: str, notes: Footnotes) -> TableCell:
    """The framework's name with what a reader must know about it wherever it stands."""
    known = [group.cells[framework].record.notes for group in data.groups]
    texts = dict.fromkeys(note for one in known for note in one)
    return TableCell(text, notes=tuple(notes.number(f"{framework}: {note}") for note in texts))


def latency_cell(group: Group, framework: str, notes: Footnotes) -> TableCell:
    """Latency in ms; struck when its outputs are wrong, its status when there is none; footnotes say why."""
    cell = group.cells[framework]
    marks = [] if cell.counts else [notes.number(f"{cell.status}: {cell.reason}")]
    marks += [notes.number(str(doubt), kind=doubt.kind) for doubt in cell.doubts]
    if cell.latency is None:
        return TableCell(cell.status, Style.MISSING, tuple(marks))
    style = Style.PLAIN if cell.counts else Style.STRUCK
    return TableCell(milliseconds(cell.latency.estimate), style, tuple(marks))


def _speedup_cell(interval: Interval | None) -> TableCell:
    if interval is None:
        return TableCell("–", Style.MISSING)
    return TableCell(interval_text(interval), Style.BEST if interval.low > 1 else Style.PLAIN)


def _mean_row(result: Speedups, others: list[str], threads: int, notes: Footnotes) -> tuple[TableCell, ...]:
    row = [*cells("geometric mean", str(threads), "")]
    for name in others:
        mean = next(one for one in result.means if one.framework == name and one.threads == threads)
        missing = ", ".join(mean.missing)
        marks = (notes.number(f"the mean leaves out {missing}"),) if missing else ()
        text = interval_text(mean.interval) if mean.interval else "–"
        row += [TableCell(f"n = {mean.count}", notes=marks), TableCell(text)]
    return tuple(row)


def interval_text(interval: Interval) -> str:
    """`1.23× [1.20, 1.26]`, or `1.23× [–]` when there were too few blocks for an interval."""
    if not interval.is_known:
        return f"{interval.estimate:.2f}× [–]"
    return f"{interval.estimate:.2f}× [{interval.low:.2f}, {interval.high:.2f}]"


def milliseconds(value: float) -> str:
    """Three significant digits or all digits before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
