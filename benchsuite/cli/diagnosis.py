"""How diagnoses of A/A tests are shown: facts are rows, what was diagnosed are columns."""

from collections.abc import Callable, Mapping
from dataclasses import asdict

import numpy as np

from benchsuite.doctor import EFFECT, POWER, Diagnosis, Trial
from benchsuite.stats import LEVEL
from reports.speedup import milliseconds
from reports.table import Table, TableCell, cells


def diagnosis_table(
    title: str,
    heading: str,
    found: Mapping[str, tuple[Diagnosis, Trial]],
    remarks: tuple[str, ...] = (),
) -> Table:
    """One column for each of `found`, under its name."""
    notes = tuple(note for _, note, _ in FACTS if note)
    marks = {note: (number,) for number, note in enumerate(notes, 1)}
    rows = tuple(
        (TableCell(name, notes=marks.get(note, ())), *(TableCell(shown(*one)) for one in found.values()))
        for name, note, shown in FACTS
    )
    return Table(title, cells(heading, *found), rows, notes=notes, remarks=remarks)


def result_row(one: Diagnosis, trial: Trial) -> dict[str, object]:
    """Fields of `results[]` of `bench.doctor/1` that come from a diagnosis."""
    return {"latency_ms": latency_ms(trial), **asdict(one), "rate": one.rate}


def latency_ms(trial: Trial) -> float:
    """Median of block medians."""
    return float(np.median(trial.first)) / 1e6


FACTS: tuple[tuple[str, str, Callable[[Diagnosis, Trial], str]], ...] = (
    ("latency", "", lambda one, trial: f"{milliseconds(latency_ms(trial))} ms"),
    ("comparisons", "", lambda one, trial: str(one.comparisons)),
    (
        "false differences",
        f"comparisons that claim a difference of {EFFECT:.0%} or more, where there is none",
        lambda one, trial: str(one.false_positives),
    ),
    ("rate of false differences", "", lambda one, trial: f"{one.rate:.2%}"),
    (
        "rate is below",
        "upper 95% bound of the rate: more comparisons bring it down",
        lambda one, trial: f"{one.rate_bound:.2%}",
    ),
    (
        "intervals without 1.0",
        f"{LEVEL:.0%} intervals that leave out 1.0, however little: about {1 - LEVEL:.0%} are expected",
        lambda one, trial: f"{one.exclusions / one.comparisons:.1%}",
    ),
    (
        "detectable difference",
        f"the smallest true difference that {POWER:.0%} of such comparisons would have found",
        lambda one, trial: f"{one.detectable:.2%}",
    ),
    ("spread of the ratio", "its standard deviation", lambda one, trial: f"{one.spread:.2%}"),
)
"""Rows of the table: name, footnote, text."""
