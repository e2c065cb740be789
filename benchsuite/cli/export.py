"""`bench export`: one run as one file that anyone can check and repeat."""

from pathlib import Path

import click

from benchsuite.cli.options import journal_option
from benchsuite.facts import version_text
from benchsuite.journal import Journal
from models.errors import BenchError
from reports.artefact import artefact_bytes
from reports.cells import read_run
from reports.speedup import BEST_PEER, choose_reference


@click.command()
@click.argument("run", type=int)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--baseline", metavar="FRAMEWORK", help="Of its tables.  [default: the one named last]")
@click.option("--against", metavar="PEER", help=f"{BEST_PEER}: instead of a baseline.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@journal_option
def command(
    run: int, file: Path, baseline: str | None, against: str | None, force: bool, journal: Path
) -> None:
    """Write RUN into FILE: every raw sample, the environment, hashes, and the tables made of them.

    `bench verify FILE` recomputes the tables, `bench reproduce FILE --cell NETWORK/FRAMEWORK` repeats a cell.
    """
    with Journal(journal, must_exist=True) as book:
        data = read_run(book, run)
    if not data.measured_cells:
        raise BenchError(
            f"run {run} has not a single good number", where=str(journal), hint="another one of `bench runs`"
        )
    content = artefact_bytes(data, choose_reference(data, baseline, against), version_text())
    try:
        with file.open("wb" if force else "xb") as stream:
            stream.write(content)
    except OSError as error:
        raise BenchError(
            f"cannot be written: {error.strerror}", where=str(file), hint="another name, or --force"
        ) from error
    click.echo(f"{file}: run {run}, {data.measured_cells} good cells, {len(content) / 1e6:.1f} MB")
