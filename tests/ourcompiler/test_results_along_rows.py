"""Images whose channels lie apart, as networks take and give them: what follows a product there is computed
along its rows, the pixels, which lie side by side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from ourcompiler import reference
from ourcompiler.build import Builder
from ourcompiler.compile import program_of
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.kernel.ir import For, If, Statement, Store
from ourcompiler.ops.conv import conv_facts
from ourcompiler.pipeline import optimize
from ourcompiler.selftest.compare import error_of
from ourcompiler.selftest.interpret import interpret
from ourcompiler.selftest.together import run_all
from ourcompiler.targets import runnable_here, target

TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Case:
    """A convolution with a bias, a sum with another image and an activation; of so many images."""

    channels: int
    size: tuple[int, int]
    outputs: int
    kernel: int = 1
    images: int = 1

    def __str__(self) -> str:
        return f"{self.images}x{self.channels}x{self.size[0]}x{self.size[1]}-{self.outputs}-k{self.kernel}"

    def graph(self) -> tuple[Graph, dict[str, Array]]:
        """The network and numbers for its inputs."""
        draw = np.random.default_rng(3).standard_normal
        builder = Builder()
        before = draw((self.images, self.channels, *self.size)).astype(np.float32)
        edge = self.kernel - 1
        after = draw((self.images, self.outputs, *(one - edge for one in self.size))).astype(np.float32)
        x, other = (
            builder.input(name, TensorType(DType.F32, one.shape))
            for name, one in (("x", before), ("r", after))
        )
        kernel = draw((self.outputs, self.channels, self.kernel, self.kernel)) / self.channels**0.5
        weight = builder.constant(kernel.astype(np.float32))
        bias = builder.constant(draw(self.outputs).astype(np.float32))
        (y,) = builder.add("Conv", [x, weight, bias], **conv_facts(2))
        (y,) = builder.add("Add", [y, other])
        (y,) = builder.add("Relu", [y])
        return builder.graph([("y", y)]), {"x": before, "r": after}


CASES = (
    Case(20, (9, 7), 40),
    Case(24, (5, 5), 33),
    Case(17, (4, 4), 70, kernel=2),
    Case(200, (8, 8), 20),
    Case(8, (3, 5), 24, images=2),
)
"""Of tiles and panels that are not whole ones; the fourth is deep where caches are small."""


@pytest.mark.parametrize("name", ["avx512", "avx2", "aarch64"])
@pytest.mark.parametrize("is_small", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_in_python(case: Case, name: str, is_small: bool) -> None:
    graph, inputs = case.graph()
    here = target(name)
    if is_small:
        here = replace(here, l2_bytes=8192, panel_bytes=4096)
    found = interpret(graph, inputs, here)["y"]
    assert error_of(found, reference.run(graph, inputs)["y"]) <= TOLERANCE


@pytest.mark.parametrize("name", runnable_here())
def test_kernels_in_c(name: str, tmp_path: Path) -> None:
    drawn = {str(case): case.graph() for case in (*CASES, Case(64, (50, 50), 80), Case(300, (31, 30), 130))}
    graphs, inputs = ({key: one[part] for key, one in drawn.items()} for part in (0, 1))
    found = run_all(graphs, inputs, tmp_path, target_name=name, threads=2)  # type: ignore[arg-type]
    for key, (graph, given) in drawn.items():
        assert error_of(found[key]["y"], reference.run(graph, given)["y"]) <= TOLERANCE, key


def written(statements: Sequence[Statement]) -> Iterator[Store]:
    for one in statements:
        match one:
            case Store():
                yield one
            case For():
                yield from written(one.body)
            case If():
                yield from written((*one.body, *one.otherwise))


def test_neighbouring_pixels_are_written_together() -> None:
    """In vectors of pixels, where every channel's next number would be written alone otherwise."""
    graph, _ = Case(20, (9, 9), 40).graph()
    program = program_of(optimize(graph), target("avx512"))
    (kernel,) = program.kernels.values()
    result = next(one.name for one in kernel.buffers if one.is_written)
    stores = [one for phase in kernel.phases for one in written(phase.body) if one.buffer == result]
    assert any(one.value.kind.lanes >= 8 for one in stores)
