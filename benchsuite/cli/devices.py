"""`bench devices`: where can be measured."""

import click
from rich.console import Console

from benchsuite.cli.options import format_option, print_json
from benchsuite.device.catalogue import KINDS
from benchsuite.device.host import host_facts
from reports.as_rich import draw_rich
from reports.table import Table, TableCell


@click.command()
@format_option("rich", "json")
def command(form: str) -> None:
    """List the devices that can be measured on, with the facts of this machine."""
    facts = dict(host_facts())
    if form == "json":
        kinds = [{"name": name, "what": what} for name, what in KINDS.items()]
        print_json("bench.devices/1", devices=kinds, local=facts)
        return
    console = Console()
    rows = tuple((TableCell(name), TableCell(what)) for name, what in KINDS.items())
    draw_rich(Table("Devices", ("--device", "what it is"), rows, text_columns=2), console)
    known = tuple(
        (TableCell(name), TableCell("unknown" if value is None else str(value)))
        for name, value in facts.items()
    )
    draw_rich(Table("local", ("fact", "value"), known, text_columns=2), console)
