"""exp, erf, tanh and the logistic function as polynomials: TVM's own call the C library once an element,
which no vector unit can take.

The approximations are those that most runtimes use (Cephes for exp, Eigen's rational ones for erf and tanh),
correct to a few units in the last place of fp32; other types are left to TVM.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

OVER_TVMS_OWN = 200
"""Level of our rules; TVM registers its own at lower ones."""
EXP_RANGE = (-87.33654, 88.0)
EXP_POLYNOMIAL = (1.9875691e-4, 1.3981999e-3, 8.3334519e-3, 4.1665796e-2, 1.6666665e-1, 5.0000001e-1)
LOG2_E = 1.44269504
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
EXPONENT_BIAS, MANTISSA_BITS = 127, 23
ERF_RANGE = (-4.0, 4.0)
ERF_ABOVE = (
    *(-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05),
    *(-7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02),
)
ERF_BELOW = (
    *(-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03),
    *(-7.37332916720468e-03, -1.42647390514189e-02),
)
TANH_RANGE = (-7.90531110763549805, 7.90531110763549805)
TANH_ABOVE = (
    *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08),
    *(1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
)
TANH_BELOW = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


@cache
def use_vector_math() -> None:
    """Put our rules before TVM's, in this process, for everything compiled for a CPU from now on."""
    from tvm.tirx import register_intrin_lowering

    rules = {"exp": _exp, "erf": _erf, "tanh": _tanh, "sigmoid": _sigmoid}
    for name, rule in rules.items():
        register_intrin_lowering(f"tirx.{name}", target="llvm", f=_float32_only(rule), level=OVER_TVMS_OWN)


def _float32_only(rule: Any) -> Any:
    def lower(call: Any) -> Any:
        if not str(call.ty.dtype).startswith("float32"):
            return None
        return rule(call.args[0])

    return lower


def _exp(x: Any) -> Any:
    from tvm import tirx

    dtype = str(x.ty.dtype)
    integers = dtype.replace("float32", "int32")

    def of_power(z: Any, n: Any) -> Any:
        r = z - n * _number(LN2_HIGH, dtype) - n * _number(LN2_LOW, dtype)
        return _let(r, lambda r: _scaled(r, n))

    def _scaled(r: Any, n: Any) -> Any:
        mantissa = _polynomial(r, EXP_POLYNOMIAL, dtype) * (r * r) + r + _number(1, dtype)
        shifted = (n.astype(integers) + _number(EXPONENT_BIAS, integers)) << _number(MANTISSA_BITS, integers)
        return mantissa * tirx.reinterpret(dtype, shifted)

    def of_clipped(z: Any) -> Any:
        n = tirx.floor(z * _number(LOG2_E, dtype) + _number(0.5, dtype))
        return _let(n, lambda n: of_power(z, n))

    return _let(_clipped(x, EXP_RANGE), of_clipped)


def _sigmoid(x: Any) -> Any:
    one = _number(1, str(x.ty.dtype))
    return one / (one + _exp(_number(0, str(x.ty.dtype)) - x))


def _erf(x: Any) -> Any:
    return _odd_ratio(x, ERF_RANGE, ERF_ABOVE, ERF_BELOW)


def _tanh(x: Any) -> Any:
    return _odd_ratio(x, TANH_RANGE, TANH_ABOVE, TANH_BELOW)


def _odd_ratio(x: Any, limits: Sequence[float], above: Sequence[float], below: Sequence[float]) -> Any:
    """Return x · p(x²) / q(x²), x within the limits beyond which the function is ±1."""
    dtype = str(x.ty.dtype)

    def of_square(z: Any, square: Any) -> Any:
        return z * _polynomial(square, above, dtype) / _polynomial(square, below, dtype)

    return _let(_clipped(x, limits), lambda z: _let(z * z, lambda square: of_square(z, square)))


def _polynomial(x: Any, coefficients: Sequence[float], dtype: str) -> Any:
    """Horner's rule, highest power first."""
    total = _number(coefficients[0], dtype)
    for coefficient in coefficients[1:]:
        total = total * x + _number(coefficient, dtype)
    return total


def _clipped(x: Any, limits: Sequence[float]) -> Any:
    from tvm import tirx

    dtype = str(x.ty.dtype)
    return tirx.max(tirx.min(x, _number(limits[1], dtype)), _number(limits[0], dtype))


def _number(value: float, dtype: str) -> Any:
    from tvm import tirx

    return tirx.const(value, dtype)


def _let(value: Any, body: Any) -> Any:
    """`body` of a name for `value`, so that it is computed once."""
    from tvm import tirx

    name = tirx.Var("t", str(value.ty.dtype))
    return tirx.Let(name, value, body(name))
