"""The first k of a row: ranked at once, or one after another; what is no number has a place too."""

from pathlib import Path

import numpy as np
import pytest

from ourcompiler.build import Builder
from ourcompiler.codegen.sequential import RANKED_SHARE
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.selftest.together import run_all
from ourcompiler.targets import runnable_here

SIZE = 49
FEW, MANY = SIZE // RANKED_SHARE - 1, SIZE // RANKED_SHARE + 1


def first(k: int, *, largest: bool) -> Graph:
    """The first k of three rows."""
    builder = Builder()
    x = builder.input("x", TensorType(DType.F32, (3, SIZE)))
    values, places = builder.add("TopK", (x,), axis=1, k=k, largest=largest)
    return builder.graph([("values", values), ("places", places)])


@pytest.mark.parametrize("name", runnable_here())
def test_what_is_no_number_counts_as_infinite(name: str, tmp_path: Path) -> None:
    kinds = [(k, largest) for k in (1, FEW, MANY, SIZE) for largest in (True, False)]
    named = {str(kind): first(kind[0], largest=kind[1]) for kind in kinds}
    x = np.random.default_rng(0).integers(-9, 9, (3, SIZE)).astype(np.float32)
    x[0, [3, 40]], x[1, 5], x[2, [0, 1]] = np.nan, np.inf, (np.inf, np.nan)
    found = run_all(named, {key: {"x": x} for key in named}, tmp_path, target_name=name)
    keys = np.where(np.isnan(x), np.inf, x)
    for k, largest in kinds:
        order = np.argsort(-keys if largest else keys, axis=1, kind="stable")[:, :k]
        result = found[str((k, largest))]
        np.testing.assert_array_equal(result["places"], order)
        np.testing.assert_array_equal(result["values"], np.take_along_axis(x, order, 1))
