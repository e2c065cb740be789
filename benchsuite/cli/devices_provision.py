"""`bench devices provision`: bring the runtime onto a phone, so that frameworks run there."""

import click

from adapters.catalogue import ADAPTERS
from benchsuite.cli.options import format_option, print_json
from benchsuite.device.adb.choose import open_link
from benchsuite.device.runtime.provision import Runtime, provision, remove
from benchsuite.device.runtime.table import layer_table, refusal


@click.command("provision")
@click.argument("serial", metavar="DEV")
@click.option(
    "--frameworks",
    "names",
    default="",
    metavar="A,B",
    help="What shall run there. Default: everything that can.",
)
@click.option("--remove", "removing", is_flag=True, help="Remove the runtime from the phone instead.")
@click.option("--no-trial", is_flag=True, help="Do not start Python there to try each framework.")
@format_option("rich", "json")
def command(serial: str, names: str, removing: bool, no_trial: bool, form: str) -> None:
    """Push loader, Python, numpy and frameworks to a phone: once for each content, every file checked.

    DEV is the serial that `bench devices` lists, a name of devices.toml, or tcp:HOST:PORT. Nothing is
    installed; all of it lies in /data/local/tmp/bench/layers.
    """
    link = open_link(serial)
    quiet = form == "json"
    if removing:
        remove(link)
        _tell(quiet, serial, None, ())
        return
    frameworks = tuple(filter(None, names.split(","))) or tuple(layer_table().frameworks)
    runtime = provision(link, frameworks, lambda text: click.echo(text, err=True), trial=not no_trial)
    _tell(quiet, serial, runtime, frameworks)


def _tell(as_json: bool, serial: str, runtime: Runtime | None, frameworks: tuple[str, ...]) -> None:
    refused = {name: reason for name in ADAPTERS if (reason := refusal(name)) is not None}
    if as_json:
        folders = list(runtime.folders) if runtime else []
        print_json(
            "bench.provision/1", serial=serial, layers=folders, frameworks=list(frameworks), refused=refused
        )
    elif runtime is None:
        click.echo(f"{serial}: the runtime is removed")
    else:
        click.echo(f"{serial}: ready for {', '.join(frameworks)}")
        for name, reason in refused.items():
            click.echo(f"  not {name}: {reason}")
