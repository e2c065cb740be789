"""Measuring what the fusion plan does not know: every yellow pair of a network as one kernel and as two.

Both forms are compiled to one library each and run in turn on this machine, so that whatever else happens
here happens to both. What is measured goes into a profile database (`profiles.py`).
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from ourcompiler import package
from ourcompiler.ir.graph import Array, Graph, Node
from ourcompiler.ir.types import TensorType
from ourcompiler.passes.combination import Colour
from ourcompiler.passes.fuse import planned
from ourcompiler.passes.groups import FUSED, Plan
from ourcompiler.passes.judge import Judge, Ruling
from ourcompiler.passes.layout import choose, storages
from ourcompiler.passes.ruling import bodies
from ourcompiler.profiles import Database, Key, Timing, merged
from ourcompiler.program import make_program
from ourcompiler.runtime.session import Session

LEAST_RUNS, MOST_RUNS = 5, 50
SECONDS_A_PAIR = 0.5
"""Time for running one pair, after it has been compiled."""
MOST_BYTES = 1 << 30
"""Pairs with larger operands are left to the model: two sessions hold them at once."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A yellow pair: its key, both bodies, both as one, and what they read that is known when compiling."""

    key: Key
    first: Graph
    second: Graph
    both: Graph
    constants: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Measured:
    """What became of the candidates: how many there were, were known, were measured; the rest had no time."""

    candidates: int
    known: int
    measured: int
    failed: int
    database: Database


def candidates(graph: Graph, judge: Judge) -> list[Candidate]:
    """The yellow pairs that the plan meets in a graph before fusion, each kind once."""
    found: dict[Key, Candidate] = {}

    def note(plan: Plan, number: int, reader: int, ruling: Ruling) -> None:
        if ruling.colour is not Colour.YELLOW:
            return
        first, second, both = bodies(plan, number, reader)
        key = plan.judge.key((ruling.first, ruling.second), first, second)
        constants = {name: graph.constants[name] for name in both.inputs if name in graph.constants}
        found.setdefault(key, Candidate(key, first, second, both, constants))

    planned(graph, judge, note)
    return list(found.values())


def measure(
    graph: Graph, judge: Judge, seconds: float, say: Callable[[str], None] = lambda text: None
) -> Measured:
    """Measure yellow pairs of a graph before fusion until the time is up, and add them to the judge's
    database.

    What the database has is not measured again. A pair that cannot be compiled alone is left out and told.
    """
    stop = time.monotonic() + seconds
    every = candidates(graph, judge)
    new = [one for one in every if one.key not in judge.database.entries]
    found: dict[Key, Timing] = {}
    failed = 0
    for one in new:
        if time.monotonic() >= stop:
            break
        if not fits(one):
            continue
        try:
            found[one.key] = timed(one, judge)
        except Exception as error:  # whatever a kernel that nobody asked for before raises
            failed += 1
            say(f"not measured: {one.key.pair}: {type(error).__name__}: {error}")
            continue
        timing = found[one.key]
        figures = f"{timing.fused_ns / 1e3:.1f} µs as one, {timing.separate_ns / 1e3:.1f} µs as two"
        say(f"{one.key.pair}: {figures}: {one.key.first} | {one.key.second}")
    database = merged([judge.database, Database(found)])
    return Measured(len(every), len(every) - len(new), len(found), failed, database)


def fits(one: Candidate) -> bool:
    """Whether its operands may be held."""
    held = sum(body.types[name].byte_count for body in (one.first, one.second) for name in body.inputs)
    return held <= MOST_BYTES


def timed(one: Candidate, judge: Judge) -> Timing:
    """Both forms compiled and run in turn; which one begins changes from round to round."""
    forms = (graph_of([one.both], one.constants), graph_of([one.first, one.second], one.constants))
    with tempfile.TemporaryDirectory(prefix="ours-pair-") as folder, ExitStack() as open_sessions:
        runs: list[Callable[[], None]] = []
        for number, form in enumerate(forms):
            program = make_program(form, judge.target, storages(choose(form)))
            built = package.write(program, Path(folder) / str(number))
            session = open_sessions.enter_context(Session(built, threads=judge.threads))
            session.set_inputs(drawn_numbers(form))
            runs.append(session.execute)
        taken = interleaved(runs, SECONDS_A_PAIR)
    return Timing(median(taken[0]), median(taken[1]), len(taken[0]))


def interleaved(runs: Sequence[Callable[[], None]], seconds: float) -> list[list[float]]:
    """Nanoseconds of each run in turn, for about so many seconds; a first round is not counted."""
    taken: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    stop = time.monotonic() + seconds
    places = list(range(len(runs)))
    while len(taken[0]) < LEAST_RUNS or (len(taken[0]) < MOST_RUNS and time.monotonic() < stop):
        for place in places:
            start = time.perf_counter_ns()
            runs[place]()
            taken[place].append(float(time.perf_counter_ns() - start))
        places.reverse()
    return taken


def graph_of(parts: Sequence[Graph], constants: Mapping[str, Array]) -> Graph:
    """A network of kernels with these bodies, one a part."""
    nodes: list[Node] = []
    types: dict[str, TensorType] = {}
    made: dict[str, str] = {}
    for number, body in enumerate(parts):
        names = {name: made.get(name, name) for name in body.inputs}
        outputs = tuple(value for _, value in body.outputs)
        types.update({names[name]: body.types[name] for name in body.inputs})
        types.update({name: body.types[name] for name in outputs})
        made.update({name: name for name in outputs})
        nodes.append(Node(FUSED, tuple(names.values()), outputs, (), (f"part {number}",), body))
    inputs = dict.fromkeys(name for node in nodes for name in node.inputs)
    read = tuple(name for name in inputs if name not in made and name not in constants)
    last = nodes[-1].outputs
    return Graph(read, tuple((name, name) for name in last), tuple(nodes), types, constants, "pair")


def drawn_numbers(graph: Graph) -> Mapping[str, Array]:
    """Small numbers for all inputs, the same for both forms."""
    return dict(_drawn(graph))


def _drawn(graph: Graph) -> Iterator[tuple[str, Array]]:
    for number, name in enumerate(sorted(graph.inputs)):
        one = graph.types[name]
        generator = np.random.default_rng(number)
        if one.dtype.is_float:
            yield name, generator.standard_normal(one.shape).astype(one.dtype.numpy)
        else:
            yield name, np.zeros(one.shape, one.dtype.numpy)  # indices: the first is always there
