"""The list of passes, and running it: with a check between all steps, and somebody who looks on."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Graph
from ourcompiler.passes.fuse import fuse
from ourcompiler.passes.judge import Judge
from ourcompiler.passes.sink import sink
from ourcompiler.passes.views import eliminate
from ourcompiler.rewrite.engine import Trace
from ourcompiler.rewrite.passes import rewrite
from ourcompiler.verify import verify

Pass = Callable[[Graph], Graph]


@dataclass(frozen=True, slots=True)
class Step:
    """A pass by its name; `optional` ones can be switched off, to show what each one gives.

    `traced` is the same pass for one that applies rules: it adds what it applied to a list. `judged` is the
    same pass for one that asks what is profitable.
    """

    name: str
    run: Pass
    optional: bool = True
    traced: Callable[[Graph, Trace], Graph] | None = None
    judged: Callable[[Graph, Judge], Graph] | None = None


IMPORTED = "import"
PIPELINE = (
    Step("rewrite", rewrite, traced=lambda graph, found: rewrite(graph, trace=found)),
    Step("views", eliminate, optional=False),
    Step("sink", lambda graph: eliminate(sink(graph))),
    Step("fuse", fuse, optional=False, judged=fuse),
)
"""From the imported graph to fused nodes."""

LAYOUT, WINOGRAD = "layout", "winograd"
SWITCHES = (*(step.name for step in PIPELINE if step.optional), LAYOUT, WINOGRAD)
"""What `without` may name."""


@dataclass(frozen=True, slots=True)
class State:
    """A graph after a step, and how long the step took."""

    step: str
    graph: Graph
    seconds: float


def states(
    graph: Graph,
    *,
    without: Sequence[str] = (),
    after: str = IMPORTED,
    stop_after: str = "",
    trace: Callable[[str], None] | None = None,
    judge: Judge | None = None,
) -> Iterator[State]:
    """The graph after each step from `after` on, to the one named `stop_after` or the last.

    `trace` is told every rule that was applied, after the step that applied it. `judge` decides what is
    fused; without one, the standard table and the cost model of the usual target. Raises `CompileError` for a
    step that there is not, and when a pass leaves a graph that is not whole.
    """
    names = [IMPORTED, *(step.name for step in PIPELINE)]
    for name, known in ((after, names), (stop_after or names[-1], names)):
        if name not in known:
            raise CompileError(f"there is no step {name!r}", hint=f"one of {', '.join(known)}")
    for name in without:
        if name not in SWITCHES:
            raise CompileError(f"{name!r} cannot be switched off", hint=f"one of {', '.join(SWITCHES)}")
    verify(graph, after)
    yield State(after, graph, 0.0)
    if stop_after == after:
        return
    for step in PIPELINE[names.index(after) :]:
        if step.name not in without:
            started = time.perf_counter()
            graph = _run(step, graph, trace, judge)
            seconds = time.perf_counter() - started
            verify(graph, step.name)
            yield State(step.name, graph, seconds)
        if step.name == stop_after:
            return


def _run(step: Step, graph: Graph, trace: Callable[[str], None] | None, judge: Judge | None = None) -> Graph:
    if judge is not None and step.judged is not None:
        return step.judged(graph, judge)
    if trace is None or step.traced is None:
        return step.run(graph)
    applied: Trace = []
    graph = step.traced(graph, applied)
    for one in applied:
        trace(str(one))
    return graph


def optimize(graph: Graph, without: Sequence[str] = (), judge: Judge | None = None) -> Graph:
    """All passes one after another, but for those that are switched off."""
    for state in states(graph, without=without, judge=judge):
        graph = state.graph
    return graph
