"""Every operator of the importer for PyTorch against ONNX Runtime; skipped where PyTorch is not installed.

With the environment `executorch` made (`bench frameworks install executorch`), it runs so:

    PYTHONPATH=$(python -c "from adapters.environments import packages_of as p; print(p('executorch'))") \
        python -m pytest tests/adapters/test_onnx_to_torch*.py
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

torch = pytest.importorskip("torch", reason="needs PyTorch: bench frameworks install executorch")

from adapters.onnx_to_torch import ROWS, import_network  # noqa: E402
from adapters.onnx_to_torch_layers import INVERSE_ROOT, LINEAR  # noqa: E402

GENERATOR = np.random.default_rng(3)
IMAGE = GENERATOR.standard_normal((2, 4, 7, 9)).astype(np.float32)
ROW = GENERATOR.standard_normal((2, 3, 6)).astype(np.float32)
OTHER = GENERATOR.standard_normal((2, 3, 6)).astype(np.float32)
POSITIVE = np.abs(ROW) + 0.1
SMALL = np.tanh(ROW)
WHOLE = GENERATOR.integers(-9, 10, (2, 3, 6))
TRUTH = ROW > 0
IDS = np.array([[3, 0, 2, 3]])
NUMBERS = {"float32": 1, "int64": 7, "bool": 9}


@dataclass(frozen=True)
class Case:
    """One node: what it is fed with, its attributes, and its constant inputs by position (None: absent)."""

    operator: str
    fed: tuple[np.ndarray, ...]
    constants: dict[int, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 20

    def __str__(self) -> str:
        return "-".join([self.operator, *(f"{name}={value}" for name, value in self.attributes.items())])[:70]


def weights(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def unary(values: np.ndarray, *operators: str) -> list[Case]:
    return [Case(operator, (values,)) for operator in operators]


CASES = [
    *unary(
        ROW, "Abs", "Atan", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Identity", "Mish", "Neg", "Relu"
    ),
    *unary(
        ROW, "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Tan", "Tanh", "HardSwish"
    ),
    *unary(
        ROW, "Elu", "Selu", "Celu", "LeakyRelu", "ThresholdedRelu", "HardSigmoid", "IsNaN", "IsInf", "Gelu"
    ),
    *unary(POSITIVE, "Log", "Sqrt", "Reciprocal"),
    *unary(SMALL, "Acos", "Asin"),
    *unary(TRUTH, "Not"),
    *(Case(name, (ROW, OTHER)) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")),
    *(Case(name, (ROW, OTHER)) for name in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    *(Case(name, (TRUTH, OTHER > 0)) for name in ("And", "Or", "Xor", "Equal")),
    Case("Add", (ROW, OTHER[:, :1])),
    Case("Max", (ROW, OTHER, -ROW)),
    Case("Div", (WHOLE, np.where(WHOLE == 0, 2, -WHOLE[::-1] * 2 + 1))),
    Case("Mod", (WHOLE, np.full_like(WHOLE, 4))),
    Case("Mod", (ROW, np.full_like(ROW, 0.3)), attributes={"fmod": 1}),
    *(Case("Pow", (POSITIVE,), {1: np.array(power, np.float32)}) for power in (2, 3, 0.5, -1.7)),
    Case("Pow", (POSITIVE, OTHER)),
    Case("PRelu", (ROW,), {1: weights(6)}),
    Case("Gelu", (ROW,), attributes={"approximate": "tanh"}),
    Case("Clip", (ROW,), {1: np.float32(-0.5), 2: np.float32(0.5)}),
    Case("Clip", (ROW,), {1: None, 2: np.float32(0.5)}),
    Case("Clip", (ROW, np.float32(-0.5), np.float32(0.5))),
    Case("Where", (TRUTH, ROW, OTHER)),
    *(Case("Cast", (ROW,), attributes={"to": NUMBERS[to]}) for to in NUMBERS),
    Case("CastLike", (WHOLE, ROW)),
    *(
        Case(name, (ROW,), attributes={"axis": axis})
        for name in ("Softmax", "LogSoftmax")
        for axis in (-1, 0, 1)
    ),
    *(
        Case(f"Reduce{name}", (POSITIVE,), {1: whole(*axes)}, {"keepdims": keep})
        for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
        for axes, keep in (((-1,), 1), ((0, 2), 0))
    ),
    Case("ReduceSum", (ROW,), attributes={"noop_with_empty_axes": 1}),
    Case("ReduceMean", (ROW,), attributes={"keepdims": 0}),
    Case("ReduceMean", (IMAGE,), {1: whole(2, 3)}, {"keepdims": 0}),
    *(
        Case(name, (np.round(ROW),), attributes={"axis": 1, "select_last_index": last, "keepdims": last})
        for name in ("ArgMax", "ArgMin")
        for last in (0, 1)
    ),
    Case("TopK", (ROW,), {1: whole(2)}, {"axis": 1}, outputs=2),
    Case("TopK", (ROW,), {1: whole(4)}, {"largest": 0}, outputs=2),
    *(
        Case("CumSum", (ROW,), {1: np.int64(1)}, {"exclusive": exclusive, "reverse": reverse})
        for exclusive in (0, 1)
        for reverse in (0, 1)
    ),
    Case("Reshape", (ROW,), {1: whole(0, -1)}),
    Case("Flatten", (IMAGE,), attributes={"axis": 2}),
    Case("Flatten", (IMAGE,), attributes={"axis": 0}),
    Case("Squeeze", (ROW[:1, :, None],), {1: whole(0, -2)}),
    Case("Squeeze", (ROW[:1, :, None],)),
    Case("Unsqueeze", (ROW,), {1: whole(-1, 0)}),
    Case("Transpose", (IMAGE,)),
    Case("Transpose", (IMAGE,), attributes={"perm": [0, 2, 3, 1]}),
    Case("Expand", (ROW[:, :1],), {1: whole(4, 1, 3, 1)}),
    Case("Tile", (ROW,), {1: whole(1, 3, 2)}),
    Case("Concat", (ROW, OTHER, ROW), attributes={"axis": -1}),
    Case("Slice", (IMAGE,), {1: whole(1, 2), 2: whole(3, 2**62), 3: whole(1, -1)}),
    Case("Slice", (IMAGE,), {1: whole(-1, 8), 2: whole(-9, 0), 3: whole(2, 3), 4: whole(-1, -3)}),
    Case("Slice", (IMAGE,), {1: whole(1), 2: whole(-1), 3: whole(3), 4: whole(2)}),
    Case("Split", (ROW,), {1: whole(1, 2)}, {"axis": 1}, outputs=2),
    Case("Split", (IMAGE,), {}, {"axis": 2, "num_outputs": 3}, outputs=3),
    Case("Gather", (IMAGE,), {1: np.array(-1)}, {"axis": 1}),
    Case("Gather", (IMAGE,), {1: np.array(2)}, {"axis": 3}),
    Case("Gather", (IMAGE,), {1: whole(0, 2)}, {"axis": 1}),
    Case("Gather", (IMAGE,), {1: np.array([[3, 0], [1, 1]])}, {"axis": 1}),
    Case("Gather", (IDS,), {0: weights(4, 5)}),
    Case("Gather", (IMAGE, IDS - 4), attributes={"axis": 1}),
    Case("GatherElements", (ROW,), {1: np.array([[[2], [-1]], [[0], [5]]])}, {"axis": 2}),
    Case("GatherND", (ROW,), {1: np.array([[0, 1], [1, 2]])}),
    Case("ScatterND", (ROW, OTHER[:, 0]), {1: np.array([[0, 1], [1, 2]])}),
    Case("ScatterElements", (ROW, OTHER[:, :, :1]), {1: WHOLE[:, :, :1] % 6}, {"axis": 2}),
    Case(
        "ScatterElements", (ROW, OTHER[:, :, :1]), {1: WHOLE[:, :, :1] % 6}, {"axis": 2, "reduction": "add"}
    ),
    Case("OneHot", (IDS,), {1: np.int64(5), 2: np.array([-1, 2], np.float32)}),
    Case("OneHot", (IDS,), {1: np.int64(5), 2: np.array([0, 1], np.float32)}, {"axis": 1}),
    *(Case("Trilu", (ROW,), {1: np.int64(shift)}, {"upper": up}) for shift in (-1, 2) for up in (0, 1)),
    Case("Pad", (IMAGE,), {1: whole(0, 0, 1, 2, 0, 1, 0, 3), 2: np.float32(2)}),
    Case("Pad", (IMAGE,), {1: whole(0, 0, -1, 0, 0, 0, 1, -2)}),
    Case("Pad", (IMAGE,), {1: whole(1, 2), 2: None, 3: whole(2)}),
    *(
        Case("Pad", (IMAGE,), {1: whole(0, 0, 1, 2, 0, 0, 0, 3)}, {"mode": m})
        for m in ("reflect", "edge", "wrap")
    ),
    *(Case("DepthToSpace", (IMAGE,), {}, {"blocksize": 2, "mode": mode}) for mode in ("DCR", "CRD")),
    Case("SpaceToDepth", (IMAGE[:, :, :6, :8],), {}, {"blocksize": 2}),
    Case("Dropout", (ROW,)),
    Case("Conv", (IMAGE,), {1: weights(6, 4, 3, 3), 2: weights(6)}, {"pads": [1, 1, 1, 1]}),
    Case("Conv", (IMAGE,), {1: weights(6, 4, 3, 2)}, {"pads": [0, 1, 2, 0], "strides": [2, 1]}),
    Case("Conv", (IMAGE,), {1: weights(4, 2, 2, 3)}, {"group": 2, "dilations": [2, 1]}),
    *(
        Case("Conv", (IMAGE,), {1: weights(2, 4, 3, 4)}, {"auto_pad": mode, "strides": [2, 2]})
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    Case("Conv", (ROW,), {1: weights(5, 3, 3)}, {"pads": [2, 0]}),
    Case("Conv", (IMAGE[:, :, None],), {1: weights(2, 4, 1, 3, 3)}),
    Case("ConvTranspose", (IMAGE,), {1: weights(4, 3, 3, 3), 2: weights(3)}, {"strides": [2, 2]}),
    Case(
        "ConvTranspose", (IMAGE,), {1: weights(4, 3, 3, 3)}, {"pads": [0, 1, 2, 1], "output_padding": [0, 0]}
    ),
    *(
        Case(
            "MaxPool",
            (IMAGE,),
            {},
            {"kernel_shape": [3, 2], "strides": [2, 2], "pads": pads, "ceil_mode": ceil},
        )
        for pads in ([1, 1, 1, 1], [0, 1, 2, 0])
        for ceil in (0, 1)
    ),
    Case("MaxPool", (IMAGE,), {}, {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    *(
        Case(
            "AveragePool",
            (IMAGE,),
            {},
            {"kernel_shape": [3, 3], "strides": [2, 2], "pads": pads, "count_include_pad": counts},
        )
        for pads in ([1, 1, 1, 1], [0, 1, 2, 0])
        for counts in (0, 1)
    ),
    Case("AveragePool", (IMAGE,), {}, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Case("GlobalAveragePool", (IMAGE,)),
    Case("GlobalMaxPool", (IMAGE,)),
    Case(
        "BatchNormalization", (IMAGE,), {1: weights(4), 2: weights(4), 3: weights(4), 4: weights(4) ** 2 + 1}
    ),
    Case("LayerNormalization", (ROW,), {1: weights(6), 2: weights(6)}, {"epsilon": 1e-3}),
    Case("LayerNormalization", (ROW,), {1: weights(3, 6)}, {"axis": 1}),
    Case("RMSNormalization", (ROW,), {1: weights(6)}, opset=23),
    Case("InstanceNormalization", (IMAGE,), {1: weights(4), 2: weights(4)}, {"epsilon": 1e-3}),
    Case("InstanceNormalization", (ROW,), {1: weights(3), 2: weights(3)}),
    Case("GroupNormalization", (IMAGE,), {1: weights(4), 2: weights(4)}, {"num_groups": 2}, opset=21),
    Case("LpNormalization", (ROW,), {}, {"axis": 1, "p": 2}),
    Case("MatMul", (ROW,), {1: weights(6, 5)}),
    Case("MatMul", (ROW, np.swapaxes(OTHER, 1, 2))),
    Case("MatMul", (IMAGE, np.swapaxes(IMAGE[:1], 2, 3))),
    Case("MatMul", (IMAGE[0, 0],), {0: weights(5, 7)}),
    Case("MatMul", (IMAGE, weights(9))),
    Case("Gemm", (ROW[0],), {1: weights(5, 6), 2: weights(5)}, {"transB": 1}),
    Case("Gemm", (ROW[0],), {1: weights(3, 5), 2: weights(6, 1)}, {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    Case("Gemm", (ROW[0],), {1: weights(6, 5)}),
    Case("Einsum", (ROW, OTHER), {}, {"equation": "bij,bkj->bik"}),
    *(
        Case(
            "Resize",
            (IMAGE,),
            {1: None, 2: np.array([1, 1, scale, 2], np.float32)},
            {"mode": "nearest", "coordinate_transformation_mode": place, "nearest_mode": rounding},
        )
        for place, rounding, scale in (
            ("asymmetric", "floor", 2),
            ("asymmetric", "floor", 3),
            ("half_pixel", "round_prefer_floor", 1.5),
            ("half_pixel", "round_prefer_ceil", 0.6),
            ("align_corners", "ceil", 2),
            ("pytorch_half_pixel", "floor", 2),
        )
    ),
    *(
        Case(
            "Resize",
            (IMAGE,),
            {1: None, 2: None, 3: whole(2, 4, 11, 12)},
            {"mode": mode, "coordinate_transformation_mode": place, "cubic_coeff_a": -0.75},
        )
        for mode in ("linear", "cubic")
        for place in ("half_pixel", "align_corners")
    ),
]


def write(folder: Path, case: Case) -> Path:
    """A network of that node alone."""
    count = len(case.fed) + len(case.constants)
    fed, inputs, values, names = iter(case.fed), [], [], []
    for position in range(count):
        constant = case.constants.get(position)
        if position in case.constants:
            names.append("" if constant is None else f"c{position}")
            values += (
                [] if constant is None else [numpy_helper.from_array(np.asarray(constant), f"c{position}")]
            )
            continue
        names.append(f"x{position}")
        array = np.asarray(next(fed))
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        inputs.append(helper.make_tensor_value_info(f"x{position}", kind, array.shape))
    outputs = [f"y{index}" for index in range(case.outputs)]
    node = helper.make_node(case.operator, names, outputs, name="the-node", **case.attributes)
    graph = helper.make_graph(
        [node], "net", inputs, [onnx.ValueInfoProto(name=name) for name in outputs], values
    )
    opsets = [helper.make_opsetid("", case.opset)]
    path = folder / "net.onnx"
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    path.write_bytes(model.SerializeToString())
    return path


def reference(path: Path, fed: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(
        None, {value.name: np.asarray(x) for value, x in zip(session.get_inputs(), fed, strict=True)}
    )


def imported(path: Path, fed: tuple[np.ndarray, ...], **how: Any) -> list[np.ndarray]:
    network = import_network(path, **how)
    with torch.no_grad():
        results = network(*(torch.from_numpy(np.array(value)) for value in fed))
    return [value.numpy() for value in results]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operator_computes_what_onnx_runtime_does(case: Case, tmp_path: Path) -> None:
    path = write(tmp_path, case)
    for found, expected in zip(imported(path, case.fed), reference(path, case.fed), strict=True):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_every_operator_has_a_case() -> None:
    elsewhere = {"Constant", "ConstantOfShape", "Range", LINEAR, INVERSE_ROOT}  # test_onnx_to_torch_graph.py
    assert {case.operator for case in CASES} == set(ROWS) - elsewhere
