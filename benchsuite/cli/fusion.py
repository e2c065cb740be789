"""`bench fusion`: databases of measured pairs as text, and many of them as one."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchsuite.cli.options import format_option, print_json

FILES = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Databases that `bench compile NET --profile-fusion FILE` writes."""


@command.command()
@click.argument("out", type=FILES)
@click.argument("files", nargs=-1, required=True, type=FILES)
def merge(out: Path, files: tuple[Path, ...]) -> None:
    """Write all entries of FILES into OUT. Of two entries about the same pair the one of more runs is kept,
    then the one with the smaller figures; the order of the files does not matter.
    """
    from ourcompiler import profiles

    whole = profiles.merged(profiles.read(file) for file in files)
    profiles.write(whole, out)
    click.echo(f"{len(whole.entries)} entries in {out}, {whole.damaged} damaged rows left out", err=True)


@command.command()
@click.argument("file", type=FILES)
@format_option("rich", "json")
def show(file: Path, form: str) -> None:
    """What a database knows, the pairs that pay most first."""
    from ourcompiler import profiles

    database = profiles.read(file)
    if form == "json":
        print_json("bench.fusion/1", entries=database.document()["entries"], damaged=database.damaged)
        return
    table = Table("one/two", "one µs", "two µs", "runs", "pair", "for", "first", "second")
    for key, one in sorted(
        database.entries.items(), key=lambda row: (row[1].fused_ns / row[1].separate_ns, row[0])
    ):
        table.add_row(
            f"{one.fused_ns / one.separate_ns:.2f}",
            f"{one.fused_ns / 1e3:.1f}",
            f"{one.separate_ns / 1e3:.1f}",
            str(one.runs),
            key.pair,
            f"{key.target}, {key.threads} threads, {key.compiler}",
            key.first,
            key.second,
        )
    console = Console()
    console.print(table)
    console.print(f"{len(database.entries)} entries, {database.damaged} damaged rows left out")
