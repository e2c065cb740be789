"""`bench profile`: where a framework spends its time on a network."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console

from adapters.catalogue import adapter
from benchsuite.cli.options import cache_option, counts, dimensions, format_option, print_json
from benchsuite.device.catalogue import open_device
from benchsuite.gate import TOLERANCES
from benchsuite.policy import Policy
from benchsuite.profile import INFERENCES, by_operator, profile_network
from benchsuite.profiled import Profiled
from models.catalogue import resolve
from models.errors import BenchError
from models.model import Model
from reports.as_rich import draw_rich
from reports.table import Table, TableCell, cells

Row = tuple[TableCell, ...]

MILLISECOND = 1e6
ENTRY_COLUMNS = cells("operator", "name", "ONNX nodes", "layout", "ms", "share")
OPERATOR_COLUMNS = cells("operator", "layout", "count", "ms", "share")
NODES_SHOWN = 3


@click.command()
@click.argument("network")
@click.option("--framework", required=True, help="Whose profiler: one of `bench frameworks`.")
@click.option("--device", default="local", show_default=True, help="Where.")
@click.option("--threads", default="1", show_default=True, help="One thread count.")
@click.option(
    "--precision", type=click.Choice(list(TOLERANCES)), default="fp32", show_default=True, help="Class."
)
@click.option(
    "--inferences",
    type=click.IntRange(min=1),
    default=INFERENCES,
    show_default=True,
    help="How many are profiled; times are medians over them.",
)
@click.option("--all", "every", is_flag=True, help="Every entry in order of execution, not sums by operator.")
@click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Bind a symbolic dimension of a FILE.onnx.")
@format_option("rich", "json")
@cache_option
def command(
    network: str,
    framework: str,
    device: str,
    threads: str,
    precision: str,
    inferences: int,
    every: bool,
    dim: tuple[str, ...],
    form: str,
    cache: Path,
) -> None:
    """Print where a framework spends its time on NETWORK, from its own profiler.

    The profiled run is apart from the timed one; what profiling costs is shown.
    """
    row, model = adapter(framework), _one_network(network, dimensions(dim))
    (thread_count, *more) = counts(threads, "--threads")
    if more:
        raise BenchError("one thread count is enough", where="--threads", hint=f"--threads {thread_count}")
    with closing(open_device(device)) as place:
        found = profile_network(
            place,
            row,
            model,
            thread_count,
            policy=Policy(),
            cache=cache,
            inferences=inferences,
            precision=precision,
            say=lambda text: click.echo(text, err=True),
        )
    if form == "json":
        print_json("bench.profile/1", **_document(found, model.name, row.name, thread_count, precision))
        return
    title = f"{row.name} on {model.name}, {thread_count} thread{'s' if thread_count > 1 else ''}, {precision}"
    draw_rich(_entries(found, title) if every else _operators(found, title), Console())


def _one_network(name: str, dims: dict[str, int]) -> Model:
    found = resolve(name, dims)
    if len(found) != 1:
        listed = ", ".join(model.name for model in found)
        raise BenchError(f"one network is enough, not {listed}", where="bench profile", hint=found[0].name)
    return found[0]


def _document(found: Profiled, model: str, framework: str, threads: int, precision: str) -> dict[str, object]:
    return {
        "model": model,
        "framework": framework,
        "threads": threads,
        "precision": precision,
        "source": found.profile.source,
        "plain_ns": found.plain_ns,
        "total_ns": found.profile.total_ns,
        "unattributed_ns": found.unattributed_ns,
        "explicit_layout_ns": found.layout_ns("explicit"),
        "implicit_layout_ns": found.layout_ns("implicit"),
        "nodes": len(found.node_names),
        "nodes_covered": len(found.covered_nodes),
        "facts": found.facts,
        "entries": [asdict(entry) for entry in found.profile.entries],
    }


def _operators(found: Profiled, title: str) -> Table:
    rows = tuple(
        cells(
            one.operator,
            one.layout,
            str(one.count),
            _milliseconds(one.duration_ns),
            _share(one.duration_ns, found),
        )
        for one in by_operator(found.profile.entries)
    )
    rest = cells(
        "unattributed", "", "", _milliseconds(found.unattributed_ns), _share(found.unattributed_ns, found)
    )
    return _table(title, OPERATOR_COLUMNS, (*rows, rest), found, text_columns=2)


def _entries(found: Profiled, title: str) -> Table:
    rows = tuple(
        cells(
            entry.operator,
            entry.name,
            _nodes(entry.nodes),
            entry.layout,
            _milliseconds(entry.duration_ns),
            _share(entry.duration_ns, found),
        )
        for entry in found.profile.entries
    )
    return _table(title, ENTRY_COLUMNS, rows, found, text_columns=4)


def _table(title: str, columns: Row, rows: tuple[Row, ...], found: Profiled, text_columns: int) -> Table:
    total = found.profile.total_ns
    remarks = (
        f"an inference takes {_milliseconds(total)} ms while profiled,"
        f" {_milliseconds(found.plain_ns)} ms as it is timed ({total / found.plain_ns - 1:+.1%}); medians",
        f"layout transformations: explicit {_share(found.layout_ns('explicit'), found)},"
        f" implicit {_share(found.layout_ns('implicit'), found)} of the profiled time",
        f"entries name {len(found.covered_nodes)} of the network's {len(found.node_names)} ONNX nodes",
        f"source: {found.profile.source}",
    )
    return Table(title, columns, rows, remarks=remarks, text_columns=text_columns)


def _nodes(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NODES_SHOWN} more" if len(names) > NODES_SHOWN else ""
    return ", ".join(names[:NODES_SHOWN]) + more


def _milliseconds(nanoseconds: float) -> str:
    return f"{nanoseconds / MILLISECOND:.3f}"


def _share(nanoseconds: float, found: Profiled) -> str:
    return f"{nanoseconds / found.profile.total_ns:.1%}"
