"""What each optimisation of a framework gives: its variants `NAME:no-…` beside the framework itself.

One optimisation is switched off at a time, so the factors need not multiply to the factor of all of them:
they overlap. The waterfall shows them in order of size.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchsuite.stats import Interval, geometric_mean
from reports.cells import RunData
from reports.speedup import VARIANT_MARK, interval_text
from reports.table import Table, cells
from reports.wording import counted

SWITCHED_OFF = "no-"


@dataclass(frozen=True, slots=True)
class Step:
    """Time without one optimisation ÷ time with all, over the networks where both count."""

    variant: str
    factor: Interval
    count: int
    missing: tuple[str, ...]
    by_network: Mapping[str, float]

    @property
    def optimisation(self) -> str:
        """What is switched off."""
        return self.variant.partition(VARIANT_MARK)[2].removeprefix(SWITCHED_OFF)


@dataclass(frozen=True, slots=True)
class Ablation:
    """All steps of one framework at one thread count, the most useful optimisation first."""

    framework: str
    threads: int
    steps: tuple[Step, ...]


def ablations(data: RunData) -> tuple[Ablation, ...]:
    """One for every framework that ran with variants `NAME:no-…`; none when there is no such."""
    threads = dict.fromkeys(group.key.threads for group in data.groups)
    found = (
        Ablation(name, count, _steps(data, name, count)) for name in data.frameworks for count in threads
    )
    return tuple(one for one in found if one.steps)


def _steps(data: RunData, framework: str, threads: int) -> tuple[Step, ...]:
    prefix = f"{framework}{VARIANT_MARK}{SWITCHED_OFF}"
    steps = (_step(data, framework, name, threads) for name in data.frameworks if name.startswith(prefix))
    return tuple(sorted((one for one in steps if one), key=lambda one: -one.factor.estimate))


def _step(data: RunData, framework: str, variant: str, threads: int) -> Step | None:
    groups = [group for group in data.groups if group.key.threads == threads]
    pairs = {
        group.key.model: group.paired(variant, framework)
        for group in groups
        if group.cells[variant].counts and group.cells[framework].counts
    }
    factor = geometric_mean(pairs)
    if factor is None:
        return None
    missing = tuple(group.key.model for group in groups if group.key.model not in pairs)
    ratios = {name: float(np.median(off) / np.median(on)) for name, (off, on) in pairs.items()}
    return Step(variant, factor, len(pairs), missing, ratios)


def ablation_table(found: Ablation) -> Table:
    """One row an optimisation: what its absence costs, over how many networks, and where it matters most."""
    rows = tuple(
        cells(
            step.optimisation,
            interval_text(step.factor),
            str(step.count),
            "{} {:.2f}×".format(*max(step.by_network.items(), key=lambda item: item[1])),
            ", ".join(step.missing),
        )
        for step in found.steps
    )
    columns = cells("without", "time ÷ time with all", "networks", "most on", "left out")
    remark = "one is off at a time: factors of optimisations that overlap do not multiply to that of all"
    threads = counted(found.threads, "thread")
    return Table(
        f"What each optimisation of {found.framework} gives, {threads}", columns, rows, remarks=(remark,)
    )
