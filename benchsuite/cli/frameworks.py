"""`bench frameworks`: what can be compared here, and how to get the rest."""

from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console

from adapters.catalogue import ADAPTERS, adapter, installed_version, notes_of, own_programs
from adapters.environments import Environment, environments, folder_of, is_made
from adapters.framework import VARIANT_MARK
from adapters.install import environments_of, install, missing_parts
from adapters.protocol import Setting
from benchsuite.cli.options import cache_option, format_option, print_json, runners_option
from benchsuite.device.frameworks import why_not_here
from benchsuite.tune import tune
from models.catalogue import resolve
from models.errors import BenchError
from reports.as_rich import draw_rich
from reports.footnotes import Footnotes
from reports.table import Table, TableCell, cells

COLUMNS = cells("framework", "what it is", "version", "to be installed")
ENVIRONMENT_COLUMNS = cells("environment", "why", "made")


@click.group(invoke_without_command=True)
@format_option("rich", "json")
@click.pass_context
def command(context: click.Context, form: str) -> None:
    """List the frameworks and what is installed, or install one.

    An environment of its own is also made on first use by `bench run`; extras of bench are installed by this
    command or by pip, never behind your back.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_frameworks, form=form)


@command.command("list")
@format_option("rich", "json")
def list_frameworks(form: str = "rich") -> None:
    """List the frameworks, what is installed, and the variants that can be compared."""
    if form == "json":
        made = [{"name": row.name, "why": row.why, "made": is_made(row)} for row in environments().values()]
        print_json("bench.frameworks/1", frameworks=[_row(name) for name in ADAPTERS], environments=made)
        return
    notes = Footnotes()
    drawn = tuple(_drawn(name, notes) for name in ADAPTERS)
    remark = "`bench frameworks show NAME`: its options, and the variants that can be compared with them"
    table = Table("Frameworks", COLUMNS, drawn, notes=notes.texts, remarks=(remark,), text_columns=4)
    draw_rich(table, Console())
    rows = tuple(
        cells(row.name, row.why, str(folder_of(row)) if is_made(row) else "on first use")
        for row in environments().values()
    )
    draw_rich(Table("Environments of their own", ENVIRONMENT_COLUMNS, rows, text_columns=3), Console())
    own = tuple(cells(one.name, one.title, one.made_from) for one in own_programs().values())
    if own:
        columns = cells("framework", "what it is", "made from")
        draw_rich(Table("Programs of your own", columns, own, text_columns=3), Console())


@command.command("show")
@click.argument("name")
@runners_option
@format_option("rich", "json")
def show_framework(name: str, form: str) -> None:
    """Show one framework: how it is used, and the variants, such as `ort:no-arena` after --frameworks."""
    row = adapter(name)
    if form == "json":
        made = [_environment(environments()[one]) for one in environments_of(row)]
        print_json("bench.frameworks/1", frameworks=[_row(row.name)], environments=made)
        return
    console = Console()
    conversion = row.conversion(Setting(1, row.precisions[0]))
    facts = {
        "what it is": row.title,
        "version": installed_version(row) or "not installed",
        "cannot run here": why_not_here(row) or "",
        "converter": conversion.tool if conversion else "none: it reads ONNX",
        "precision classes": ", ".join(row.precisions),
        "tuned for a network": "yes" if row.tuned else "no",
        **row.options,
    }
    known = tuple(cells(key, value) for key, value in facts.items() if value)
    draw_rich(Table(row.name, cells("fact", "value"), known, remarks=notes_of(row), text_columns=2), console)
    variants = tuple(
        cells(f"{row.name}{VARIANT_MARK}{variant}", _assigned(options))
        for variant, options in row.variants.items()
    )
    if variants:
        draw_rich(Table("Variants", cells("--frameworks", "instead"), variants, text_columns=2), console)


@command.command("install")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def install_frameworks(names: tuple[str, ...]) -> None:
    """Install frameworks, or make environments of their own, with the tested versions."""
    for name in names:
        install(name.lower(), lambda text: click.echo(text, err=True))
        click.echo(f"{name} is ready")


@command.command("tune")
@click.argument("name")
@click.option("--models", default="quick", show_default=True, help="As of `bench run`.")
@click.option("--trials", type=click.IntRange(min=1), default=64, show_default=True, help="Of a kernel.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="A network.",
)
@cache_option
def tune_framework(name: str, models: str, trials: int, minutes: float, cache: Path) -> None:
    """Search for faster kernels on this chip; what is found is kept, and a later search goes on from it."""
    failed = tune(
        adapter(name),
        resolve(models, {}),
        trials=trials,
        minutes=minutes,
        cache=cache,
        say=lambda text: click.echo(text, err=True),
    )
    if failed:
        raise BenchError("; ".join(failed), where="bench frameworks tune", hint="its own words are above")


def _assigned(options: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def _environment(row: Environment) -> dict[str, object]:
    return {"name": row.name, "why": row.why, "made": is_made(row)}


def _row(name: str) -> dict[str, object]:
    row = adapter(name)
    return {
        "name": row.name,
        "title": row.title,
        "package": row.distribution,
        "version": installed_version(row),
        "missing": list(missing_parts(row)),
        "cannot_run": why_not_here(row),
        "environments": list(environments_of(row)),
        "options": dict(row.options),
        "variants": {variant: dict(options) for variant, options in row.variants.items()},
        "tuned": row.tuned,
        "notes": list(notes_of(row)),
    }


def _drawn(name: str, notes: Footnotes) -> tuple[TableCell, ...]:
    row = adapter(name)
    version, missing = installed_version(row), ", ".join(missing_parts(row))
    marks = tuple(notes.number(note) for note in notes_of(row))
    install_line = f"{missing}: bench frameworks install {name}" if missing else ""
    shown = f"{row.distribution} {version}" if version else "no"
    return (TableCell(row.name, notes=marks), *cells(row.title, shown, install_line))
