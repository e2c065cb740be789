"""Random graphs compiled together and compared with the reference; a wrong one made as small as can be."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ourcompiler import reference
from ourcompiler.ir.graph import ABSENT, Array, Graph, pruned
from ourcompiler.passes.judge import Judge
from ourcompiler.selftest.random_graphs import Drawn, draw
from ourcompiler.selftest.together import Arrays, run_all

TOLERANCE = 1e-4
"""Relative to the largest element."""
LEAST_SCALE = 1e-3
"""Results that are all but zero everywhere are the rest of a difference: their own size says nothing."""
NUDGE, NUDGES_ALLOWED = 2e-7, 30
"""How much every value is moved to see whether a graph makes roundings large, and how much of what that
changes is forgiven: a step at the wrong place (`x < c`) is no bug.
"""


def error_of(found: Array, wanted: Array) -> float:
    """The largest difference relative to the largest element; infinite where the types are not the same."""
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return float("inf")
    wide, real = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if not np.array_equal(np.isfinite(wide), np.isfinite(real)):
        return float("inf")
    finite = np.isfinite(real)
    difference = np.abs(wide[finite] - real[finite])
    scale = max(float(np.max(np.abs(real[finite]), initial=0.0)), LEAST_SCALE)
    return float(np.max(difference, initial=0.0)) / scale


def largest_error(found: Arrays, wanted: Arrays) -> float:
    """Of all results."""
    return max(error_of(found[name], one) for name, one in wanted.items())


def nudged(drawn: Drawn) -> Arrays:
    """What the reference gives when every value on the way is a little different."""
    generator = np.random.default_rng(0)

    def moved(value: Array) -> Array:
        if value.dtype != np.float32:
            return value
        noise = 1 + NUDGE * generator.standard_normal(value.shape)
        return np.asarray(value * noise, np.float32)

    values = {**drawn.graph.constants, **{name: moved(one) for name, one in drawn.inputs.items()}}
    for node in drawn.graph.nodes:
        operands = [None if name == ABSENT else values[name] for name in node.inputs]
        made = reference.compute(node, operands)
        values.update(zip(node.outputs, map(moved, made), strict=True))
    return {public: values[name] for public, name in drawn.graph.outputs}


def verdict(drawn: Drawn, found: Arrays) -> str:
    """Empty when the results are those of the reference, else what is wrong."""
    wanted = reference.run(drawn.graph, drawn.inputs)
    error = largest_error(found, wanted)
    if error <= TOLERANCE:
        return ""
    allowed = TOLERANCE + NUDGES_ALLOWED * largest_error(nudged(drawn), wanted)
    return "" if error <= allowed else f"differs by {error:.1e} of the largest element"


def failures(
    cases: Mapping[str, Drawn],
    folder: Path,
    *,
    target_name: str = "host",
    threads: int = 1,
    without: Sequence[str] = (),
    judge: Judge | None = None,
) -> dict[str, str]:
    """What is wrong with each graph that is not right; those that do not compile are found by halving."""
    if not cases:
        return {}
    graphs = {name: one.graph for name, one in cases.items()}
    inputs = {name: one.inputs for name, one in cases.items()}
    try:
        package = folder / "package"
        found = run_all(
            graphs, inputs, package, target_name=target_name, threads=threads, without=without, judge=judge
        )
    except Exception as error:  # whatever a broken pass raises
        if len(cases) == 1:
            return dict.fromkeys(cases, f"{type(error).__name__}: {error}")
        names = list(cases)
        halves = (names[: len(names) // 2], names[len(names) // 2 :])
        wrong: dict[str, str] = {}
        for half in halves:
            some = {name: cases[name] for name in half}
            wrong |= failures(
                some, folder, target_name=target_name, threads=threads, without=without, judge=judge
            )
        return wrong or dict.fromkeys(cases, f"only together: {type(error).__name__}: {error}")
    said = {name: verdict(one, found[name]) for name, one in cases.items()}
    return {name: text for name, text in said.items() if text}


def drawn(seeds: Sequence[int]) -> dict[str, Drawn]:
    """The graphs of these numbers, by their numbers."""
    return {str(seed): draw(seed) for seed in seeds}


def smallest(case: Drawn, folder: Path, *, target_name: str = "host") -> Drawn:
    """The least part of a graph that is still wrong: one result, and inputs as late as possible."""

    def is_wrong(part: Drawn) -> bool:
        return bool(failures({"part": part}, folder, target_name=target_name))

    values = _values(case)
    names = [name for node in case.graph.nodes for name in node.outputs]
    for name in names:
        part = _cut(case.graph, name, case.graph.inputs, values)
        if is_wrong(part):
            case = part
            break
    for name in reversed(names):
        if name in case.graph.producers and name not in case.graph.results:
            _, result = case.graph.outputs[0]
            part = _cut(case.graph, result, (*case.graph.inputs, name), values)
            if is_wrong(part):
                case = part
    return case


def _values(case: Drawn) -> dict[str, Array]:
    """Every value of the graph, by the reference."""
    every = [(name, name) for name in case.graph.types if name not in case.graph.constants]
    return reference.run(replace(case.graph, outputs=tuple(every)), case.inputs)


def _cut(graph: Graph, result: str, inputs: Sequence[str], values: Mapping[str, Array]) -> Drawn:
    """The part between these values and that one."""
    nodes = [node for node in graph.nodes if not set(node.outputs) & set(inputs)]
    part = pruned(replace(graph, nodes=tuple(nodes), inputs=tuple(inputs), outputs=(("y", result),)))
    read = {name for node in part.nodes for name in node.operands}
    kept = tuple(name for name in part.inputs if name in read or name == result)
    part = pruned(replace(part, inputs=kept))
    return Drawn(part, {name: values[name] for name in kept})
