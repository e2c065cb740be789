"""`bench report`: draw a run from the journal; measures nothing."""

import io
import sys
from pathlib import Path

import click
from rich.console import Console

from benchsuite.cli.options import format_option, journal_option
from benchsuite.journal import Journal
from models.errors import BenchError
from reports.as_data import csv_text, json_text
from reports.as_markdown import markdown
from reports.as_rich import draw_rich
from reports.cells import RunData, read_run
from reports.latency import latency_table
from reports.speedup import Speedups, choose_baseline, speedup_table, speedups

FILE_WIDTH = 160


@click.command()
@click.argument("run", required=False, type=int)
@click.option(
    "--baseline", metavar="FRAMEWORK", help="What speedups are relative to.  [default: the one named last]"
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of the terminal.",
)
@format_option("rich", "md", "csv", "json")
@journal_option
def command(run: int | None, baseline: str | None, out: Path | None, form: str, journal: Path) -> None:
    """Draw the tables of RUN (a number from `bench runs`; the last run by default).

    Exit code 3 when the run has not a single good number.
    """
    with Journal(journal, must_exist=True) as book:
        data = read_run(book, run)
    result = speedups(data, choose_baseline(data, baseline))
    if form == "rich" and out is None:
        console = Console()
        draw_rich(speedup_table(data, result), console)
        draw_rich(latency_table(data), console)
    else:
        _write(_text(form, data, result), out)
    sys.exit(0 if data.measured_cells else 3)


def _text(form: str, data: RunData, result: Speedups) -> str:
    if form == "json":
        return json_text(data, result)
    if form == "csv":
        return csv_text(data)
    tables = (speedup_table(data, result), latency_table(data))
    if form == "md":
        return "\n".join(map(markdown, tables))
    console = Console(file=io.StringIO(), width=FILE_WIDTH)
    with console.capture() as drawn:
        for table in tables:
            draw_rich(table, console)
    return drawn.get()


def _write(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchError(
            f"cannot be written: {error.strerror}", where=str(out), hint="choose another --out"
        ) from error
