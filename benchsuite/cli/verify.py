"""`bench verify`: do the tables of an artefact follow from its raw samples?"""

import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from benchsuite.cli.options import format_option, print_json
from benchsuite.facts import version_text
from reports.artefact_read import read_artefact
from reports.as_rich import draw_rich
from reports.verify import verify, verify_table


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@format_option("rich", "json")
def command(file: Path, form: str) -> None:
    """Recompute every table of the artefact FILE from its raw samples, and say whether they match.

    Exit code 1 when a table does not; a file that is damaged or was changed is refused with exit code 2.
    """
    artefact = read_artefact(file)
    findings = verify(artefact, version_text())
    matches = all(one.matches for one in findings)
    run = artefact.data.run
    if form == "json":
        print_json(
            "bench.verify/1",
            file=str(file),
            sha256=artefact.sha256,
            bench_version=artefact.bench_version,
            run={"number": run.number, "started_at": run.started_at, "status": run.status},
            matches=matches,
            tables=[asdict(one) for one in findings],
        )
    else:
        title = f"{file}: run {run.number} of {run.started_at[:16]}, SHA-256 {artefact.sha256}"
        draw_rich(verify_table(findings, title), Console())
    sys.exit(0 if matches else 1)
