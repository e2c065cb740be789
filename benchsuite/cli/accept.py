"""`bench accept`: the level of a night that became slower is the one to compare with from now on."""

from pathlib import Path

import click

from benchsuite.cli.options import journal_option
from benchsuite.journal import Journal
from benchsuite.nights import accept
from benchsuite.record import RunRecord, RunStatus
from models.errors import BenchError
from reports.history import is_night


@click.command()
@click.argument("night", type=int)
@click.option("--why", default="", help="A few words for the summaries of later nights.")
@journal_option
def command(night: int, why: str, journal: Path) -> None:
    """Accept the level of NIGHT (a run's number): later nights are compared with it.

    Without that, a night after a regression is compared with the last good night before it, and the alarm
    goes on. Cells that failed on the accepted night stay failures.
    """
    with Journal(journal, must_exist=True) as book:
        _check(book.run(night))
        accept(book, night, why)
    click.echo(f"later nights are compared with night {night}{f': {why}' if why else ''}")


def _check(run: RunRecord) -> None:
    if not is_night(run):
        raise BenchError(
            f"run {run.number} is no night: `bench nightly` did not make it",
            where="bench accept",
            hint="the number of a night (`bench runs`); for one comparison, `bench compare A B`",
        )
    if run.status is not RunStatus.COMPLETE:
        raise BenchError(
            f"night {run.number} is {run.status}: a part of the networks has no level to accept",
            where="bench accept",
            hint="repeat the command of the night, which goes on with it, or accept a whole night",
        )
