"""The speedup table: a row a network, a column a framework, intervals, geometric mean with its count."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchsuite.stats import Floats, Interval, geometric_mean, speedup
from models.errors import BenchError
from models.suggest import nearest
from reports.cells import Group, RunData
from reports.table import Footnotes, Style, Table, TableCell


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
    rows = [_table_row(group, result.baseline, others, found, notes) for group in data.groups]
    footers = [
        _mean_row(result, others, threads) for threads in dict.fromkeys(g.key.threads for g in data.groups)
    ]
    for mean in result.means:
        if mean.missing:
            notes.number(
                f"{mean.framework}, {mean.threads} threads: the mean leaves out {', '.join(mean.missing)}"
            )
    columns = ("network", "threads", f"{result.baseline} ms", *_columns(others))
    run = data.run
    title = (
        f"Run {run.number}: speedup over {result.baseline} on {run.options.device}, {run.options.precision}"
    )
    return Table(title, columns, tuple(rows), tuple(footers), tuple(notes.texts), text_columns=1)


def _columns(others: list[str]) -> list[str]:
    return [text for name in others for text in (f"{name} ms", f"{name} speedup")]


def _table_row(
    group: Group,
    baseline: str,
    others: list[str],
    found: Mapping[tuple[str, int, str], Interval | None],
    notes: Footnotes,
) -> tuple[TableCell, ...]:
    cells = [
        TableCell(group.key.model),
        TableCell(str(group.key.threads)),
        latency_cell(group, baseline, notes),
    ]
    for name in others:
        interval = found[group.key.model, group.key.threads, name]
        cells += [latency_cell(group, name, notes), _speedup_cell(interval)]
    return tuple(cells)


def latency_cell(group: Group, framework: str, notes: Footnotes) -> TableCell:
    """Latency in ms; struck when its outputs are wrong, its status when there is none; footnotes say why."""
    cell = group.cells[framework]
    texts = [f"{framework}: {note}" for note in cell.record.notes]
    texts += [f"{group.key.model}/{framework}: {doubt}" for doubt in cell.doubts]
    if not cell.counts:
        texts.insert(0, f"{group.key.model}/{framework}: {cell.status}: {cell.reason}")
    marks = notes.numbers(texts)
    if cell.latency is None:
        return TableCell(cell.status, Style.MISSING, marks)
    return TableCell(milliseconds(cell.latency.estimate), Style.PLAIN if cell.counts else Style.STRUCK, marks)


def _speedup_cell(interval: Interval | None) -> TableCell:
    if interval is None:
        return TableCell("–", Style.MISSING)
    return TableCell(interval_text(interval), Style.BEST if interval.low > 1 else Style.PLAIN)


def _mean_row(result: Speedups, others: list[str], threads: int) -> tuple[TableCell, ...]:
    cells = [TableCell("geometric mean"), TableCell(str(threads)), TableCell("")]
    for name in others:
        mean = next(one for one in result.means if one.framework == name and one.threads == threads)
        text = f"{interval_text(mean.interval)} of {mean.count}" if mean.interval else "– of 0"
        cells += [TableCell(""), TableCell(text)]
    return tuple(cells)


def interval_text(interval: Interval) -> str:
    """`1.23× [1.20, 1.26]`."""
    return f"{interval.estimate:.2f}× [{interval.low:.2f}, {interval.high:.2f}]"


def milliseconds(value: float) -> str:
    """Three significant digits or all digits before the point."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
