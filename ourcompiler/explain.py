"""What the compiler did with a network: operators before and after each step, kernels, bytes, layouts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ourcompiler.ir.graph import Graph
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import View
from ourcompiler.passes.combination import Order, standard
from ourcompiler.passes.fuse import decisions, planned
from ourcompiler.passes.groups import FUSED, Plan, Verdict
from ourcompiler.passes.grow import seeds
from ourcompiler.passes.judge import Judge, compiler_version
from ourcompiler.passes.layout import Choice, storages
from ourcompiler.passes.texture import Chosen, copies, layouts
from ourcompiler.pipeline import State
from ourcompiler.products import products
from ourcompiler.program import Program
from ourcompiler.targets import Memory, memories

PAPER_KERNELS: Mapping[str, int] = {
    "autoformer": 148,
    "biformer": 474,
    "crossformer": 155,
    "cswin": 604,
    "efficientvit": 101,
    "flatten": 403,
    "smt": 332,
    "swin": 158,
    "vit": 112,
    "conformer": 163,
    "sd-text-encoder": 84,
    "sd-unet": 322,
    "sd-vae-decoder": 95,
    "pythia": 355,
    "convnext": 81,
    "regnet": 122,
    "resnext": 55,
    "yolov8n": 68,
}
"""Operators that SmartMem leaves of each network (its Table 7)."""
MOVING = frozenset(name for name, row in OPS.items() if isinstance(row.code, View))


@dataclass(frozen=True, slots=True)
class StepCount:
    """A step: what is left after it."""

    step: str
    operators: int
    moving: int
    """Operators that only move elements, maps on the edges counted too before fusion."""
    intermediate_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Ground:
    """What the fusion plan was decided by: the table, cells that differ from the standard one, the order of
    growth and its seeds, the profile database, and the figures of the cost model.
    """

    table: str
    overridden: tuple[str, ...]
    order: str
    seeds: tuple[str, ...]
    profile_entries: int
    profile_damaged: int
    model: str


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """A value in the memory that was asked for: which dimensions its layout serves, where an element lies,
    how many places that takes, for whom, who reads it strided, copies.
    """

    value: str
    serves: tuple[str, ...]
    place: str
    width: int
    height: int
    readers: tuple[str, ...]
    strided: tuple[str, ...]
    copies: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class TiledProduct:
    """A product as a problem, how often the network has it, how it is cut, and whether that is the model's
    choice or a search's.
    """

    problem: str
    count: int
    tiling: str
    decided_by: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that `bench compile --explain` prints."""

    network: str
    target: str
    steps: tuple[StepCount, ...]
    kernels_left: int
    kernels_in_paper: int | None
    distinct_kernels: int
    copies: int
    """Kernels that do nothing but move elements."""
    kernels: Mapping[str, int]
    views: int
    layouts: tuple[tuple[str, str, str], ...]
    """Value, place of an element, why."""
    fusion: tuple[tuple[str, str, bool, str, str, str, str], ...]
    """Value, operator, whether it joined those who read it, why or why not; then the pair of mapping types,
    its colour, and on what ground it was decided (empty where no pair was looked up).
    """
    arena_bytes: int
    weights_bytes: int
    combinations: "Ground"
    memory: str
    memory_layouts: tuple["MemoryLayout", ...]
    memory_copies: int
    """Copies of values in another layout, because readers ask for more dimensions than one layout serves."""
    tilings: tuple[TiledProduct, ...]
    tilings_ignored: tuple[str, ...]
    """Entries for this chip and target that cannot be used, with the reason."""

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def count(state: State) -> StepCount:
    """The figures of one step."""
    graph = state.graph
    nodes = graph.nodes
    moving = sum(node.op in MOVING for node in nodes)
    return StepCount(state.step, len(nodes), moving, intermediate_bytes(graph), round(state.seconds, 3))


def intermediate_bytes(graph: Graph) -> int:
    """Bytes of all values that are written and are no result; views lie in what they show."""
    return sum(
        graph.types[name].byte_count
        for node in graph.nodes
        if node.op != "View"
        for name in node.outputs
        if name not in graph.results
    )


def explain(
    network: str,
    states: Sequence[State],
    program: Program,
    choices: Sequence[Choice],
    judge: Judge | None = None,
    memory: Memory | None = None,
) -> Explanation:
    """The explanation of a compilation: `judge` is who it was compiled with; layouts for `memory`, that of
    the target if none is named. Raises `CompileError` for a value that is larger than that memory.
    """
    final = states[-1].graph
    judge = judge or Judge()
    memory = memory or memories()[program.target.memory]
    chosen = layouts(final, memory)
    plan = _plan(states, judge)
    kinds = Counter(step.kernel.partition("_")[0] for step in program.steps)
    return Explanation(
        network=network,
        target=program.target.name,
        steps=tuple(map(count, states)),
        kernels_left=len(program.steps),
        kernels_in_paper=PAPER_KERNELS.get(network),
        distinct_kernels=len(program.kernels),
        copies=kinds["copy"],
        kernels=dict(kinds.most_common()),
        views=sum(node.op == "View" for one in final.nodes if one.body for node in one.body.nodes),
        layouts=tuple((one.name, str(one.storage.place), one.reason) for one in choices),
        fusion=tuple(_row(*one) for one in (decisions(plan) if plan else ())),
        arena_bytes=program.arena_bytes,
        weights_bytes=program.weights_bytes,
        combinations=_ground(judge, plan),
        memory=memory.name,
        memory_layouts=tuple(map(_memory_layout, chosen)),
        memory_copies=copies(chosen)[0],
        tilings=_tilings(final, program, choices),
        tilings_ignored=program.target.tilings.ignored,
    )


def _tilings(graph: Graph, program: Program, choices: Sequence[Choice]) -> tuple[TiledProduct, ...]:
    searched = program.target.tilings
    return tuple(
        TiledProduct(
            str(one.problem),
            one.count,
            str(one.tiling),
            "search" if searched.get(one.problem) else "model",
        )
        for one in products(graph, program.target, storages(tuple(choices)), winograd=program.winograd)
    )


def _plan(states: Sequence[State], judge: Judge) -> Plan | None:
    """The fusion plan; None when it was not made here (`--from` a fused graph)."""
    before = [state.graph for state in states if all(node.op != FUSED for node in state.graph.nodes)]
    return planned(before[-1], judge) if before else None


def _row(name: str, op: str, verdict: Verdict) -> tuple[str, str, bool, str, str, str, str]:
    ruling = verdict.ruling
    if ruling is None:
        return name, op, verdict.joined, verdict.reason, "", "", ""
    return name, op, verdict.joined, verdict.reason, ruling.pair, ruling.colour.value, ruling.ground


def _ground(judge: Judge, plan: Plan | None) -> Ground:
    table, target = judge.table, judge.target
    usual = standard().cells
    changed = [
        f"{first.value} > {second.value}: {cell.colour.value}"
        for (first, second), cell in table.cells.items()
        if cell.colour is not usual[first, second].colour
    ]
    grown = plan is not None and plan.order is Order.SEEDS
    numbers = seeds(plan, sorted(plan.group_of)) if plan is not None and grown else []
    names = tuple(plan.graph.nodes[one].output for one in numbers) if plan is not None else ()
    relevant = judge.database.relevant(target.name, judge.threads, compiler_version())
    model = (
        f"{target.name}: {target.flops_per_second / 1e9:.0f} GFLOP/s, "
        f"{target.bytes_per_second / 1e9:.0f} GB/s, {target.start_ns:.0f} ns to start a kernel"
    )
    order = plan.order if plan is not None else table.order
    return Ground(
        table.name, tuple(changed), order.value, names, len(relevant), judge.database.damaged, model
    )


def _memory_layout(one: Chosen) -> MemoryLayout:
    place = one.placing
    return MemoryLayout(
        one.name,
        tuple(map(str, one.serves)),
        str(place),
        place.width,
        place.height,
        one.readers,
        one.strided,
        tuple(f"{', '.join(map(str, copy.serves))} for {', '.join(copy.readers)}" for copy in one.copies),
        one.reason,
    )
