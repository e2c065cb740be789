"""Operators whose every output element comes from one element of each operand, broadcast as NumPy does.

The NumPy reference and the expression that code is generated from are written apart.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from ourcompiler.ir import scalar
from ourcompiler.ir.graph import Array, Attribute
from ourcompiler.ir.scalar import Code, Scalar, apply, exp, log1p, maximum, minimum, sigmoid, tanh, where
from ourcompiler.ir.types import FLOATS, DType, TensorType
from ourcompiler.ops.table import (
    Arrays,
    Facts,
    LayoutClass,
    Mapping5,
    OpDef,
    Pointwise,
    Sample,
    Types,
    broadcast,
    f32,
    given,
)

SELU_ALPHA, SELU_GAMMA = 1.6732632423543772, 1.0507009873554805
SQRT_TWO_OVER_PI, TANH_CUBIC = 0.7978845608028654, 0.044715
ANY, FLOAT_DOMAIN = (-3.0, 3.0), (0.1, 3.0)
INTEGERS = frozenset(DType) - FLOATS - {DType.BOOL}
NUMBERS = INTEGERS | FLOATS
BOOLEANS = frozenset({DType.BOOL})

Reference = Callable[..., Any]


def _same(types: Types, allowed: frozenset[DType], count: int) -> TensorType:
    """One type for `count` operands: their element type, which they share, and the broadcast shape."""
    found = [given(types, number) for number in range(count)]
    dtypes = {one.dtype for one in found}
    if len(dtypes) > 1:
        raise ValueError(f"operands of types {' and '.join(sorted(one.value for one in dtypes))}")
    if not dtypes <= allowed:
        raise ValueError(f"elements of type {found[0].dtype.value}")
    return TensorType(found[0].dtype, broadcast([one.shape for one in found]))


def pointwise(
    name: str,
    count: int,
    reference: Reference,
    code: Code,
    *,
    allowed: frozenset[DType] = NUMBERS,
    result: DType | None = None,
    attributes: dict[str, Attribute] | None = None,
    domain: tuple[float, float] = ANY,
    tolerance: float = 1e-5,
) -> OpDef:
    """A row for `count` operands of one element type; `result` is the output's when it differs."""
    facts = attributes or {}

    def infer(types: Types, facts: Facts) -> tuple[TensorType, ...]:
        common = _same(types, allowed, count)
        return (TensorType(result or common.dtype, common.shape),)

    def compute(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
        operands = [_needed(one) for one in arrays[:count]]
        with np.errstate(all="ignore"):
            found = np.asarray(reference(*operands, **facts))
        wanted = result.numpy if result else operands[0].dtype
        return (found.astype(wanted, copy=False),)

    return OpDef(
        name=name,
        mapping=Mapping5.ONE_TO_ONE,
        layout=LayoutClass.INDEPENDENT_VARIABLE,
        infer=infer,
        reference=compute,
        code=Pointwise(code),
        samples=_samples(count, allowed, facts, domain),
        attributes=tuple(facts),
        tolerance=tolerance,
    )


def _needed(value: Array | None) -> Array:
    if value is None:
        raise ValueError("an operand is missing")
    return value


def _samples(
    count: int, allowed: frozenset[DType], facts: dict[str, Attribute], domain: tuple[float, float]
) -> tuple[Sample, ...]:
    """The same shape, awkward sizes, a broadcast, and one of each kind of element."""
    dtype = next(one for one in (DType.F32, DType.I32, DType.U8, DType.BOOL) if one in allowed)
    shapes: list[list[tuple[int, ...]]] = [[(2, 3)] * count, [(33,)] * count, [(1, 7, 31)] * count]
    if count > 1:
        shapes += [[(2, 1, 9), *[(4, 1)] * (count - 1)], [(), *[(3, 5)] * (count - 1)]]
    found = [Sample(tuple(TensorType(dtype, one) for one in row), facts, domain) for row in shapes]
    others = [one for one in (DType.F64, DType.I64, DType.U8, DType.F16) if one in allowed]
    found += [Sample((TensorType(one, (2, 5)),) * count, facts, domain) for one in others]
    return tuple(found)


def _function(name: str) -> Code:
    return lambda *operands: apply(name, *operands)


def _float_unary(
    name: str, function: str, reference: Reference, domain: tuple[float, float] = ANY, tolerance: float = 1e-5
) -> OpDef:
    return pointwise(
        name, 1, reference, _function(function), allowed=FLOATS, domain=domain, tolerance=tolerance
    )


def _in_float(function: Callable[[Any], Any]) -> Reference:
    """The function in float64 for what NumPy or SciPy cannot take as it is."""
    return lambda x: function(np.asarray(x, np.float64))


UNARY = (
    pointwise("Abs", 1, np.abs, _function("abs")),
    pointwise("Neg", 1, np.negative, _function("neg")),
    pointwise("Sign", 1, np.sign, _function("sign")),
    pointwise("Relu", 1, lambda x: np.maximum(x, x.dtype.type(0)), lambda x: maximum(x, 0)),
    pointwise("Identity", 1, lambda x: x, lambda x: x, allowed=frozenset(DType)),
    _float_unary("Floor", "floor", np.floor),
    _float_unary("Ceil", "ceil", np.ceil),
    _float_unary("Round", "round", np.round),
    _float_unary("Sqrt", "sqrt", np.sqrt, FLOAT_DOMAIN),
    _float_unary("Exp", "exp", np.exp),
    _float_unary("Log", "log", np.log, FLOAT_DOMAIN),
    _float_unary("Sin", "sin", np.sin),
    _float_unary("Cos", "cos", np.cos),
    _float_unary("Tan", "tan", np.tan, (-1.2, 1.2)),
    _float_unary("Asin", "asin", np.arcsin, (-1.0, 1.0)),
    _float_unary("Acos", "acos", np.arccos, (-1.0, 1.0)),
    _float_unary("Atan", "atan", np.arctan),
    _float_unary("Sinh", "sinh", np.sinh),
    _float_unary("Cosh", "cosh", np.cosh),
    _float_unary("Tanh", "tanh", np.tanh),
    _float_unary("Asinh", "asinh", np.arcsinh),
    _float_unary("Acosh", "acosh", np.arccosh, (1.1, 4.0)),
    _float_unary("Atanh", "atanh", np.arctanh, (-0.9, 0.9)),
    _float_unary("Erf", "erf", _in_float(special.erf)),
    pointwise("Reciprocal", 1, lambda x: 1 / x, lambda x: 1.0 / x, allowed=FLOATS, domain=FLOAT_DOMAIN),
    pointwise("Sigmoid", 1, _in_float(special.expit), sigmoid, allowed=FLOATS),
    pointwise("Not", 1, np.logical_not, _function("not"), allowed=BOOLEANS),
    pointwise("IsNaN", 1, np.isnan, _function("is_nan"), allowed=FLOATS, result=DType.BOOL),
)


def _is_infinite(x: Array, detect_negative: bool, detect_positive: bool) -> Any:
    return (np.isposinf(x) & bool(detect_positive)) | (np.isneginf(x) & bool(detect_negative))


def _is_infinite_code(x: Scalar, detect_negative: bool, detect_positive: bool) -> Scalar:
    positive, negative = apply("is_positive_infinity", x), apply("is_negative_infinity", x)
    if detect_negative and detect_positive:
        return apply("or", positive, negative)
    return (
        positive if detect_positive else negative if detect_negative else apply("not", apply("equal", 0, 0))
    )


def _gelu(x: Array, approximate: str) -> Any:
    x = np.asarray(x, np.float64)
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + TANH_CUBIC * x**3)))
    return 0.5 * x * (1 + special.erf(x / np.sqrt(2)))


def _gelu_code(x: Scalar, approximate: str) -> Scalar:
    if approximate == "tanh":  # (1 + tanh u) / 2 is 1 / (1 + exp(-2u)): half the work
        linear = -2.0 * SQRT_TWO_OVER_PI
        return x / (1.0 + exp(x * (linear + (linear * TANH_CUBIC) * (x * x))))
    return apply("gelu", x)


def _soft_plus(x: Scalar) -> Scalar:
    """log(1 + eˣ), without overflow."""
    return maximum(x, 0.0) + log1p(exp(-apply("abs", x)))


def _wide(x: Array) -> Any:
    return np.asarray(x, np.float64)


ACTIVATIONS = (
    pointwise(
        "LeakyRelu",
        1,
        lambda x, alpha: np.where(x < 0, alpha * _wide(x), x),
        lambda x, alpha: where(x < 0.0, alpha * x, x),
        allowed=FLOATS,
        attributes={"alpha": 0.01},
    ),
    pointwise(
        "ThresholdedRelu",
        1,
        lambda x, alpha: np.where(x > alpha, x, 0),
        lambda x, alpha: where(x > alpha, x, 0.0),
        allowed=FLOATS,
        attributes={"alpha": 1.0},
    ),
    pointwise(
        "Elu",
        1,
        lambda x, alpha: np.where(x < 0, alpha * np.expm1(_wide(x)), x),
        lambda x, alpha: where(x < 0.0, alpha * apply("expm1", x), x),
        allowed=FLOATS,
        attributes={"alpha": 1.5},
    ),
    pointwise(
        "Celu",
        1,
        lambda x, alpha: np.maximum(0, _wide(x)) + np.minimum(0, alpha * np.expm1(_wide(x) / alpha)),
        lambda x, alpha: maximum(x, 0.0) + minimum(alpha * apply("expm1", x / alpha), 0.0),
        allowed=FLOATS,
        attributes={"alpha": 1.5},
    ),
    pointwise(
        "Selu",
        1,
        lambda x, alpha, gamma: gamma * np.where(x > 0, x, alpha * np.expm1(_wide(x))),
        lambda x, alpha, gamma: gamma * where(x > 0.0, x, alpha * apply("expm1", x)),
        allowed=FLOATS,
        attributes={"alpha": SELU_ALPHA, "gamma": SELU_GAMMA},
    ),
    pointwise(
        "HardSigmoid",
        1,
        lambda x, alpha, beta: np.clip(alpha * _wide(x) + beta, 0, 1),
        lambda x, alpha, beta: maximum(minimum(alpha * x + beta, 1.0), 0.0),
        allowed=FLOATS,
        attributes={"alpha": 0.2, "beta": 0.5},
    ),
    pointwise(
        "HardSwish",
        1,
        lambda x: _wide(x) * np.clip(_wide(x) / 6 + 0.5, 0, 1),
        lambda x: x * maximum(minimum(x * (1.0 / 6.0) + 0.5, 1.0), 0.0),
        allowed=FLOATS,
    ),
    pointwise(
        "Swish",
        1,
        lambda x, alpha: _wide(x) * special.expit(alpha * _wide(x)),
        lambda x, alpha: x * sigmoid(alpha * x),
        allowed=FLOATS,
        attributes={"alpha": 1.0},
    ),
    pointwise(
        "Mish",
        1,
        lambda x: _wide(x) * np.tanh(np.logaddexp(0, _wide(x))),
        lambda x: x * tanh(_soft_plus(x)),
        allowed=FLOATS,
    ),
    pointwise("Softplus", 1, lambda x: np.logaddexp(0, _wide(x)), _soft_plus, allowed=FLOATS),
    pointwise(
        "Softsign",
        1,
        lambda x: _wide(x) / (1 + np.abs(x)),
        lambda x: x / (1.0 + apply("abs", x)),
        allowed=FLOATS,
    ),
    pointwise(
        "Shrink",
        1,
        lambda x, bias, lambd: np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)),
        lambda x, bias, lambd: where(x < -lambd, x + bias, where(x > lambd, x - bias, 0.0)),
        attributes={"bias": 0.5, "lambd": 1.0},
        allowed=FLOATS,
    ),
    pointwise("Gelu", 1, _gelu, _gelu_code, allowed=FLOATS, attributes={"approximate": "none"}),
    pointwise(
        "Clip",
        1,
        lambda x, low, high: np.clip(_wide(x), low, high),
        lambda x, low, high: minimum(maximum(x, low), high),
        allowed=FLOATS,
        attributes={"low": -1.0, "high": 1.5},
    ),
    pointwise(
        "IsInf",
        1,
        _is_infinite,
        _is_infinite_code,
        allowed=FLOATS,
        result=DType.BOOL,
        attributes={"detect_negative": True, "detect_positive": True},
    ),
)


def _divide(left: Array, right: Array) -> Any:
    """C's division of integers, which rounds to zero."""
    if np.issubdtype(left.dtype, np.integer):
        quotient = np.trunc(np.divide(left.astype(np.longdouble), right.astype(np.longdouble)))
        return quotient.astype(left.dtype)
    return left / right


BINARY = (
    pointwise("Add", 2, np.add, _function("add")),
    pointwise("Sub", 2, np.subtract, _function("sub")),
    pointwise("Mul", 2, np.multiply, _function("mul")),
    pointwise("Div", 2, _divide, _function("div"), domain=(1.0, 9.0)),
    pointwise("Min", 2, np.minimum, _function("min")),
    pointwise("Max", 2, np.maximum, _function("max")),
    pointwise(
        "Mod",
        2,
        lambda left, right, fmod: np.fmod(left, right) if fmod else np.mod(left, right),
        lambda left, right, fmod: apply("fmod" if fmod else "mod", left, right),
        attributes={"fmod": True},
        domain=(1.0, 9.0),
    ),
    pointwise(
        "PRelu",
        2,
        lambda x, slope: np.where(x < 0, x * slope, x),
        lambda x, slope: where(x < 0, x * slope, x),
    ),
    pointwise("And", 2, np.logical_and, _function("and"), allowed=BOOLEANS),
    pointwise("Or", 2, np.logical_or, _function("or"), allowed=BOOLEANS),
    pointwise("Xor", 2, np.logical_xor, _function("xor"), allowed=BOOLEANS),
    *(
        pointwise(name, 2, reference, _function(function), allowed=frozenset(DType), result=DType.BOOL)
        for name, reference, function in (
            ("Equal", np.equal, "equal"),
            ("Less", np.less, "less"),
            ("LessOrEqual", np.less_equal, "less_equal"),
        )
    ),
)


def _infer_pow(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    base, power = given(types, 0), given(types, 1)
    if DType.BOOL in (base.dtype, power.dtype):
        raise ValueError("a power of booleans")
    return (TensorType(base.dtype, broadcast([base.shape, power.shape])),)


def _pow(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    base, power = _needed(arrays[0]), _needed(arrays[1])
    with np.errstate(all="ignore"):
        return (np.power(base.astype(np.float64), power.astype(np.float64)).astype(base.dtype),)


def _infer_where(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    condition, yes, no = (given(types, number) for number in range(3))
    if condition.dtype is not DType.BOOL or yes.dtype is not no.dtype:
        raise ValueError(
            f"a choice between {yes.dtype.value} and {no.dtype.value} by {condition.dtype.value}"
        )
    return (TensorType(yes.dtype, broadcast([condition.shape, yes.shape, no.shape])),)


def _where(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    return (np.where(*(_needed(one) for one in arrays[:3])),)


def _infer_cast(types: Types, facts: Facts) -> tuple[TensorType, ...]:
    return (TensorType(DType(facts["to"]), given(types, 0).shape),)


def _cast(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
    with np.errstate(all="ignore"):
        return (_needed(arrays[0]).astype(DType(facts["to"]).numpy),)


OTHERS = (
    OpDef(
        name="Pow",
        mapping=Mapping5.ONE_TO_ONE,
        layout=LayoutClass.INDEPENDENT_VARIABLE,
        infer=_infer_pow,
        reference=_pow,
        code=Pointwise(_function("pow")),
        samples=(
            Sample((f32(2, 3), f32(3)), domain=FLOAT_DOMAIN),
            Sample((f32(33), f32()), values={1: 2.0}),
            Sample((f32(5), TensorType(DType.I64, ())), values={1: 3}),
        ),
        tolerance=1e-4,
    ),
    OpDef(
        name="Where",
        mapping=Mapping5.ONE_TO_ONE,
        layout=LayoutClass.INDEPENDENT_VARIABLE,
        infer=_infer_where,
        reference=_where,
        code=Pointwise(_function("where")),
        samples=(
            Sample((TensorType(DType.BOOL, (2, 3)), f32(2, 3), f32(2, 3))),
            Sample((TensorType(DType.BOOL, (4, 1)), f32(33), f32())),
            Sample((TensorType(DType.BOOL, (3,)), *[TensorType(DType.I64, (3,))] * 2)),
        ),
    ),
    OpDef(
        name="Cast",
        mapping=Mapping5.ONE_TO_ONE,
        layout=LayoutClass.INDEPENDENT_VARIABLE,
        infer=_infer_cast,
        reference=_cast,
        code=Pointwise(lambda x, to: scalar.cast(x, DType(to))),
        samples=tuple(
            Sample((TensorType(one, (2, 9)),), {"to": to.value}, (0.0, 9.0))
            for one, to in (
                (DType.F32, DType.I64),
                (DType.I64, DType.F32),
                (DType.F32, DType.F16),
                (DType.F16, DType.F32),
                (DType.BF16, DType.F32),
                (DType.F32, DType.BOOL),
                (DType.BOOL, DType.F32),
                (DType.U8, DType.I32),
                (DType.F64, DType.F32),
            )
        ),
        attributes=("to",),
    ),
)

ROWS = (*UNARY, *ACTIVATIONS, *BINARY, *OTHERS)
