"""`bench kernels`: single operators of the networks, in our compiler beside its peers."""

import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from platformdirs import user_data_path
from rich.console import Console

from adapters.catalogue import adapter
from benchsuite.cli.live import choose_progress
from benchsuite.cli.options import Command, cache_option, counts, format_option, names, seconds, write_text
from benchsuite.cli.run import exit_code, make_job, read_policy
from benchsuite.device.catalogue import open_device
from benchsuite.journal import Journal
from benchsuite.kernels import KERNEL_POLICY, choose, kernel_facts, write_cases
from benchsuite.record import RunOptions
from benchsuite.run import execute, resumable
from models.catalogue import all_models, resolve
from models.errors import BenchError
from models.kernel_cases import Case, find_cases
from models.kernel_templates import TEMPLATES
from reports.as_markdown import markdown
from reports.as_rich import draw_rich
from reports.cells import RunData, read_run
from reports.kernel_list import list_json, list_table
from reports.kernels import kernel_table, kernels_json, summary_table
from reports.table import Table

DEFAULT_FRAMEWORKS = "ours,openvino,ort"
DEFAULT_TOP = 3
FILE_WIDTH = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be measured, as typed."""

    models: str
    template: str
    top: int
    frameworks: str
    device: str
    threads: str
    seed: int
    settings: tuple[str, ...]


ASKED = (
    click.option("--models", default="all", show_default=True, help="Networks whose operators are meant."),
    click.option(
        "--template", default="", help=f"Of {', '.join(TEMPLATES)}; commas between.  [default: all]"
    ),
    click.option(
        "--top",
        type=click.IntRange(min=0),
        default=DEFAULT_TOP,
        show_default=True,
        help="Kernels of each template, those with most work × occurrences; 0: all.",
    ),
    click.option(
        "--frameworks",
        default=DEFAULT_FRAMEWORKS,
        show_default=True,
        help="The first is set beside the rest.",
    ),
    click.option("--device", default="local", show_default=True, help="As in `bench run`."),
    click.option("--threads", default="1", show_default=True, help="Thread counts, such as 1,2."),
    click.option("--seed", type=int, default=0, show_default=True, help="As in `bench run`."),
    click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="As in `bench run`."),
)


def _asking(command: Command) -> Command:
    for option in reversed(ASKED):
        command = option(command)
    return command


@click.command()
@_asking
@click.option("--list", "only_list", is_flag=True, help="Print the kernels, measure nothing.")
@click.option("--run", "number", type=int, metavar="RUN", help="Draw a run of before, measure nothing.")
@click.option("--budget", metavar="TIME", help="Stop after this time, such as 20m; go on with --resume.")
@click.option("--resume", is_flag=True, help="Go on with the last unfinished run of the same options.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables to this file.")
@click.option("--quiet", is_flag=True, help="No progress, only the tables.")
@format_option("rich", "md", "json")
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    default=lambda: user_data_path("bench") / "kernels.db",
    envvar="BENCH_KERNELS_JOURNAL",
    show_default="bench/kernels.db in your data folder",
    help="A journal of its own: kernels are no networks, and no night is compared with them.",
)
@cache_option
def command(
    only_list: bool,
    number: int | None,
    budget: str | None,
    resume: bool,
    out: Path | None,
    quiet: bool,
    form: str,
    journal: Path,
    cache: Path,
    **asked: object,
) -> None:
    """Measure operators of the networks one by one: GFLOP/s, percent of the measured peak, the best peer.

    Every operator shape is a network of its own that goes through the same measurement as in `bench run`.

    \b
    bench kernels                                      the three with most work of every template
    bench kernels --template conv3x3 --top 0           all of one template
    bench kernels --models swin,vit --threads 1,2      those of some networks
    bench kernels --list --top 10                      which there are
    bench kernels --run 4 --format md --out FILE       draw run 4 again
    """
    request = Asked(**asked)  # type: ignore[arg-type]
    limit = seconds(budget, "--budget")
    if number is not None:
        with Journal(journal, must_exist=True) as book:
            _draw(read_run(book, number), form, out)
        return
    choice = _choose(request)
    if only_list:
        _list(choice, form, out)
        return
    options = _options(request, choice.chosen, cache)
    with Journal(journal) as book:
        with closing(open_device(request.device)) as device, closing(choose_progress(quiet)) as progress:
            unfinished = resumable(book, options) if resume else None
            before = unfinished.number if unfinished else None
            job = make_job(book, options, device, cache, before, limit, progress)
            facts = {**job.facts, **kernel_facts(choice.chosen, choice.total)}
            number, status = execute(replace(job, facts=facts))
        data = read_run(book, number)
    _draw(data, form, out)
    if not quiet:
        click.echo(f"run {number} in {book.path}; draw it again: bench kernels --run {number}", err=True)
    sys.exit(exit_code(data, status))


@dataclass(frozen=True, slots=True)
class Choice:
    """The kernels to measure, and the work of each template in all kernels of the same networks."""

    chosen: list[Case]
    total: Mapping[str, int]


def _choose(request: Asked) -> Choice:
    """Raises `BenchError` for what does not exist."""
    networks = resolve(request.models)
    own = [model.name for model in networks if not model.is_pinned]
    if own:
        raise BenchError(
            f"{own[0]!r} is a file: kernels are those of the pinned networks",
            where="--models",
            hint="`bench run --models FILE.onnx` measures a file, `bench profile` its operators",
        )
    # Of all networks, so that a kernel has the same name whichever networks are chosen.
    cases = find_cases(all_models())
    templates, chosen_names = names(request.template), [model.name for model in networks]
    total = Counter[str]()
    for case in choose(cases, templates, chosen_names, 0):
        total[case.template] += case.work
    return Choice(choose(cases, templates, chosen_names, request.top), total)


def _options(request: Asked, chosen: Sequence[Case], cache: Path) -> RunOptions:
    """A run of one-operator networks; raises `BenchError` for what is wrong with the options."""
    frameworks = tuple(adapter(name).name for name in names(request.frameworks))
    if not frameworks:
        raise BenchError("no framework was named", where="--frameworks", hint=f"such as {DEFAULT_FRAMEWORKS}")
    threads = counts(request.threads, "--threads")
    policy = read_policy(request.settings, KERNEL_POLICY)
    files = write_cases(chosen, {model.name: model for model in all_models()}, cache)
    return RunOptions(
        models=tuple(str(file.resolve()) for file in files),
        frameworks=frameworks,
        device=request.device,
        threads=threads,
        precision="fp32",
        seed=request.seed,
        policy=asdict(policy),
    )


def _draw(data: RunData, form: str, out: Path | None) -> None:
    if form == "json":
        write_text(kernels_json(data), out)
        return
    _draw_tables((kernel_table(data), summary_table(data)), form, out)


def _list(choice: Choice, form: str, out: Path | None) -> None:
    if form == "json":
        write_text(list_json(choice.chosen), out)
        return
    _draw_tables((list_table(choice.chosen, choice.total),), form, out)


def _draw_tables(tables: Sequence[Table], form: str, out: Path | None) -> None:
    if form == "md":
        write_text("\n".join(map(markdown, tables)), out)
        return
    stream = io.StringIO()
    console = Console(file=stream, width=FILE_WIDTH) if out else Console()
    for table in tables:
        draw_rich(table, console)
    if out is not None:
        write_text(stream.getvalue(), out)
