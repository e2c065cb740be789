"""Kernels print and parse: every kernel that the operators' samples make comes back as it was."""

import re

import pytest

from ourcompiler.errors import CompileError
from ourcompiler.kernel.ir import Kernel
from ourcompiler.kernel.parse import parse_kernel
from ourcompiler.kernel.text import show
from ourcompiler.pipeline import optimize
from ourcompiler.program import make_program
from ourcompiler.selftest.samples import CASES, graph_of
from ourcompiler.selftest.together import joined
from ourcompiler.targets import target


def kernels() -> dict[str, Kernel]:
    graph = optimize(joined({str(case): graph_of(case) for case in CASES}))
    return dict(make_program(graph, target("avx2"), {}).kernels)


def test_every_kernel_comes_back() -> None:
    for kernel in kernels().values():
        text = show(kernel)
        assert show(parse_kernel(text)) == text
        assert parse_kernel(text) == kernel


BROKEN = {
    "no kernel": ("hello", "a kernel begins with"),
    "no phase": ("kernel k(b0: f32)\n  let x: i64 = 1", "here a phase should begin"),
    "an unknown name": (
        "kernel k(b0: out f32)\n  phase 1\n    b0[nowhere] = 1.0:f32",
        "nothing is named nowhere",
    ),
    "an unknown type": ("kernel k(b0: f33)\n  phase 1", "there is no element type 'f33'"),
    "an unknown buffer": ("kernel k(b0: f32)\n  phase 1\n    let x: f32 = b1[0]", "there is no buffer b1"),
    "half a value": ("kernel k(b0: f32)\n  phase 1\n    let x: i64 = 1 +", "more expected"),
    "too much": ("kernel k(b0: f32)\n  phase 1\n    let x: i64 = 1 2", "2 follows a complete value"),
    "no statement": ("kernel k(b0: f32)\n  phase 1\n    what is this", "this is no statement"),
    "strange signs": ("kernel k(b0: f32)\n  phase 1\n    let x: i64 = 1 ? 2", "is no part of a kernel"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_said(name: str) -> None:
    text, message = BROKEN[name]
    with pytest.raises(CompileError, match=re.escape(message)):
        parse_kernel(text)
