"""`bench tilings`: files about how products are cut, shown and merged."""

from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchsuite.cli.options import format_option, print_json

FILES = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Files that `bench compile NET --tune TIME --tilings FILE` writes."""


@command.command()
@click.argument("out", type=FILES)
@click.argument("files", nargs=-1, required=True, type=FILES)
def merge(out: Path, files: tuple[Path, ...]) -> None:
    """Write all entries of FILES into OUT. Of two entries about the same product on the same chip the one of
    more runs is kept, then the one that gains more; the order of the files does not matter.
    """
    from ourcompiler import tilings

    whole = tilings.merged(tilings.read(file) for file in files)
    tilings.write(whole, out)
    click.echo(f"{len(whole)} entries in {out}", err=True)


@command.command()
@click.argument("file", required=False, type=FILES)
@format_option("rich", "json")
def show(file: Path | None, form: str) -> None:
    """What FILE knows (without one: what comes with the compiler), the largest gains first."""
    from ourcompiler import tilings

    entries = tilings.read(file) if file else tilings.shipped()
    rows = sorted(entries.items(), key=lambda row: (row[1].ratio, row[0]))
    if form == "json":
        flat = [
            {
                "chip": key.chip,
                "target": key.target,
                "template": key.template,
                **asdict(key.problem),
                **asdict(found.tiling),
                "ratio": found.ratio,
                "runs": found.runs,
            }
            for key, found in rows
        ]
        print_json("bench.tilings/1", entries=flat)
        return
    table = Table("time", "runs", "product", "tiling", "chip", "target", "template")
    for key, found in rows:
        time = f"{found.ratio:.2f}" if found.ratio < 1 else "as usual"
        table.add_row(
            time, str(found.runs), str(key.problem), str(found.tiling), key.chip, key.target, key.template
        )
    console = Console()
    console.print(table)
    console.print(f"{len(rows)} entries; time: ÷ that of the usual way")
