"""What one node becomes many of computes what others compute: NumPy, or ONNX Runtime where the standard's own
cases say little.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ourcompiler.onnx_in.load import import_model
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import View

Single = Callable[..., onnx.ModelProto]
Computed = Callable[[onnx.ModelProto, dict[str, Any]], dict[str, np.ndarray]]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).normal(size=shape).astype(np.float32)


def bytes_drawn(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    bounds = np.iinfo(dtype)
    return np.random.default_rng(sum(shape)).integers(bounds.min, bounds.max + 1, shape).astype(dtype)


EQUATIONS = {
    "ij,jk->ik": [(2, 3), (3, 4)],
    "bhqd,bhkd->bhqk": [(2, 3, 4, 5), (2, 3, 6, 5)],
    "...ij,...jk->...ik": [(2, 3, 4), (4, 5)],
    "...ij,...jk": [(2, 1, 3, 4), (5, 4, 2)],
    "ii->i": [(4, 4)],
    "ii": [(4, 4)],
    "iij->j": [(3, 3, 2)],
    "ij,kl->ikjl": [(2, 3), (4, 5)],
    "i,j,k->kij": [(2,), (3,), (4,)],
    "ij,ij->": [(2, 3), (2, 3)],
    "abc,cd,de->abe": [(2, 3, 4), (4, 5), (5, 2)],
    "ab,ab,ab->a": [(2, 3), (2, 3), (2, 3)],
    "bij,bj->bi": [(2, 3, 4), (2, 4)],
    "ji": [(2, 3)],
    "b...d->...": [(2, 3, 4, 5)],
    "ij,j->ij": [(2, 3), (3,)],
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_an_equation_is_what_numpy_makes_of_it(equation: str, single: Single, computed: Computed) -> None:
    names = {f"x{number}": drawn(*shape, seed=number) for number, shape in enumerate(EQUATIONS[equation])}
    made = computed(single("Einsum", names, equation=equation), names)["y"]
    np.testing.assert_allclose(made, np.einsum(equation, *names.values()), **TOLERANCE)


def test_repeating_elements_is_a_view_without_a_table(single: Single) -> None:
    """As networks that draw images do it: `d // 2` along each axis and no kernel of its own."""
    scales = {"roi": None, "s": np.float32([1, 1, 2, 3])}
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    graph = import_model(single("Resize", {"x": drawn(1, 2, 5, 4)}, scales, **how), Path(), {})
    assert [node.op for node in graph.nodes] == ["Take", "Take"]
    code = OPS["Take"].code
    assert isinstance(code, View)
    views = [code.views(graph.types[node.inputs[0]], dict(node.attributes))[0] for node in graph.nodes]
    assert [str(view.results[axis]) for axis, view in zip((2, 3), views, strict=True)] == [
        "d2 // 2",
        "d3 // 3",
    ]


def by_runtime(model: onnx.ModelProto, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    found = session.run(names, {name: np.asarray(one) for name, one in inputs.items() if one is not None})
    return dict(zip(names, found, strict=True))


def agree(model: onnx.ModelProto, inputs: dict[str, Any], computed: Computed, **tolerance: float) -> None:
    made, expected = computed(model, inputs), by_runtime(model, inputs)
    assert made.keys() == expected.keys()
    for name, one in expected.items():
        assert (made[name].dtype, made[name].shape) == (one.dtype, one.shape)
        np.testing.assert_allclose(
            made[name].astype(np.float64), one.astype(np.float64), **{**TOLERANCE, **tolerance}
        )


MODES = [
    *(
        {"mode": "nearest", "nearest_mode": rounding, "coordinate_transformation_mode": mode}
        for rounding, mode in product(
            ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
            ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"),
        )
    ),
    *(
        {"mode": mode, "coordinate_transformation_mode": transformation}
        for mode, transformation in product(
            ("linear", "cubic"), ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
        )
    ),
    {"mode": "cubic", "exclude_outside": 1, "cubic_coeff_a": -0.5},
]


@pytest.mark.parametrize("mode", MODES, ids=lambda one: "-".join(map(str, one.values())))
@pytest.mark.parametrize("sizes", [(1, 2, 10, 14), (1, 2, 3, 4), (1, 2, 8, 3)], ids=str)
def test_resizing(mode: dict[str, Any], sizes: tuple[int, ...], single: Single, computed: Computed) -> None:
    x = {"x": drawn(1, 2, 5, 7)}
    wanted = {"roi": None, "s": None, "n": np.array(sizes, np.int64)}
    agree(single("Resize", x, wanted, opset=18, **mode), x, computed)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scale", [0.6, 0.7, 1.4, 2.0, 3.3])
def test_resizing_by_scales(mode: str, scale: float, single: Single, computed: Computed) -> None:
    """Sizes are rounded down in float32: ten times 0.7 are seven."""
    x = {"x": drawn(1, 1, 10, 6)}
    scales = {"roi": None, "s": np.float32([1, 1, scale, 1])}
    agree(single("Resize", x, scales, opset=18, mode=mode), x, computed)


@pytest.mark.parametrize("opset", [10, 16])
def test_regions_cut_out(opset: int, single: Single, computed: Computed) -> None:
    regions = np.float32([[0.3, 1.2, 4.1, 5.6], [-2, -1, 3, 9]])
    inputs = {"x": drawn(2, 3, 6, 7), "r": regions, "b": np.array([1, 0])}
    how = {"output_height": 2, "output_width": 3, "sampling_ratio": 2, "spatial_scale": 0.8}
    agree(single("RoiAlign", inputs, opset=opset, **how), inputs, computed)


RECURRENT = {
    "plain": {},
    "backwards": {"direction": "reverse"},
    "both ways": {"direction": "bidirectional"},
    "clipped": {"clip": 0.3},
}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("lengths", [None, (5, 2, 4)], ids=["whole", "of different lengths"])
@pytest.mark.parametrize("how", RECURRENT)
@pytest.mark.parametrize("op", GATES)
def test_recurrent_layers(
    op: str, how: str, lengths: tuple[int, ...] | None, single: Single, computed: Computed
) -> None:
    gates, hidden, ways = GATES[op], 4, 2 if RECURRENT[how].get("direction") == "bidirectional" else 1
    inputs: dict[str, Any] = {"x": drawn(5, 3, 2)}
    if lengths is not None:
        inputs["n"] = np.array(lengths, np.int32)
    weights: dict[str, Any] = {
        "w": drawn(ways, gates * hidden, 2, seed=1),
        "r": drawn(ways, gates * hidden, hidden, seed=2),
        "b": drawn(ways, 2 * gates * hidden, seed=3),
        "h": drawn(ways, 3, hidden, seed=4),
    }
    if lengths is None:
        weights["n"] = None
    order = ["x", "w", "r", "b", "n", "h"]
    outputs = ["y", "yh"]
    if op == "LSTM":
        weights |= {"c": drawn(ways, 3, hidden, seed=5), "p": drawn(ways, 3 * hidden, seed=6)}
        order += ["c", "p"]
        outputs.append("yc")
    model = single(op, inputs, weights, outputs, order=order, hidden_size=hidden, opset=14, **RECURRENT[how])
    agree(model, inputs, computed)


@pytest.mark.parametrize("before", [0, 1])
def test_a_gru_resets_before_or_after_its_product(before: int, single: Single, computed: Computed) -> None:
    inputs = {"x": drawn(4, 2, 3)}
    weights = {"w": drawn(1, 9, 3), "r": drawn(1, 9, 3, seed=1), "b": drawn(1, 18)}
    how = {"hidden_size": 3, "linear_before_reset": before, "opset": 14}
    names = ["Relu", "HardSigmoid"]
    agree(single("GRU", inputs, weights, activations=names, **how), inputs, computed)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("aligned", [0, 1])
def test_sampling(mode: str, padding: str, aligned: int, single: Single, computed: Computed) -> None:
    inputs = {"x": drawn(2, 3, 5, 6), "g": drawn(2, 4, 3, 2, seed=1)}
    how = {"mode": mode, "padding_mode": padding, "align_corners": aligned, "opset": 20}
    agree(single("GridSample", inputs, **how), inputs, computed, atol=1e-4)


CONVOLUTIONS = {
    "plain": {},
    "with a border": {"pads": [1, 0, 2, 1]},
    "in steps": {"strides": [2, 1], "dilations": [1, 2]},
    "in groups": {"group": 2},
    "as wide as before": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
}


@pytest.mark.parametrize("how", CONVOLUTIONS)
def test_a_convolution_of_bytes_is_exact(how: str, single: Single, computed: Computed) -> None:
    groups = CONVOLUTIONS[how].get("group", 1)
    inputs = {"x": bytes_drawn(2, 4, 7, 8), "w": bytes_drawn(6, 4 // groups, 3, 2)}
    zeros = {"xz": np.uint8(3), "wz": np.uint8(7)}
    agree(
        single("ConvInteger", inputs, zeros, opset=10, **CONVOLUTIONS[how]), inputs, computed, rtol=0, atol=0
    )


@pytest.mark.parametrize("how", CONVOLUTIONS)
def test_a_quantized_convolution(how: str, single: Single, computed: Computed) -> None:
    """A step off at most: halves of sums in float32 fall to either side. Weights of seven bits: with eight,
    ONNX Runtime's own sums overflow on x86 processors without VNNI.
    """
    groups = CONVOLUTIONS[how].get("group", 1)
    inputs = {"x": bytes_drawn(1, 4, 7, 8)}
    rest = {
        "xs": np.float32(0.02),
        "xz": np.uint8(120),
        "w": bytes_drawn(6, 4 // groups, 3, 2, dtype=np.int8) // 2,
        "ws": np.linspace(0.01, 0.03, 6, dtype=np.float32),
        "wz": np.zeros(6, np.int8),
        "ys": np.float32(0.1),
        "yz": np.uint8(100),
        "b": np.arange(6, dtype=np.int32) * 100,
    }
    agree(
        single("QLinearConv", inputs, rest, opset=10, **CONVOLUTIONS[how]), inputs, computed, rtol=0, atol=1
    )


@pytest.mark.parametrize("length", [None, 6, 12])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
def test_a_fourier_transform(
    length: int | None, parts: int, inverse: int, single: Single, computed: Computed
) -> None:
    """Cut or filled up with zeros where a length is given."""
    x = drawn(2, 9, 3, parts)
    rest = {"n": None if length is None else np.int64(length), "a": np.int64(1)}
    made = computed(single("DFT", {"x": x}, rest, inverse=inverse), {"x": x})["y"]
    wide = x[..., 0] + (1j * x[..., 1] if parts == 2 else 0)
    expected = (np.fft.ifft if inverse else np.fft.fft)(wide, n=length, axis=1)
    np.testing.assert_allclose(made[..., 0] + 1j * made[..., 1], expected, **TOLERANCE)


@pytest.mark.parametrize("length", [8, 9])
def test_half_a_spectrum_is_enough_for_a_real_signal(length: int, single: Single, computed: Computed) -> None:
    signal = drawn(2, length, 1)
    half = computed(single("DFT", {"x": signal}, {"n": None, "a": np.int64(1)}, onesided=1), {"x": signal})[
        "y"
    ]
    assert half.shape == (2, length // 2 + 1, 2)
    rest = {"n": np.int64(length), "a": np.int64(1)}
    back = computed(single("DFT", {"x": half}, rest, onesided=1, inverse=1), {"x": half})["y"]
    np.testing.assert_allclose(back, signal, **TOLERANCE)


def test_a_triangle_hides_what_is_no_number(single: Single, computed: Computed) -> None:
    x = np.full((3, 3), np.nan, np.float32)
    made = computed(single("Trilu", {"x": x}, {"k": np.int64(1)}), {"x": x})["y"]
    assert not made[np.tril_indices(3)].any()
    assert np.isnan(made[np.triu_indices(3, 1)]).all()


def test_a_branch_that_is_known_is_taken(computed: Computed) -> None:
    helper, floats = onnx.helper, onnx.TensorProto.FLOAT
    twice = helper.make_node("Add", ["x", "x"], ["t"])
    once = helper.make_node("Identity", ["x"], ["e"])
    branches = {
        name: helper.make_graph([node], name, [], [helper.make_tensor_value_info(out, floats, None)])
        for name, node, out in (("then_branch", twice, "t"), ("else_branch", once, "e"))
    }
    node = helper.make_node("If", ["c"], ["y"], **branches)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", floats, [2])],
        [helper.make_tensor_value_info("y", floats, None)],
        [onnx.numpy_helper.from_array(np.array(True), "c")],
    )
    x = np.float32([1, 2])
    np.testing.assert_array_equal(computed(helper.make_model(graph), {"x": x})["y"], 2 * x)
