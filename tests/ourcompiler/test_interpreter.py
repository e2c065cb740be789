"""Kernels run in Python with every access looked at: lowering is right apart from the C compiler, no kernel
touches what is not its own, and no task meets another one.
"""

import re

import numpy as np
import pytest

from ourcompiler.kernel.check import AccessError, array_of, execute, poison
from ourcompiler.kernel.parse import parse_kernel
from ourcompiler.selftest.compare import error_of, verdict
from ourcompiler.selftest.interpret import interpret
from ourcompiler.selftest.random_graphs import draw
from ourcompiler.selftest.samples import CASES, Case, drawn, graph_of, inputs_of
from ourcompiler.targets import target

TARGETS = ("avx512", "avx2", "aarch64")
"""Lanes and registers of each: whether this machine runs its code does not matter here."""
NARROW_TOLERANCE = 1e-2
RANDOM_GRAPHS = 60


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_of_samples(case: Case, name: str) -> None:
    found = interpret(graph_of(case), inputs_of(case), target(name))
    for number, wanted in enumerate(case.row.reference(drawn(case), case.sample.facts)):
        is_narrow = wanted.dtype.itemsize == 2 and wanted.dtype.kind in "fV"
        tolerance = NARROW_TOLERANCE if is_narrow else max(case.row.tolerance, 1e-5)
        assert error_of(found[f"y{number}"], wanted) <= tolerance


@pytest.mark.parametrize("seed", range(RANDOM_GRAPHS))
def test_kernels_of_random_graphs(seed: int) -> None:
    case = draw(seed)
    lanes = TARGETS[seed % len(TARGETS)]
    assert verdict(case, interpret(case.graph, case.inputs, target(lanes))) == ""


WRONG = {
    "read before the start": ("let x: f32 = b0[task - 1]", "b0[-1] is read in task 0: it has 4 elements"),
    "read beyond the end": ("let x: f32 = b0[task + 3]", "b0[4] is read in task 1: it has 4 elements"),
    "lanes beyond the end": ("let x: f32x4 = b0[task x4]", "b0[4] is read in task 1"),
    "lanes apart": ("let x: f32x4 = b0[0 x4 by 2]", "b0[4] is read in task 0"),
    "written beyond the end": ("b1[4] = 1.0:f32", "b1[4] is written in task 0: it has 4 elements"),
    "written before the start": ("b1[0 - 1] = 1.0:f32", "b1[-1] is written"),
    "lanes written beyond the end": ("b1[2] = splat<f32x4>(1.0:f32)", "b1[4] is written in task 0"),
    "scratch": ("s0[8] = 1.0:f32", "s0[8] is written in task 0: it has 8 elements"),
    "table": ("let x: i32 = t0[3]", "t0[3] is read in task 0: it has 3 elements"),
    "two tasks write": ("b1[0] = 1.0:f32", "b1[0] is written in task 1, and used in 0"),
    "one reads what another wrote": (
        "b1[task] = 1.0:f32\n    let x: f32 = b1[0]",
        "b1[0] is read in task 1, and written in 0",
    ),
    "one writes what another read": (
        "if task < 1\n      let x: f32 = b1[1]\n    else\n      b1[1] = 1.0:f32",
        "b1[1] is written in task 1, and used in 0",
    ),
}


def run(body: str) -> list[np.ndarray]:
    text = "kernel k(b0: f32, b1: out f32)\n  scratch s0: f32[8]\n  table t0 = 5 6 7\n  phase 2\n    " + body
    return execute(parse_kernel(text + "\n"), [np.arange(4, dtype=np.float32), np.zeros(4, np.float32)])


@pytest.mark.parametrize("name", WRONG)
def test_what_a_kernel_must_not_touch(name: str) -> None:
    body, message = WRONG[name]
    with pytest.raises(AccessError, match=re.escape(message)):
        run(body)


def test_phases_may_read_what_those_before_wrote() -> None:
    _, found = run("b1[task] = 2.0:f32\n  phase 1\n    let x: f32 = b1[0] + b1[1]\n    b1[2] = x")
    assert found.tolist() == [2, 2, 4, 0]


def test_loops_conditions_and_variables() -> None:
    body = (
        "var x: f32 = 0.0:f32\n    for i from 0 to 4 step 2\n      x = x + b0[i]\n"
        "    if task < 1\n      b1[task] = x\n    else\n      b1[task] = b0[3]"
    )
    assert run(body)[1].tolist() == [2, 3, 0, 0]


def test_what_was_never_written_spoils_the_result() -> None:
    _, found = run("b1[task] = s0[task] + 1.0:f32")
    assert np.isnan(found[:2]).all()


def test_whole_numbers_wrap_around() -> None:
    from ourcompiler.ir.types import DType

    assert array_of([256, -1, 300], DType.U8).tolist() == [0, 255, 44]
    assert array_of([128, -129], DType.I8).tolist() == [-128, 127]
    assert poison(DType.I32) == 99
