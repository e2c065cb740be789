"""`bench breakdown`: where the time of one network goes in every framework, aligned by its ONNX nodes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console

from adapters.catalogue import adapter
from benchsuite.cli.options import (
    cache_option,
    counts,
    dimensions,
    format_option,
    journal_option,
    names,
    print_json,
    write_text,
)
from benchsuite.cli.run import default_frameworks, read_policy
from benchsuite.device.catalogue import open_device
from benchsuite.gate import TOLERANCES
from benchsuite.journal import Journal
from benchsuite.policy import Policy
from benchsuite.profile import INFERENCES, profile_network
from benchsuite.profiled import Profiled, from_document, to_document
from benchsuite.record import CellKey, GroupKey, RunRecord
from models.catalogue import resolve
from models.errors import BenchError
from models.model import Model
from reports.as_markdown import markdown
from reports.as_rich import draw_rich
from reports.breakdown import Breakdown, align
from reports.breakdown_tables import breakdown_tables
from reports.wording import counted


@dataclass(frozen=True, slots=True)
class Asked:
    """What is profiled, and how."""

    model: Model
    key: GroupKey
    frameworks: tuple[str, ...]
    inferences: int
    cache: Path
    policy: Policy


@click.command()
@click.argument("network")
@click.option("--run", "number", type=int, help="The run to belong to.  [default: the last one with NETWORK]")
@click.option("--frameworks", help="Which ones.  [default: those of the run]")
@click.option("--threads", help="One thread count.  [default: the run's first]")
@click.option("--device", help="Where.  [default: the run's]")
@click.option(
    "--precision", type=click.Choice(list(TOLERANCES)), help="Precision class.  [default: the run's]"
)
@click.option(
    "--inferences", type=click.IntRange(min=1), default=INFERENCES, show_default=True, help="Profiled ones."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="A limit of the measurement, such as warm_up_seconds=0.1; see docs/measurement.md.",
)
@click.option("--fresh", is_flag=True, help="Profile again what the journal has already.")
@click.option(
    "--all", "every", is_flag=True, help="Every piece in the graph's order, not sums of those alike."
)
@click.option("--dim", multiple=True, metavar="NAME=SIZE", help="Bind a symbolic dimension of a FILE.onnx.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@format_option("rich", "md", "json")
@journal_option
@cache_option
def command(
    network: str,
    number: int | None,
    frameworks: str | None,
    threads: str | None,
    device: str | None,
    precision: str | None,
    inferences: int,
    settings: tuple[str, ...],
    fresh: bool,
    every: bool,
    dim: tuple[str, ...],
    out: Path | None,
    form: str,
    journal: Path,
    cache: Path,
) -> None:
    """Print where the time of NETWORK goes in every framework, aligned by the ONNX nodes that their operators
    cover.

    Frameworks are profiled one after another, apart from any timed run. Profiles are kept with the last run
    that measured the network, and drawn again from there; without such a run they are only printed.
    """
    model = _one_network(network, dimensions(dim))
    with _journal(journal, number) as book:
        run = _run_with(book, model, number)
        asked = Asked(
            model,
            _key(model, run, threads, device, precision),
            _frameworks(run, frameworks),
            inferences,
            cache,
            read_policy(settings),
        )
        known = {} if fresh else _kept(book, run, asked)
        found, refused = _profiled(asked, known, book, run)
    if not found:
        raise BenchError(
            "no framework could be profiled: " + "; ".join(refused.values()),
            where=f"bench breakdown {network}",
            hint="`bench frameworks` says what can run here",
        )
    _print(found, refused, asked, form, every, out)


def _one_network(name: str, dims: dict[str, int]) -> Model:
    found = resolve(name, dims)
    if len(found) != 1:
        listed = ", ".join(model.name for model in found)
        raise BenchError(f"one network is enough, not {listed}", where="bench breakdown", hint=found[0].name)
    return found[0]


@contextmanager
def _journal(path: Path, number: int | None) -> Iterator[Journal | None]:
    """The journal; None, without making one, where there is none and no run of it was named."""
    if number is None and not path.exists():
        yield None
        return
    with Journal(path, must_exist=True) as book:
        yield book


def _run_with(book: Journal | None, model: Model, number: int | None) -> RunRecord | None:
    """The run to belong to: the wanted one, else the last that measured this very network, if any."""
    if book is None:
        return None
    if number is not None:
        run = book.run(number)
        if not _has(book, run, model):
            raise BenchError(
                f"run {number} did not measure {model.name} as it is now",
                where="--run",
                hint="leave --run out, or name another (`bench runs`)",
            )
        return run
    return next((run for run in reversed(book.runs()) if _has(book, run, model)), None)


def _has(book: Journal, run: RunRecord, model: Model) -> bool:
    cells = book.cells(run.number)
    return any(cell.key.group.model == model.name and cell.model_digest == model.digest for cell in cells)


def _key(
    model: Model, run: RunRecord | None, threads: str | None, device: str | None, precision: str | None
) -> GroupKey:
    options = run.options if run else None
    if threads is not None:
        (count, *more) = counts(threads, "--threads")
        if more:
            raise BenchError("one thread count is enough", where="--threads", hint=f"--threads {count}")
    else:
        count = options.threads[0] if options else 1
    return GroupKey(
        model.name,
        device or (options.device if options else "local"),
        count,
        precision or (options.precision if options else "fp32"),
    )


def _frameworks(run: RunRecord | None, wanted: str | None) -> tuple[str, ...]:
    """Wanted, else the run's, else the default ones; raises `BenchError` for unknown ones."""
    if wanted is None:
        chosen: Sequence[str] = run.options.frameworks if run else names(default_frameworks())
    else:
        chosen = names(wanted)
    found = tuple(adapter(name).name for name in chosen)
    if not found:
        raise BenchError("no framework was named", where="--frameworks", hint="such as --frameworks mnn,ort")
    return found


def _kept(book: Journal | None, run: RunRecord | None, asked: Asked) -> dict[str, Profiled]:
    """Profiles of this network and setting that the journal has; one that cannot be read is made anew."""
    found: dict[str, Profiled] = {}
    if book is None or run is None:
        return found
    for key, document in book.profiles(run.number):
        if key.group == asked.key:
            try:
                found[key.framework] = from_document(document)
            except (KeyError, TypeError, ValueError, AttributeError):
                continue
    return found


def _profiled(
    asked: Asked, known: Mapping[str, Profiled], book: Journal | None, run: RunRecord | None
) -> tuple[dict[str, Profiled], dict[str, str]]:
    """Profiles by framework, those that were missing made and kept; and why some have none."""
    found: dict[str, Profiled] = {}
    refused: dict[str, str] = {}
    missing = [name for name in asked.frameworks if name not in known]
    with closing(open_device(asked.key.device)) as device:
        for name in missing:
            click.echo(f"profiling {name}", err=True)
            try:
                found[name] = profile_network(
                    device,
                    adapter(name),
                    asked.model,
                    asked.key.threads,
                    policy=asked.policy,
                    cache=asked.cache,
                    inferences=asked.inferences,
                    precision=asked.key.precision,
                )
            except BenchError as error:
                refused[name] = f"{name}: {error.what.splitlines()[0]}"
                continue
            if book is not None and run is not None:
                book.save_profile(run.number, CellKey(asked.key, name), to_document(found[name]))
    every = {**known, **found}
    return {name: every[name] for name in asked.frameworks if name in every}, refused


def _print(
    found: Mapping[str, Profiled],
    refused: Mapping[str, str],
    asked: Asked,
    form: str,
    every: bool,
    out: Path | None,
) -> None:
    key = asked.key
    title = f"{key.model}, {counted(key.threads, 'thread')}, {key.precision}, {key.device}"
    if form == "json":
        print_json("bench.breakdown/1", **_document(align(found), refused, key))
        return
    tables = breakdown_tables(title, found, every=every)
    for text in refused.values():
        click.echo(f"no profile: {text}", err=True)
    if form == "md" or out is not None:
        write_text("\n".join(map(markdown, tables)), out)
        return
    for table in tables:
        draw_rich(table, Console())


def _document(found: Breakdown, refused: Mapping[str, str], key: GroupKey) -> dict[str, object]:
    return {
        "model": key.model,
        "device": key.device,
        "threads": key.threads,
        "precision": key.precision,
        "frameworks": [
            {"framework": name, **asdict(column), "overhead": column.overhead}
            for name, column in found.columns.items()
        ],
        "pieces": [
            {
                "nodes": list(piece.nodes),
                "operators": list(piece.operators),
                "label": piece.label,
                "times_ns": dict(piece.times_ns),
            }
            for piece in found.pieces
        ],
        "refused": dict(refused),
    }
