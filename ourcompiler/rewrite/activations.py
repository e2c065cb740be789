"""Activation functions, recognised from what exporters and hand-written models make of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ourcompiler.ir.types import DType, TensorType
from ourcompiler.rewrite.rule import (
    ALWAYS,
    UP_TO_ROUNDING,
    Example,
    Family,
    Match,
    Rule,
    When,
    formula,
)

SOURCE = "decompositions of PyTorch's and TensorFlow's exporters, and models written by hand"
SQRT_HALF, SQRT_TWO = "0.7071067811865476", "1.4142135623730951"
SQRT_TWO_OVER_PI, TWICE = "0.7978845608028654", "1.5957691216057308"
CUBIC = "0.044715"
SIXTH = 1 / 6


def _function(
    name: str,
    finds: tuple[str, ...],
    give: str,
    *refuses: Example,
    precondition: str = UP_TO_ROUNDING,
    **more: Any,
) -> Rule:
    return formula(
        name,
        Family.ACTIVATION,
        finds,
        give,
        source=SOURCE,
        precondition=precondition,
        refuses=refuses,
        **more,
    )


CUBES = (
    f"(x + x ** 3 * {CUBIC}) * {{}}",
    f"(x + x * x * x * {CUBIC}) * {{}}",
    f"x * (x * x * {CUBIC} + 1) * {{}}",
)
"""x + 0.044715 x³ times a number."""

GELU = (
    _function(
        "GELU",
        (
            f"x * 0.5 * (1 + Erf(x * {SQRT_HALF}))",
            f"x * 0.5 * (1 + Erf(x / {SQRT_TWO}))",
            f"x * (Erf(x * {SQRT_HALF}) * 0.5 + 0.5)",
        ),
        "Gelu(x, approximate='none')",
        Example(f"x * 0.5 * (1 + Erf(y * {SQRT_HALF}))"),
        Example("x * 0.5 * (1 + Erf(x * 0.7))"),
        Example(f"x * 0.5 * (2 + Erf(x * {SQRT_HALF}))"),
    ),
    _function(
        "GELU with tanh",
        tuple(f"x * 0.5 * (1 + Tanh({cube.format(SQRT_TWO_OVER_PI)}))" for cube in CUBES)
        + tuple(f"x * Sigmoid({cube.format(TWICE)})" for cube in CUBES),
        "Gelu(x, approximate='tanh')",
        Example("x * 0.5 * (1 + Tanh((x + x ** 3 * 0.04) * 0.7978845608028654))"),
        Example("x * 0.5 * (1 + Tanh(x * 0.7978845608028654))"),
    ),
)


def _slope(match: Match) -> Mapping[str, Any] | bool:
    """A as an attribute, if it is one number."""
    slope = match.number("A")
    return False if slope is None else {"alpha": float(slope)}


def _leaky(match: Match) -> Mapping[str, Any] | bool:
    """The greater of x and A x is x above 0 for an A from 0 to 1."""
    slope = match.number("A")
    return {"alpha": float(slope)} if slope is not None and 0 <= slope <= 1 else False


def _selu(match: Match) -> Mapping[str, Any] | bool:
    gamma, scale, shift = (match.number(name) for name in "ABC")
    if not gamma or scale is None or shift != -scale:
        return False
    return {"alpha": float(scale / gamma), "gamma": float(gamma)}


def _celu(match: Match) -> Mapping[str, Any] | bool:
    alpha, inverse = match.number("A"), match.number("R")
    is_inverse = alpha is not None and inverse is not None and abs(alpha * inverse - 1) < 1e-6
    return {"alpha": float(alpha)} if alpha is not None and alpha > 0 and is_inverse else False


LOGISTIC = (
    _function(
        "sigmoid",
        (
            "Reciprocal(1 + Exp(-x))",
            "1 / (1 + Exp(-x))",
            "Reciprocal(1 + Exp(x * -1))",
            "Exp(x) / (1 + Exp(x))",
            "(1 + Tanh(x * 0.5)) * 0.5",
            "Tanh(x * 0.5) * 0.5 + 0.5",
        ),
        "Sigmoid(x)",
        Example("Reciprocal(1 + Exp(x))"),
        Example("Reciprocal(2 + Exp(-x))"),
        precondition="up to rounding; where the power overflows, the new form does not",
    ),
    _function(
        "a quotient with 1 + exp(−x)", ("a / (1 + Exp(-x))",), "a * Sigmoid(x)", Example("a / (1 + Exp(x))")
    ),
    _function(
        "SiLU", ("x * Sigmoid(x)", "x / (1 + Exp(-x))"), "Swish(x, alpha=1.0)", Example("x * Sigmoid(y)")
    ),
    _function(
        "Swish",
        ("x * Sigmoid(x * A)",),
        "Swish(x, alpha=alpha)",
        Example("x * Sigmoid(x * a)"),
        Example("x * Sigmoid(x * A)", {"A": np.array([1.0, 2.0]), "x": (3, 2)}),
        precondition=f"A is one number; {UP_TO_ROUNDING}",
        when=_slope,
        given={"A": 1.702},
    ),
    _function(
        "softplus",
        ("Log(1 + Exp(x))",),
        "Softplus(x)",
        Example("Log(2 + Exp(x))"),
        precondition="up to rounding; where the power overflows, the new form does not",
    ),
    _function("Mish", ("x * Tanh(Softplus(x))",), "Mish(x)", Example("x * Tanh(Softplus(y))")),
    _function(
        "tanh",
        ("p / q",),
        "Tanh(x)",
        Example("(Exp(x) - Exp(-y)) / (Exp(x) + Exp(-y))"),
        where={"u": "Exp(x)", "v": "Exp(-x)", "p": "u - v", "q": "u + v"},
        precondition="up to rounding; where the power overflows, the new form does not",
    ),
    _function("softsign", ("x / (1 + Abs(x))",), "Softsign(x)", Example("x / (1 + Abs(y))")),
)

CHOICE = {"c": TensorType(DType.BOOL, (2, 3)), "x": (2, 3)}
RECTIFIED = (
    _function(
        "ReLU",
        ("Max(x, 0)", "Where(Less(x, 0), 0, x)", "Where(LessOrEqual(x, 0), 0, x)", "Where(Less(0, x), x, 0)"),
        "Relu(x)",
        Example("Max(x, 1)"),
        Example("Where(Less(x, 1), 0, x)"),
        Example("Where(c, 0, x)", CHOICE),
        precondition="NaN stays NaN, which a choice by 0 < x makes 0",
    ),
    _function(
        "leaky ReLU",
        ("Where(Less(x, 0), x * A, x)", "Where(Less(0, x), x, x * A)", "Where(LessOrEqual(0, x), x, x * A)"),
        "LeakyRelu(x, alpha=alpha)",
        Example("Where(Less(x, 0), y * A, x)"),
        Example("Where(Less(x, 0), x * A, x)", {"x": (2, 3), "A": (3,)}),
        precondition="A is one number",
        when=_slope,
        given={"A": 0.2},
    ),
    _function(
        "leaky ReLU as a maximum",
        ("Max(x, x * A)",),
        "LeakyRelu(x, alpha=alpha)",
        Example("Max(x, x * A)", {"A": 1.5}),
        Example("Max(x, x * A)", {"A": -0.5}),
        precondition="A is one number from 0 to 1",
        when=_leaky,
        given={"A": 0.2},
    ),
    _function(
        "parametric ReLU",
        ("Where(Less(x, 0), x * s, x)", "Where(Less(0, x), x, x * s)"),
        "PRelu(x, s)",
        Example("Where(Less(x, 0), y * s, x)"),
        given={"x": (2, 3), "s": (3,)},
    ),
    _function(
        "ELU",
        (
            "Where(Less(0, x), x, (Exp(x) + -1) * A)",
            "Where(Less(0, x), x, (Exp(x) - 1) * A)",
            "Where(Less(x, 0), (Exp(x) + -1) * A, x)",
            "Where(Less(x, 0), (Exp(x) - 1) * A, x)",
        ),
        "Elu(x, alpha=alpha)",
        Example("Where(Less(0, x), x, (Exp(x) + 1) * A)"),
        precondition=f"A is one number; {UP_TO_ROUNDING}",
        when=_slope,
        given={"A": 1.0},
    ),
    _function(
        "ELU with slope 1",
        ("Where(Less(0, x), x, Exp(x) + -1)", "Where(Less(x, 0), Exp(x) + -1, x)"),
        "Elu(x, alpha=1.0)",
        Example("Where(Less(x, 0), Exp(x) + 1, x)"),
    ),
    _function(
        "SELU",
        ("Where(Less(x, 0), Exp(x) * B + C, x * A)", "Where(Less(0, x), x * A, Exp(x) * B + C)"),
        "Selu(x, alpha=alpha, gamma=gamma)",
        Example("Where(Less(x, 0), Exp(x) * B + C, x * A)", {"A": 1.05, "B": 1.75, "C": 1.75}),
        precondition=f"three numbers, C is −B; {UP_TO_ROUNDING}",
        when=_selu,
        given={"A": 1.05, "B": 1.75, "C": -1.75},
    ),
    _function(
        "CELU",
        ("Elu(x * R, alpha=1.0) * A",),
        "Celu(x, alpha=alpha)",
        Example("Elu(x * R, alpha=1.0) * A", {"R": 0.5, "A": 3.0}),
        precondition=f"two numbers, R is 1/A; {UP_TO_ROUNDING}",
        when=_celu,
        given={"R": 0.5, "A": 2.0},
    ),
)


def _limits(match: Match) -> Mapping[str, Any] | bool:
    """Two numbers, the lower first."""
    low, high = match.number("L"), match.number("H")
    return (
        {"l": float(low), "h": float(high)} if low is not None and high is not None and low <= high else False
    )


def _above_zero(match: Match) -> Mapping[str, Any] | bool:
    high = match.number("H")
    return {"h": float(high)} if high is not None and high >= 0 else False


def _both_limits(match: Match) -> Mapping[str, Any] | bool:
    low = min(max(match["l"], match["m"]), match["n"])
    return {"low": low, "high": max(min(match["h"], match["n"]), match["m"])}


def _is_number(match: Match) -> bool:
    """A limit that is not NaN, which a comparison would pass over."""
    return not np.isnan(match.known("L")).any()


LIMITS = tuple(
    _function(
        f"a limit {where}",
        (f"Where(Less({less}), L, x)",),
        f"{op}(x, L)",
        Example(f"Where(Less({less}), x, L)"),
        Example(f"Where(Less({less}), L, x)", {"L": np.full(1, np.nan)}),
        precondition="L is known and not NaN",
        when=_is_number,
    )
    for where, less, op in (("below", "x, L", "Max"), ("above", "L, x", "Min"))
)
CLIPS = (
    _function(
        "limits on both sides",
        ("Min(Max(x, L), H)", "Max(Min(x, H), L)"),
        "Clip(x, low=l, high=h)",
        Example("Min(Max(x, L), H)", {"L": 1.0, "H": -1.0}),
        Example("Min(Max(x, L), H)", {"x": (2, 3), "L": (3,), "H": 1.0}),
        precondition="two numbers, the lower first",
        when=_limits,
        given={"L": -0.5, "H": 1.5},
    ),
    _function(
        "ReLU with a limit",
        ("Min(Relu(x), H)", "Relu(Min(x, H))"),
        "Clip(x, low=0.0, high=h)",
        Example("Min(Relu(x), H)", {"H": -1.0}),
        Example("Min(Relu(x), h)"),
        precondition="a number above 0",
        when=_above_zero,
        given={"H": 1.0},
    ),
    _function(
        "limits of limits",
        ("Clip(Clip(x, low=l, high=h), low=m, high=n)",),
        "Clip(x, low=low, high=high)",
        Example("Clip(Relu(x), low=-1.0, high=1.0)"),
        precondition=ALWAYS,
        when=_both_limits,
        given={"l": -1.0, "h": 1.0, "m": -0.5, "n": 1.5},
    ),
)


def _line(match: Match) -> Mapping[str, Any] | bool:
    slope, shift = match.number("A"), match.number("B")
    return False if slope is None or shift is None else {"alpha": float(slope), "beta": float(shift)}


def _scaled_line(match: Match) -> Mapping[str, Any] | bool:
    """Limits 0 and h, then times 1/h."""
    scale, shift = match.number("S"), match.number("B")
    if scale is None or shift is None or abs(scale * match["h"] - 1) > 1e-6:
        return False
    return {"alpha": float(scale), "beta": float(shift * scale)}


def _hard_swish(match: Match) -> bool:
    return bool(abs(match["a"] - SIXTH) < 1e-6 and abs(match["b"] - 0.5) < 1e-6)


HARD = (
    _function(
        "hard sigmoid",
        ("Clip(x * A + B, low=0.0, high=1.0)",),
        "HardSigmoid(x, alpha=alpha, beta=beta)",
        Example("Clip(x * A + B, low=0.0, high=2.0)", {"A": 0.2, "B": 0.5}),
        Example("Clip(x * A + B, low=0.0, high=1.0)", {"x": (2, 3), "A": (3,), "B": 0.5}),
        precondition=f"two numbers; {UP_TO_ROUNDING}",
        when=_line,
        given={"A": 0.2, "B": 0.5},
    ),
    _function(
        "hard sigmoid, divided after",
        ("Clip(x + B, low=0.0, high=h) * S",),
        "HardSigmoid(x, alpha=alpha, beta=beta)",
        Example("Clip(x + B, low=0.0, high=h) * S", {"B": 3.0, "h": 6.0, "S": 0.2}),
        precondition=f"two numbers, and S is 1/h; {UP_TO_ROUNDING}",
        when=_scaled_line,
        given={"B": 3.0, "h": 6.0, "S": SIXTH},
    ),
    _function(
        "hard swish",
        ("x * HardSigmoid(x, alpha=a, beta=b)",),
        "HardSwish(x)",
        Example("x * HardSigmoid(x, alpha=a, beta=b)", {"a": 0.2, "b": 0.5}),
        Example("y * HardSigmoid(x, alpha=a, beta=b)", {"a": SIXTH, "b": 0.5}),
        precondition=f"slope 1/6 and 0.5; {UP_TO_ROUNDING}",
        when=_hard_swish,
        given={"a": SIXTH, "b": 0.5},
    ),
    _function(
        "hard swish from a clipped sum",
        (f"x * Clip(x + 3, low=0.0, high=6.0) * {SIXTH!r}",),
        "HardSwish(x)",
        Example(f"x * Clip(x + 2, low=0.0, high=6.0) * {SIXTH!r}"),
    ),
)


def _one_axis(match: Match) -> Mapping[str, Any] | bool:
    return {"i": match["a"][0]} if len(match["a"]) == 1 else False


def _is_same_along(match: Match) -> bool:
    """Whether m does not vary along the axis of the softmax."""
    shape, subtracted = match.shape("x"), match.shape("m")
    padded = (1,) * (len(shape) - len(subtracted)) + subtracted
    return shape == match.site.shape(match.site.node.output) and padded[match["i"]] == 1


KEPT = {"x": (2, 3, 4), "a": (1,), "i": 1, "m": (2, 1, 4)}
SHIFTED = "softmax does not change when a number is added to everything along its axis"


def _softmax(
    name: str, finds: tuple[str, ...], give: str, refuse: str, when: When = _one_axis, **more: Any
) -> Rule:
    where = more.get("where", {})
    return _function(
        name,
        finds,
        give,
        Example(refuse, {**KEPT, "m": (3, 1)}, where),
        precondition=more.pop("precondition", f"one axis; {UP_TO_ROUNDING}"),
        when=when,
        given=KEPT,
        **more,
    )


SUM = "ReduceSum({}, axes=a, keepdims=True)"
SOFTMAX = (
    _softmax(
        "softmax",
        (f"e / {SUM.format('e')}", f"e * Reciprocal({SUM.format('e')})"),
        "Softmax(x, axis=i)",
        f"e / {SUM.format('Exp(e)')}",
        where={"e": "Exp(x)"},
        precondition="one axis; up to rounding; where the power overflows, the new form does not",
    ),
    _softmax(
        "softmax of a difference",
        ("Softmax(x - m, axis=i)",),
        "Softmax(x, axis=i)",
        "Softmax(x - m, axis=i)",
        _is_same_along,
        precondition=SHIFTED,
    ),
    _softmax(
        "softmax of a sum",
        ("Softmax(x + m, axis=i)",),
        "Softmax(x, axis=i)",
        "Softmax(x + m, axis=i)",
        _is_same_along,
        precondition=SHIFTED,
    ),
    _softmax(
        "logarithm of softmax",
        ("Log(Softmax(x, axis=i))",),
        "LogSoftmax(x, axis=i)",
        "Exp(Softmax(x, axis=i))",
        lambda match: True,
    ),
    _softmax(
        "log-softmax",
        ("x - ReduceLogSumExp(x, axes=a, keepdims=True)",),
        "LogSoftmax(x, axis=i)",
        "x - ReduceLogSumExp(Exp(x), axes=a, keepdims=True)",
    ),
    _softmax(
        "log-softmax of a difference",
        ("LogSoftmax(x - m, axis=i)",),
        "LogSoftmax(x, axis=i)",
        "LogSoftmax(x - m, axis=i)",
        _is_same_along,
        precondition=SHIFTED,
    ),
)

ROWS: tuple[Rule, ...] = (*GELU, *LOGISTIC, *RECTIFIED, *LIMITS, *CLIPS, *HARD, *SOFTMAX)
