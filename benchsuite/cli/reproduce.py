"""`bench reproduce`: measure one cell of an artefact again, here, and set the two side by side."""

import sys
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import click
from rich.console import Console

from adapters.catalogue import adapter
from benchsuite.cli.live import choose_progress
from benchsuite.cli.options import cache_option, detectable_option, journal_option, seconds, share
from benchsuite.cli.run import make_job
from benchsuite.device.catalogue import open_device
from benchsuite.journal import Journal
from benchsuite.policy import Policy
from benchsuite.record import GroupKey, RunOptions
from benchsuite.run import execute
from models.catalogue import resolve
from models.errors import BenchError
from models.suggest import nearest
from reports.artefact_read import Artefact, read_artefact
from reports.as_rich import draw_rich
from reports.cells import Group, RunData, part_of, read_run
from reports.compare import Change, compare
from reports.compare_table import comparison_table
from reports.detectable import asked_for, detectable_of


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--cell", required=True, metavar="NETWORK/FRAMEWORK[/THREADS]", help="Such as swin/mnn or swin/mnn/2."
)
@click.option("--alone", is_flag=True, help="Without the baseline beside it.")
@click.option("--device", help="Where.  [default: the artefact's]")
@detectable_option
@click.option("--budget", metavar="TIME", help="Stop after this time, such as 20m.")
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
@journal_option
@cache_option
def command(
    file: Path,
    cell: str,
    alone: bool,
    device: str | None,
    detectable: str | None,
    budget: str | None,
    quiet: bool,
    journal: Path,
    cache: Path,
) -> None:
    """Measure one cell of the artefact FILE again, with the same options, beside the baseline of its tables.

    The result is a run of your journal, drawn beside the artefact's. Exit code 1 when a cell differs beyond
    the detectable difference, or does not run here.
    """
    wanted = None if detectable is None else asked_for(share(detectable, "--detectable"))
    artefact = read_artefact(file)
    group, framework = find_cell(artefact.data, cell)
    options = _options(artefact, group.key, framework, alone, device)
    _check_digest(group, framework, options)
    with Journal(journal) as book:
        with closing(open_device(options.device)) as place, closing(choose_progress(quiet)) as progress:
            job = make_job(book, options, place, cache, None, seconds(budget, "--budget"), progress)
            number, _ = execute(job)
        again = read_run(book, number)
        threshold = wanted or detectable_of(book, again)
    before = part_of(artefact.data, group, options.frameworks, options.device)
    found = compare(before, again, detectable=threshold)
    draw_rich(comparison_table(found), Console())
    sys.exit(0 if all(pair.change is Change.SAME for pair in found.pairs) else 1)


def find_cell(data: RunData, text: str) -> tuple[Group, str]:
    """`swin/mnn` or `swin/mnn/2` to its group and framework; raises `BenchError` naming what there is."""
    model, _, rest = text.partition("/")
    framework, _, threads = rest.partition("/")
    known = [f"{group.key.model}/{name}/{group.key.threads}" for group in data.groups for name in group.cells]
    for group in data.groups:
        fits = (group.key.model, str(group.key.threads)) == (model, threads or str(group.key.threads))
        if fits and framework.lower() in group.cells:
            return group, framework.lower()
    raise BenchError(
        f"the artefact has no cell {text!r}",
        where="--cell",
        hint=nearest(text, known, otherwise=f"such as {known[0]}" if known else "it has none at all"),
    )


def _options(
    artefact: Artefact, key: GroupKey, framework: str, alone: bool, device: str | None
) -> RunOptions:
    """The artefact's own options, for this cell and the baseline of its tables."""
    data = artefact.data
    models = dict(
        zip(dict.fromkeys(one.key.model for one in data.groups), data.run.options.models, strict=True)
    )
    baseline = artefact.reference if artefact.reference in data.frameworks else framework
    wanted = [framework] if alone else [framework, baseline]
    known = {field.name for field in fields(Policy)}
    return replace(
        data.run.options,
        policy={name: value for name, value in data.run.options.policy.items() if name in known},
        models=(models[key.model],),
        frameworks=tuple(dict.fromkeys(adapter(name).name for name in wanted)),
        threads=(key.threads,),
        device=device or _safe_device(key.device),
    )


def _safe_device(name: str) -> str:
    """The device that the artefact names, which may come from anyone: no special file is opened for it."""
    kind, _, path = name.partition(":")
    if kind == "replay" and not Path(path).is_file():
        raise BenchError(
            f"the artefact was measured on {name}, which is not here",
            where="--device",
            hint="name a device: --device local",
        )
    return name


def _check_digest(group: Group, framework: str, options: RunOptions) -> None:
    """Another network of the same name would be no repetition."""
    (model,) = resolve(",".join(options.models), options.dimensions)
    kept = group.cells[framework].record.model_digest
    if model.digest != kept:
        raise BenchError(
            f"the artefact measured another version of {group.key.model!r} ({kept}, here {model.digest})",
            where="--cell",
            hint="use the version of bench, or the ONNX file, that the artefact was made with",
        )
