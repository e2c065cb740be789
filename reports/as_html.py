"""Draw a run as one HTML page: no file beside it, no network, plots as inline SVG, a script of our own."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchsuite.ceiling import ceiling_of, source_of
from reports import plots
from reports.ablation import ablation_tables, ablations
from reports.breakdown import align
from reports.breakdown_tables import breakdown_tables
from reports.cells import Cell, Group, RunData, repeat_command, typed_command
from reports.compare import Comparison
from reports.compare_table import comparison_table
from reports.experiment import setup_text, versions
from reports.heat import heatmap, mean_texts
from reports.history import ChangePoint, Series, history_table, missing_library
from reports.latency import latency_table
from reports.speedup import Speedups, milliseconds, speedup_table
from reports.svg import SERIES_COUNT, plot_style
from reports.table import Table, TableCell, cells
from reports.wording import counted, plural

if TYPE_CHECKING:
    from markupsafe import Markup

HOW = (
    "A speedup is the baseline's latency ÷ the framework's: above 1 is faster. Green is faster, orange is"
    " slower, struck through is wrong; the tables below have the intervals. Every heading sorts, with the"
    " keyboard too."
)
LEAST_RUNS_OF_HISTORY = 2


@dataclass(frozen=True, slots=True)
class Past:
    """What the page tells of earlier runs: series with their changes, and the comparison with one of them."""

    series: tuple[Series, ...] = ()
    points: tuple[ChangePoint, ...] = ()
    comparison: Comparison | None = None


def html_page(
    data: RunData, result: Speedups, past: Past | None = None, banners: tuple[str, ...] = ()
) -> str:
    """The page of a run; `banners` are sentences for its top. Raises `BenchError` without the libraries."""
    check_libraries()
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("reports", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script = _own("page.js")
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    with plot_style():
        page = _page(data, result, past or Past(), banners)
    return environment.get_template("page.html.jinja").render(
        page=page, style=Markup(_own("page.css")), script=Markup(script), script_hash=f"sha256-{hashed}"
    )


def check_libraries() -> None:
    """Raise `BenchError` when a library of the page is missing: before hours of measuring, not after."""
    if find_spec("jinja2") is None:
        raise missing_library("Jinja2", "HTML pages")
    with plot_style():
        pass


def _own(name: str) -> str:
    return files("reports").joinpath("page", name).read_text(encoding="utf-8")


def _markup(text: str) -> "Markup":
    """Drawn by us, with every name in it escaped: not to be escaped again."""
    from markupsafe import Markup

    return Markup(text)


def _page(data: RunData, result: Speedups, past: Past, banners: tuple[str, ...]) -> dict[str, Any]:
    page = {
        "title": f"Run {data.run.number}: {_count(data)} on {data.run.options.device}",
        "lead": _lead(data),
        "how": HOW,
        "banners": [*_given(banners), *_banners(data)],
        "heatmaps": list(_heatmaps(data, result)),
        "speedup": speedup_table(data, result),
        "comparison": comparison_table(past.comparison) if past.comparison else None,
        "networks": list(_networks(data)),
        "frameworks": list(_frameworks(data, result)),
        "latency": latency_table(data),
        **_rooflines(data),
        "ablations": [
            {"plot": _markup(plots.ablation(one)), "tables": ablation_tables(one)} for one in ablations(data)
        ],
        "history": _history(data, past),
        "setup": setup_text(data),
        "doubts": _doubts(data),
        "facts": _facts(data),
        "command": typed_command(data.run),
        "commands": _commands(data),
        "footer": "Made by bench from its journal. The page needs no network and loads nothing.",
    }
    return {**page, "sections": list(_sections(page))}


def _sections(page: dict[str, Any]) -> Iterator[tuple[str, str]]:
    names = {
        "overview": ("Overview", True),
        "change": ("Change", page["comparison"]),
        "networks": ("Networks", True),
        "frameworks": ("Frameworks", True),
        "cells": ("Every cell", True),
        "roofline": ("Roofline", page["rooflines"]),
        "ablation": ("Ablation", page["ablations"]),
        "history": ("History", page["history"]),
        "facts": ("Facts and doubts", True),
        "commands": ("Commands", True),
    }
    yield from ((name, title) for name, (title, there) in names.items() if there)


def _count(data: RunData) -> str:
    networks = len({group.key.model for group in data.groups})
    return f"{counted(networks, 'network')} in {', '.join(data.frameworks)}"


def _lead(data: RunData) -> str:
    run, facts = data.run, data.run.facts
    processor = facts.get("processor") or run.options.device
    when = run.started_at[:16].replace("T", " ")
    return f"{when} UTC · {processor} · {run.options.precision} · {data.measured_cells} good cells"


def _given(banners: tuple[str, ...]) -> list[dict[str, str]]:
    return [{"kind": "bad", "head": "", "text": text} for text in banners]


def _banners(data: RunData) -> list[dict[str, str]]:
    """What a reader must know before any number."""
    every = [cell for group in data.groups for cell in group.cells.values()]
    failed = [cell for cell in every if cell.status in ("failed", "crashed", "timeout", "oom", "wrong")]
    left = [cell for cell in every if cell.record.outcome is None]
    found = []
    if failed:
        names = "; ".join(f"{cell.record.key}: {cell.status}" for cell in failed[:8])
        more = f" and {len(failed) - 8} more" if len(failed) > 8 else ""
        found.append(
            {
                "kind": "bad",
                "head": f"{counted(len(failed), 'cell')} without a good number.",
                "text": names + more,
            }
        )
    if left:
        count = f"{len(left)} of {counted(len(every), 'cell')} {plural(len(left), 'was')}"
        text = f"{count} not measured (the run is {data.run.status})."
        found.append({"kind": "bad", "head": "This run is not whole.", "text": text})
    return found


def _heatmaps(data: RunData, result: Speedups) -> Iterator[dict[str, Any]]:
    ids = {name: number for number, name in enumerate(dict.fromkeys(g.key.model for g in data.groups))}
    for threads in dict.fromkeys(group.key.threads for group in data.groups):
        drawable = any(row.speedup for row in result.rows if row.threads == threads)
        yield {
            "threads": threads,
            "title": f"Speedup over {result.baseline}, {counted(threads, 'thread')}",
            "frameworks": data.frameworks,
            "rows": heatmap(data, result, threads, ids),
            "means": mean_texts(data, result, threads),
            "plot": _markup(plots.forest(data, result, threads)) if drawable else "",
        }


def _networks(data: RunData) -> Iterator[dict[str, Any]]:
    names = list(dict.fromkeys(group.key.model for group in data.groups))
    typed = dict(zip(names, data.run.options.models, strict=True))
    for number, name in enumerate(names):
        groups = [group for group in data.groups if group.key.model == name]
        yield {
            "id": number,
            "name": name,
            "summary": "; ".join(_fastest(group) for group in groups),
            "groups": [_network_group(data, group, typed[name]) for group in groups],
            "table": latency_table(data, model=name),
            "breakdowns": list(_breakdowns(data, groups)),
        }


def _network_group(data: RunData, group: Group, typed: str) -> dict[str, Any]:
    measured = any(cell.latency for cell in group.cells.values())
    return {
        "title": f"Samples with {counted(group.key.threads, 'thread')}",
        "plot": _markup(plots.distribution(data, group)) if measured else "",
        "repeat": repeat_command(data.run.options, typed, group.key),
    }


def _fastest(group: Group) -> str:
    good = {name: cell.latency.estimate for name, cell in group.cells.items() if cell.counts and cell.latency}
    if not good:
        return f"{counted(group.key.threads, 'thread')}: no good number"
    name = min(good, key=good.__getitem__)
    return f"{counted(group.key.threads, 'thread')}: fastest in {name}, {milliseconds(good[name])} ms"


def _breakdowns(data: RunData, groups: list[Group]) -> Iterator[dict[str, Any]]:
    for group in groups:
        profiles = {key.framework: found for key, found in data.profiles.items() if key.group == group.key}
        if len({found.node_names for found in profiles.values()}) != 1:
            continue
        title = f"{group.key.model}, {counted(group.key.threads, 'thread')}"
        yield {
            "title": f"Where the time goes with {counted(group.key.threads, 'thread')}",
            "threads": group.key.threads,
            "plot": _markup(plots.breakdown(data, title, align(profiles))),
            "tables": breakdown_tables(title, profiles),
        }


def _frameworks(data: RunData, result: Speedups) -> Iterator[dict[str, Any]]:
    known = versions(data)
    for index, name in enumerate(data.frameworks):
        mine = [group.cells[name] for group in data.groups]
        means = [mean for mean in result.means if mean.framework == name and mean.interval]
        texts = [
            f"{counted(mean.threads, 'thread')}: {mean.interval.estimate:.2f}× over {result.baseline}"
            f" (n = {mean.count})"
            for mean in means
            if mean.interval
        ]
        good = sum(cell.counts for cell in mine)
        yield {
            "id": index,
            "name": name,
            "colour": index % SERIES_COUNT,
            "summary": "; ".join([known.get(name, ""), f"{good} of {len(mine)} cells good", *texts]).lstrip(
                "; "
            ),
            "notes": list(dict.fromkeys(note for cell in mine for note in cell.record.notes)),
            "facts": _framework_facts(mine),
            "table": latency_table(data, framework=name),
        }


def _framework_facts(mine: list[Cell]) -> list[tuple[str, str]]:
    """What its sessions and its converter say, several values where cells differ."""
    found: dict[str, dict[str, None]] = {}
    for cell in mine:
        loading = cell.record.loading
        for name, value in {**loading.facts, **loading.options}.items() if loading else ():
            found.setdefault(name, {})[value] = None
    most = 4
    return [
        (
            name,
            "; ".join(list(values)[:most])
            + (f" and {len(values) - most} more" if len(values) > most else ""),
        )
        for name, values in found.items()
    ]


def _rooflines(data: RunData) -> dict[str, Any]:
    ceilings = [ceiling_of(data.run.facts, threads) for threads in data.run.options.threads]
    known = [one for one in ceilings if one]
    text = (
        f"The roof is what the device was seen to do in this run: {source_of(data.run.facts)}."
        " A dot is a network in a framework; what it must read at least are its weights and inputs."
    )
    found = [
        {"title": counted(one.threads, "thread").capitalize(), "svg": _markup(plots.roofline(data, one))}
        for one in known
    ]
    return {"rooflines": found, "roofline_text": text}


def _history(data: RunData, past: Past) -> dict[str, Any] | None:
    runs = {run for one in past.series for run in one.runs}
    if len(runs) < LEAST_RUNS_OF_HISTORY:
        return None
    return {
        "plot": _markup(plots.history(data.frameworks, past.series, past.points)),
        "table": history_table(past.points, past.series),
    }


def _doubts(data: RunData) -> Table:
    rows = []
    for group in data.groups:
        for name, cell in group.cells.items():
            place = cells(group.key.model, name, str(group.key.threads))
            if not cell.counts and not cell.record.unchecked:
                rows.append((*place, *cells(cell.status, cell.reason)))
            rows += [(*place, *cells(doubt.kind, str(doubt))) for doubt in cell.doubts]
    columns = cells("network", "framework", "threads", "kind", "what, and what to do")
    return Table(
        f"Doubts and failures: {len(rows) or 'none'}", columns, tuple(rows), text_columns=2, key_columns=3
    )


def _facts(data: RunData) -> Table:
    rows: list[tuple[TableCell, ...]] = [
        cells(name, "unknown" if value is None else str(value)) for name, value in data.run.facts.items()
    ]
    rows += [cells(f"limit {name}", f"{value:g}") for name, value in data.run.options.policy.items()]
    for number, spent in enumerate(data.spent_seconds, 1):
        parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in spent.items())
        rows.append(cells(f"session {number} spent", parts))
    return Table("Facts", cells("fact", "value"), tuple(rows), text_columns=2)


def _commands(data: RunData) -> Table:
    names = list(dict.fromkeys(group.key.model for group in data.groups))
    typed = dict(zip(names, data.run.options.models, strict=True))
    rows = tuple(
        cells(
            group.key.model,
            str(group.key.threads),
            repeat_command(data.run.options, typed[group.key.model], group.key),
        )
        for group in data.groups
    )
    return Table(
        "The command that repeats a cell, with its rivals",
        cells("network", "threads", "command"),
        rows,
        text_columns=1,
    )
