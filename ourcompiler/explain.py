"""What the compiler did with a network: operators before and after each step, kernels, bytes, layouts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ourcompiler.ir.graph import Graph
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import View
from ourcompiler.passes.fuse import FUSED, Verdict, decisions
from ourcompiler.passes.layout import Choice
from ourcompiler.pipeline import State
from ourcompiler.program import Program

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
    fusion: tuple[tuple[str, str, bool, str], ...]
    """Value, operator, whether it joined those who read it, why or why not."""
    arena_bytes: int
    weights_bytes: int

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
    network: str, states: Sequence[State], program: Program, choices: Sequence[Choice]
) -> Explanation:
    """The explanation of a compilation."""
    final = states[-1].graph
    kinds = Counter(step.kernel.partition("_")[0] for step in program.steps)
    return Explanation(
        network=network,
        target=program.target.name,
        steps=tuple(map(count, states)),
        kernels_left=len(program.steps),
        kernels_in_paper=PAPER_KERNELS.get(network),
        distinct_kernels=len(program.kernels),
        copies=sum(is_copy(final, number) for number in range(len(final.nodes))),
        kernels=dict(kinds.most_common()),
        views=sum(node.op == "View" for one in final.nodes if one.body for node in one.body.nodes),
        layouts=tuple((one.name, str(one.storage.place), one.reason) for one in choices),
        fusion=tuple((name, op, verdict.joined, verdict.reason) for name, op, verdict in _decisions(states)),
        arena_bytes=program.arena_bytes,
        weights_bytes=program.weights_bytes,
    )


def _decisions(states: Sequence[State]) -> list[tuple[str, str, Verdict]]:
    """What the fusion plan decided; nothing when it was not made here (`--from` a fused graph)."""
    before = [state.graph for state in states if all(node.op != FUSED for node in state.graph.nodes)]
    return decisions(before[-1]) if before else []


def is_copy(graph: Graph, number: int) -> bool:
    """Whether a kernel does nothing but move elements."""
    node = graph.nodes[number]
    return node.op == FUSED and node.body is not None and all(one.op in MOVING for one in node.body.nodes)
