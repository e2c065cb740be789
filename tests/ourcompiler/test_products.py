"""Products and grouped convolutions in the ways in which their code differs: rows that are left over, depths
in parts, what is fetched ahead, rows of taps; in Python for every target, in C for those that run here.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourcompiler import reference
from ourcompiler.build import Builder
from ourcompiler.codegen.contraction import Tile, choose_tile, contraction, last_tiles
from ourcompiler.codegen.element import Lane
from ourcompiler.codegen.gemm_parts import is_deep, make_cut
from ourcompiler.compile import program_of
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.index import Affine, Dim
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.kernel.ir import Fetch, walk
from ourcompiler.ops.conv import conv_facts
from ourcompiler.pipeline import optimize
from ourcompiler.selftest.compare import error_of
from ourcompiler.selftest.interpret import interpret
from ourcompiler.selftest.together import run_all
from ourcompiler.targets import runnable_here, target

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Case:
    """A convolution of a square image: channels, size, taps, stride, groups, distance of taps; a residual."""

    inputs: int
    outputs: int
    size: int
    taps: tuple[int, int] = (1, 1)
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    residual: bool = False

    def __str__(self) -> str:
        taps = "x".join(map(str, self.taps))
        return f"{self.inputs}-{self.outputs}-{self.size}-{taps}-{self.stride}-{self.groups}"


SMALL = (
    Case(16, 40, 7, residual=True),
    Case(16, 16, 5, (3, 3), groups=8),
    Case(16, 16, 9, (3, 3), stride=2, groups=4, residual=True),
    Case(32, 32, 6, (3, 5), groups=4, dilation=2),
    Case(16, 16, 9, (1, 7), groups=4),
    Case(16, 16, 6, (3, 3), groups=16),
    Case(16, 16, 2, (7, 7), groups=16),  # more border than image
    Case(16, 16, 3, (3, 3), groups=16, dilation=4),
    Case(24, 24, 7, (5, 5), stride=2, groups=24, residual=True),
)
LARGE = (
    *SMALL,
    Case(1100, 48, 7, residual=True),
    Case(800, 40, 13),
    Case(300, 72, 14, residual=True),
    Case(128, 128, 28, (3, 3), groups=32),
    Case(48, 48, 61, (7, 7), groups=48),
    Case(64, 64, 58, (3, 3), stride=2, groups=64, residual=True),
    Case(128, 128, 15, (3, 3), stride=2, groups=16, residual=True),
)


def drawn(case: Case) -> tuple[Graph, dict[str, Array]]:
    """The graph with its weights known, and its inputs."""
    random = np.random.default_rng(0)
    builder = Builder()
    image = random.standard_normal((1, case.inputs, case.size, case.size)).astype(np.float32)
    each = case.inputs // case.groups
    x = builder.input("x", TensorType(DType.F32, image.shape))
    shape = (case.outputs, each, *case.taps)
    weight = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    bias = builder.constant(random.standard_normal(case.outputs).astype(np.float32))
    pads = tuple(one // 2 * case.dilation for one in case.taps)
    facts = {
        **conv_facts(2, group=case.groups),
        "pads": (*pads, *pads),
        "strides": (case.stride,) * 2,
        "dilations": (case.dilation,) * 2,
    }
    (y,) = builder.add("Conv", [x, builder.constant(weight.astype(np.float32)), bias], **facts)
    inputs = {"x": image}
    if case.residual:
        inputs["r"] = random.standard_normal(builder.types[y].shape).astype(np.float32)
        other = builder.input("r", TensorType(DType.F32, inputs["r"].shape))
        (y,) = builder.add("Relu", builder.add("Add", [y, other]))
    return builder.graph([("y", y)]), inputs


def product(rows: int, depth: int, columns: int, *, residual: bool = True) -> tuple[Graph, dict[str, Array]]:
    """A matrix times a known one, and what follows it."""
    random = np.random.default_rng(1)
    builder = Builder()
    inputs = {"x": random.standard_normal((rows, depth)).astype(np.float32)}
    weight = builder.constant((random.standard_normal((depth, columns)) / depth**0.5).astype(np.float32))
    x = builder.input("x", TensorType(DType.F32, (rows, depth)))
    (y,) = builder.add("MatMul", [x, weight])
    if residual:
        inputs["r"] = random.standard_normal((rows, columns)).astype(np.float32)
        (y,) = builder.add("Add", [y, builder.input("r", TensorType(DType.F32, (rows, columns)))])
    return builder.graph([("y", *builder.add("Relu", [y]))]), inputs


@pytest.mark.parametrize("name", ["avx512", "avx2", "aarch64"])
@pytest.mark.parametrize("case", [*SMALL, (49, 20, 40), (13, 700, 40)], ids=str)
def test_kernels_in_python(case: Case | tuple[int, int, int], name: str) -> None:
    graph, inputs = drawn(case) if isinstance(case, Case) else product(*case)
    found = interpret(graph, inputs, target(name))["y"]
    assert error_of(found, reference.run(graph, inputs)["y"]) <= TOLERANCE


@pytest.mark.parametrize("name", runnable_here())
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_kernels_in_c(name: str, threads: int, tmp_path: Path) -> None:
    all_drawn = {str(case): drawn(case) for case in LARGE}
    all_drawn |= {str(sizes): product(*sizes) for sizes in ((49, 1100, 136), (500, 300, 72), (200, 800, 40))}
    graphs = {key: graph for key, (graph, _) in all_drawn.items()}
    inputs = {key: given for key, (_, given) in all_drawn.items()}
    found = run_all(graphs, inputs, tmp_path, target_name=name, threads=threads)
    for key, graph in graphs.items():
        assert error_of(found[key]["y"], reference.run(graph, inputs[key])["y"]) <= TOLERANCE, key


@given(st.integers(1, 300), st.integers(1, 14), st.integers(1, 4), st.sampled_from([24, 1000]))
def test_tiles_cover_every_row(rows: int, height: int, vectors: int, block: int) -> None:
    whole, low = last_tiles(rows, Tile(height, vectors, 8), vectors, block)
    assert whole % height == 0
    assert whole == rows if not low else 0 < low < height and (rows - whole) % low == 0


def test_rows_that_are_left_over_keep_the_multipliers_busy() -> None:
    """49 rows are four tiles of six and five of five, not eight of six and one of a single row."""
    assert last_tiles(49, Tile(6, 2, 8), 2, 54) == (24, 5)
    assert last_tiles(49, Tile(6, 2, 8), 2, 24) == (48, 1)
    assert last_tiles(52, Tile(6, 2, 8), 2, 54) == (48, 4)


def fetches(graph: Graph) -> list[Fetch]:
    program = program_of(optimize(graph), target("avx2"))
    phases = (phase for kernel in program.kernels.values() for phase in kernel.phases)
    return [one for phase in phases for one in walk(phase.body) if isinstance(one, Fetch)]


@pytest.mark.parametrize(("columns", "is_asked_for"), [(48, False), (80, True)])
def test_a_known_right_side_is_asked_for_unless_it_is_small(columns: int, is_asked_for: bool) -> None:
    """Other kernels' right sides have been in the cache since the last run."""
    statements = fetches(product(500, 300, columns, residual=False)[0])
    assert any(not one.is_next for one in statements) == is_asked_for


@pytest.mark.parametrize("name", ["avx2", "avx512"])
@pytest.mark.parametrize(("rows", "depth", "columns"), [(49, 1024, 512), (49, 3072, 768), (77, 3072, 768)])
def test_few_rows_read_a_far_right_side_once(name: str, rows: int, depth: int, columns: int) -> None:
    """In one block of rows, and tasks enough to share out."""
    machine = target(name)
    body = optimize(product(rows, depth, columns, residual=False)[0]).nodes[0].body
    assert body is not None
    what = contraction(body, next(node for node in body.nodes if node.op == "MatMul"))
    tile = choose_tile(rows, columns, machine.lanes, machine.registers)
    cut = make_cut(what, tile, False, machine, is_deep(what, tile, machine))
    assert cut.row_blocks == 1
    assert cut.panel_blocks >= 8


@pytest.mark.parametrize("depth", [300, 800])
def test_a_tile_asks_for_what_follows_it(depth: int) -> None:
    """For the rows of the result and of a residual; for the left side's only where they lie side by side."""
    found = {has: fetches(product(500, depth, 80, residual=has)[0]) for has in (False, True)}
    buffers = {has: len({one.buffer for one in every if one.is_next}) for has, every in found.items()}
    assert buffers == ({False: 2, True: 3} if depth == 300 else {False: 1, True: 2})


@pytest.mark.parametrize(
    ("is_aligned", "factor", "start", "expected"),
    [(True, 32, 0, True), (False, 32, 0, False), (True, 24, 0, False), (True, 32, 8, False)],
)
def test_vectors_begin_whole_only_if_all_that_is_added_is_whole(
    is_aligned: bool, factor: int, start: int, expected: bool
) -> None:
    """A quotient by a multiple of the lanes is the same for all of them then, and only then surely."""
    lane = Lane(1, 16, is_aligned)
    assert lane.begins_whole(Affine(start, ((Dim(0), factor), (Dim(1), 1)))) == expected
    assert not lane.begins_whole(Affine(start, ((Dim(0), factor), (Dim(1), 2))))
