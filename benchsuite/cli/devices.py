"""`bench devices`: where can be measured."""

import click
from rich.console import Console

from benchsuite.cli.devices_phone import draw_rows, probe, restore
from benchsuite.cli.devices_provision import command as provision
from benchsuite.cli.devices_rows import rows
from benchsuite.cli.options import format_option, print_json
from benchsuite.device.catalogue import KINDS
from benchsuite.device.host import host_facts
from benchsuite.device.protocol import Fact
from reports.as_rich import draw_rich
from reports.table import Table, cells


@click.group(invoke_without_command=True)
@format_option("rich", "json")
@click.pass_context
def command(context: click.Context, form: str) -> None:
    """List the devices that can be measured on, with the facts of this machine."""
    if context.invoked_subcommand is not None:
        return
    facts = dict(host_facts())
    if form == "json":
        kinds = [{"name": name, "title": what} for name, what in KINDS.items()]
        phones = [
            {"serial": one.phone.serial, "state": one.phone.state, "advice": one.advice} for one in rows()[0]
        ]
        print_json("bench.devices/1", devices=kinds, local=facts, phones=phones)
        return
    console = Console()
    kinds_drawn = tuple(cells(name, what) for name, what in KINDS.items())
    draw_rich(Table("Devices", cells("--device", "what it is"), kinds_drawn, text_columns=2), console)
    draw_rows(console)
    known = tuple(cells(*_fact_texts(name, value)) for name, value in facts.items())
    draw_rich(Table("This machine (local)", cells("fact", "value"), known, text_columns=2), console)


for one in (probe, provision, restore):
    command.add_command(one)


def _fact_texts(name: str, value: Fact) -> tuple[str, str]:
    """A fact's name and value in words."""
    if name.endswith("_bytes") and isinstance(value, int):
        return name.removesuffix("_bytes"), f"{value / 2**30:.1f} GiB"
    words = {None: "unknown", True: "yes", False: "no"}
    text = words[value] if value is None or isinstance(value, bool) else str(value)
    return name.replace("_", " "), text
