"""The list of passes, and running it: with a check between all steps, and somebody who looks on."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Graph
from ourcompiler.passes.fuse import fuse
from ourcompiler.passes.sink import sink
from ourcompiler.passes.views import eliminate
from ourcompiler.rewrite.passes import rewrite
from ourcompiler.verify import verify

Pass = Callable[[Graph], Graph]


@dataclass(frozen=True, slots=True)
class Step:
    """A pass by its name; `optional` ones can be switched off, to show what each one gives."""

    name: str
    run: Pass
    optional: bool = True


IMPORTED = "import"
PIPELINE = (
    Step("rewrite", rewrite),
    Step("views", eliminate, optional=False),
    Step("sink", lambda graph: eliminate(sink(graph))),
    Step("fuse", fuse, optional=False),
)
"""From the imported graph to fused nodes."""

LAYOUT = "layout"
SWITCHES = (*(step.name for step in PIPELINE if step.optional), LAYOUT)
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
) -> Iterator[State]:
    """The graph after each step from `after` on, to the one named `stop_after` or the last.

    Raises `CompileError` for a step that there is not, and when a pass leaves a graph that is not whole.
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
            graph = step.run(graph)
            seconds = time.perf_counter() - started
            verify(graph, step.name)
            yield State(step.name, graph, seconds)
        if step.name == stop_after:
            return


def optimize(graph: Graph, without: Sequence[str] = ()) -> Graph:
    """All passes one after another, but for those that are switched off."""
    for state in states(graph, without=without):
        graph = state.graph
    return graph
