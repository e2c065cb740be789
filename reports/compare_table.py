"""The tables of a comparison: every cell of both runs, the means, and a sentence on top that says it all."""

from benchsuite.record import CellKey
from benchsuite.stats import LEVEL, Interval
from reports.cells import Cell, RunData
from reports.compare import REGRESSIONS, Change, Comparison, Pair
from reports.experiment import versions
from reports.footnotes import Footnotes
from reports.speedup import milliseconds
from reports.table import Style, Table, TableCell, cells
from reports.wording import counted, plural

GOOD = frozenset({Change.FASTER, Change.MENDED})
WITHIN = (
    "the intervals hold what varied within the two runs, not what changed between them; a framework that did"
    " not change tells the machine's part: --relative-to FRAMEWORK"
)
FACTS_THAT_MATTER = (
    *("processor", "isa", "logical_cores", "memory_bytes", "governor", "kernel", "system", "python"),
    *("bench_version", "bench_commit", "bench_dirty"),
)


def headline(found: Comparison) -> str:
    """One sentence: how many cells were compared and what became of them; failures are named first."""
    counts = {change: sum(pair.change is change for pair in found.pairs) for change in Change}
    parts = [f"{counts[change]} {change}" for change in Change if counts[change]]
    missing = len(found.only_before)
    gone = f"; {missing} of the earlier cells {plural(missing, 'is')} not there any more" if missing else ""
    return f"{counted(len(found.pairs), 'cell')} compared: {', '.join(parts)}{gone}"


def comparison_table(found: Comparison) -> Table:
    """Every cell that both runs have, in the order of the second run."""
    notes = Footnotes()
    control = f" ÷ {found.relative_to}" if found.relative_to else ""
    columns = cells(
        "network", "framework", "threads", "before ms", "after ms", f"change of time{control}", "verdict"
    )
    rows = tuple(_row(pair, notes) for pair in found.pairs)
    footers = tuple(
        (
            *cells("geometric mean", one.framework, str(one.threads), "", f"n = {one.count}"),
            TableCell(change_text(one.ratio), notes=_left_out(one.missing, notes)),
            TableCell(""),
        )
        for one in found.aggregates
    )
    title = f"{_name(found.after)} beside {_name(found.before)}: {headline(found)}"
    return Table(
        title, columns, rows, footers, notes.texts, remarks=_remarks(found), text_columns=2, key_columns=3
    )


def facts_that_differ(before: RunData, after: RunData) -> dict[str, tuple[str, str]]:
    """Facts of machine and harness, and frameworks' versions, that are not the same in both runs."""
    first, second = (
        {name: str(run.run.facts.get(name)) for name in FACTS_THAT_MATTER} for run in (before, after)
    )
    for run, facts in ((before, first), (after, second)):
        facts |= {f"{name} version": text for name, text in versions(run).items()}
    names = [name for name in (*first, *second) if first.get(name) != second.get(name)]
    return {name: (first.get(name, "none"), second.get(name, "none")) for name in dict.fromkeys(names)}


def change_text(ratio: Interval | None) -> str:
    """`+2.1% [+1.0%, +3.3%]`: of the time, so more is slower."""
    if ratio is None:
        return "–"
    ends = f"[{ratio.low - 1:+.1%}, {ratio.high - 1:+.1%}]" if ratio.is_known else "[–]"
    return f"{ratio.estimate - 1:+.1%} {ends}"


def _name(data: RunData) -> str:
    return f"run {data.run.number} ({data.run.started_at[:16].replace('T', ' ')})"


def _row(pair: Pair, notes: Footnotes) -> tuple[TableCell, ...]:
    group = pair.key.group
    style = Style.BEST if pair.change in GOOD else Style.PLAIN
    return (
        *cells(group.model, pair.key.framework, str(group.threads)),
        _latency(pair.before, notes),
        _latency(pair.after, notes),
        TableCell(change_text(pair.ratio), style),
        TableCell(_verdict(pair.change), style),
    )


def _verdict(change: Change) -> str:
    """Marked so that a regression is found without colour."""
    return f"! {change}" if change in REGRESSIONS else str(change)


def _latency(cell: Cell, notes: Footnotes) -> TableCell:
    if cell.counts and cell.latency:
        return TableCell(milliseconds(cell.latency.estimate))
    mark = notes.number(f"{cell.status}: {cell.reason}")
    return TableCell(cell.status, Style.MISSING, (mark,))


def _left_out(missing: tuple[str, ...], notes: Footnotes) -> tuple[int, ...]:
    return (notes.number(f"the mean leaves out {', '.join(missing)}"),) if missing else ()


def _remarks(found: Comparison) -> tuple[str, ...]:
    remarks = [
        f"slower or faster: the {LEVEL:.0%} interval leaves out no change, and the change is"
        f" {found.detectable.share:.1%} or more, the machine's detectable difference"
        f" ({found.detectable.source})"
    ]
    if not found.relative_to:
        remarks.append(WITHIN)
    if found.only_before:
        remarks.append(f"only before: {_listed(found.only_before)}")
    if found.only_after:
        remarks.append(f"only after: {_listed(found.only_after)}")
    differing = facts_that_differ(found.before, found.after)
    if differing:
        texts = (f"{name}: {first} → {second}" for name, (first, second) in differing.items())
        remarks.append(f"what else changed: {'; '.join(texts)}")
    return tuple(remarks)


def _listed(keys: tuple[CellKey, ...]) -> str:
    return ", ".join(map(str, keys))
