"""The ONNX standard's node cases, among them its functions written out: rewriting changes no result."""

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
from ourcompiler.rewrite.passes import rewrite

HALF_TOLERANCE, TOLERANCE = 2e-2, 1e-5
WRITTEN_OUT = {
    "test_gelu_default_1_expanded": "Gelu",
    "test_gelu_tanh_1_expanded": "Gelu",
    "test_hardswish_expanded": "HardSwish",
    "test_logsoftmax_axis_0_expanded": "LogSoftmax",
    "test_softmax_axis_1_expanded": "Softmax",
    "test_mish_expanded": "Mish",
}
"""Functions of the standard that are one operator, and nothing else, afterwards."""


@cache
def cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return {case.name: case for case in collect_testcases(None)}


def array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def imported(model: onnx.ModelProto) -> Graph | None:
    try:
        return import_model(model, Path(), {})
    except CompileError:
        return None


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if found.dtype.kind not in "fV":
        np.testing.assert_array_equal(found, expected)
        return
    wide, right = found.astype(np.float64), expected.astype(np.float64)
    relative = HALF_TOLERANCE if found.dtype.itemsize == 2 else TOLERANCE
    largest = np.abs(right[np.isfinite(right)]).max(initial=0.0)
    np.testing.assert_allclose(wide, right, rtol=relative, atol=relative * largest)


@pytest.mark.filterwarnings("ignore")
def test_rewriting_changes_no_case() -> None:
    tried = 0
    for name, case in cases().items():
        graph = imported(case.model)
        if graph is None:
            continue
        after = rewrite(graph)
        for inputs, _ in case.data_sets:
            named = zip(case.model.graph.input, inputs, strict=False)
            feeds = {value.name: array(one) for value, one in named}
            try:
                expected = run(graph, feeds)
            except CompileError:  # operands that the reference refuses
                continue
            found = run(after, feeds)
            tried += 1
            for output, value in expected.items():
                try:
                    assert_close(found[output], value)
                except AssertionError as error:
                    raise AssertionError(name) from error
    assert tried > 700


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_functions_that_are_written_out_are_recognised(name: str) -> None:
    graph = imported(cases()[name].model)
    assert graph is not None
    assert [node.op for node in rewrite(graph).nodes] == [WRITTEN_OUT[name]]
