"""`bench runs`: what is in the journal."""

from pathlib import Path

import click
from rich.console import Console

from benchsuite.cli.options import format_option, journal_option, print_json
from benchsuite.journal import Journal
from benchsuite.record import RunRecord
from reports.as_rich import draw_rich
from reports.table import Table, TableCell

COLUMNS = ("run", "started", "status", "device", "networks", "frameworks", "threads", "cells")


@click.command()
@format_option("rich", "json")
@journal_option
def command(form: str, journal: Path) -> None:
    """List the runs in the journal, oldest first."""
    with Journal(journal, must_exist=True) as book:
        rows = [_row(book, run) for run in book.runs()]
    if form == "json":
        print_json("bench.runs/1", runs=rows)
        return
    cells = tuple(tuple(TableCell(str(row[column])) for column in COLUMNS) for row in rows)
    draw_rich(Table(f"Runs in {journal}", COLUMNS, cells, text_columns=7), Console())


def _row(book: Journal, run: RunRecord) -> dict[str, object]:
    cells = book.cells(run.number)
    done = sum(cell.outcome is not None for cell in cells)
    return {
        "run": run.number,
        "started": run.started_at,
        "status": str(run.status),
        "device": run.options.device,
        "networks": ", ".join(run.options.models)
        if len(run.options.models) < 5
        else f"{len(run.options.models)} networks",
        "frameworks": ", ".join(run.options.frameworks),
        "threads": ", ".join(map(str, run.options.threads)),
        "cells": f"{done} of {len(cells)}",
    }
