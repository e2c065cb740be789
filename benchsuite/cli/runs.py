"""`bench runs`: what is in the journal."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

from benchsuite.cli.options import format_option, journal_option, print_json
from benchsuite.journal import Journal
from benchsuite.record import CellRecord, RunRecord
from reports.as_rich import draw_rich
from reports.table import Table, TableCell, cells

COLUMNS = cells("run", "started (UTC)", "cells", "networks", "frameworks", "device")
MOST_NAMES = 4


@click.command()
@format_option("rich", "json")
@journal_option
def command(form: str, journal: Path) -> None:
    """List the runs in the journal, oldest first."""
    with Journal(journal, must_exist=True) as book:
        runs = [(run, book.cells(run.number)) for run in book.runs()]
    if form == "json":
        print_json("bench.runs/1", runs=[_document(run, found) for run, found in runs])
        return
    rows = tuple(_row(run, found) for run, found in runs)
    draw_rich(Table(f"Runs in {journal}", COLUMNS, rows, text_columns=6), Console())


def _document(run: RunRecord, found: Sequence[CellRecord]) -> dict[str, object]:
    options = run.options
    return {
        "number": run.number,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "status": run.status,
        "models": list(options.models),
        "frameworks": list(options.frameworks),
        "device": options.device,
        "threads": list(options.threads),
        "precision": options.precision,
        "cells": len(found),
        "cells_done": _done(found),
    }


def _row(run: RunRecord, found: Sequence[CellRecord]) -> tuple[TableCell, ...]:
    options = run.options
    started = datetime.fromisoformat(run.started_at)
    networks = [Path(name).name for name in options.models]
    return cells(
        str(run.number),
        f"{started:%Y-%m-%d %H:%M}",
        f"{_done(found)}/{len(found)} {run.status}",
        ", ".join(networks) if len(networks) <= MOST_NAMES else f"{len(networks)} networks",
        ", ".join(options.frameworks),
        f"{options.device} {','.join(map(str, options.threads))}t",
    )


def _done(found: Sequence[CellRecord]) -> int:
    return sum(cell.outcome is not None for cell in found)
