"""The tour in the documentation is what the compiler prints today; kernels are named as it is told."""

import re
from pathlib import Path

import numpy as np

from ourcompiler import reference
from ourcompiler.kernel.ir import FUNCTIONS
from ourcompiler.kernel.text import INFIX
from ourcompiler.pipeline import optimize
from ourcompiler.program import make_program
from ourcompiler.selftest.samples import CASES, graph_of
from ourcompiler.selftest.together import joined
from ourcompiler.selftest.tour import COMMAND, network, tour
from ourcompiler.targets import target

DOCS = Path(__file__).parents[2] / "docs"


def test_the_tour_is_what_the_compiler_prints() -> None:
    assert (DOCS / "tour.md").read_text(encoding="utf-8") == tour(), f"write it again: {COMMAND}"


def test_the_tours_network_stays_what_it_is() -> None:
    graph = network()
    inputs = {"x": np.random.default_rng(1).standard_normal((1, 16, 32)).astype(np.float32)}
    before, after = reference.run(graph, inputs), reference.run(optimize(graph), inputs)
    np.testing.assert_allclose(after["y"], before["y"], atol=1e-4)


def test_kernel_names_follow_their_grammar() -> None:
    graph = optimize(joined({str(case): graph_of(case) for case in CASES}))
    names = make_program(graph, target("avx2"), {}).kernels
    assert all(re.fullmatch(r"[a-z0-9]+_(1|\d+(x\d+)*)_[0-9a-f]{10}", name) for name in names)


def test_every_function_is_told() -> None:
    text = (DOCS / "kernels.md").read_text(encoding="utf-8")
    missing = [name for name in (*FUNCTIONS, *INFIX) if f"`{name}`" not in text]
    assert missing == []
