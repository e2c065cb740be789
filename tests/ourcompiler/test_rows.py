"""For every operator: what it computes has the type that was inferred; what it shows is what its map says."""

from collections.abc import Iterator

import numpy as np
import pytest

from ourcompiler.ir.types import DType, TensorType, type_of
from ourcompiler.ops.catalogue import FAMILIES, OPS
from ourcompiler.ops.table import View
from ourcompiler.selftest.samples import CASES, Case, drawn


def names() -> Iterator[str]:
    for family in FAMILIES:
        for row in family.ROWS:
            yield row.name


def test_no_operator_has_two_rows() -> None:
    assert sorted(names()) == sorted(OPS)


@pytest.mark.parametrize("name", OPS)
def test_a_row_is_whole(name: str) -> None:
    row = OPS[name]
    assert row.samples
    for sample in row.samples:
        assert set(sample.facts) == set(row.attributes)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_reference_makes_what_was_inferred(case: Case) -> None:
    inferred = case.row.infer(case.sample.types, case.sample.facts)
    made = case.row.reference(drawn(case), case.sample.facts)
    assert tuple(type_of(one) for one in made) == inferred


@pytest.mark.parametrize("case", [one for one in CASES if isinstance(one.row.code, View)], ids=str)
def test_a_view_shows_what_the_reference_computes(case: Case) -> None:
    source = case.sample.types[0]
    assert source is not None
    assert isinstance(case.row.code, View)
    (x,) = drawn(case)
    assert x is not None
    made = case.row.reference([x], case.sample.facts)
    views = case.row.code.views(source, case.sample.facts)
    assert len(made) == len(views)
    for expected, view in zip(made, views, strict=True):
        found = [view.evaluate(index) for index in view.indices()]
        shown = np.array([view.fill if one is None else x[one] for one in found], x.dtype)
        np.testing.assert_array_equal(shown.reshape(view.shape), expected)


WINDOW = {"kernel": (2,), "strides": (1,), "dilations": (1,), "pads": (0, 0), "ceil": False}
REFUSED = {
    "types that differ": ("Add", (TensorType(DType.F32, (2,)), TensorType(DType.I64, (2,))), {}),
    "shapes that do not broadcast": ("Add", (TensorType(DType.F32, (2,)), TensorType(DType.F32, (3,))), {}),
    "a missing operand": ("Add", (TensorType(DType.F32, (2,)), None), {}),
    "a square root of integers": ("Sqrt", (TensorType(DType.I32, (2,)),), {}),
    "a reshape that loses elements": ("Reshape", (TensorType(DType.F32, (6,)),), {"shape": (5,)}),
    "no order": ("Transpose", (TensorType(DType.F32, (2, 3)),), {"perm": (0, 0)}),
    "an axis too far": ("Softmax", (TensorType(DType.F32, (2, 3)),), {"axis": 2}),
    "an axis twice": ("ReduceSum", (TensorType(DType.F32, (2, 3)),), {"axes": (1, -1), "keepdims": True}),
    "matrices that do not fit": (
        "MatMul",
        (TensorType(DType.F32, (2, 3)), TensorType(DType.F32, (2, 3))),
        {},
    ),
    "more than there is": (
        "TopK",
        (TensorType(DType.F32, (3,)),),
        {"axis": 0, "k": 4, "largest": True},
    ),
    "an element of a scalar": (
        "Gather",
        (TensorType(DType.F32, ()), TensorType(DType.I64, (2,))),
        {"axis": 0},
    ),
    "updates of more than there is": (
        "ScatterElements",
        (TensorType(DType.F32, (2, 1)), TensorType(DType.I64, (2, 2)), TensorType(DType.F32, (2, 2))),
        {"axis": 0, "reduction": "none"},
    ),
    "a border that leaves less than nothing": (
        "Pad",
        (TensorType(DType.F32, (4,)),),
        {"before": (-3,), "after": (-2,), "fill": 0.0},
    ),
    "a part that owes elements": ("Split", (TensorType(DType.F32, (4,)),), {"axis": 0, "sizes": (6, -2)}),
    "a shape of debts": ("Reshape", (TensorType(DType.F32, (6,)),), {"shape": (-2, -3)}),
    "blocks of nothing": (
        "SpaceToDepth",
        (TensorType(DType.F32, (1, 2, 4, 4)),),
        {"block": 0, "mode": "DCR"},
    ),
    "a window of nothing": ("MaxPool", (TensorType(DType.F32, (1, 2, 4)),), {**WINDOW, "kernel": (0,)}),
    "a norm of order 0": ("LpPool", (TensorType(DType.F32, (1, 2, 4)),), {**WINDOW, "p": 0}),
    "bits of another width": ("BitCast", (TensorType(DType.F32, (3,)),), {"to": "f16"}),
    "a slice that leaves": (
        "Slice",
        (TensorType(DType.F32, (4,)),),
        {"starts": (2,), "steps": (1,), "shape": (3,)},
    ),
}


def test_a_place_outside_is_refused_when_it_is_seen() -> None:
    x, far = np.zeros((2, 3), np.float32), np.array([[0, 3]])
    with pytest.raises(ValueError, match="an index outside of an axis of 3"):
        OPS["GatherND"].reference([x, far], {"batch_dims": 0})
    with pytest.raises(ValueError, match="an index outside of an axis of 3"):
        OPS["ScatterND"].reference([x, far, np.zeros(1, np.float32)], {"reduction": "none"})


@pytest.mark.parametrize("name", REFUSED)
def test_operands_that_do_not_fit_are_refused(name: str) -> None:
    operator, types, facts = REFUSED[name]
    with pytest.raises(ValueError, match=r"\w"):
        OPS[operator].infer(types, facts)
