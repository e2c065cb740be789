"""The functions of kernels in Python, by name and the types of the first argument and the result.

Written from what `ir/scalar.py` promises, apart from the C of the runtime.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ourcompiler.ir.types import DType

Function = Callable[..., Any]

WHOLE_BITS: dict[DType, int] = {
    dtype: 8 * dtype.byte_count for dtype in DType if not dtype.is_float and dtype is not DType.BOOL
}
NARROW = frozenset({DType.F16, DType.BF16})


def wrapped(value: int, dtype: DType) -> int:
    """A whole number as its type holds it."""
    bits = WHOLE_BITS[dtype]
    value = int(value) & ((1 << bits) - 1)
    return value - (1 << bits) if dtype.is_signed and value >> (bits - 1) else value


def _by_numpy(name: str) -> Function:
    function = getattr(np, name)

    def compute(*arguments: float) -> float:
        with np.errstate(all="ignore"):
            return float(function(*(np.float64(one) for one in arguments)))

    return compute


def _greater(left: Any, right: Any) -> Any:
    return left if left != left or left > right else right


def _less(left: Any, right: Any) -> Any:
    return left if left != left or left < right else right


def _quotient(left: int, right: int) -> int:
    if right == 0:
        return 0
    size = abs(left) // abs(right)
    return size if (left < 0) == (right < 0) else -size


def _whole_rest(left: int, right: int) -> int:
    return 0 if right == 0 else left - right * _quotient(left, right)


def _whole_power(base: int, exponent: int) -> int:
    if exponent >= 0:
        return int(pow(base, exponent, 1 << 64)) if exponent > 64 else base**exponent
    return {1: 1, -1: -1 if exponent % 2 else 1}.get(base, 0)


def _within(place: int, size: int) -> int:
    counted = place + size if place < 0 else place
    if not 0 <= counted < size:
        raise IndexError(f"index {place} of {size} elements")
    return counted


def _erf(value: float) -> float:
    return math.erf(value)


def _gelu(value: float) -> float:
    return -0.0 if value < -40 else 0.5 * value * math.erfc(-value * math.sqrt(0.5))


def _sign(value: Any) -> Any:
    return value if value != value else (value > 0) - (value < 0)


COMMON: dict[str, Function] = {
    "add": lambda left, right: left + right,
    "sub": lambda left, right: left - right,
    "mul": lambda left, right: left * right,
    "fma": lambda left, right, third: left * right + third,
    "neg": lambda value: -value,
    "abs": abs,
    "sign": _sign,
    "min": _less,
    "max": _greater,
    "equal": lambda left, right: left == right,
    "less": lambda left, right: left < right,
    "less_equal": lambda left, right: left <= right,
    "where": lambda condition, yes, no: yes if condition else no,
}
FRACTIONS: dict[str, Function] = {
    "div": _by_numpy("divide"),
    "pow": _by_numpy("power"),
    "mod": _by_numpy("mod"),
    "fmod": _by_numpy("fmod"),
    "round": _by_numpy("rint"),
    "erf": _erf,
    "gelu": _gelu,
    "is_nan": lambda value: value != value,
    "is_positive_infinity": lambda value: value == math.inf,
    "is_negative_infinity": lambda value: value == -math.inf,
    **{
        name: _by_numpy(name)
        for name in (
            *("floor", "ceil", "trunc", "sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tan"),
            *("sinh", "cosh", "tanh"),
        )
    },
    **{name: _by_numpy(f"arc{name[1:]}") for name in ("asin", "acos", "atan", "asinh", "acosh", "atanh")},
}
WHOLE: dict[str, Function] = {
    "div": _quotient,
    "fmod": _whole_rest,
    "mod": lambda left, right: 0 if right == 0 else left % right,
    "pow": _whole_power,
    "bit_and": lambda left, right: left & right,
    "bit_or": lambda left, right: left | right,
    "bit_xor": lambda left, right: left ^ right,
    "bit_not": lambda value: ~value,
    "shift_left": lambda value, by: 0 if not 0 <= by < 64 else value << by,
    "shift_right": lambda value, by: 0 if not 0 <= by < 64 else value >> by,
    "quotient": lambda left, right: left // right,
    "remainder": lambda left, right: left % right,
    "within": _within,
    "floor_quotient": lambda left, right: left // right,
    "floor_remainder": lambda left, right: left % right,
    **dict.fromkeys(("floor", "ceil", "round", "trunc"), lambda value: value),
    "is_nan": lambda value: False,
}
FLAGS: dict[str, Function] = {
    "and": lambda left, right: left and right,
    "or": lambda left, right: left or right,
    "xor": lambda left, right: left != right,
    "not": lambda value: not value,
    "bit_and": lambda left, right: left and right,
    "bit_or": lambda left, right: left or right,
    "bit_xor": lambda left, right: left != right,
}
COMPARISONS = frozenset(
    ("equal", "less", "less_equal", "is_nan", "is_positive_infinity", "is_negative_infinity")
)


def _cast(source: DType, target: DType) -> Function:
    def cast(value: Any) -> Any:
        if target is DType.BOOL:
            return value != 0
        if target.is_float:
            return _rounded(float(value), target)
        if source.is_float:
            return _whole(value, target)
        return wrapped(value, target)

    return cast


def _whole(value: float, target: DType) -> int:
    """Towards zero, and the nearest possible where 64 bits do not hold it."""
    if value != value:
        return 0
    low, high = (0, 2**64 - 1) if target is DType.U64 else (-(2**63), 2**63 - 1)
    return wrapped(low if value <= low else high if value >= high else int(value), target)


def _rounded(value: float, dtype: DType) -> float:
    if dtype not in NARROW:
        return value
    with np.errstate(all="ignore"):
        return float(np.asarray(np.float32(value)).astype(dtype.numpy))


def _bit_cast(source: DType, target: DType) -> Function:
    def cast(value: Any) -> Any:
        held = wrapped(value, source) if source in WHOLE_BITS else value
        found = np.array([held]).astype(source.numpy).view(target.numpy)[0]
        return float(found) if target.is_float else found.item()

    return cast


def _function(name: str, source: DType, target: DType) -> Function:
    if name == "cast":
        return _cast(source, target)
    if name == "bit_cast":
        return _bit_cast(source, target)
    own = FLAGS if source is DType.BOOL else FRACTIONS if source.is_float else WHOLE
    function = own.get(name) or COMMON[name]
    if name in COMPARISONS or name == "where":
        return function
    if source in NARROW:
        return lambda *arguments: _rounded(function(*arguments), source)
    if source.is_float or source is DType.BOOL:
        return function
    return lambda *arguments: wrapped(function(*arguments), source)


class _Functions(dict[Any, Function]):
    """Functions are made when they are asked for."""

    def __missing__(self, key: tuple[str, str, str]) -> Function:
        name, source, target = key
        self[key] = _function(name, DType(source), DType(target))
        return self[key]


def _folded(function: Function) -> Function:
    def fold(lanes: list[Any]) -> Any:
        found = lanes[0]
        for one in lanes[1:]:
            found = function(found, one)
        return found

    return fold


FUNCTIONS = _Functions(
    {f"lanes_{name}": _folded(COMMON[name]) for name in ("add", "mul", "max", "min")},
)
"""By (name, type of the first argument, type of the result); of lanes by the name alone."""
