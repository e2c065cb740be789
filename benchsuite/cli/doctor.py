"""`bench doctor`: how far can this machine's numbers be trusted?"""

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.progress import Progress

from adapters.catalogue import adapter
from benchsuite.cli.diagnosis import diagnosis_table, result_row
from benchsuite.cli.doctor_frameworks import selected, show_frameworks
from benchsuite.cli.doctor_neighbours import Asked, show_beside
from benchsuite.cli.options import cache_option, counts, format_option, journal_option, print_json
from benchsuite.cli.run import read_policy
from benchsuite.device.catalogue import open_device
from benchsuite.device.host import host_telemetry
from benchsuite.device.protocol import Device
from benchsuite.device.replay import Recording, write_recording
from benchsuite.diagnoses import keep_diagnosis
from benchsuite.doctor import Diagnosis, Trial, diagnose, run_trial
from benchsuite.journal import Journal
from benchsuite.policy import Policy
from benchsuite.stats import least_blocks
from models.catalogue import resolve
from models.errors import BenchError
from models.model import Model
from models.tiny import probe_network
from reports.as_rich import draw_rich

ENOUGH_COMPARISONS = 300
WORST_RATE = 0.01
SHORT_WARM_UP = "warm_up_seconds=0.1"
BLOCK_SECONDS = "block_seconds=0.02"


@click.command()
@click.option("--framework", default="ort", show_default=True, help="The framework to compare with itself.")
@click.option(
    "--frameworks",
    help="Look at these frameworks instead (all, or such as ort,mnn): code, threads, precision.",
)
@click.option("--models", help="One network.  [default: a small probe of a few milliseconds]")
@click.option("--device", default="local", show_default=True, help="Where.")
@click.option("--threads", default="1", show_default=True, help="Thread counts, such as 1,2.")
@click.option(
    "--comparisons",
    type=click.IntRange(min=1),
    default=ENOUGH_COMPARISONS,
    show_default=True,
    help="How many A/A comparisons; 300 without a false one mean a rate below 1 %.",
)
@click.option(
    "--blocks",
    type=click.IntRange(min=least_blocks()),
    default=Policy().least_blocks,
    show_default=True,
    help="Blocks in one comparison.",
)
@click.option(
    "--idle-workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="More loaded workers that only wait.",
)
@click.option(
    "--idle",
    metavar="FRAMEWORKS",
    help="Compare alone and beside idle workers of these (all, or such as mnn,tvm), in turns.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help=f"A limit of the measurement.  [default: {BLOCK_SECONDS}]",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the noise as a device for --device replay:FILE.",
)
@format_option("rich", "json")
@journal_option
@cache_option
def command(
    framework: str,
    frameworks: str | None,
    models: str | None,
    device: str,
    threads: str,
    comparisons: int,
    blocks: int,
    idle_workers: int,
    idle: str | None,
    settings: tuple[str, ...],
    record: Path | None,
    form: str,
    journal: Path,
    cache: Path,
) -> None:
    """Measure one framework against itself: the rate of false differences, and the smallest true one it would
    see. Or look whether every framework is at its best: --frameworks all --threads 1,2.

    The result is kept in the journal: `bench compare` and `bench nightly` read the detectable difference of
    this machine there. Exit code 1 when the rate of false positives is above 1 %.
    """
    thread_counts = counts(threads, "--threads")
    if frameworks is not None:
        quick = read_policy((SHORT_WARM_UP, *settings))
        sys.exit(show_frameworks(frameworks, thread_counts, quick, cache, form))
    name = adapter(framework).name
    if record is not None and not record.parent.is_dir():
        raise BenchError(f"there is no folder {record.parent}", where="--record", hint="make it first")
    policy = read_policy((BLOCK_SECONDS, *settings))
    if idle is not None:
        model = _one_network(models) if models is not None else probe_network(cache / "probe")
        asked = Asked(model, name, selected(idle), policy, cache, blocks, comparisons)
        sys.exit(int(show_beside(asked, device, thread_counts, form) > WORST_RATE))
    place = open_device(device)
    try:
        model = _one_network(models) if models is not None else probe_network(cache / "probe")
        results = {
            count: _trial(place, model, name, count, policy, cache, comparisons * blocks, idle_workers)
            for count in thread_counts
        }
        facts = dict(place.facts())
    finally:
        place.close()
    diagnoses = {count: diagnose(trial.first, trial.second, blocks) for count, trial in results.items()}
    with Journal(journal) as book:
        for count, diagnosis in diagnoses.items():
            keep_diagnosis(book, device, facts, count, model.name, name, diagnosis)
    if record is not None:
        _record(record, facts, next(iter(results.values())))
    _print(form, model, name, diagnoses, results)
    sys.exit(int(any(diagnosis.rate > WORST_RATE for diagnosis in diagnoses.values())))


def _one_network(selection: str) -> Model:
    found = resolve(selection)
    if len(found) > 1:
        listed = ", ".join(model.name for model in found)
        raise BenchError(f"one network is enough, not {listed}", where="--models", hint=found[0].name)
    return found[0]


def _trial(
    place: Device,
    model: Model,
    framework: str,
    threads: int,
    policy: Policy,
    cache: Path,
    blocks: int,
    idle_workers: int,
) -> Trial:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(f"{framework} against itself, {threads} threads", total=blocks)
        return run_trial(
            place,
            model,
            framework,
            threads,
            policy=policy,
            cache=cache,
            blocks=blocks,
            idle_workers=idle_workers,
            report=lambda done, total: bars.update(task, completed=done),
        )


def _record(path: Path, facts: Mapping[str, object], trial: Trial) -> None:
    series = np.asarray(trial.series_ns, dtype=np.float64)
    typical = float(np.median(series))
    now = {name: value for name, value in asdict(host_telemetry()).items() if value is not None}
    write_recording(path, Recording(facts, (series / typical).tolist(), {"*": typical}, now))


def _print(
    form: str, model: Model, framework: str, diagnoses: dict[int, Diagnosis], trials: dict[int, Trial]
) -> None:
    found = {count: (one, trials[count]) for count, one in diagnoses.items()}
    if form == "json":
        rows = [{"threads": count, "idle": [], **result_row(*one)} for count, one in found.items()]
        print_json("bench.doctor/1", model=model.name, framework=framework, results=rows)
        return
    blocks = next(iter(diagnoses.values())).blocks
    title = f"A/A: {framework} against itself on {model.name}, {blocks} blocks a comparison"
    draw_rich(diagnosis_table(title, "threads", {str(count): one for count, one in found.items()}), Console())
