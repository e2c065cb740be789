"""Whatever exporters and authors make of a normalisation or an activation is one operator afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ourcompiler.reference import run
from ourcompiler.rewrite.passes import rewrite
from ourcompiler.rewrite.rule import Example


@dataclass(frozen=True)
class Case:
    """A formula, the names in it, and the operators that are left."""

    text: str
    left: tuple[str, ...]
    where: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)


def mean(x: str, axes: str = "(2,)") -> str:
    return f"ReduceMean({x}, axes={axes}, keepdims=True)"


ROW = {"x": (2, 3, 8), "E": 1e-5, "W": (8,), "B": (8,)}
CENTRED = {"m": mean("x"), "d": "x - m"}
IMAGE = {"x": (2, 8, 3, 3), "E": 1e-6, "W": (8, 1, 1), "B": (8, 1, 1)}
NORMS = {
    "PyTorch, TorchScript": Case(f"d / Sqrt({mean('d ** 2')} + E) * W + B", ("LayerNorm",), CENTRED, ROW),
    "PyTorch, dynamo": Case(
        f"B + W * (d * Reciprocal(Sqrt({mean('d * d')} + E)))", ("LayerNorm",), CENTRED, ROW
    ),
    "the mean computed twice": Case(
        f"(x - {mean('x')}) / Sqrt(E + {mean('d * d')})", ("LayerNorm",), CENTRED, ROW
    ),
    "TensorFlow": Case(
        "x * i + (B - m * i)",
        ("LayerNorm",),
        {**CENTRED, "i": f"Reciprocal(Sqrt({mean('d * d')} + E)) * W"},
        ROW,
    ),
    "a power of −½": Case(f"d * ({mean('d ** 2')} + E) ** -0.5 * W", ("LayerNorm",), CENTRED, ROW),
    "a power of ½": Case(f"d / ({mean('d ** 2')} + E) ** 0.5", ("LayerNorm",), CENTRED, ROW),
    "ONNX's own function": Case(
        f"d / Sqrt({mean('x * x')} - m * m + E) * W + B", ("LayerNorm",), CENTRED, ROW
    ),
    "sums and 1/n": Case(
        "d / Sqrt(ReduceSum(d * d, axes=(2,), keepdims=True) * 0.125 + E) * W + B",
        ("LayerNorm",),
        {"m": "ReduceSum(x, axes=(2,), keepdims=True) * 0.125", "d": "x - m"},
        ROW,
    ),
    "sums over n": Case(
        "d / Sqrt(ReduceSum(d ** 2, axes=(2,), keepdims=True) / 8 + E) * W + B",
        ("LayerNorm",),
        {"m": "ReduceSum(x, axes=(2,), keepdims=True) / 8", "d": "x - m"},
        ROW,
    ),
    "channels first": Case(
        f"d / Sqrt({mean('d ** 2', '(1,)')} + E) * W + B",
        ("Transpose", "LayerNorm", "Transpose"),
        {"m": mean("x", "(1,)"), "d": "x - m"},
        IMAGE,
    ),
    "T5 and LLaMA": Case(f"W * (x * Reciprocal(Sqrt({mean('x ** 2')} + E)))", ("RMSNorm",), {}, ROW),
    "a power of −½ of the mean square": Case(f"x * ({mean('x * x')} + E) ** -0.5 * W", ("RMSNorm",), {}, ROW),
    "group normalisation as exported": Case(
        "Reshape(GroupNorm(r, S, Z, groups=4, epsilon=1e-05), shape=(2, 8, 3, 3)) * W + B",
        ("GroupNorm",),
        {"r": "Reshape(x, shape=(2, 4, 18))"},
        {**IMAGE, "S": np.ones(4), "Z": np.zeros(4)},
    ),
    "group normalisation by hand": Case(
        f"Reshape(d / Sqrt({mean('d * d')} + E), shape=(2, 8, 3, 3)) * W + B",
        ("GroupNorm",),
        {"r": "Reshape(x, shape=(2, 4, 18))", "m": mean("r"), "d": "r - m"},
        IMAGE,
    ),
    "instance normalisation by hand": Case(
        f"d / Sqrt({mean('d * d', '(2, 3)')} + E) * W + B",
        ("GroupNorm",),
        {"m": mean("x", "(2, 3)"), "d": "x - m"},
        IMAGE,
    ),
}

TANH = "(1 + Tanh((x + x ** 3 * 0.044715) * 0.7978845608028654))"
ACTIVATIONS = {
    "GELU, half first": Case("(0.5 * x) * (1 + Erf(x / 1.4142135623730951))", ("Gelu",)),
    "GELU, half last": Case("Mul(Mul(x, Erf(x * 0.7071067811865476) + 1), 0.5)", ("Gelu",)),
    "GELU, half with erf": Case("x * ((Erf(x / 1.4142135623730951) + 1) * 0.5)", ("Gelu",)),
    "GELU, halves": Case("x * (0.5 + 0.5 * Erf(0.7071067811865476 * x))", ("Gelu",)),
    "GELU, multiplied out": Case("h + h * Erf(x / 1.4142135623730951)", ("Gelu",), {"h": "x * 0.5"}),
    "GELU, tanh": Case(f"0.5 * x * {TANH}", ("Gelu",)),
    "GELU, tanh, half last": Case(f"Mul(Mul(x, {TANH}), 0.5)", ("Gelu",)),
    "GELU, tanh, a product for the cube": Case(
        "0.5 * x * (1 + Tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))", ("Gelu",)
    ),
    "GELU, tanh, factored": Case(
        "0.5 * x * (1 + Tanh(x * 0.7978845608028654 * (1 + 0.044715 * x * x)))", ("Gelu",)
    ),
    "GELU, fast": Case("x * Sigmoid(1.702 * x)", ("Swish",)),
    "SiLU": Case("x * Sigmoid(x)", ("Swish",)),
    "SiLU from powers": Case("x * Reciprocal(1 + Exp(-x))", ("Swish",)),
    "sigmoid from powers": Case("1 / (Exp(-x) + 1)", ("Sigmoid",)),
    "hard sigmoid": Case("Min(Max(x * 0.2 + 0.5, 0), 1)", ("HardSigmoid",)),
    "hard sigmoid, divided": Case("Min(Relu(x + 3), 6) / 6", ("HardSigmoid",)),
    "hard swish": Case("x * (Min(Max(x + 3, 0), 6) / 6)", ("HardSwish",)),
    "hard swish, divided last": Case("Mul(x, Min(Max(x + 3, 0), 6)) / 6", ("HardSwish",)),
    "Mish": Case("x * Tanh(Log(1 + Exp(x)))", ("Mish",)),
    "ELU": Case("Where(Less(x, 0), 1.0 * (Exp(x) - 1), x)", ("Elu",)),
    "SELU": Case("Where(Less(x, 0), (Exp(x) * 1.67 - 1.67) * 1.05, x * 1.05)", ("Selu",)),
    "CELU": Case("Elu(x / 2, alpha=1.0) * 2", ("Celu",)),
    "limits by comparisons": Case(
        "Where(Less(c, L), L, c)", ("Clip",), {"c": "Where(Less(H, x), H, x)"}, {"L": -1.0, "H": 1.0}
    ),
    "ReLU6": Case("Min(Max(x, 0), 6)", ("Clip",)),
    "leaky ReLU": Case("Max(0.1 * x, x)", ("LeakyRelu",)),
    "softmax": Case(
        "e / ReduceSum(e, axes=(1,), keepdims=True)",
        ("Softmax",),
        {"e": "Exp(x - ReduceMax(x, axes=(1,), keepdims=True))"},
        {"x": (2, 3, 4)},
    ),
    "softmax by a reciprocal": Case(
        "e * Reciprocal(ReduceSum(e, axes=(1,), keepdims=True))",
        ("Softmax",),
        {"e": "Exp(x)"},
        {"x": (2, 3, 4)},
    ),
    "log-softmax": Case("Log(Softmax(x, axis=0))", ("LogSoftmax",)),
    "log-softmax from powers": Case(
        "d - Log(ReduceSum(Exp(d), axes=(1,), keepdims=True))",
        ("LogSoftmax",),
        {"d": "x - ReduceMax(x, axes=(1,), keepdims=True)"},
        {"x": (2, 3, 4)},
    ),
    "the logarithm of a sum of powers": Case(
        "m + Log(ReduceSum(Exp(x - m), axes=(1,), keepdims=True))",
        ("ReduceLogSumExp",),
        {"m": "ReduceMax(x, axes=(1,), keepdims=True)"},
        {"x": (2, 3, 4)},
    ),
}
CASES = {**NORMS, **ACTIVATIONS}


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_operator(name: str) -> None:
    case, generator = CASES[name], np.random.default_rng(5)
    example = Example(case.text, case.given, case.where)
    graph = example.graph(generator)
    after = rewrite(graph)
    assert tuple(node.op for node in after.nodes) == case.left
    feeds = example.feeds(graph, generator)
    np.testing.assert_allclose(run(after, feeds)["y0"], run(graph, feeds)["y0"], rtol=1e-5, atol=1e-5)


def test_batch_normalisation_goes_into_the_convolution() -> None:
    example = Example(
        "Relu(Conv(x, W, None, strides=(1, 1), dilations=(1, 1), pads=(1, 1, 1, 1), group=1) * S + T)",
        {"x": (1, 3, 5, 5), "W": (4, 3, 3, 3), "S": (4, 1, 1), "T": (4, 1, 1)},
    )
    graph = example.graph(np.random.default_rng(6))
    assert [node.op for node in rewrite(graph).nodes] == ["Conv", "Relu"]


def test_attention_has_one_scale_and_one_projection() -> None:
    """As PyTorch exports it: the root of the scale on both sides, three projections with biases."""
    heads = "Transpose(Reshape({}, shape=(1, 6, 2, 4)), perm={})"
    example = Example(
        "Softmax(q @ k, axis=3) @ v",
        {"x": (1, 6, 8), "A": (8, 8), "B": (8,), "C": (8, 8), "D": (8,), "F": (8, 8), "G": (8,)},
        {
            "q": heads.format("x @ A + B", "(0, 2, 1, 3)") + " * 0.7071067811865476",
            "k": heads.format("x @ C + D", "(0, 2, 3, 1)") + " * 0.7071067811865476",
            "v": heads.format("x @ F + G", "(0, 2, 1, 3)"),
        },
    )
    generator = np.random.default_rng(7)
    graph = example.graph(generator)
    after = rewrite(graph)
    ops = [node.op for node in after.nodes]
    assert (ops.count("Mul"), ops.count("MatMul"), ops.count("Add"), ops.count("Split")) == (0, 3, 1, 1)
    feeds = example.feeds(graph, generator)
    np.testing.assert_allclose(run(after, feeds)["y0"], run(graph, feeds)["y0"], rtol=1e-5, atol=1e-5)
