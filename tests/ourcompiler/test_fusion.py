"""What becomes one kernel, and that it computes the same: a case for each way in which kernels are joined."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from ourcompiler import reference
from ourcompiler.build import Builder
from ourcompiler.compile import program_of
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.conv import conv_facts
from ourcompiler.pipeline import optimize
from ourcompiler.selftest.together import run_all
from ourcompiler.targets import runnable_here, target
from tests.ourcompiler.test_generated import near

TOLERANCE = 3e-6


class Drawn:
    """A graph in the making, with drawn constants."""

    def __init__(self) -> None:
        self.builder = Builder("case")
        self.random = np.random.default_rng(7)

    def input(self, *shape: int) -> str:
        return self.builder.input(f"x{len(self.builder.inputs)}", TensorType(DType.F32, shape))

    def constant(self, *shape: int, scale: float = 1.0) -> str:
        return self.builder.constant((self.random.standard_normal(shape) * scale).astype(np.float32))

    def one(self, op: str, *inputs: str, **facts: object) -> str:
        return self.builder.add(op, inputs, **facts)[0]

    def dense(self, x: str, columns: int) -> str:
        depth = self.builder.types[x].shape[-1]
        product = self.one("MatMul", x, self.constant(depth, columns, scale=depth**-0.5))
        return self.one("Add", product, self.constant(columns))

    def norm(self, x: str) -> str:
        width = self.builder.types[x].shape[-1]
        return self.one("LayerNorm", x, self.constant(width), self.constant(width), axis=-1, epsilon=1e-5)


def norm_after_product(draw: Drawn) -> str:
    x = draw.input(2, 150, 24)
    return draw.norm(draw.one("Add", draw.dense(x, 40), draw.input(2, 150, 40)))


def norm_after_chain(draw: Drawn) -> str:
    x = draw.input(1, 160, 20)
    bent = draw.one("Sigmoid", draw.dense(draw.norm(x), 50))
    return draw.norm(draw.one("Add", x, draw.dense(bent, 20)))


def softmax_after_product(draw: Drawn) -> str:
    return draw.one("Softmax", draw.dense(draw.input(3, 129, 16), 21), axis=-1)


def softmax_of_channels(draw: Drawn) -> str:
    x = draw.input(1, 12, 13, 11)
    made = draw.one(
        "Conv", x, draw.constant(19, 12, 3, 3, scale=0.1), draw.constant(19), **conv_facts(2, pads=1)
    )
    return draw.one("Softmax", made, axis=1)


def gate_of_channels(draw: Drawn) -> str:
    x = draw.input(1, 24, 140)
    made = draw.one("Conv", x, draw.constant(48, 24, 1, scale=0.2), draw.constant(48), **conv_facts(1))
    first, second = draw.builder.add("Split", (made,), axis=1, sizes=(24, 24))
    return draw.one("Mul", first, draw.one("Sigmoid", second))


def gate_of_columns(draw: Drawn) -> str:
    """Parts of two widths: what is left over at the end of a vector too."""
    first, second = draw.builder.add("Split", (draw.dense(draw.input(200, 33), 74),), axis=-1, sizes=(37, 37))
    return draw.one("Mul", draw.one("Tanh", first), second)


def expectation(draw: Drawn) -> str:
    """The mean place under a softmax (distribution focal loss, soft arg max), along the fastest axis."""
    power = draw.one("Softmax", draw.input(4, 30, 16), axis=-1)
    return draw.one("ReduceSum", draw.one("Mul", power, draw.constant(16)), axes=(2,), keepdims=False)


def expectation_of_channels(draw: Drawn) -> str:
    """The same over channels, where neighbouring places lie side by side."""
    power = draw.one("Softmax", draw.input(1, 7, 50, 3), axis=1)
    return draw.one("Conv", power, draw.constant(1, 7, 1, 1), "", **conv_facts(2))


def channels_in_lanes(draw: Drawn) -> str:
    """A depthwise convolution with what follows it, and one of four channels a group after that."""
    x = draw.input(1, 48, 17, 19)
    first = draw.one(
        "Conv", x, draw.constant(48, 1, 5, 5), draw.constant(48), **conv_facts(2, pads=2, group=48)
    )
    bent = draw.one("Relu", draw.one("Add", first, x))
    return draw.one(
        "Conv", bent, draw.constant(48, 4, 3, 3), "", **conv_facts(2, strides=2, pads=1, group=12)
    )


def rows_packed_ahead(draw: Drawn) -> str:
    """Few rows and many columns: a normalised left side is packed once, before anything is multiplied."""
    return draw.one("Sigmoid", draw.dense(draw.norm(draw.input(1, 61, 96)), 1500))


def rows_packed_ahead_for_each_batch(draw: Drawn) -> str:
    left = draw.one("Exp", draw.input(2, 5, 70))
    return draw.one("MatMul", left, draw.constant(2, 70, 3000, scale=0.1))


def windows_packed_ahead(draw: Drawn) -> str:
    x = draw.input(1, 40, 3, 4)
    weight = draw.constant(900, 40, 3, 3, scale=0.05)
    return draw.one("Conv", x, weight, draw.constant(900), **conv_facts(2, pads=1))


def deep_product(draw: Drawn) -> str:
    """A panel of its right side would fill the second cache: the depth is cut."""
    return draw.one("Relu", draw.dense(draw.input(1, 45, 9001), 40))


def deep_windows(draw: Drawn) -> str:
    weight = draw.constant(200, 1000, 3, 3, scale=0.01)
    x = draw.input(1, 1000, 4, 5)
    made = draw.one("Conv", x, weight, draw.constant(200), **conv_facts(2, pads=1))
    return draw.one("Add", made, draw.input(1, 200, 4, 5))


@dataclass(frozen=True)
class Joined:
    """A graph, and how many kernels it is."""

    build: Callable[[Drawn], str]
    kernels: int


CASES: Mapping[str, Joined] = {
    one.build.__name__: one
    for one in (
        Joined(norm_after_product, 1),
        Joined(norm_after_chain, 1),
        Joined(softmax_after_product, 1),
        Joined(softmax_of_channels, 1),
        Joined(gate_of_channels, 1),
        Joined(gate_of_columns, 1),
        Joined(expectation, 1),
        Joined(expectation_of_channels, 1),
        Joined(channels_in_lanes, 2),
        Joined(deep_product, 1),
        Joined(deep_windows, 1),
        Joined(rows_packed_ahead, 1),
        Joined(rows_packed_ahead_for_each_batch, 1),
        Joined(windows_packed_ahead, 1),
    )
}


def graph_of(case: Joined) -> Graph:
    draw = Drawn()
    return draw.builder.graph([("y", case.build(draw))])


def feeds(graph: Graph) -> dict[str, Array]:
    random = np.random.default_rng(3)
    return {name: random.standard_normal(graph.types[name].shape).astype(np.float32) for name in graph.inputs}


@pytest.fixture(scope="module", params=runnable_here())
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Array]]:
    graphs = {name: graph_of(case) for name, case in CASES.items()}
    inputs = {name: feeds(graph) for name, graph in graphs.items()}
    folder = tmp_path_factory.mktemp("fusion") / "package"
    return run_all(graphs, inputs, folder, target_name=request.param, threads=2)


@pytest.mark.parametrize("name", CASES)
def test_as_many_kernels_as_expected(name: str) -> None:
    assert len(optimize(graph_of(CASES[name])).nodes) == CASES[name].kernels


@pytest.mark.parametrize("name", [name for name in CASES if "ahead" in name])
def test_a_left_side_is_packed_once(name: str) -> None:
    """A phase of its own before the one that multiplies."""
    program = program_of(optimize(graph_of(CASES[name])), target(runnable_here()[0]))
    assert [len(kernel.phases) for kernel in program.kernels.values()] == [2]


@pytest.mark.parametrize("name", CASES)
def test_joined_kernels_compute_the_same(name: str, results: dict[str, dict[str, Array]]) -> None:
    graph = graph_of(CASES[name])
    wanted = reference.run(graph, feeds(graph))["y"]
    near(results[name]["y"], wanted, TOLERANCE)
