"""`bench doctor --idle`: is a framework measured beside idle workers of others as well as alone?"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchsuite.cli.diagnosis import diagnosis_table, result_row
from benchsuite.cli.options import print_json
from benchsuite.device.catalogue import open_device
from benchsuite.device.local import LocalDevice
from benchsuite.doctor import Diagnosis, Trial, diagnose
from benchsuite.neighbours import Beside, run_beside
from benchsuite.policy import Policy
from benchsuite.stats import LEVEL
from models.errors import BenchError
from models.model import Model
from reports.as_rich import draw_rich


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user typed."""

    model: Model
    framework: str
    neighbours: tuple[str, ...]
    policy: Policy
    cache: Path
    blocks: int
    comparisons: int


def show_beside(asked: Asked, device: str, thread_counts: Sequence[int], form: str) -> float:
    """Measure and print; returns the worst rate of false differences. Raises `BenchError` for a device whose
    workers cannot be stopped.
    """
    with closing(open_device(device)) as place:
        if not isinstance(place, LocalDevice):
            raise BenchError(
                "only workers of this machine can be stopped", where="--idle", hint="--device local"
            )
        found = {threads: _measure(asked, place, threads) for threads in thread_counts}
    diagnoses = {
        (threads, idle): (diagnose(trial.first, trial.second, asked.blocks), trial)
        for threads, one in found.items()
        for idle, trial in ((False, one.alone), (True, one.beside))
    }
    if form == "json":
        _print_json(asked, found, diagnoses)
    else:
        _draw(asked, found, diagnoses)
    return max(one.rate for one, _ in diagnoses.values())


def _measure(asked: Asked, place: LocalDevice, threads: int) -> Beside:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        what = f"{asked.framework} alone and beside others, {threads} threads"
        task = bars.add_task(what, total=asked.comparisons)
        return run_beside(
            place,
            asked.model,
            asked.framework,
            threads,
            neighbours=[name for name in asked.neighbours if name != asked.framework],
            policy=asked.policy,
            cache=asked.cache,
            blocks=asked.blocks,
            comparisons=asked.comparisons,
            report=lambda done, total: bars.update(task, completed=done),
        )


def _draw(
    asked: Asked,
    found: dict[int, Beside],
    diagnoses: dict[tuple[int, bool], tuple[Diagnosis, Trial]],
) -> None:
    title = f"A/A: {asked.framework} against itself on {asked.model.name}, {asked.blocks} blocks a comparison"
    columns = {
        f"{threads}, {'beside others' if idle else 'alone'}": one
        for (threads, idle), one in diagnoses.items()
    }
    remarks = [_slowdown(threads, one) for threads, one in found.items()]
    some = next(iter(found.values()))
    remarks += [f"idle beside it: {', '.join(some.neighbours)}; stopped by the kernel while it is alone"]
    remarks += [f"{name} is missing: {reason}" for name, reason in some.absent.items()]
    draw_rich(diagnosis_table(title, "threads", columns, tuple(remarks)), Console())


def _slowdown(threads: int, one: Beside) -> str:
    ratio = one.slowdown(LEVEL)
    return (
        f"{threads} threads: latency beside others is {ratio.estimate:.4f} "
        f"[{ratio.low:.4f}, {ratio.high:.4f}] of that alone"
    )


def _print_json(
    asked: Asked,
    found: dict[int, Beside],
    diagnoses: dict[tuple[int, bool], tuple[Diagnosis, Trial]],
) -> None:
    rows = [
        {"threads": threads, "idle": list(found[threads].neighbours) if idle else [], **result_row(*one)}
        for (threads, idle), one in diagnoses.items()
    ]
    ratios = {threads: one.slowdown(LEVEL) for threads, one in found.items()}
    print_json(
        "bench.doctor/1",
        model=asked.model.name,
        framework=asked.framework,
        results=rows,
        beside=[
            {
                "threads": threads,
                "slowdown": ratio.estimate,
                "interval": [ratio.low, ratio.high] if ratio.is_known else None,
                "absent": dict(found[threads].absent),
            }
            for threads, ratio in ratios.items()
        ],
    )
