"""`bench frameworks`: what can be compared here."""

import click
from rich.console import Console

from adapters.catalogue import ADAPTERS, adapter, installed_version
from benchsuite.cli.options import format_option, print_json
from reports.as_rich import draw_rich
from reports.footnotes import Footnotes
from reports.table import Table, TableCell, cells

COLUMNS = cells("framework", "what it is", "installed")


@click.command()
@format_option("rich", "json")
def command(form: str) -> None:
    """List the frameworks and what is installed."""
    if form == "json":
        print_json("bench.frameworks/1", frameworks=[_row(name) for name in ADAPTERS])
        return
    notes = Footnotes()
    drawn = tuple(_drawn(name, notes) for name in ADAPTERS)
    draw_rich(Table("Frameworks", COLUMNS, drawn, notes=notes.texts, text_columns=3), Console())


def _row(name: str) -> dict[str, object]:
    row = adapter(name)
    return {
        "name": row.name,
        "title": row.title,
        "package": row.distribution,
        "version": installed_version(row),
        "notes": list(row.notes),
    }


def _drawn(name: str, notes: Footnotes) -> tuple[TableCell, ...]:
    row = adapter(name)
    version = installed_version(row)
    installed = f"{row.distribution} {version}" if version else f"no: pip install {row.distribution}"
    marks = tuple(notes.number(note) for note in row.notes)
    return (TableCell(row.name, notes=marks), *cells(row.title, installed))
