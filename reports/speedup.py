"""The speedup table: a row a network, a column a framework, intervals, geometric mean with its count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchsuite.stats import Floats, Interval, geometric_mean, speedup
from models.errors import BenchError
from models.suggest import nearest
from reports.cells import Group, RunData
from reports.footnotes import Footnotes
from reports.table import Style, Table, TableCell, cells

BEST_PEER = "best-peer"
VARIANT_MARK = ":"
HOW_BEST = (
    "each framework against the fastest other one of its row, its own variants left out; that one is named"
)


@dataclass(frozen=True, slots=True)
class SpeedupRow:
    """Peer's time ÷ framework's time, with its interval; None where one of the two does not count. `baseline`
    is the peer: the run's baseline, or the best other framework of this row ("" where none counts).
    """

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
    """All speedups of a run against one baseline, or each against its best peer (`BEST_PEER`)."""

    baseline: str
    judged: tuple[str, ...]
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


def choose_reference(data: RunData, baseline: str | None, against: str | None) -> str:
    """What speedups are relative to: a framework, or `BEST_PEER`; raises `BenchError`."""
    if against is None:
        return choose_baseline(data, baseline)
    if against.lower() == BEST_PEER:
        return BEST_PEER
    if baseline is not None:
        raise BenchError(
            "a table is relative to one framework, not to two",
            where="--baseline and --against",
            hint="leave one of the two out",
        )
    if against.lower() not in data.frameworks:
        known = (BEST_PEER, *data.frameworks)
        raise BenchError(
            f"there is no {against!r} in run {data.run.number}",
            where="--against",
            hint=nearest(against, known, otherwise=f"one of {', '.join(known)}"),
        )
    return against.lower()


def speedups(data: RunData, baseline: str, only: str | None = None) -> Speedups:
    """Speedup of every framework over the baseline (or its best peer), in every group; `only` of one."""
    judged = tuple(name for name in data.frameworks if name != baseline and only in (None, name))
    rows = [_row(group, name, baseline) for group in data.groups for name in judged]
    threads = dict.fromkeys(group.key.threads for group in data.groups)
    means = [_mean(data, name, baseline, count) for count in threads for name in judged]
    return Speedups(baseline, judged, tuple(rows), tuple(means))


def _peer(group: Group, framework: str, baseline: str) -> str:
    """The one to compare with; "" when none counts. Variants of a framework are no peers of it."""
    if baseline != BEST_PEER:
        return baseline
    own = framework.partition(VARIANT_MARK)[0]
    latencies = {
        name: cell.latency.estimate
        for name, cell in group.cells.items()
        if cell.counts and cell.latency and name.partition(VARIANT_MARK)[0] != own
    }
    return min(latencies, key=latencies.__getitem__, default="")


def _both_count(group: Group, framework: str, peer: str) -> bool:
    return peer != "" and group.cells[framework].counts and group.cells[peer].counts


def _row(group: Group, framework: str, baseline: str) -> SpeedupRow:
    peer = _peer(group, framework, baseline)
    interval = speedup(*group.paired(peer, framework)) if _both_count(group, framework, peer) else None
    return SpeedupRow(group.key.model, group.key.threads, framework, peer, interval)


def _mean(data: RunData, framework: str, baseline: str, threads: int) -> Mean:
    groups = [group for group in data.groups if group.key.threads == threads]
    pairs: dict[str, tuple[Floats, Floats]] = {}
    for group in groups:
        peer = _peer(group, framework, baseline)
        if _both_count(group, framework, peer):
            pairs[group.key.model] = group.paired(peer, framework)
    missing = tuple(group.key.model for group in groups if group.key.model not in pairs)
    return Mean(framework, threads, geometric_mean(pairs), len(pairs), missing)


def speedup_table(data: RunData, result: Speedups) -> Table:
    """The table that people look at: latency of the baseline, latency and speedup of every other
    framework; against the best peer, latency and speedup of all.
    """
    notes = Footnotes()
    best = result.baseline == BEST_PEER
    judged = result.judged
    found = {(row.model, row.threads, row.framework): row for row in result.rows}
    columns = _columns(data, "" if best else result.baseline, judged, notes)
    rows = [_table_row(group, "" if best else result.baseline, judged, found, notes) for group in data.groups]
    threads = dict.fromkeys(group.key.threads for group in data.groups)
    footers = [_mean_row(result, judged, count, notes) for count in threads]
    run = data.run
    over = "the best peer" if best else result.baseline
    return Table(
        f"Run {run.number}: speedup over {over} on {run.options.device}, {run.options.precision}",
        columns,
        tuple(rows),
        tuple(footers),
        notes.texts,
        remarks=(HOW_BEST,) if best else (),
        text_columns=1,
        key_columns=2,
    )


def _columns(data: RunData, baseline: str, judged: Sequence[str], notes: Footnotes) -> tuple[TableCell, ...]:
    columns = [*cells("network", "threads")]
    if baseline:
        columns.append(framework_cell(data, baseline, f"{baseline} ms", notes))
    for name in judged:
        columns += [framework_cell(data, name, f"{name} ms", notes), TableCell(f"{name} speedup")]
    return tuple(columns)


def _table_row(
    group: Group,
    baseline: str,
    judged: Sequence[str],
    found: Mapping[tuple[str, int, str], SpeedupRow],
    notes: Footnotes,
) -> tuple[TableCell, ...]:
    row = [*cells(group.key.model, str(group.key.threads))]
    if baseline:
        row.append(latency_cell(group, baseline, notes))
    for name in judged:
        one = found[group.key.model, group.key.threads, name]
        row += [latency_cell(group, name, notes), _speedup_cell(one, with_peer=not baseline)]
    return tuple(row)


def framework_cell(data: RunData, framework: str, text: str, notes: Footnotes) -> TableCell:
    """The framework's name with what a reader must know about it wherever it stands."""
    known = [group.cells[framework].record.notes for group in data.groups]
    texts = dict.fromkeys(note for one in known for note in one)
    return TableCell(text, notes=tuple(notes.number(f"{framework}: {note}") for note in texts))


def latency_cell(group: Group, framework: str, notes: Footnotes) -> TableCell:
    """Latency in ms; struck when its outputs are wrong, its status when there is none; footnotes say why.
    Outputs that cannot be checked are a doubt.
    """
    cell = group.cells[framework]
    is_plain = cell.counts or bool(cell.record.unchecked)
    marks = [] if is_plain else [notes.number(f"{cell.status}: {cell.reason}")]
    marks += [notes.number(str(doubt), kind=doubt.kind) for doubt in cell.doubts]
    if cell.latency is None:
        return TableCell(cell.status, Style.MISSING, tuple(marks))
    style = Style.PLAIN if is_plain else Style.STRUCK
    return TableCell(milliseconds(cell.latency.estimate), style, tuple(marks))


def _speedup_cell(row: SpeedupRow, *, with_peer: bool) -> TableCell:
    if row.speedup is None:
        return TableCell("–", Style.MISSING)
    text = interval_text(row.speedup) + (f" {row.baseline}" if with_peer else "")
    return TableCell(text, Style.BEST if row.speedup.low > 1 else Style.PLAIN)


def _mean_row(
    result: Speedups, judged: Sequence[str], threads: int, notes: Footnotes
) -> tuple[TableCell, ...]:
    row = [*cells("geometric mean", str(threads))]
    if result.baseline != BEST_PEER:
        row.append(TableCell(""))
    for name in judged:
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
