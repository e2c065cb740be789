"""What a published run says in short: its table for a README, and the words around it."""

import re
from collections.abc import Mapping

from models.errors import BenchError
from reports.as_markdown import markdown
from reports.cells import Group, RunData, typed_command
from reports.experiment import setup_text
from reports.footnotes import Footnotes
from reports.speedup import (
    SpeedupRow,
    Speedups,
    framework_cell,
    interval_text,
    latency_cell,
    milliseconds,
)
from reports.table import Style, Table, TableCell, cells
from reports.wording import counted


def short_table(data: RunData, result: Speedups) -> Table:
    """Latency of the baseline and speedup of every other framework, a row a network; what does not count is
    named, and how many cells are doubted. The full tables say the rest.
    """
    notes = Footnotes()
    found = {(row.model, row.threads, row.framework): row for row in result.rows}
    columns = (
        *cells("network", "threads"),
        framework_cell(data, result.baseline, f"{result.baseline} ms", notes),
        *(framework_cell(data, name, name, notes) for name in result.judged),
    )
    rows = tuple(_row(group, result, found, notes) for group in data.groups)
    threads = dict.fromkeys(group.key.threads for group in data.groups)
    footers = tuple(_means(result, count, notes) for count in threads)
    title = f"Speedup over {result.baseline}, {data.run.options.precision}"
    return Table(
        title, columns, rows, footers, notes.texts, remarks=_remarks(data), text_columns=1, key_columns=2
    )


def _row(
    group: Group, result: Speedups, found: Mapping[tuple[str, int, str], SpeedupRow], notes: Footnotes
) -> tuple[TableCell, ...]:
    key, baseline = group.key, group.cells[result.baseline]
    first = (
        TableCell(milliseconds(baseline.latency.estimate))
        if baseline.counts and baseline.latency
        else latency_cell(group, result.baseline, notes)
    )
    rows = (found[key.model, key.threads, name] for name in result.judged)
    return (*cells(key.model, str(key.threads)), first, *(_speedup(group, row, notes) for row in rows))


def _speedup(group: Group, row: SpeedupRow, notes: Footnotes) -> TableCell:
    if row.speedup is not None:
        style = Style.BEST if row.speedup.low > 1 else Style.PLAIN
        return TableCell(interval_text(row.speedup), style)
    cell = group.cells[row.framework]
    if cell.counts:  # it is the baseline that does not
        return TableCell("–", Style.MISSING)
    return TableCell(cell.status, Style.MISSING, (notes.number(f"{cell.status}: {cell.reason}"),))


def _means(result: Speedups, threads: int, notes: Footnotes) -> tuple[TableCell, ...]:
    row = [*cells("geometric mean", str(threads), "")]
    for mean in (one for one in result.means if one.threads == threads):
        left_out = f"the mean leaves out {', '.join(mean.missing)}"
        marks = (notes.number(left_out),) if mean.missing else ()
        text = f"{interval_text(mean.interval)}, n = {mean.count}" if mean.interval else "–"
        row.append(TableCell(text, notes=marks))
    return tuple(row)


def _remarks(data: RunData) -> tuple[str, ...]:
    every = [cell for group in data.groups for cell in group.cells.values()]
    doubted = sum(bool(cell.doubts) for cell in every)
    text = f"{data.measured_cells} of {counted(len(every), 'cell')} good"
    return (f"{text}; doubts about {doubted} of them are in the full tables" if doubted else text,)


def short_text(data: RunData, result: Speedups, folder: str) -> str:
    """Markdown for a README: the command and the machine, the table, and where all the rest is."""
    lead = f"`{typed_command(data.run)}`, {data.run.started_at[:10]}."
    table = markdown(short_table(data, result))
    rest = f"How it was measured, every cell, doubt and raw sample: [{folder}]({folder}/README.md)."
    return f"{lead}\n\n{table}\n{rest}\n"


def folder_text(data: RunData, result: Speedups, commands: Mapping[str, str], sha256: str) -> str:
    """Markdown for the README of the run's folder: setup, table, and the command that made each file."""
    files = "\n".join(f"| [{name}]({name}) | `{command}` |" for name, command in commands.items())
    return (
        f"{setup_text(data)}\n\nMeasured with `{typed_command(data.run)}`"
        f" on {data.run.started_at[:10]}.\n\n{markdown(short_table(data, result))}\n"
        f"| file | made by |\n| :-- | :-- |\n{files}\n\n"
        f"`bench verify run.bench` draws every table again from the raw samples. SHA-256 of `run.bench`:\n"
        f"`{sha256}`.\n"
    )


def put_between(text: str, name: str, content: str, where: str) -> str:
    """The text with `content` in the place of what stood between its markers `<!-- name -->` and
    `<!-- end of name -->`; raises `BenchError` when it has not exactly one such pair.
    """
    first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(first)}.*?{re.escape(last)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise BenchError(
            f"the markers {first} and {last} are not there once each",
            where=where,
            hint=f"write them where the table belongs, {first} first",
        )
    return pattern.sub(lambda match: f"{first}\n{content}\n{last}", text)
