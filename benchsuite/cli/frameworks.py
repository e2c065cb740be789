"""`bench frameworks`: what can be compared here."""

import click
from rich.console import Console

from adapters.catalogue import ADAPTERS, adapter, installed_version
from benchsuite.cli.options import format_option, print_json
from reports.as_rich import draw_rich
from reports.table import Table, TableCell

COLUMNS = ("framework", "what it is", "package", "installed", "notes")


@click.command()
@format_option("rich", "json")
def command(form: str) -> None:
    """List the frameworks and what is installed."""
    rows = [_row(name) for name in ADAPTERS]
    if form == "json":
        print_json("bench.frameworks/1", frameworks=rows)
        return
    cells = tuple(tuple(TableCell(str(row[column] or "–")) for column in COLUMNS) for row in rows)
    draw_rich(Table("Frameworks", COLUMNS, cells, text_columns=5), Console())


def _row(name: str) -> dict[str, object]:
    row = adapter(name)
    return {
        "framework": row.name,
        "what it is": row.title,
        "package": row.distribution,
        "installed": installed_version(row),
        "notes": "; ".join(row.notes),
    }
