"""Kernels as networks of one operator: which of them a run measures, with what limits, and what it must
remember of each.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from benchsuite.device.protocol import Fact, Facts
from benchsuite.policy import Policy
from models.errors import BenchError
from models.kernel_cases import Case, write_case
from models.kernel_templates import TEMPLATES
from models.model import Model
from models.suggest import nearest

KERNEL_POLICY = replace(
    Policy(),
    block_seconds=0.03,
    warm_up_seconds=0.1,
    warm_up_limit_seconds=0.5,
    least_blocks=10,
    most_blocks=20,
    group_seconds=3.0,
    interval_width=0.03,
    probe_seconds=2.0,
)
"""A kernel takes less than a network: blocks are shorter. Percent
of the peak stands in every row, so that the peak gets more time.
"""


def choose(cases: Iterable[Case], templates: Sequence[str], networks: Iterable[str], top: int) -> list[Case]:
    """Of every template the `top` cases with most work in these networks, all of them for 0.

    Raises `BenchError` for a template that does not exist, and when nothing is left.
    """
    for name in templates:
        if name not in TEMPLATES:
            raise BenchError(
                f"no template is called {name!r}",
                where="--template",
                hint=nearest(name, TEMPLATES, otherwise=f"one of {', '.join(TEMPLATES)}"),
            )
    mine = [found for case in cases if (found := _within(case, set(networks))).occurrences]
    chosen: list[Case] = []
    for name in templates or TEMPLATES:
        ranked = sorted((one for one in mine if one.template == name), key=lambda one: (-one.work, one.name))
        chosen += islice(ranked, top or None)
    if not chosen:
        raise BenchError(
            f"these networks have no kernel of the template {', '.join(templates)}",
            where="--template",
            hint="choose other networks with --models; `bench kernels --list --top 0` shows all kernels",
        )
    return chosen


def _within(case: Case, networks: set[str]) -> Case:
    kept = {name: count for name, count in case.occurrences.items() if name in networks}
    return replace(case, occurrences=kept)


def write_cases(cases: Iterable[Case], models: Mapping[str, Model], cache: Path) -> tuple[Path, ...]:
    """Every case as an ONNX file in the cache."""
    return tuple(write_case(case, models, cache) for case in cases)


def kernel_facts(chosen: Iterable[Case], total: Mapping[str, int]) -> Facts:
    """What reports must know of each kernel, and how much work each template has in all its cases."""
    facts: dict[str, Fact] = {}
    for case in chosen:
        place = f"kernel.{case.name}"
        facts[f"{place}.template"] = case.template
        facts[f"{place}.flops"] = case.flops
        facts[f"{place}.bytes"] = case.byte_count
        facts[f"{place}.count"] = case.count
        facts[f"{place}.networks"] = ", ".join(sorted(case.occurrences))
    facts.update({f"template.{name}.work": work for name, work in total.items()})
    return facts
