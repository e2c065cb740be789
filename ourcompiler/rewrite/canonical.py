"""One way to write what can be written in many: constants together and right, few kinds of operators."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ourcompiler.ir.types import FLOATS, DType
from ourcompiler.rewrite.rule import (
    ALWAYS,
    POSITIVE,
    SQUARE,
    UP_TO_ROUNDING,
    Example,
    Family,
    Match,
    Rule,
    formula,
)

INTEGERS = frozenset(DType) - FLOATS - {DType.BOOL}
CONSTANTS = "constants are combined when compiling"
SMALLER = "the combined constant is not larger than the value"
FLAT = {"A": (1,), "B": (1,), "C": (1,), "D": (1,)}
"""Constants of one element in a drawn graph."""


def _chain(find: str, give: str, refuse: str, kinds: frozenset[DType] = FLOATS | INTEGERS) -> Rule:
    return formula(
        f"{find} is {give}",
        Family.ASSOCIATIVE,
        find,
        give,
        source=CONSTANTS,
        precondition=f"{SMALLER}; {UP_TO_ROUNDING}, integers exactly",
        kinds=kinds,
        given=FLAT,
        examples=(Example(find), Example(find, {"A": (4,), "B": (3, 1), "x": (3, 4)})),
        refuses=(Example(refuse), Example(find, {"A": (300, 1), "B": (200,), "x": (1,)})),
    )


CHAINS = (
    _chain("x * A * B", "x * (A * B)", "x * y * A"),
    _chain("x + A + B", "x + (A + B)", "x + y + A"),
    _chain("Max(x, A, B)", "Max(x, Max(A, B))", "Max(x, y, A)"),
    _chain("Min(x, A, B)", "Min(x, Min(A, B))", "Min(Max(x, A), B)"),
)


def _line(find: str, give: str, refuse: str, domain: tuple[float, float] = POSITIVE) -> Rule:
    return formula(
        f"{find} is {give}",
        Family.CANONICAL,
        find,
        give,
        source=CONSTANTS,
        precondition=f"{SMALLER}; {UP_TO_ROUNDING}",
        given=FLAT,
        domain=domain,
        examples=(Example(find, {**FLAT, "x": (2, 3, 4), "A": (3, 1)}, domain=domain),),
        refuses=(Example(refuse, FLAT, domain=domain),),
    )


LINES = (
    _line("(x * A + B) * C", "x * (A * C) + B * C", "(x * A + y) * C"),
    _line("(x + A) * B + C", "x * B + (A * B + C)", "(x + A) * B + y"),
    _line("(C - x) + D", "(C + D) - x", "(y - x) + D"),
    _line("C - (x + A)", "(C - A) - x", "y - (x + A)"),
    _line("C - (D - x)", "x + (C - D)", "y - (D - x)"),
    _line("C / x * D", "(C * D) / x", "C / x * y"),
    _line("C / (D / x)", "x * (C / D)", "C / (y / x)"),
    _line("C / (x * D)", "(C / D) / x", "C / (x * y)"),
)


def _negative(match: Match) -> Mapping[str, Any]:
    return {"N": -match.known("C")}


def _inverse(match: Match) -> Mapping[str, Any] | bool:
    """1/C, when it is a number of full precision: the product is then within two steps of the quotient."""
    divisor = match.known("C")
    limits = np.finfo(divisor.dtype) if divisor.dtype.kind == "f" else None
    if limits is None or not divisor.size or not np.all(np.isfinite(divisor)) or not np.all(divisor):
        return False
    with np.errstate(over="ignore"):
        inverse = (1 / divisor).astype(divisor.dtype)
    size = np.abs(inverse)
    return {"R": inverse} if size.min() >= limits.tiny and size.max() <= limits.max else False


def _one_way(
    find: str,
    give: str,
    refuse: str,
    *,
    precondition: str = ALWAYS,
    domain: tuple[float, float] = POSITIVE,
    **more: Any,
) -> Rule:
    return formula(
        f"{find} is {give}",
        Family.CANONICAL,
        find,
        give,
        source="one form of several",
        precondition=precondition,
        domain=domain,
        refuses=(Example(refuse, domain=domain), *more.pop("refuses", ())),
        **more,
    )


SIGNS = (
    _one_way("x - C", "x + N", "C - x", when=_negative),
    _one_way("(-x) * C", "x * N", "(-x) * y", when=_negative),
    _one_way("-(x * C)", "x * N", "-(x * y)", when=_negative),
)

QUOTIENTS = (
    _one_way(
        "x / C",
        "x * R",
        "C / x",
        precondition="1/C is finite and normal; within two units in the last place",
        when=_inverse,
        refuses=(Example("x / C", {"C": 0.0}), Example("x / C", {"C": 3e38}), Example("x / C", {"C": 1e-40})),
    ),
    _one_way("1 / x", "Reciprocal(x)", "2 / x"),
)

POWERS = (
    _one_way("x ** 2", "x * x", "x ** 2.5", domain=SQUARE),
    _one_way("x ** 0.5", "Sqrt(x)", "x ** 0.25", precondition="except at −∞, where the root is NaN"),
    _one_way("x ** 1.5", "x * Sqrt(x)", "x ** 2.5", precondition="except at −∞, where the root is NaN"),
    _one_way("x ** 3", "x * (x * x)", "x ** 5", domain=SQUARE),
    _one_way("x ** 4", "Mul(x * x, x * x)", "x ** 5", domain=SQUARE),
    _one_way("x ** -1", "Reciprocal(x)", "x ** -4"),
    _one_way("x ** -2", "Reciprocal(x * x)", "x ** -4"),
    _one_way("x ** -0.5", "Reciprocal(Sqrt(x))", "x ** -0.25"),
)

ROWS: tuple[Rule, ...] = (*CHAINS, *LINES, *SIGNS, *QUOTIENTS, *POWERS)
