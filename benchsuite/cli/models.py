"""`bench models`: the networks: list, show, check, export."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchsuite.cli.options import cache_option, dimensions, format_option, names, print_json
from models.catalogue import all_models, resolve, sets
from models.count import Counts, count_model
from models.draw import draw_inputs
from models.errors import BenchError
from models.materialize import materialize
from models.model import Model
from models.suggest import nearest
from models.tiny_set import TINY, TINY_NETWORKS
from models.zoo import GRAPHS, zoo_rows
from reports.as_rich import draw_rich
from reports.table import Table, TableCell, cells

if TYPE_CHECKING:
    from adapters.activations import ActivationSummary
    from models.export.driver import ExportReport

LISTED = cells("network", "title", "kind", "input", "params M", "GMACs")


@click.group()
def command() -> None:
    """List, show, check and export the networks."""


@command.command("list")
@format_option("rich", "json")
def list_models(form: str) -> None:
    """List the networks of the zoo with their published figures."""
    models = all_models()
    if form == "json":
        print_json("bench.models/1", models=[_listed(model) for model in models])
        return
    rows = tuple(_list_row(model) for model in models)
    title = "Networks with their published figures (`bench models show NAME` counts them)"
    remarks = (
        *(f"set {name}: {_members(names, len(models))}" for name, names in sets().items()),
        f"set {TINY}, for slow devices and first tries, not of the zoo: {', '.join(TINY_NETWORKS)}",
    )
    draw_rich(Table(title, LISTED, rows, remarks=remarks, text_columns=4), Console())


@command.command("show")
@click.argument("selection", metavar="NAMES")
@click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Bind a symbolic dimension of a FILE.onnx.")
@format_option("rich", "json")
def show_models(selection: str, dim: tuple[str, ...], form: str) -> None:
    """Show everything about networks: NAMES as after `bench run --models`, a FILE.onnx too."""
    models = resolve(selection, dimensions(dim))
    documents = [{**_listed(model), **_counted(count_model(model))} for model in models]
    if form == "json":
        print_json("bench.models/1", models=documents)
        return
    for document in documents:
        rows = tuple(
            cells(name.replace("_", " "), _shown(value))
            for name, value in document.items()
            if value not in (None, "", [])
        )
        draw_rich(Table(str(document["name"]), cells("fact", "value"), rows, text_columns=2), Console())


@command.command("check")
@click.argument("selection", metavar="NAMES", default="quick")
@format_option("rich", "json")
@cache_option
def check_models(selection: str, form: str, cache: Path) -> None:
    """Run networks with every intermediate value looked at: NaN, infinity, denormals, magnitude.

    Exit code 1 when a value is not finite or denormal.
    """
    from adapters.activations import summarise, survey

    console = Console(stderr=True)
    results = {}
    for model in resolve(selection):
        with console.status(f"{model.name}: looking at every value"):
            path = materialize(model, cache)
            results[model.name] = summarise(survey(path, draw_inputs(model, seed=0)))
    if form == "json":
        print_json("bench.activations/1", models=[_checked(name, result) for name, result in results.items()])
    else:
        rows = tuple(cells(*_checked_texts(name, result)) for name, result in results.items())
        draw_rich(Table("Activations in unoptimised ONNX Runtime", CHECKED, rows), Console())
    sys.exit(int(not all(result.is_sound for result in results.values())))


@command.command("export")
@click.argument("selection", metavar="NAMES")
@click.option("--check", is_flag=True, help="Only say whether the pinned graphs still match.")
@click.option(
    "--pretrained", is_flag=True, help="Write a complete file with the hub's weights instead (needs --out)."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where --pretrained writes.")
def export_models(selection: str, check: bool, pretrained: bool, out: Path | None) -> None:
    """Regenerate pinned graphs from their PyTorch source; needs `make export-env`.

    Exit code 1 when --check finds a difference.
    """
    from models.export.driver import export_pretrained

    chosen = export_names(selection)
    if pretrained:
        if out is None or len(chosen) != 1:
            raise BenchError(
                "--pretrained writes one network to one file", hint="name one network and --out FILE.onnx"
            )
        export_pretrained(chosen[0], out)
        click.echo(f"{chosen[0]}: written to {out}")
        return
    reports = [_export_one(name, check) for name in chosen]
    sys.exit(int(check and any(report.differences for report in reports)))


def export_names(selection: str) -> list[str]:
    """Names of pinned networks, also of those whose graph does not exist yet; raises `ModelError`."""
    known = (
        {row.name: (row.name,) for row in zoo_rows()}
        | dict(sets())
        | {"all": tuple(row.name for row in zoo_rows())}
    )
    chosen: dict[str, None] = {}
    for part in names(selection):
        if part not in known:
            raise BenchError(
                f"no network is called {part!r}", hint=nearest(part, known, otherwise="`bench models list`")
            )
        chosen |= dict.fromkeys(known[part])
    return list(chosen)


def _export_one(name: str, check: bool) -> "ExportReport":
    from models.export.driver import export

    report = export(name, GRAPHS, check=check)
    verdict = "differs" if report.differences else "the same" if check else "written"
    size = report.pinned_byte_count / 1e3
    click.echo(f"{name}: {verdict}; {report.node_count} nodes, {size:.0f} kB, {report.seconds:.0f} s")
    for difference in report.differences:
        click.echo(f"  {difference}")
    return report


CHECKED = cells(
    "network",
    "values",
    "not finite",
    "denormal",
    "all zero",
    "largest",
    "where",
    "smallest rms",
    "where",
)


def _checked(name: str, result: "ActivationSummary") -> dict[str, object]:
    return {
        "model": name,
        "values": result.value_count,
        "elements": result.element_count,
        "not_finite": [fact.name for fact in result.non_finite],
        "denormal": [fact.name for fact in result.denormal],
        "denormal_elements": result.denormal_count,
        "zero": [fact.name for fact in result.zero],
        "largest": result.largest.max_abs if result.largest else None,
        "smallest_rms": result.smallest_rms.rms if result.smallest_rms else None,
    }


def _checked_texts(name: str, result: "ActivationSummary") -> tuple[str, ...]:
    largest, smallest = result.largest, result.smallest_rms
    return (
        name,
        str(result.value_count),
        str(len(result.non_finite)),
        str(len(result.denormal)),
        str(len(result.zero)),
        f"{largest.max_abs:.3g}" if largest else "–",
        largest.operator if largest else "–",
        f"{smallest.rms:.3g}" if smallest else "–",
        smallest.operator if smallest else "–",
    )


def _listed(model: Model) -> dict[str, object]:
    """What the zoo's row (or the user's file) says."""
    inputs = [{"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype} for spec in model.inputs]
    shared: dict[str, object] = {
        "name": model.name,
        "title": model.title,
        "inputs": inputs,
        "digest": model.digest,
    }
    row = model.row
    if row is None:
        return {**shared, "file": str(model.graph)}
    return {
        **shared,
        "paper_row": row.paper_row,
        "task": row.task,
        "kind": row.kind,
        "modality": row.modality,
        "sets": list(row.sets),
        "architecture": row.architecture,
        "licence": row.licence,
        "reference": row.reference,
        "published_parameters": row.parameters,
        "published_macs": row.macs,
        "deviation": row.deviation,
    }


def _counted(counts: Counts) -> dict[str, object]:
    operators = sorted(counts.nodes_by_operator.items(), key=lambda item: -item[1])
    return {
        "parameters": counts.parameters,
        "macs": counts.macs,
        "nodes": counts.nodes,
        "operators": dict(operators),
        "uncounted": list(counts.uncounted),
    }


def _list_row(model: Model) -> tuple[TableCell, ...]:
    row = model.row
    assert row is not None
    shapes = ", ".join("×".join(map(str, spec.shape)) for spec in model.inputs)
    return cells(
        row.name,
        row.title,
        row.kind,
        shapes,
        f"{row.parameters / 1e6:.1f}",
        f"{row.macs / 1e9:.1f}",
    )


def _members(names: Sequence[str], count: int) -> str:
    return f"all {count}" if len(names) == count else ", ".join(names)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    if isinstance(value, list):
        return ", ".join(_shown_input(item) if isinstance(item, dict) else str(item) for item in value)
    if isinstance(value, (int, float)):
        return f"{value:,.0f}"
    return str(value)


def _shown_input(item: dict[str, object]) -> str:
    return f"{item['name']} {item['dtype']} {item['shape']}"
