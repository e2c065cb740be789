"""Expressions for one element of an output, in terms of one element of each operand.

They are written with Python's own operators: `x * sigmoid(x)`. Generated code prints them; nothing here
computes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ourcompiler.ir.types import DType


@dataclass(frozen=True, slots=True)
class Scalar:
    """A function of a name that every target knows, applied to expressions."""

    function: str
    arguments: tuple["Scalar", ...] = ()
    number: float | int | bool = 0
    dtype: DType | None = None

    def __add__(self, other: "Operand") -> "Scalar":
        return apply("add", self, other)

    def __radd__(self, other: "Operand") -> "Scalar":
        return apply("add", other, self)

    def __sub__(self, other: "Operand") -> "Scalar":
        return apply("sub", self, other)

    def __rsub__(self, other: "Operand") -> "Scalar":
        return apply("sub", other, self)

    def __mul__(self, other: "Operand") -> "Scalar":
        return apply("mul", self, other)

    def __rmul__(self, other: "Operand") -> "Scalar":
        return apply("mul", other, self)

    def __truediv__(self, other: "Operand") -> "Scalar":
        return apply("div", self, other)

    def __rtruediv__(self, other: "Operand") -> "Scalar":
        return apply("div", other, self)

    def __neg__(self) -> "Scalar":
        return apply("neg", self)

    def __lt__(self, other: "Operand") -> "Scalar":
        return apply("less", self, other)

    def __gt__(self, other: "Operand") -> "Scalar":
        return apply("less", other, self)

    def __le__(self, other: "Operand") -> "Scalar":
        return apply("less_equal", self, other)

    def __ge__(self, other: "Operand") -> "Scalar":
        return apply("less_equal", other, self)

    def __str__(self) -> str:
        match self.function:
            case "operand":
                return f"x{self.number}"
            case "literal":
                return repr(self.number)
        kind = f"<{self.dtype.value}>" if self.dtype else ""
        return f"{self.function}{kind}({', '.join(map(str, self.arguments))})"


Operand = Scalar | float | int
Code = Callable[..., Scalar]
"""What a row gives: one argument an operand, attributes by name; returns the output's element."""


def operand(number: int) -> Scalar:
    """The element of an operand."""
    return Scalar("operand", number=number)


def literal(number: Operand) -> Scalar:
    """A number, of the element type of what it meets."""
    return number if isinstance(number, Scalar) else Scalar("literal", number=number)


def apply(function: str, *arguments: Operand) -> Scalar:
    """A function of `FUNCTIONS` applied; raises ValueError for another one or a wrong number of arguments."""
    if FUNCTIONS.get(function) != len(arguments):
        raise ValueError(f"{function} of {len(arguments)} arguments is no scalar function")
    return Scalar(function, tuple(literal(one) for one in arguments))


def cast(value: Operand, dtype: DType) -> Scalar:
    """The value in another element type, as C converts."""
    return Scalar("cast", (literal(value),), dtype=dtype)


FUNCTIONS = {
    **dict.fromkeys(("add", "sub", "mul", "div", "pow", "mod", "fmod", "min", "max"), 2),
    **dict.fromkeys(("and", "or", "xor", "bit_and", "bit_or", "bit_xor", "shift_left", "shift_right"), 2),
    **dict.fromkeys(("equal", "less", "less_equal"), 2),
    **dict.fromkeys(("neg", "abs", "sign", "not", "bit_not"), 1),
    **dict.fromkeys(
        ("floor", "ceil", "round", "trunc", "sqrt", "exp", "expm1", "log", "log1p", "erf", "gelu"), 1
    ),
    **dict.fromkeys(("sin", "cos", "tan", "asin", "acos", "atan"), 1),
    **dict.fromkeys(("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"), 1),
    **dict.fromkeys(("is_nan", "is_positive_infinity", "is_negative_infinity"), 1),
    "where": 3,
}
"""Every scalar function and its number of arguments; `min`, `max` return NaN if either is NaN, `round` halves
to even, `mod` has the sign of the divisor, `fmod` of the dividend; `gelu` is x (1 + erf(x / √2)) / 2.
"""


def where(condition: Operand, yes: Operand, no: Operand) -> Scalar:
    """`yes` where the condition holds, else `no`."""
    return apply("where", condition, yes, no)


def minimum(left: Operand, right: Operand) -> Scalar:
    """The lesser; NaN when either is."""
    return apply("min", left, right)


def maximum(left: Operand, right: Operand) -> Scalar:
    """The greater; NaN when either is."""
    return apply("max", left, right)


def exp(value: Operand) -> Scalar:
    """E to the power of the value."""
    return apply("exp", value)


def log1p(value: Operand) -> Scalar:
    """The natural logarithm of 1 + value, exact for small values."""
    return apply("log1p", value)


def tanh(value: Operand) -> Scalar:
    """The hyperbolic tangent."""
    return apply("tanh", value)


def sigmoid(value: Operand) -> Scalar:
    """1 / (1 + exp(−value))."""
    return 1.0 / (1.0 + exp(-literal(value)))
