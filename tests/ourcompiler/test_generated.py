"""Generated code against the reference: every sample of every operator, for every target that runs here."""

import numpy as np
import pytest

from ourcompiler.selftest.samples import CASES, Case, drawn, graph_of, inputs_of
from ourcompiler.selftest.together import run_all
from ourcompiler.targets import runnable_here


@pytest.fixture(scope="module", params=runnable_here())
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, np.ndarray]]:
    graphs = {str(case): graph_of(case) for case in CASES}
    inputs = {str(case): inputs_of(case) for case in CASES}
    return run_all(
        graphs, inputs, tmp_path_factory.mktemp("generated") / "package", target_name=request.param
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_generated_code_computes_what_the_reference_does(
    case: Case, results: dict[str, dict[str, np.ndarray]]
) -> None:
    found = results[str(case)]
    expected = case.row.reference(drawn(case), case.sample.facts)
    for number, wanted in enumerate(expected):
        near(found[f"y{number}"], wanted, case.row.tolerance)


def near(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    """Equal type and shape; fractions relative to the largest element."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    if wanted.dtype.kind not in "fV" or not wanted.size:
        np.testing.assert_array_equal(found, wanted)
        return
    wide, real = found.astype(np.float64), wanted.astype(np.float64)
    if wanted.dtype.itemsize == 2:
        tolerance = max(tolerance, 2.0**-7 if wanted.dtype.kind == "V" else 2.0**-10)
    finite = np.isfinite(real)
    np.testing.assert_array_equal(wide[~finite], real[~finite])
    scale = max(float(np.max(np.abs(real[finite]), initial=0.0)), 1e-30)
    np.testing.assert_allclose(wide[finite], real[finite], rtol=0, atol=tolerance * scale)
