"""`bench nightly`, for cron: measure, compare with the last good night and with the history, report."""

import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import numpy as np
from platformdirs import user_data_path

from benchsuite.cli.compare import RELATIVE_HELP
from benchsuite.cli.live import choose_progress
from benchsuite.cli.options import (
    cache_option,
    detectable_option,
    journal_option,
    seconds,
    share,
    write_text,
)
from benchsuite.cli.run import Asked, asking, check_baseline, make_job, read_options
from benchsuite.device.catalogue import open_device
from benchsuite.journal import Journal
from benchsuite.nights import keep_verdict
from benchsuite.record import RunOptions, RunStatus
from benchsuite.run import execute
from models.errors import BenchError
from reports.as_html import Past, check_libraries, html_page
from reports.cells import read_run
from reports.compare import compare
from reports.detectable import Detectable, asked_for, detectable_of
from reports.history import LEAST_RUNS, change_points, is_night, read_history, runs_like, segment_ends
from reports.night import Before, Night, banners, exit_code, last_good, summary
from reports.speedup import choose_baseline, speedups

SAME_NIGHT = timedelta(hours=20)


@click.command()
@asking
@click.option("--budget", metavar="TIME", help="Stop after this time, such as 3h.")
@click.option("--baseline", metavar="FRAMEWORK", help="Of the tables.  [default: the framework named last]")
@click.option(
    "--since", type=int, metavar="RUN", help="Compare with this run.  [default: the last good night]"
)
@detectable_option
@click.option("--relative-to", metavar="FRAMEWORK", help=RELATIVE_HELP)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=lambda: user_data_path("bench") / "nightly",
    show_default="bench/nightly in your data folder",
    help="Folder of the pages and summaries.",
)
@click.option("--quiet", is_flag=True, help="No progress; the summary's path and trouble only.")
@journal_option
@cache_option
def command(
    budget: str | None,
    baseline: str | None,
    since: int | None,
    detectable: str | None,
    relative_to: str | None,
    out: Path,
    quiet: bool,
    journal: Path,
    cache: Path,
    **asked: object,
) -> None:
    """Measure, compare with the last good night and with the history, write the page and a summary.

    A night that was cut off less than 20 hours ago goes on where it stood. A regression is told every night
    until it is gone, or accepted (`bench accept`). docs/nightly.md has the line for cron and a CI example.

    \b
    bench nightly --models all --threads 1,2 --budget 3h --out site/

    Exit codes: 0 a good night, 1 failures or a regression, 2 wrong usage, 3 nothing was measured, 4 the
    budget ended first, 130 interrupted.
    """
    options, limit = read_options(Asked(**asked)), seconds(budget, "--budget")  # type: ignore[arg-type]
    threshold = None if detectable is None else asked_for(share(detectable, "--detectable"))
    _check_early(options, baseline, relative_to, out)
    with Journal(journal) as book:
        if since is not None:
            book.run(since)  # one that is not there is found out now
        number = _tonight(book, options)
        with closing(open_device(options.device)) as device, closing(choose_progress(quiet)) as progress:
            number, _ = execute(make_job(book, options, device, cache, number, limit, progress))
        night = look(book, number, baseline, since, threshold, relative_to)
        keep_verdict(book, number, night.regressions)
    for path in _write(night, out):
        click.echo(str(path))
    for text in banners(night):
        click.echo(f"trouble: {text}", err=True)
    sys.exit(exit_code(night))


def _check_early(options: RunOptions, baseline: str | None, relative_to: str | None, out: Path) -> None:
    """What would go wrong after hours of measuring goes wrong now; raises `BenchError`."""
    for option, name in (("--baseline", baseline), ("--relative-to", relative_to)):
        if name is not None:
            check_baseline(name, options, option)
    check_libraries()
    segment_ends(np.zeros(2 * LEAST_RUNS))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(
            f"the folder cannot be made: {error.strerror}", where=str(out), hint="choose another --out"
        ) from error


def _tonight(book: Journal, options: RunOptions) -> int | None:
    """The number of a night that was cut off and is still tonight's; None for a night of its own."""
    earliest = datetime.now(UTC) - SAME_NIGHT
    for run in reversed(book.runs()):
        if is_night(run) and run.options == options:
            fresh = datetime.fromisoformat(run.started_at) >= earliest
            return run.number if fresh and run.status is not RunStatus.COMPLETE else None
    return None


def look(
    book: Journal,
    number: int,
    baseline: str | None,
    since: int | None,
    detectable: Detectable | None,
    relative_to: str | None,
) -> Night:
    """The night `number` of a journal, beside the last good one (or the run `since`) and the history.

    Without `detectable` the machine's is taken from the journal.
    """
    data = read_run(book, number)
    earlier = runs_like(book.runs(), data.run)
    before = (
        Before(book.run(since))
        if since is not None
        else last_good(book, earlier, book.cells(number), relative_to or "")
    )
    series = read_history(book, [*earlier, data.run])
    threshold, comparison = detectable or detectable_of(book, data), None
    if before is not None:
        earlier_data = read_run(book, before.run.number)
        comparison = compare(earlier_data, data, detectable=threshold, relative_to=relative_to)
    return Night(
        data=data,
        result=speedups(data, choose_baseline(data, baseline)),
        comparison=comparison,
        series=series,
        points=change_points(series),
        before=before,
    )


def _write(night: Night, out: Path) -> tuple[Path, ...]:
    """The page and the summary under the night's own names and as `latest`; returns the latter."""
    past = Past(night.series, night.points, night.comparison)
    texts = {
        "html": html_page(night.data, night.result, past, banners(night)),
        "md": summary(night),
    }
    for kind, text in texts.items():
        write_text(text, out / f"night-{night.data.run.number:04}.{kind}")
        write_text(text, out / f"latest.{kind}")
    return tuple(out / f"latest.{kind}" for kind in texts)
