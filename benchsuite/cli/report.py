"""`bench report`: draw a run from the journal; measures nothing."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from benchsuite.cli.options import format_option, journal_option, write_text
from benchsuite.journal import Journal
from reports.as_data import csv_text, json_text
from reports.as_latex import latex_document
from reports.as_markdown import markdown
from reports.as_rich import draw_rich
from reports.cells import RunData, read_run
from reports.experiment import setup_text
from reports.latency import latency_table
from reports.speedup import BEST_PEER, Speedups, choose_baseline, choose_reference, speedup_table, speedups
from reports.table import Table

FILE_WIDTH = 160


@click.command()
@click.argument("run", required=False, type=int)
@click.option(
    "--baseline", metavar="FRAMEWORK", help="What speedups are relative to.  [default: the one named last]"
)
@click.option(
    "--against",
    metavar="PEER",
    help=f"{BEST_PEER}: each framework (with --baseline: that one only) against the fastest other one of each"
    " network.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file instead of the terminal.",
)
@format_option("rich", "md", "csv", "json", "latex", "html")
@journal_option
def command(
    run: int | None, baseline: str | None, against: str | None, out: Path | None, form: str, journal: Path
) -> None:
    """Draw the tables of RUN (a number from `bench runs`; the last run by default).

    Exit code 3 when the run has not a single good number.
    """
    with Journal(journal, must_exist=True) as book:
        data = read_run(book, run)
        reference = choose_reference(data, baseline, against)
        # Against the best peer there is no baseline: the one that was named is the one to be judged.
        only = choose_baseline(data, baseline) if baseline and reference == BEST_PEER else None
        result = speedups(data, reference, only)
        page = _html(book, data, result) if form == "html" else ""
    if form == "rich" and out is None:
        console = Console()
        for table in _tables(data, result):
            draw_rich(table, console)
    else:
        write_text(page or TEXTS[form](data, result), out)
    sys.exit(0 if data.measured_cells else 3)


def _tables(data: RunData, result: Speedups) -> tuple[Table, ...]:
    return (speedup_table(data, result), latency_table(data))


def _rich(data: RunData, result: Speedups) -> str:
    console = Console(file=io.StringIO(), width=FILE_WIDTH)
    with console.capture() as drawn:
        for table in _tables(data, result):
            draw_rich(table, console)
    return drawn.get()


def _markdown(data: RunData, result: Speedups) -> str:
    return "\n".join(map(markdown, _tables(data, result)))


def _html(book: Journal, data: RunData, result: Speedups) -> str:
    from reports.as_html import Past, html_page  # its libraries are an extra, and take half a second
    from reports.history import change_points, read_history, runs_like

    series = read_history(book, [*runs_like(book.runs(), data.run), data.run])
    return html_page(data, result, Past(series, change_points(series)))


TEXTS: dict[str, Callable[[RunData, Speedups], str]] = {
    "rich": _rich,
    "md": _markdown,
    "csv": lambda data, result: csv_text(data),
    "json": json_text,
    "latex": lambda data, result: latex_document(_tables(data, result), setup_text(data)),
}
"""What each format writes into a file; HTML also asks the journal about earlier runs."""
