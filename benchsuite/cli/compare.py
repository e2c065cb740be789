"""`bench compare`: two runs, or two journals; exit code 1 when something became slower or broke."""

import re
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from benchsuite.cli.options import (
    detectable_option,
    format_option,
    journal_option,
    print_json,
    share,
    write_text,
)
from benchsuite.journal import Journal
from benchsuite.record import CellKey
from benchsuite.stats import Interval
from models.errors import BenchError
from reports.as_markdown import markdown
from reports.as_rich import draw_rich
from reports.cells import RunData, read_run
from reports.compare import Comparison, compare
from reports.compare_table import comparison_table, facts_that_differ
from reports.detectable import Detectable, asked_for, detectable_of

RELATIVE_HELP = "Compare speedups over this framework, which did not change: the machine's part cancels."


@click.command()
@click.argument("before")
@click.argument("after")
@detectable_option
@click.option("--relative-to", metavar="FRAMEWORK", help=RELATIVE_HELP)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@format_option("rich", "md", "json")
@journal_option
def command(
    before: str,
    after: str,
    detectable: str | None,
    relative_to: str | None,
    out: Path | None,
    form: str,
    journal: Path,
) -> None:
    """Compare run AFTER with run BEFORE: what became slower, faster, broke.

    Each is the number of a run in the journal, the file of another journal (its last run), or FILE:NUMBER.

    \b
    bench compare 3 4
    bench compare old.db new.db:12

    Exit code 1 on a regression: a cell that became slower beyond the detectable difference, or broke.
    """
    wanted = None if detectable is None else asked_for(share(detectable, "--detectable"))
    (_, first), (book, second) = (
        read_place(text, journal, where) for text, where in ((before, "BEFORE"), (after, "AFTER"))
    )
    found = compare(first, second, detectable=wanted or _detectable(book, second), relative_to=relative_to)
    if form == "json":
        print_json("bench.compare/1", **document(found))
    elif form == "md" or out is not None:
        write_text(markdown(comparison_table(found)), out)
    else:
        draw_rich(comparison_table(found), Console())
    sys.exit(1 if found.regressions else 0)


def _detectable(journal: Path, data: RunData) -> Detectable:
    with Journal(journal, must_exist=True) as book:
        return detectable_of(book, data)


def read_place(text: str, journal: Path, where: str) -> tuple[Path, RunData]:
    """`3`, `FILE` or `FILE:3` to a journal and a run; raises `BenchError`."""
    path: Path
    number: int | None
    if text.isdecimal():
        path, number = journal, int(text)
    else:
        match = re.fullmatch(r"(.+?)(?::(\d+))?", text)
        if match is None:
            raise BenchError("no run was named", where=where, hint="a run's number, or a journal FILE:NUMBER")
        path, number = Path(match[1]), int(match[2]) if match[2] else None
        if Path(text).is_file():  # a name with a colon in it
            path, number = Path(text), None
    if not path.is_file() and not text.isdecimal():
        raise BenchError(
            f"{text!r} is neither the number of a run nor a journal",
            where=where,
            hint="a number of `bench runs`, or a journal FILE or FILE:NUMBER",
        )
    with Journal(path, must_exist=True) as book:
        return path, read_run(book, number)


def document(found: Comparison) -> dict[str, object]:
    """Fields of `bench.compare/1`."""
    return {
        "before": _run(found.before),
        "after": _run(found.after),
        "detectable": found.detectable.share,
        "detectable_source": found.detectable.source,
        "relative_to": found.relative_to,
        "regressions": len(found.regressions),
        "cells": [
            {
                **_key(pair.key),
                "before_ms": pair.before.latency.estimate if pair.before.latency else None,
                "after_ms": pair.after.latency.estimate if pair.after.latency else None,
                "before_status": pair.before.status,
                "after_status": pair.after.status,
                "ratio": pair.ratio.estimate if pair.ratio else None,
                "interval": _ends(pair.ratio),
                "change": pair.change,
            }
            for pair in found.pairs
        ],
        "means": [
            {
                "framework": one.framework,
                "threads": one.threads,
                "ratio": one.ratio.estimate if one.ratio else None,
                "interval": _ends(one.ratio),
                "count": one.count,
                "missing": list(one.missing),
            }
            for one in found.aggregates
        ],
        "only_before": [_key(key) for key in found.only_before],
        "only_after": [_key(key) for key in found.only_after],
        "facts_that_differ": {
            name: list(pair) for name, pair in facts_that_differ(found.before, found.after).items()
        },
    }


def _run(data: RunData) -> dict[str, object]:
    return {"number": data.run.number, "started_at": data.run.started_at, "status": data.run.status}


def _key(key: CellKey) -> dict[str, object]:
    values = asdict(key)
    return {**values["group"], "framework": values["framework"]}


def _ends(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval and interval.is_known else None
