"""Functions of generated code are as exact as docs/kernels.md says, over all that they are asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from ourcompiler.build import Builder
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.selftest.together import run_all
from ourcompiler.targets import runnable_here

ULP = 2.0**-23
COUNT = 200_003


def errors(found: Array, exact: Array) -> tuple[float, float]:
    """The largest absolute one, and the largest relative one where nothing is subnormal."""
    apart = np.abs(found.astype(np.float64) - exact)
    normal = np.abs(exact) > 2e-38
    return float(apart.max()), float((apart[normal] / np.abs(exact[normal])).max())


FUNCTIONS: dict[str, tuple[float, float, Callable[[Any], Any], float, float]] = {
    "Exp": (-87.0, 88.7, np.exp, np.inf, 0.64 * ULP),
    "Erf": (-6.0, 6.0, special.erf, 3.3e-7, 3 * ULP),
    "Tanh": (-12.0, 12.0, np.tanh, 1.2e-7, 2 * ULP),
    "Gelu": (-12.0, 12.0, lambda x: 0.5 * x * special.erfc(-x * np.sqrt(0.5)), 1e-6, np.inf),
    "Sigmoid": (-80.0, 80.0, special.expit, 1.2e-7, 2 * ULP),
}
"""From, to, the exact function, the largest absolute error, the largest relative one."""
ATTRIBUTES: dict[str, dict[str, Any]] = {"Gelu": {"approximate": "none"}}


def graph_of(op: str, count: int) -> Graph:
    builder = Builder()
    x = builder.input("x", TensorType(DType.F32, (count,)))
    return builder.graph([("y", builder.add(op, [x], **ATTRIBUTES.get(op, {}))[0])])


@pytest.mark.parametrize("name", runnable_here())
def test_errors_are_those_of_the_page(name: str, tmp_path: Path) -> None:
    inputs = {
        op: {"x": np.linspace(low, high, COUNT).astype(np.float32)}
        for op, (low, high, *_) in FUNCTIONS.items()
    }
    graphs = {op: graph_of(op, COUNT) for op in FUNCTIONS}
    found = run_all(graphs, inputs, tmp_path, target_name=name)
    for op, (_, _, exact, absolute, relative) in FUNCTIONS.items():
        seen = errors(found[op]["y"], exact(inputs[op]["x"].astype(np.float64)))
        assert seen[0] <= absolute, op
        assert seen[1] <= relative, op


@pytest.mark.parametrize("name", runnable_here())
def test_ends(name: str, tmp_path: Path) -> None:
    ends = np.array([np.nan, np.inf, -np.inf, 0.0, 89.5, -104.0, 3e38, -3e38], np.float32)
    graphs = {op: graph_of(op, len(ends)) for op in FUNCTIONS}
    found = run_all(graphs, {op: {"x": ends} for op in FUNCTIONS}, tmp_path, target_name=name)
    got = {op: found[op]["y"] for op in FUNCTIONS}
    np.testing.assert_array_equal(
        got["Exp"], np.array([np.nan, np.inf, 0, 1, np.inf, 0, np.inf, 0], np.float32)
    )
    np.testing.assert_allclose(got["Erf"], [np.nan, 1, -1, 0, 1, -1, 1, -1], rtol=3 * ULP)
    np.testing.assert_allclose(got["Tanh"], [np.nan, 1, -1, 0, 1, -1, 1, -1], rtol=ULP)
    np.testing.assert_allclose(got["Gelu"], [np.nan, np.inf, 0, 0, 89.5, 0, 3e38, 0], rtol=ULP, atol=1e-6)
    np.testing.assert_allclose(got["Sigmoid"], [np.nan, 1, 0, 0.5, 1, 0, 1, 0], atol=1e-37)


@pytest.mark.parametrize("name", runnable_here())
def test_gelu_by_tanh_is_exact_where_it_is_near_zero_too(name: str, tmp_path: Path) -> None:
    x = np.concatenate([np.linspace(-9, 9, COUNT), [3e38, -3e38, 1e20, -1e20, np.inf]]).astype(np.float32)
    builder = Builder()
    given = builder.input("x", TensorType(DType.F32, x.shape))
    graph = builder.graph([("y", builder.add("Gelu", [given], approximate="tanh")[0])])
    found = run_all({"gelu": graph}, {"gelu": {"x": x}}, tmp_path, target_name=name)["gelu"]["y"]
    wide = x[:-5].astype(np.float64)
    exact = wide * special.expit(2 * np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3))
    assert errors(found[:-5], exact)[0] <= 1e-6
    assert errors(found[:-5], exact)[1] <= 1e-5
    np.testing.assert_array_equal(found[-5:], np.array([3e38, 0, 1e20, 0, np.inf], np.float32))
