"""`bench run`: the main job."""

import math
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import click
from rich.console import Console

from adapters.catalogue import ADAPTERS, adapter
from adapters.worker import memory_facts
from benchsuite.accounts import harness_share
from benchsuite.cli.live import choose_progress
from benchsuite.cli.options import (
    Command,
    assignments,
    byte_count,
    cache_option,
    counts,
    dimensions,
    journal_option,
    names,
    runners_option,
    seconds,
)
from benchsuite.device.catalogue import open_device
from benchsuite.device.protocol import Device, DeviceLost
from benchsuite.facts import harness_facts
from benchsuite.gate import TOLERANCES
from benchsuite.journal import Journal
from benchsuite.plan import plan
from benchsuite.policy import Policy
from benchsuite.progress import Progress
from benchsuite.record import RunOptions, RunStatus, Status
from benchsuite.run import Job, execute, resumable
from models.catalogue import has_name, resolve
from models.errors import BenchError
from models.suggest import nearest
from reports.as_rich import draw_rich
from reports.cells import RunData, read_run
from reports.speedup import choose_baseline, speedup_table, speedups

DEFAULT_FRAMEWORKS = "ours,tflite,mnn,tvm,ort"
FRAMEWORKS_VARIABLE = "BENCH_FRAMEWORKS"
FINE = {Status.OK, Status.REFUSED}


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as typed; None where the user said nothing."""

    models: str | None
    frameworks: str | None
    device: str | None
    threads: str | None
    precision: str | None
    seed: int | None
    dim: tuple[str, ...]
    settings: tuple[str, ...]
    memory_limit: str | None

    @property
    def empty(self) -> bool:
        """Whether nothing was asked for, so that `--resume` takes the unfinished run's own options."""
        return all(getattr(self, field.name) in (None, ()) for field in fields(self))


ASKED = (
    click.option(
        "--models",
        help="all, a set (quick, smartmem18), names, or FILE.onnx; commas between.  [default: quick]",
    ),
    click.option(
        "--frameworks",
        help=f"Of {', '.join(ADAPTERS)}, or a variant such as ort:no-arena; the last is the baseline."
        f"  [default: {DEFAULT_FRAMEWORKS}, or {FRAMEWORKS_VARIABLE}]",
    ),
    click.option("--device", help="local, a phone (`bench devices`), or replay:FILE.  [default: local]"),
    click.option("--threads", help="Thread counts, such as 1,2.  [default: 1]"),
    click.option("--precision", help="Precision class: compared only with itself.  [default: fp32]"),
    click.option("--seed", type=int, help="Seed of inputs and of the order inside blocks.  [default: 0]"),
    click.option(
        "--dim", multiple=True, metavar="NAME=SIZE", help="Bind a symbolic dimension of a FILE.onnx."
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="A limit of the measurement; see docs/measurement.md.",
    ),
    click.option(
        "--memory-limit",
        metavar="SIZE",
        help="Private memory of a worker, such as 6g; beyond it the cell is `oom`.",
    ),
)
"""The options that say what is measured: those of `Asked`."""


def asking(command: Command) -> Command:
    """Give a command the options of `Asked`."""
    for option in reversed(ASKED):
        command = option(command)
    return command


@click.command()
@asking
@click.option(
    "--baseline", metavar="FRAMEWORK", help="Of the table at the end.  [default: the framework named last]"
)
@click.option("--budget", metavar="TIME", help="Stop after this time, such as 20m; go on with --resume.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the last unfinished run (with these options, if any are given).",
)
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
@runners_option
@journal_option
@cache_option
def command(
    baseline: str | None,
    budget: str | None,
    resume: bool,
    quiet: bool,
    journal: Path,
    cache: Path,
    **asked: object,
) -> None:
    """Measure networks × frameworks on a device and print the speedup table.

    \b
    bench run                                          the quick set on this machine
    bench run --models all --threads 1,2 --budget 2h   everything, inside two hours
    bench run --resume                                 go on after a kill or Ctrl-C
    bench run --models net.onnx --dim batch=1          your own network
    """
    request = Asked(**asked)  # type: ignore[arg-type]
    limit = seconds(budget, "--budget")
    # Before the journal is opened: a mistyped command leaves no empty file behind.
    wanted = None if resume and request.empty else read_options(request)
    with Journal(journal) as book:
        options, number = _options_to_run(book, wanted, resume, quiet)
        if baseline is not None:
            check_baseline(baseline, options)
        with closing(open_device(options.device)) as device, closing(choose_progress(quiet)) as progress:
            number, status = execute(make_job(book, options, device, cache, number, limit, progress))
        data = read_run(book, number)
    _print_result(data, status, baseline, book.path, quiet)
    sys.exit(exit_code(data, status))


def exit_code(data: RunData, status: RunStatus) -> int:
    """The documented exit codes of `bench run` (see `bench --help`)."""
    if status is RunStatus.INTERRUPTED:
        return 130
    statuses = [
        cell.record.outcome.status
        for group in data.groups
        for cell in group.cells.values()
        if cell.record.outcome
    ]
    if any(status not in FINE for status in statuses):
        return 1
    if status is RunStatus.INCOMPLETE:
        return 4
    return 0 if Status.OK in statuses else 3


def _options_to_run(
    book: Journal, wanted: RunOptions | None, resume: bool, quiet: bool
) -> tuple[RunOptions, int | None]:
    """The options, and the number of the run to go on with, if any."""
    if wanted is not None and not resume:
        return wanted, None
    unfinished = resumable(book, wanted)
    if unfinished is not None:
        return unfinished.options, unfinished.number
    if wanted is None:
        raise BenchError(
            "there is no unfinished run",
            where=str(book.path),
            hint="start one: leave out --resume (`bench runs` lists all)",
        )
    if not quiet:
        click.echo("no unfinished run has these options: starting a new one", err=True)
    return wanted, None


def read_options(request: Asked) -> RunOptions:
    """Check what was typed and fill in the defaults; raises `BenchError` with the option's name."""
    precision = _typed(request.precision, "fp32").lower()
    if precision not in TOLERANCES:
        raise BenchError(
            f"no precision class {precision!r}",
            where="--precision",
            hint=nearest(precision, TOLERANCES, otherwise=f"one of {', '.join(TOLERANCES)}"),
        )
    dims = dimensions(request.dim)
    frameworks = names(_typed(request.frameworks, default_frameworks()))
    if not frameworks:
        raise BenchError("no framework was named", where="--frameworks", hint=f"of {', '.join(ADAPTERS)}")
    networks = resolve(_typed(request.models, "quick"), dims)
    return RunOptions(
        models=tuple(model.name if has_name(model) else str(model.graph.resolve()) for model in networks),
        frameworks=tuple(adapter(name).name for name in frameworks),
        device=_typed(request.device, "local"),
        threads=counts(_typed(request.threads, "1"), "--threads"),
        precision=precision,
        seed=request.seed or 0,
        dimensions=dims,
        policy=asdict(read_policy(request.settings)),
        memory_limit_bytes=byte_count(request.memory_limit, "--memory-limit"),
    )


def default_frameworks() -> str:
    """What is measured when nobody names a framework."""
    return os.environ.get(FRAMEWORKS_VARIABLE, DEFAULT_FRAMEWORKS)


def _typed(text: str | None, default: str) -> str:
    """The default only for what was not typed: an empty text is a mistake, such as an unset variable."""
    return default if text is None else text


def read_policy(settings: Sequence[str], defaults: Policy | None = None) -> Policy:
    """`--set NAME=VALUE` to a policy with these defaults; raises `BenchError` for an unknown name or a value
    that makes no sense.
    """
    known = {name: type(value) for name, value in asdict(Policy()).items()}
    changes: dict[str, float] = {}
    for name, text in assignments(settings, "--set").items():
        if name not in known:
            raise BenchError(
                f"no limit is called {name!r}",
                where="--set",
                hint=nearest(name, known, otherwise=f"one of {', '.join(known)}"),
            )
        changes[name] = _limit(name, text, known[name])
    return replace(defaults or Policy(), **changes)  # type: ignore[arg-type]


def _limit(name: str, text: str, kind: type[float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = -1
    if not 0 <= value < math.inf:
        noun = "whole number" if kind is int else "number"
        default = asdict(Policy())[name]
        raise BenchError(
            f"{name}={text}: not a {noun} from 0 up", where="--set", hint=f"such as --set {name}={default}"
        )
    return value


def check_baseline(baseline: str, options: RunOptions, option: str = "--baseline") -> None:
    """Refuse a baseline that is not measured before the run, not after it; raises `BenchError`."""
    if baseline.lower() not in options.frameworks:
        raise BenchError(
            f"{baseline!r} is not among the frameworks of this run",
            where=option,
            hint=nearest(baseline, options.frameworks, otherwise=f"one of {', '.join(options.frameworks)}"),
        )


def make_job(
    book: Journal,
    options: RunOptions,
    device: Device,
    cache: Path,
    number: int | None,
    budget_seconds: float | None,
    progress: Progress,
) -> Job:
    """Everything that a run of these options needs; `number` is the run to go on with."""
    networks = resolve(",".join(options.models), options.dimensions)
    try:
        groups = plan(
            networks,
            [adapter(name) for name in options.frameworks],
            options.device,
            options.threads,
            options.precision,
            target=device.target,
            why_not=device.why_not,
        )
    except DeviceLost as lost:  # a phone is asked what lies on it
        raise BenchError(str(lost), where=options.device) from lost
    policy = Policy(**options.policy)  # type: ignore[arg-type]
    return Job(
        groups=groups,
        options=options,
        device=device,
        journal=book,
        policy=policy,
        cache=cache,
        progress=progress,
        command=("bench", *sys.argv[1:]),
        facts={**device.facts(), **harness_facts()},
        budget_seconds=budget_seconds,
        resume=number,
        probe=True,
    )


def memory_peak_mib() -> float:
    """Peak resident memory of this process, workers not counted."""
    return memory_facts()["memory_peak_bytes"] / 2**20


def _print_result(data: RunData, status: RunStatus, baseline: str | None, journal: Path, quiet: bool) -> None:
    console = Console()
    draw_rich(speedup_table(data, speedups(data, choose_baseline(data, baseline))), console)
    if quiet:
        return
    notes = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    totals = data.spent_seconds[-1]
    notes.print(
        f"wall {totals['wall']:.0f} s: loading {totals['loading']:.0f}, warm-up {totals['warm_up']:.0f},"
        f" timed {totals['timed']:.0f}, preparing {totals['preparing']:.0f},"
        f" harness {harness_share(totals):.0%}; peak memory of the harness {memory_peak_mib():.0f} MiB"
    )
    notes.print(f"run {data.run.number} in {journal}; draw it again: bench report {data.run.number}")
    if status is not RunStatus.COMPLETE:
        notes.print(
            f"this run is {status}: go on with `bench run --resume --journal {shlex.quote(str(journal))}`"
        )
