"""`bench compile NET --tune TIME`: search how the network's products are cut, into a file."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchsuite.cli.options import seconds
from models.errors import BenchError

if TYPE_CHECKING:
    from ourcompiler.ir.graph import Graph
    from ourcompiler.targets import Target


def check_tune(text: str | None, file: Path | None) -> float | None:
    """Seconds to search for, None for none; raises `BenchError` where nobody says into which file."""
    found = seconds(text, "--tune")
    if found is not None and file is None:
        raise BenchError(
            "where is the result to be kept?", where="--tune", hint="add --tilings FILE, such as tilings.toml"
        )
    return found


def tune_products(
    graph: "Graph",
    wanted: "Target",
    file: Path,
    chip_name: str,
    limit_seconds: float,
    without: tuple[str, ...],
    threads: int,
) -> None:
    """Search a planned graph's products and add what is found to the file; raises `BenchError`."""
    from ourcompiler import tilings
    from ourcompiler.passes.layout import choose, storages
    from ourcompiler.pipeline import LAYOUT
    from ourcompiler.targets import chip
    from ourcompiler.tune import tune

    here = chip()
    if not here or chip_name not in ("", here):
        raise BenchError(
            f"this machine is {here or 'of a kind that it does not tell'}, not {chip_name or 'known'}",
            where="--chip",
            hint="search on the chip itself, without --chip",
        )
    known = tilings.read(file, missing_is_empty=True)
    layouts = {} if LAYOUT in without else storages(choose(graph))
    found = tune(
        graph,
        wanted,
        layouts,
        chip=here,
        seconds=limit_seconds,
        known=known,
        threads=threads,
        say=lambda text: click.echo(text, err=True),
    )
    tilings.write(found.entries, file)
    rest = found.products - found.known - found.searched - found.failed
    click.echo(
        f"{found.products} products: {found.known} known, {found.searched} searched, {found.failed} failed,"
        f" {rest} without time; {len(found.entries)} entries in {file}",
        err=True,
    )
