"""What each optimisation of a framework gives: its variants with optimisations off beside the framework
itself.

`NAME:no-…` (or `NAME:without-A`) switches one optimisation off, with all others on. `NAME:without-A-B`
switches several off, and a run that has such variants one inside the other (without A, without A and B …) is
a ladder: from all of them off, one comes on after another, and the factors multiply exactly to that of all.
What an optimisation gives depends on which others are on, so both are shown, and the ladder's order is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np

from benchsuite.stats import Floats, Interval, geometric_mean
from reports.cells import Group, RunData
from reports.speedup import VARIANT_MARK, interval_text
from reports.table import Table, cells
from reports.wording import counted

ONE_OFF, SOME_OFF = "no-", "without-"
SEPARATOR = "-"


@dataclass(frozen=True, slots=True)
class Step:
    """Time without one optimisation ÷ time with all, over the networks where both count."""

    optimisation: str
    factor: Interval
    count: int
    missing: tuple[str, ...]
    by_network: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Rung:
    """One optimisation that comes on: time before it ÷ time after it, those of the rungs before being on."""

    optimisation: str
    factor: Interval


@dataclass(frozen=True, slots=True)
class Ladder:
    """From all optimisations off to all on, in the order of the rungs; over the networks where every variant
    of the ladder counts. The rungs' estimates multiply to `whole`.
    """

    rungs: tuple[Rung, ...]
    whole: Interval
    count: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ablation:
    """All steps of one framework at one thread count, the most useful optimisation first; and the ladder, in
    a run that measured one.
    """

    framework: str
    threads: int
    steps: tuple[Step, ...]
    ladder: Ladder | None


def ablations(data: RunData) -> tuple[Ablation, ...]:
    """One for every framework that ran with variants that switch something off; none without such."""
    threads = dict.fromkeys(group.key.threads for group in data.groups)
    found = (_ablation(data, name, count) for name in data.frameworks for count in threads)
    return tuple(one for one in found if one.steps or one.ladder)


def switched_off(framework: str) -> tuple[str, ...]:
    """The optimisations that are off in a variant; none for a framework itself and for other variants."""
    variant = framework.partition(VARIANT_MARK)[2]
    if variant.startswith(ONE_OFF):
        return (variant.removeprefix(ONE_OFF),)
    if variant.startswith(SOME_OFF):
        return tuple(variant.removeprefix(SOME_OFF).split(SEPARATOR))
    return ()


def _ablation(data: RunData, framework: str, threads: int) -> Ablation:
    groups = [group for group in data.groups if group.key.threads == threads]
    prefix = f"{framework}{VARIANT_MARK}"
    variants = {
        name: off for name in data.frameworks if name.startswith(prefix) and (off := switched_off(name))
    }
    steps = (_step(groups, framework, name, off[0]) for name, off in variants.items() if len(off) == 1)
    ordered = sorted((one for one in steps if one), key=lambda one: -one.factor.estimate)
    return Ablation(framework, threads, tuple(ordered), _ladder(groups, framework, variants))


def _step(groups: Sequence[Group], framework: str, variant: str, optimisation: str) -> Step | None:
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
    return Step(optimisation, factor, len(pairs), missing, ratios)


def _ladder(
    groups: Sequence[Group], framework: str, variants: Mapping[str, tuple[str, ...]]
) -> Ladder | None:
    """The longest ladder of the variants; None where none has two rungs, or no network all of it."""
    names = max((_down(name, variants) for name in variants), key=len, default=[])
    if len(names) < 2:
        return None
    chain = [*names, framework]
    levels = {
        group.key.model: _together(group, chain)
        for group in groups
        if all(group.cells[name].counts for name in chain)
    }
    levels = {model: found for model, found in levels.items() if found[0].size}
    whole = geometric_mean({model: (found[0], found[-1]) for model, found in levels.items()})
    if whole is None:
        return None
    offs = [frozenset(variants.get(name, ())) for name in chain]
    rungs = []
    for place, (more, fewer) in enumerate(pairwise(offs)):
        factor = geometric_mean({model: (one[place], one[place + 1]) for model, one in levels.items()})
        assert factor is not None  # there is a network: `whole` goes over it
        rungs.append(Rung(", ".join(sorted(more - fewer)), factor))
    missing = tuple(group.key.model for group in groups if group.key.model not in levels)
    return Ladder(tuple(rungs), whole, len(levels), missing)


def _down(name: str, variants: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Variants from this one to one with a single optimisation off, one fewer off in each; [] if that is not
    to be had.
    """
    off = variants[name]
    if len(off) == 1:
        return [name]
    inside = [one for one, its in variants.items() if len(its) == len(off) - 1 and set(off) > set(its)]
    inside.sort(key=lambda one: variants[one] != off[1:])  # what is named first comes on first, if it can
    ways = ([name, *rest] for one in inside if (rest := _down(one, variants)))
    return next(ways, [])


def _together(group: Group, names: Sequence[str]) -> list[Floats]:
    """Block medians (ns) of several frameworks over the blocks that have all of them."""
    whole = reduce(np.logical_and, (~np.isnan(group.medians[name]) for name in names))
    return [group.medians[name][whole] for name in names]


def ablation_tables(found: Ablation) -> tuple[Table, ...]:
    """One row an optimisation: what it gives alone, and in the ladder where the run has one."""
    tables = [_alone(found)] if found.steps else []
    return (*tables, _in_order(found, found.ladder)) if found.ladder else tuple(tables)


def _alone(found: Ablation) -> Table:
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
    remark = (
        "one is off at a time, all others are on: what two of them do together is in neither, or in both, so"
        " these factors do not multiply to that of all"
    )
    return Table(f"What is lost without each optimisation of {_who(found)}", columns, rows, remarks=(remark,))


def _in_order(found: Ablation, ladder: Ladder) -> Table:
    level, rows = 1.0, []
    for rung in ladder.rungs:
        level *= rung.factor.estimate
        rows.append(cells(f"+ {rung.optimisation}", interval_text(rung.factor), f"{level:.2f}×"))
    footer = cells("all", interval_text(ladder.whole), "")
    remarks = [
        f"measured from all of these off, {order_text(ladder)}: another order would give other factors, whose"
        f" product is the same; over {counted(ladder.count, 'network')}"
    ]
    if ladder.missing:
        remarks.append(f"left out, because a variant does not count there: {', '.join(ladder.missing)}")
    columns = cells("on", "time before ÷ time after", "faster so far")
    title = f"What each optimisation of {_who(found)} adds, in this order"
    return Table(title, columns, tuple(rows), (footer,), remarks=tuple(remarks))


def order_text(ladder: Ladder) -> str:
    """`rewrite comes on first, then sink, then layout`."""
    first, *rest = (rung.optimisation for rung in ladder.rungs)
    return ", then ".join((f"{first} comes on first", *rest))


def _who(found: Ablation) -> str:
    return f"{found.framework}, {counted(found.threads, 'thread')}"
