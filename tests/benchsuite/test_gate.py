"""Equal outputs: every way in which outputs can be wrong is found, and none that does not matter."""

from typing import Any

import numpy as np
import pytest

from benchsuite.gate import TOLERANCES, Verdict, compare, relative_error

EDGE = TOLERANCES["fp32"]
INF, NAN = float("inf"), float("nan")


def floats(*values: float, dtype: str = "float32") -> dict[str, np.ndarray]:
    return {"y": np.array(values, dtype=dtype)}


REFERENCE = floats(3.0, 4.0)

WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "missing": (REFERENCE, {"z": np.zeros(2)}, "output 'y' is missing"),
    "shape": (REFERENCE, {"y": np.zeros((2, 1), np.float32)}, "output 'y' has shape [2, 1], expected [2]"),
    "scalar": (REFERENCE, {"y": np.float32(3)[()].reshape(())}, "output 'y' has shape [], expected [2]"),
    "nan": (REFERENCE, floats(3.0, NAN), "output 'y' has 1 of 2 values NaN or infinite"),
    "inf": (REFERENCE, floats(-INF, INF), "output 'y' has 2 of 2 values NaN or infinite"),
    "error": (REFERENCE, floats(3.0, 4.1), "output 'y': relative L2 error 0.02 > 0.001"),
    "zero": (REFERENCE, floats(0.0, 0.0), "output 'y': relative L2 error 1 > 0.001"),
    "zero reference": (floats(0.0, 0.0), floats(0.3, 0.4), "output 'y': relative L2 error 0.5 > 0.001"),
    "integers": (
        {"y": np.array([1, 2, 3])},
        {"y": np.array([1, 5, 9])},
        "2 values of 'y' differ",
    ),
    "booleans": ({"y": np.array([True, False])}, {"y": np.array([True, True])}, "1 values of 'y' differ"),
    "integers that are NaN": (
        {"y": np.array([1, 2])},
        {"y": np.array([1.0, NAN])},
        "1 values of 'y' differ",
    ),
    "infinite reference": (
        floats(INF, 1.0),
        floats(1.0, 1.0),
        "output 'y' differs where the reference is NaN or infinite",
    ),
    "other sign of infinity": (
        floats(INF, 1.0),
        floats(-INF, 1.0),
        "output 'y' differs where the reference is NaN or infinite",
    ),
    "text": (REFERENCE, {"y": np.array(["3", "4"])}, "output 'y' has dtype <U1, expected float32"),
}

RIGHT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "same": (REFERENCE, REFERENCE),
    "half precision": (REFERENCE, floats(3.0, 4.0, dtype="float16")),
    "double precision": (REFERENCE, floats(3.0, 4.0, dtype="float64")),
    "one more output": (REFERENCE, {**REFERENCE, "hidden": np.zeros(3)}),
    "zero reference": (floats(0.0, 0.0), floats(0.0, 1e-4)),
    "integers of another width": ({"y": np.array([1, 2], np.int64)}, {"y": np.array([1, 2], np.int32)}),
    "no elements": ({"y": np.zeros((0, 4), np.float32)}, {"y": np.zeros((0, 4), np.float32)}),
    "infinite like the reference": (floats(-INF, 1.0), floats(-INF, 1.0)),
    "NaN like the reference": (floats(NAN, 1.0), floats(NAN, 1.0)),
    "near zero beside large": (floats(1000.0, 1e-9), floats(1000.0, 1e-5)),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_outputs_have_a_reason(name: str) -> None:
    reference, outputs, reason = WRONG[name]
    verdict = compare(reference, outputs, "fp32")
    assert not verdict.equal
    assert verdict.reason == reason


@pytest.mark.parametrize("name", RIGHT)
def test_right_outputs_pass(name: str) -> None:
    verdict = compare(*RIGHT[name], "fp32")
    assert verdict.equal, verdict.reason
    assert verdict.error is not None
    assert 0 <= verdict.error <= EDGE


@pytest.mark.parametrize(("factor", "equal"), [(0.999, True), (1.001, False)])
def test_the_edge_of_the_tolerance(factor: float, equal: bool) -> None:
    reference = {"y": np.array([1.0, 0.0])}
    verdict = compare(reference, {"y": np.array([1.0, EDGE * factor])}, "fp32")
    assert verdict.equal == equal
    assert verdict.error == pytest.approx(EDGE * factor)


def test_the_worst_output_decides() -> None:
    reference = {"a": np.ones(4), "b": np.ones(4), "c": np.ones(4)}
    close = {"a": np.ones(4), "b": np.full(4, 1 + 5e-4), "c": np.full(4, 1 + 1e-4)}
    assert compare(reference, close, "fp32") == Verdict(pytest.approx(5e-4))
    wrong = {**close, "c": np.full(4, 2.0)}
    assert compare(reference, wrong, "fp32") == Verdict(1.0, "output 'c': relative L2 error 1 > 0.001")


def test_large_values_do_not_overflow() -> None:
    """The norm is taken in float64: float32 would overflow at 1e20 squared, float16 at 256."""
    assert relative_error(np.full(9, 3e38, np.float32), np.full(9, 3e38, np.float32)) == 0.0
    assert relative_error(np.full(9, 6e4, np.float16), np.full(9, 3e4, np.float16)) == pytest.approx(0.5)


def test_a_precision_class_without_tolerance_is_an_error() -> None:
    with pytest.raises(KeyError):
        compare(REFERENCE, REFERENCE, "fp4")
