"""Every operator that cannot take what it is given says where, what does not fit, and what to try."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from ourcompiler.errors import CompileError
from ourcompiler.onnx_in.catalogue import CONVERTERS, FOREIGN, REFUSED
from ourcompiler.onnx_in.load import import_model


def f32(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


Single = Callable[..., onnx.ModelProto]
IMAGE = f32(1, 4, 6, 6)
CASES: dict[str, tuple[Callable[[Single], onnx.ModelProto], str]] = {
    "Resize without a size": (lambda single: single("Resize", {"x": IMAGE}), "neither scales nor sizes"),
    "Resize by data": (
        lambda single: single("Resize", {"x": IMAGE, "s": f32(4)}, {"roi": None}, order=["x", "roi", "s"]),
        "its scales depends on the data",
    ),
    "Resize to nothing": (
        lambda single: single("Resize", {"x": IMAGE}, {"roi": None, "s": None, "n": i64(1, 4, 0, 6)}),
        "axis 2 of 6 resized to 0",
    ),
    "Resize in a mode of its own": (
        lambda single: single(
            "Resize", {"x": IMAGE}, {"roi": None, "s": np.float32([1, 1, 2, 2])}, mode="lanczos"
        ),
        "the mode 'lanczos'",
    ),
    "Resize with a coordinate mode of its own": (
        lambda single: single(
            "Resize",
            {"x": IMAGE},
            {"roi": None, "s": np.float32([1, 1, 2, 2])},
            coordinate_transformation_mode="diagonal",
        ),
        "the coordinate transformation 'diagonal'",
    ),
    "Resize with few scales": (
        lambda single: single("Resize", {"x": IMAGE}, {"roi": None, "s": np.float32([2])}),
        "1 scales for 4 axes",
    ),
    "Resize by less than nothing": (
        lambda single: single("Resize", {"x": IMAGE}, {"roi": None, "s": np.float32([1, 1, -2, 2])}),
        "a scale of -2.0",
    ),
    "Resize with an unknown policy": (
        lambda single: single(
            "Resize",
            {"x": IMAGE},
            {"roi": None, "s": None, "n": i64(1, 4, 3, 6)},
            keep_aspect_ratio_policy="perhaps",
        ),
        "the policy 'perhaps'",
    ),
    "Upsample without scales": (
        lambda single: single("Upsample", {"x": IMAGE}, opset=7),
        "its scales are missing",
    ),
    "Attention without heads": (
        lambda single: single("Attention", {"q": f32(1, 2, 8), "k": f32(1, 2, 8), "v": f32(1, 2, 8)}),
        r"an operand of \(1, 2, 8\) for None heads",
    ),
    "Attention of heads that do not share": (
        lambda single: single(
            "Attention", {"q": f32(1, 3, 2, 8), "k": f32(1, 2, 2, 8), "v": f32(1, 2, 2, 8)}
        ),
        "3 heads share 2",
    ),
    "Attention with half a past": (
        lambda single: single(
            "Attention",
            {
                "q": f32(1, 2, 2, 8),
                "k": f32(1, 2, 2, 8),
                "v": f32(1, 2, 2, 8),
                "m": None,
                "p": f32(1, 2, 2, 8),
            },
        ),
        "past keys without past values",
    ),
    "Attention with a window backwards": (
        lambda single: single(
            "Attention",
            {"q": f32(1, 2, 2, 8), "k": f32(1, 2, 2, 8), "v": f32(1, 2, 2, 8)},
            left_window_size=-2,
        ),
        "windows of -2 and -1",
    ),
    "RotaryEmbedding of an odd size": (
        lambda single: single(
            "RotaryEmbedding", {"x": f32(1, 2, 3, 5), "c": f32(1, 3, 2), "s": f32(1, 3, 2)}
        ),
        "5 of 5 elements turned",
    ),
    "RotaryEmbedding with few cosines": (
        lambda single: single(
            "RotaryEmbedding", {"x": f32(1, 2, 3, 8), "c": f32(1, 3, 2), "s": f32(1, 3, 2)}
        ),
        r"cosines or sines of \(1, 3, 2\)",
    ),
    "Einsum with a term too many": (
        lambda single: single("Einsum", {"x": f32(2, 3)}, equation="ij,jk->ik"),
        "2 terms in 'ij,jk->ik' for 1 operands",
    ),
    "Einsum with a letter too few": (
        lambda single: single("Einsum", {"x": f32(2, 3)}, equation="i->i"),
        r"the term 'i' for an operand of \(2, 3\)",
    ),
    "Einsum with two sizes": (
        lambda single: single("Einsum", {"x": f32(2, 3), "z": f32(4, 2)}, equation="ij,jk->ik"),
        "sizes 3 and 4 of one letter",
    ),
    "Einsum with a letter from nowhere": (
        lambda single: single("Einsum", {"x": f32(2, 3)}, equation="ij->iz"),
        "a result of 'iz'",
    ),
    "GridSample with few axes": (
        lambda single: single("GridSample", {"x": IMAGE, "g": f32(1, 5, 5, 3)}),
        r"a grid of \(1, 5, 5, 3\)",
    ),
    "GridSample in a mode of its own": (
        lambda single: single("GridSample", {"x": IMAGE, "g": f32(1, 5, 5, 2)}, mode="sinc"),
        "the mode 'sinc'",
    ),
    "RoiAlign with as many samples as it likes": (
        lambda single: single("RoiAlign", {"x": IMAGE, "r": f32(2, 4), "b": i64(0, 0)}),
        "as many samples as the data asks for",
    ),
    "DeformConv with few offsets": (
        lambda single: single("DeformConv", {"x": IMAGE, "w": f32(2, 4, 3, 3), "o": f32(1, 4, 4, 4)}),
        "offsets of",
    ),
    "AffineGrid with other matrices": (
        lambda single: single("AffineGrid", {"t": f32(1, 3, 3)}, {"n": i64(1, 1, 4, 4)}),
        "matrices of",
    ),
    "Trilu of a vector": (lambda single: single("Trilu", {"x": f32(3)}), r"a triangle of \(3,\)"),
    "OneHot of nothing": (
        lambda single: single("OneHot", {"x": i64(1, 2)}, {"d": i64(0), "v": f32(2)}),
        "a depth of 0",
    ),
    "Compress by data": (
        lambda single: single("Compress", {"x": f32(3), "c": np.zeros(3, bool)}),
        "the shape of its result depends on the data",
    ),
    "Compress beyond the end": (
        lambda single: single("Compress", {"x": f32(3)}, {"c": np.ones(5, bool)}),
        "a condition of 5 elements on an axis of 3",
    ),
    "NonZero of data": (
        lambda single: single("NonZero", {"x": f32(3)}),
        "the shape of its result depends on the data",
    ),
    "ReverseSequence along one axis": (
        lambda single: single(
            "ReverseSequence", {"x": f32(3, 3), "n": i64(1, 2, 3)}, time_axis=1, batch_axis=1
        ),
        "time and batch on one axis",
    ),
    "CenterCropPad with few sizes": (
        lambda single: single("CenterCropPad", {"x": IMAGE}, {"n": i64(3)}, axes=[2, 3]),
        "1 sizes for 2 axes",
    ),
    "Col2Im with blocks left over": (
        lambda single: single("Col2Im", {"x": f32(1, 4, 7)}, {"i": i64(5, 5), "b": i64(2, 2)}),
        "7 blocks where",
    ),
    "Col2Im of odd columns": (
        lambda single: single("Col2Im", {"x": f32(1, 5, 16)}, {"i": i64(5, 5), "b": i64(2, 2)}),
        "columns of",
    ),
    "TensorScatter along the batch": (
        lambda single: single("TensorScatter", {"c": f32(4, 2), "u": f32(4, 2)}, axis=0),
        "along axis 0",
    ),
    "BitCast to another width": (
        lambda single: single("BitCast", {"x": f32(3)}, to=int(onnx.TensorProto.INT8), opset=26),
        "the bits of f32 as i8",
    ),
    "QuantizeLinear with other zero points": (
        lambda single: single(
            "QuantizeLinear",
            {"x": f32(3), "s": np.float32(1)},
            {"z": np.int8(0)},
            output_dtype=int(onnx.TensorProto.UINT8),
        ),
        "a zero point of i8 for u8",
    ),
    "QuantizeLinear with scales left over": (
        lambda single: single("QuantizeLinear", {"x": f32(2, 3), "s": f32(4)}),
        r"scales of \(4,\) along axis 1",
    ),
    "QuantizeLinear with few blocks": (
        lambda single: single("QuantizeLinear", {"x": f32(2, 6), "s": f32(1, 2)}, block_size=3),
        "for blocks of 3",
    ),
    "QuantizeLinear to few bits": (
        lambda single: single(
            "QuantizeLinear", {"x": f32(3), "s": np.float32(1)}, output_dtype=int(onnx.TensorProto.INT4)
        ),
        "elements of type INT4",
    ),
    "ConvInteger of other channels": (
        lambda single: single(
            "ConvInteger", {"x": np.zeros((1, 3, 4, 4), np.uint8), "w": np.zeros((2, 2, 3, 3), np.uint8)}
        ),
        "3 channels, weights of",
    ),
    "LSTM that goes on and on": (
        lambda single: single(
            "LSTM", {"x": f32(2000, 1, 2), "w": f32(1, 12, 2), "r": f32(1, 12, 3)}, hidden_size=3
        ),
        "a sequence of 2000 steps",
    ),
    "LSTM that goes sideways": (
        lambda single: single(
            "LSTM",
            {"x": f32(3, 1, 2), "w": f32(1, 12, 2), "r": f32(1, 12, 3)},
            hidden_size=3,
            direction="sideways",
        ),
        "the direction 'sideways'",
    ),
    "GRU with an activation of its own": (
        lambda single: single(
            "GRU",
            {"x": f32(3, 1, 2), "w": f32(1, 9, 2), "r": f32(1, 9, 3)},
            hidden_size=3,
            activations=["Sigmoid", "Wiggle"],
        ),
        "the activation 'wiggle'",
    ),
    "GRU with the weights of an LSTM": (
        lambda single: single(
            "GRU", {"x": f32(3, 1, 2), "w": f32(1, 12, 2), "r": f32(1, 12, 3)}, hidden_size=3
        ),
        "recurrent weights of",
    ),
    "LinearAttention without what its rule reads": (
        lambda single: single(
            "LinearAttention",
            {"q": f32(1, 2, 4), "k": f32(1, 2, 4), "v": f32(1, 2, 4)},
            q_num_heads=2,
            kv_num_heads=2,
            update_rule="delta",
            opset=26,
        ),
        "the rule 'delta' with these operands",
    ),
    "CausalConvWithState with an activation of its own": (
        lambda single: single(
            "CausalConvWithState", {"x": f32(1, 2, 5), "w": f32(2, 1, 3)}, activation="relu", opset=26
        ),
        "the activation 'relu'",
    ),
    "DFT that is too long": (
        lambda single: single("DFT", {"x": f32(1, 5000, 1)}, {"n": None, "a": i64(1)}),
        "a Fourier transform of 5000 places",
    ),
    "DFT along its parts": (
        lambda single: single("DFT", {"x": f32(1, 5, 2)}, {"n": None, "a": i64(2)}),
        "along axis 2",
    ),
    "STFT with frames beyond the end": (
        lambda single: single("STFT", {"x": f32(1, 8, 1)}, {"s": i64(1), "w": None, "n": i64(9)}),
        "frames of 9",
    ),
    "MelWeightMatrix of nothing": (
        lambda single: single(
            "MelWeightMatrix",
            {},
            {"n": i64(0), "d": i64(8), "r": i64(8), "l": np.float32(0), "h": np.float32(4)},
        ),
        "0 filters",
    ),
    "LpNormalization of order 0": (
        lambda single: single("LpNormalization", {"x": f32(2, 3)}, p=0),
        "a norm of order 0",
    ),
    "LRN of nothing": (lambda single: single("LRN", {"x": IMAGE}, size=0), "neighbours of 0 channels"),
    "NegativeLogLikelihoodLoss of other classes": (
        lambda single: single("NegativeLogLikelihoodLoss", {"x": f32(3, 5), "t": i64(1, 2)}),
        "classes of",
    ),
    "SoftmaxCrossEntropyLoss with a reduction of its own": (
        lambda single: single(
            "SoftmaxCrossEntropyLoss", {"x": f32(2, 5), "t": i64(1, 2)}, reduction="median"
        ),
        "the reduction 'median'",
    ),
    "SwiGLU of two shapes": (lambda single: single("SwiGLU", {"a": f32(2), "b": f32(3)}), "gates"),
    "Attention of integers": (
        lambda single: single("Attention", dict.fromkeys("qkv", np.zeros((1, 2, 2, 8), np.int32))),
        "attention of i32",
    ),
    "Softmax along a fraction": (
        lambda single: single("Softmax", {"x": f32(3)}, axis=0.5),
        "its attribute 'axis' is of kind FLOAT",
    ),
    "Relu with two results": (
        lambda single: single("Relu", {"x": f32(3)}, outputs=["y", "z"]),
        "nothing makes its output 'z'",
    ),
    "Einsum along a crooked diagonal": (
        lambda single: single("Einsum", {"x": f32(3, 4)}, equation="ii->i"),
        "sizes 3 and 4 of one letter",
    ),
    "If by data": (
        lambda single: single("If", {"c": np.array(True)}),
        "which branch is taken depends on the data",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_refused_with_the_node_and_what_to_try(name: str, single: Single) -> None:
    model, words = CASES[name]
    with pytest.raises(CompileError, match=words) as caught:
        import_model(model(single), Path(), {})
    op = name.split()[0]
    assert caught.value.where == f"node 'the {op}' ({op})"
    assert caught.value.hint


@pytest.mark.parametrize("op", REFUSED)
def test_an_operator_that_is_refused_says_why(op: str, single: Single) -> None:
    options: dict[str, Any] = {"domain": "ai.onnx.preview"} if op == "FlexAttention" else {}
    with pytest.raises(CompileError, match=f"the compiler has no operator {op}") as caught:
        import_model(single(op, {"x": f32(3)}, **options), Path(), {})
    assert caught.value.hint == REFUSED[op]


def test_an_operator_of_others_says_so(single: Single) -> None:
    with pytest.raises(CompileError, match="no operator FusedConv of domain 'com") as caught:
        import_model(single("FusedConv", {"x": f32(3)}, domain="com.microsoft"), Path(), {})
    assert caught.value.hint == FOREIGN


def test_no_operator_is_both_there_and_refused() -> None:
    assert not set(CONVERTERS) & set(REFUSED)
