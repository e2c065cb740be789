"""Group normalisation by blocks of positions, where channels lie side by side: all ways kernels are run."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ourcompiler import package, reference, toolchain
from ourcompiler.build import Builder
from ourcompiler.codegen import group_norm
from ourcompiler.compile import program_of
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.conv import conv_facts
from ourcompiler.pipeline import optimize
from ourcompiler.program import Program
from ourcompiler.selftest.compare import error_of
from ourcompiler.selftest.interpret import interpret
from ourcompiler.selftest.standalone import run_program
from ourcompiler.selftest.together import joined, run_all
from ourcompiler.targets import runnable_here, target
from tests.ourcompiler.test_checked_builds import TRAPS, compiled_by_gcc

TOLERANCE = 2e-5


@dataclass(frozen=True, slots=True)
class Case:
    """Images of `channels` on `spatial`, in groups; `offset` from 0, with or without scale and bias."""

    images: int
    channels: int
    spatial: tuple[int, ...]
    groups: int
    is_scaled: bool = True
    swish: bool = False
    offset: float = 0.0

    def __str__(self) -> str:
        size = "x".join(map(str, (self.images, self.channels, *self.spatial)))
        return f"{size} in {self.groups}{' scaled' * self.is_scaled}{' swish' * self.swish} {self.offset:g}"


CASES = (
    Case(1, 32, (9, 11), 4),
    Case(2, 16, (8, 9), 16, swish=True),
    Case(1, 48, (70,), 3, is_scaled=False),
    Case(1, 32, (5, 4, 4), 1, swish=True),
    Case(1, 16, (10, 10), 2, offset=1000.0),
)


def drawn(case: Case) -> tuple[Graph, dict[str, Array]]:
    """A convolution before and one after, so that the layout with channels side by side is chosen."""
    draw = np.random.default_rng(0).standard_normal
    builder = Builder()
    rank = len(case.spatial)
    image = draw((case.images, 3, *case.spatial)).astype(np.float32)
    x = builder.input("x", TensorType(DType.F32, image.shape))
    into = builder.constant(draw((case.channels, 3, *[1] * rank)).astype(np.float32))
    away = builder.constant(np.full(case.channels, case.offset, np.float32))
    (y,) = builder.add("Conv", [x, into, away], **conv_facts(rank))
    given = [builder.constant(draw(case.channels).astype(np.float32)) if case.is_scaled else "" for _ in "sb"]
    (y,) = builder.add("GroupNorm", [y, *given], groups=case.groups, epsilon=1e-5)
    if case.swish:
        (y,) = builder.add("Swish", [y], alpha=1.0)
    back = builder.constant((draw((8, case.channels, *[1] * rank)) / 9).astype(np.float32))
    (y,) = builder.add("Conv", [y, back, ""], **conv_facts(rank))
    return builder.graph([("y", y)]), {"x": image}


@pytest.fixture(autouse=True)
def planned(monkeypatch: pytest.MonkeyPatch) -> list[group_norm.Plan | None]:
    """Every plan that is made; blocks are small, so that there are several."""
    made: list[group_norm.Plan | None] = []
    plan = group_norm.plan

    def noted(*given: object) -> group_norm.Plan | None:
        found = plan(*given)  # type: ignore[arg-type]
        made.append(found)
        return found

    monkeypatch.setattr(group_norm, "BLOCK_BYTES", 4 * 16 * 24)
    monkeypatch.setattr(group_norm, "plan", noted)
    return made


@pytest.mark.parametrize("name", ["avx512", "avx2", "aarch64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_in_python(case: Case, name: str, planned: list[group_norm.Plan | None]) -> None:
    graph, inputs = drawn(case)
    found = interpret(graph, inputs, target(name))["y"]
    assert error_of(found, reference.run(graph, inputs)["y"]) <= TOLERANCE + 4e-8 * case.offset
    assert any(one is not None and one.blocks > 1 for one in planned)


@pytest.mark.parametrize("name", runnable_here())
@pytest.mark.parametrize("threads", [1, 2])
def test_kernels_in_c(name: str, threads: int, tmp_path: Path) -> None:
    graphs = {str(case): drawn(case)[0] for case in CASES}
    inputs = {str(case): drawn(case)[1] for case in CASES}
    found = run_all(graphs, inputs, tmp_path, target_name=name, threads=threads)
    for case in CASES:
        wanted = reference.run(graphs[str(case)], inputs[str(case)])["y"]
        assert error_of(found[str(case)]["y"], wanted) <= TOLERANCE + 4e-8 * case.offset, case


def checked() -> tuple[Program, dict[str, Array]]:
    graph = joined({str(case): drawn(case)[0] for case in CASES})
    inputs = {f"{case}/x": drawn(case)[1]["x"] for case in CASES}
    return program_of(optimize(graph), target("avx2")), inputs


def check(found: dict[str, Array]) -> None:
    for case in CASES:
        wanted = reference.run(*drawn(case))["y"]
        assert error_of(found[f"{case}/y"], wanted) <= TOLERANCE + 4e-8 * case.offset, case


def test_nothing_undefined_is_done(tmp_path: Path) -> None:
    program, inputs = checked()
    toolchain.build_program(package.sources_of(program), tmp_path / "model", program.target, flags=TRAPS)
    check(run_program([str(tmp_path / "model")], program, tmp_path, inputs, threads=2))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc: Debian package gcc")
def test_nothing_outside_memory_is_touched(tmp_path: Path) -> None:
    program, inputs = checked()
    check(run_program([str(compiled_by_gcc(program, tmp_path))], program, tmp_path, inputs, threads=2))
