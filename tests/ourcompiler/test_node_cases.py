"""The ONNX standard's own node cases, computed by the reference; `node_case_skips.txt` may only shrink.

Operands that ours needs to know when compiling (axes, shapes, …) are bound: a case gives them as inputs.
"""

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Graph
from ourcompiler.onnx_in.load import import_model
from ourcompiler.reference import run
from ourcompiler.selftest.together import run_all

SKIPS = Path(__file__).parent / "node_case_skips.txt"
REASONS: dict[str, str] = dict(
    line.split(": ", 1) for line in SKIPS.read_text(encoding="utf-8").splitlines() if ": " in line
)
LEAST_PASSED = 1571
HALF_TOLERANCE = 1e-2
"""Of float16 and bfloat16, which the cases' own results are rounded to at every step."""


@cache
def cases() -> dict[str, Any]:
    """Every case by its name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return {case.name: case for case in collect_testcases(None)}


def numpy_array(value: Any) -> np.ndarray:
    """Data of a case, which has some tensors as protobuf."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def imported(model: onnx.ModelProto, inputs: list[Any]) -> Graph:
    """The graph; integers, booleans and vectors among the inputs are constants if it needs to know them."""
    try:
        return import_model(model, Path(), {})
    except CompileError as error:
        if "the data" not in error.what:
            raise
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    for value, array in zip(model.graph.input, inputs, strict=False):
        known = numpy_array(array)
        if known.dtype.kind in "iub" or known.ndim <= 1:
            bound.graph.initializer.append(numpy_helper.from_array(known, value.name))
    return import_model(bound, Path(), {})


def check(case: Any) -> None:
    """Raises when the reference computes something else, or nothing."""
    for inputs, outputs in case.data_sets:
        graph = imported(case.model, inputs)
        named = zip(case.model.graph.input, inputs, strict=False)
        made = run(graph, {value.name: numpy_array(array) for value, array in named})
        for value, expected in zip(case.model.graph.output, outputs, strict=True):
            compare(made[value.name], numpy_array(expected), case)


def compare(found: np.ndarray, expected: np.ndarray, case: Any) -> None:
    """The same type and shape, and numbers as near as the case asks."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if found.dtype.kind not in "fV":
        np.testing.assert_array_equal(found, expected)
        return
    relative = max(case.rtol, HALF_TOLERANCE if found.dtype.itemsize == 2 else 0)
    wide = [one.astype(np.float64) for one in (found, expected)]
    np.testing.assert_allclose(*wide, rtol=relative, atol=max(case.atol, relative * 1e-2))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(cases()))
def test_the_standards_case(name: str) -> None:
    if name not in REASONS:
        check(cases()[name])
        return
    with pytest.raises((CompileError, AssertionError)):
        check(cases()[name])
    pytest.xfail(REASONS[name])


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """The results of generated code for all cases, from one package, by the case's name and set of data."""
    graphs, inputs = {}, {}
    for name in sorted(set(cases()) - set(REASONS)):
        for number, (given, _) in enumerate(cases()[name].data_sets):
            graph = imported(cases()[name].model, given)
            named = zip(cases()[name].model.graph.input, given, strict=False)
            known = {value.name: numpy_array(array) for value, array in named}
            graphs[f"{name}#{number}"] = graph
            inputs[f"{name}#{number}"] = {one: known[one] for one in graph.inputs}
    return run_all(graphs, inputs, tmp_path_factory.mktemp("cases") / "package", threads=2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(cases()) - set(REASONS)))
def test_generated_code_passes_the_standards_case(
    name: str, generated: dict[str, dict[str, np.ndarray]]
) -> None:
    case = cases()[name]
    for number, (_, outputs) in enumerate(case.data_sets):
        found = generated[f"{name}#{number}"]
        for value, expected in zip(case.model.graph.output, outputs, strict=True):
            compare(found[value.name], numpy_array(expected), case)


def test_skips_are_cases_and_few() -> None:
    assert set(REASONS) <= set(cases())
    assert len(cases()) - len(REASONS) >= LEAST_PASSED
