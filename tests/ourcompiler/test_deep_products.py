"""Products whose depth is cut: rows read in place, packed by the task, and packed ahead because they would
collide in a cache; in all the ways in which kernels are checked, with caches in which little work is deep.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourcompiler import package, reference, toolchain
from ourcompiler.build import Builder
from ourcompiler.codegen import gemm
from ourcompiler.codegen.contraction import Contraction, Tile
from ourcompiler.codegen.gemm_parts import (
    SET_PERIOD,
    SHARED_TASKS,
    depth_in_part,
    is_deep,
    make_cut,
    row_stride,
)
from ourcompiler.codegen.group import Group
from ourcompiler.compile import program_of
from ourcompiler.ir.graph import Array, Graph, Node
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.conv import conv_facts
from ourcompiler.pipeline import optimize
from ourcompiler.program import Program
from ourcompiler.selftest.compare import error_of
from ourcompiler.selftest.interpret import interpret
from ourcompiler.selftest.standalone import run_program
from ourcompiler.selftest.together import joined, run_all
from ourcompiler.targets import Target, runnable_here, target
from tests.ourcompiler.test_checked_builds import TRAPS, compiled_by_gcc

TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Case:
    """A product of a known right side; with a normalisation of its rows before, or as a convolution of one
    tap; whether its left side is packed as a whole with small caches.
    """

    rows: int
    depth: int
    columns: int
    batch: int = 1
    normalised: bool = False
    convolution: bool = False
    is_ahead: bool = False

    def __str__(self) -> str:
        return f"{self.batch}x{self.rows}x{self.depth}x{self.columns}" + "n" * self.normalised

    def graph(self) -> tuple[Graph, dict[str, Array]]:
        """The product with a sum after it."""
        draw = np.random.default_rng(0).standard_normal
        builder = Builder()
        if self.convolution:
            shape: tuple[int, ...] = (1, self.depth, self.rows, 3)
            kernel: tuple[int, ...] = (self.columns, self.depth, 1, 1)
        else:
            shape, kernel = (self.rows, self.depth), (self.depth, self.columns)
            if self.batch > 1:
                shape, kernel = (self.batch, *shape), (self.batch, *kernel)
        given = draw(shape).astype(np.float32)
        x = y = builder.input("x", TensorType(DType.F32, given.shape))
        right = builder.constant((draw(kernel) / self.depth**0.5).astype(np.float32))
        if self.normalised:
            scale, shift = (builder.constant(draw(self.depth).astype(np.float32)) for _ in "sb")
            (y,) = builder.add("LayerNorm", [x, scale, shift], axis=-1, epsilon=1e-5)
        if self.convolution:
            (y,) = builder.add("Conv", [y, right, ""], **conv_facts(2))
        else:
            (y,) = builder.add("MatMul", [y, right])
        more = builder.constant(draw(self.columns if not self.convolution else 1).astype(np.float32))
        (y,) = builder.add("Add", [y, more])
        return builder.graph([("y", y)]), {"x": given}


CASES = (
    Case(40, 256, 24, is_ahead=True),
    Case(33, 256, 40, is_ahead=True),
    Case(20, 100, 40),
    Case(13, 333, 70),
    Case(7, 90, 33, batch=3),
    Case(20, 96, 50, normalised=True),
    Case(12, 200, 24, convolution=True),
)
"""Of each of several panels and parts; the last ones of which are not whole."""


def small(name: str) -> Target:
    """A target with caches in which little is deep."""
    return replace(target(name), l2_bytes=8192, panel_bytes=4096)


def noted_counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list to which the count of each left side that is packed as a whole will be added."""
    counts: list[int] = []

    def noted(group: Group, node: Node, count: object = gemm.left_count) -> int:
        counts.append(count(group, node))  # type: ignore[operator]
        return counts[-1]

    monkeypatch.setattr(gemm, "left_count", noted)
    return counts


@pytest.mark.parametrize("name", ["avx512", "avx2", "aarch64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_in_python(case: Case, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = noted_counts(monkeypatch)
    graph, inputs = case.graph()
    found = interpret(graph, inputs, small(name))["y"]
    assert error_of(found, reference.run(graph, inputs)["y"]) <= TOLERANCE
    if not (case.normalised or case.convolution):
        assert any(counts) == case.is_ahead


@pytest.mark.parametrize(
    ("case", "is_ahead"),
    [
        (Case(128, 2048, 600), True),  # 8 KiB apart: a set of the first cache holds 8 of a tile's 14 rows
        (Case(128, 2064, 600), False),
        (Case(128, 1536, 600), False),  # two sets
        (Case(128, 2048, 100), False),  # the right side stays in the second cache
    ],
    ids=str,
)
def test_rows_of_a_tile_that_meet_in_the_first_cache(
    case: Case, is_ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = noted_counts(monkeypatch)
    program_of(optimize(case.graph()[0]), target("avx512"))
    assert any(counts) == is_ahead


@pytest.mark.parametrize("name", runnable_here())
def test_kernels_of_usual_caches_in_c(name: str, tmp_path: Path) -> None:
    large = (
        Case(70, 2048, 520),
        Case(131, 2048, 300, normalised=True),
        Case(50, 1300, 520),
        Case(29, 1024, 1030, normalised=True),
        Case(12, 2048, 400, convolution=True),
    )
    drawn = {str(case): case.graph() for case in (*large, *CASES)}
    graphs, inputs = ({name: one[part] for name, one in drawn.items()} for part in (0, 1))
    found = run_all(graphs, inputs, tmp_path, target_name=name, threads=2)  # type: ignore[arg-type]
    for key, (graph, given_inputs) in drawn.items():
        assert error_of(found[key]["y"], reference.run(graph, given_inputs)["y"]) <= TOLERANCE, key


def checked() -> tuple[Program, dict[str, Array]]:
    graph = joined({str(case): case.graph()[0] for case in CASES})
    inputs = {f"{case}/x": case.graph()[1]["x"] for case in CASES}
    return program_of(optimize(graph), small("avx2")), inputs


def check(found: dict[str, Array]) -> None:
    for case in CASES:
        assert error_of(found[f"{case}/y"], reference.run(*case.graph())["y"]) <= TOLERANCE, case


def test_nothing_undefined_is_done(tmp_path: Path) -> None:
    program, inputs = checked()
    toolchain.build_program(package.sources_of(program), tmp_path / "model", program.target, flags=TRAPS)
    check(run_program([str(tmp_path / "model")], program, tmp_path, inputs, threads=2))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc: Debian package gcc")
def test_nothing_outside_memory_is_touched(tmp_path: Path) -> None:
    program, inputs = checked()
    check(run_program([str(compiled_by_gcc(program, tmp_path))], program, tmp_path, inputs, threads=2))


@given(
    st.integers(1, 700),
    st.integers(1, 60_000),
    st.integers(800, 9000),
    st.sampled_from([1, 3]),
    st.booleans(),
)
def test_a_cut_of_a_deep_product_covers_it_and_fits(
    rows: int, columns: int, depth: int, batches: int, is_packed: bool
) -> None:
    here, tile = target("avx2"), Tile(6, 2, 8)
    what = Contraction((batches,), (rows,), columns, (depth,), *[None] * 3)  # type: ignore[arg-type]
    assert is_deep(what, tile, here)
    cut = make_cut(what, tile, is_packed, here, True)
    panels = -(-columns // tile.columns)
    assert cut.row_block % tile.rows == 0
    assert (cut.row_blocks - 1) * cut.row_block < rows <= cut.row_blocks * cut.row_block
    assert (cut.panel_blocks - 1) * cut.panel_block < panels <= cut.panel_blocks * cut.panel_block
    if not is_packed:
        assert 4 * cut.row_block * depth_in_part(tile, here) <= here.l2_bytes * 5 // 8
        assert cut.panel_block == 1 or (
            4 * cut.row_block * cut.panel_block * tile.columns <= here.l2_bytes // 2
        )
        is_large = batches * rows * columns * depth >= 400_000 * SHARED_TASKS
        if is_large and min(panels, rows // tile.rows) > SHARED_TASKS:
            assert batches * cut.row_blocks * cut.panel_blocks >= SHARED_TASKS // 2


def test_packed_rows_do_not_begin_in_one_set() -> None:
    assert [row_stride(one) for one in (768, 2048, 8192)] == [768, 2064, 8208]
    assert all(row_stride(one) % SET_PERIOD for one in range(1, 5000))
