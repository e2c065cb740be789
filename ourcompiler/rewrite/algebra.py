"""Rules from mathematical properties (DNNFusion section 4.2, Table 4), as families; chains are in
`gather.py`, reductions in `reductions.py`.

Of the printed rules, A ⊙ C + A ⊙ B = (A + B) ⊙ C is wrong: it is A ⊙ (B + C). Those with a square root hold
for operands of 0 or more only (see `gather.py`); those with Exp hold up to overflow, on the side that
overflows less; A + A ⊙ B = A ⊙ (B + 1) loses low bits of a B that is much smaller than 1, as A + A ⊙ B does.
BitShift(ReduceSum(A)) is ReduceSum(BitShift(A)) for shifts to the left only. All hold for floats up to
rounding.

Left out, because they do not lower the cost or not safely: a² − b² = (a + b)(a − b) reads more; √a · √b, a /
(b / c) and (a / b) / c can overflow or vanish between; a ⊙ (1 / a) = 1 hides a division by 0.
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.catalogue import OPS
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

SOURCE = "DNNFusion section 4.2, Table 4, and what follows in the same way"
ASSOCIATIVE, DISTRIBUTIVE, COMMUTATIVE = Family.ASSOCIATIVE, Family.DISTRIBUTIVE, Family.COMMUTATIVE


def _law(
    family: Family,
    find: str | tuple[str, ...],
    give: str,
    *refuses: str,
    precondition: str = UP_TO_ROUNDING,
    examples: tuple[Example, ...] = (),
    given: Mapping[str, Any] | None = None,
    domain: tuple[float, float] = SQUARE,
    **more: Any,
) -> Rule:
    first = find if isinstance(find, str) else find[0]
    return formula(
        f"{first} is {give}",
        family,
        find,
        give,
        source=SOURCE,
        precondition=precondition,
        given=given,
        domain=domain,
        examples=examples,
        refuses=tuple(Example(one, given or {}, domain=domain) for one in refuses),
        **more,
    )


FACTORS = (
    _law(DISTRIBUTIVE, "a * c + a * b", "a * (b + c)", "a * c + d * b", "a * (c + b)"),
    _law(
        DISTRIBUTIVE,
        "a * b - a * c",
        "a * (b - c)",
        "a * b - d * c",
        examples=(Example("t * t - t * c", {}, {"t": "x + y"}),),
    ),
    _law(DISTRIBUTIVE, "a / c + b / c", "(a + b) / c", "a / c + b / d", domain=POSITIVE),
    _law(DISTRIBUTIVE, "a / c - b / c", "(a - b) / c", "c / a - c / b", domain=POSITIVE),
    _law(DISTRIBUTIVE, "a + a * b", "a * (b + 1)", "a + c * b", examples=(Example("a * B + a"),)),
    _law(DISTRIBUTIVE, "a - a * b", "a * (1 - b)", "a - c * b"),
    _law(DISTRIBUTIVE, "a * b - a", "a * (b + -1)", "a * b - c"),
    _law(
        DISTRIBUTIVE,
        ("a * a + a * b * 2 + b * b", "a * (a + b * 2) + b * b"),
        "(a + b) ** 2",
        "a * a + a * b * 3 + b * b",
    ),
    _law(
        DISTRIBUTIVE,
        ("a * a - a * b * 2 + b * b", "a * a + b * b - a * b * 2", "a * (a - b * 2) + b * b"),
        "(a - b) ** 2",
        "a * a - a * b * 2 - b * b",
    ),
)

MATRICES = {"a": (2, 5, 4), "b": (4, 6), "c": (4, 6), "d": (2, 5, 4)}
PRODUCTS = (
    _law(DISTRIBUTIVE, "a @ b + a @ c", "a @ (b + c)", "a @ b + d @ c", given=MATRICES),
    _law(DISTRIBUTIVE, "a @ b - a @ c", "a @ (b - c)", "a @ b - d @ c", given=MATRICES),
    _law(DISTRIBUTIVE, "a @ b + d @ b", "(a + d) @ b", "a @ b + d @ c", given=MATRICES),
    _law(DISTRIBUTIVE, "a @ b - d @ b", "(a - d) @ b", "a @ b - d @ c", given=MATRICES),
    _law(
        ASSOCIATIVE,
        "(a @ b) @ c",
        "a @ (b @ c)",
        "(p @ q) @ r",
        precondition=f"fewer operations; {UP_TO_ROUNDING}",
        given={"a": (9, 2), "b": (2, 9), "c": (9, 3), "p": (3, 9), "q": (9, 2), "r": (2, 9)},
        examples=(Example("(x @ A) @ B", {"x": (2, 3, 8), "A": (8, 8), "B": (8, 8)}),),
    ),
    _law(
        ASSOCIATIVE,
        "a @ (b @ c)",
        "(a @ b) @ c",
        "p @ (q @ r)",
        precondition=f"fewer operations; {UP_TO_ROUNDING}",
        given={"a": (3, 9), "b": (9, 2), "c": (2, 9), "p": (9, 2), "q": (2, 9), "r": (9, 3)},
        examples=(Example("A @ (B @ x)", {"A": (8, 8), "B": (8, 8), "x": (8, 5)}),),
    ),
)

ROUNDED_SUM = "up to the rounding of the sum; where a power overflows or vanishes, the sum is right"


def _not_negative(match: Match) -> bool:
    return match.is_within("x", 0.0)


def _are_small(match: Match) -> bool:
    """Whether r and s are broadcast, both."""
    site = match.site
    whole = site.type(site.node.output).element_count
    return all(site.type(match[name]).element_count < whole for name in "rs")


ROWS_APART = {"a": (3, 4), "r": (3, 1), "s": (3, 1), "b": (3, 4)}
SMALL_FIRST = tuple(
    _law(
        ASSOCIATIVE,
        find,
        "a * (s / r)",
        refuse,
        precondition="r and s are broadcast; up to rounding, unless s / r overflows or vanishes",
        when=_are_small,
        given=ROWS_APART,
        domain=POSITIVE,
    )
    for find, refuse in (("a / r * s", "a / b * s"), ("a * s / r", "a * s / b"))
)
INVERSES = (
    *SMALL_FIRST,
    _law(
        ASSOCIATIVE,
        "a * Reciprocal(b)",
        "a / b",
        "a * Reciprocal(c)",
        precondition="b is as large as the result: else a division an element is dearer than one a row",
        when=lambda match: match.shape("b") == match.site.shape(match.site.node.output),
        given={"a": (3, 4), "b": (3, 4), "c": (3, 1)},
        domain=POSITIVE,
    ),
    _law(ASSOCIATIVE, "a / Reciprocal(b)", "a * b", "Reciprocal(b) / a", domain=POSITIVE),
    _law(ASSOCIATIVE, "Reciprocal(a / b)", "b / a", "Reciprocal(a * b)", domain=POSITIVE),
    _law(ASSOCIATIVE, "Reciprocal(a) / b", "Reciprocal(a * b)", "b / a", domain=POSITIVE),
    _law(
        ASSOCIATIVE, "Exp(a) / Exp(b)", "Exp(a - b)", "Exp(a) / b", precondition=ROUNDED_SUM, domain=POSITIVE
    ),
    _law(ASSOCIATIVE, "Abs(a) / Abs(b)", "Abs(a / b)", "Abs(a) / b", precondition=ALWAYS, domain=POSITIVE),
    _law(ASSOCIATIVE, "Abs(x) * Abs(x)", "x * x", "Abs(x) * Abs(y)", precondition=ALWAYS),
    _law(
        COMMUTATIVE,
        "Log(Exp(x))",
        "x",
        "Log(Sqrt(x))",
        precondition="up to rounding; where the power overflows or vanishes, x is right",
        domain=POSITIVE,
    ),
    _law(
        COMMUTATIVE,
        "Exp(Log(x))",
        "x",
        "Exp(Log(x))",
        precondition="x is known to be 0 or more",
        when=_not_negative,
        is_example=False,
        examples=(Example("Exp(Log(Sigmoid(x)))"),),
        domain=POSITIVE,
    ),
    _law(
        COMMUTATIVE,
        "Sqrt(x * x)",
        "Abs(x)",
        "Sqrt(x * y)",
        precondition="up to rounding; where the square overflows or vanishes, |x| is right",
    ),
    _law(COMMUTATIVE, "Reciprocal(Exp(x))", "Exp(-x)", "Reciprocal(Sqrt(x))", domain=POSITIVE),
    _law(COMMUTATIVE, "Sqrt(Exp(x))", "Exp(x * 0.5)", "Sqrt(Sigmoid(x))"),
    _law(COMMUTATIVE, "Max(x, -x)", "Abs(x)", "Max(x, -y)", precondition=ALWAYS),
)

INCREASING = (
    "Exp",
    "Sigmoid",
    "Tanh",
    "Erf",
    "Relu",
    "Floor",
    "Ceil",
    "Round",
    "Atan",
    "Sinh",
    "Asinh",
    "Softplus",
)
"""Functions that never decrease, as computed too: the greatest argument has the greatest value."""


def _factor_not_negative(match: Match) -> bool:
    return match.is_within("c", 0.0)


def _extremes(op: str, other: str) -> tuple[Rule, ...]:
    return (
        _law(
            DISTRIBUTIVE, f"{op}(a + c, b + c)", f"{op}(a, b) + c", f"{op}(a + c, b + d)", precondition=ALWAYS
        ),
        _law(
            DISTRIBUTIVE, f"{op}(a - c, b - c)", f"{op}(a, b) - c", f"{op}(c - a, c - b)", precondition=ALWAYS
        ),
        _law(DISTRIBUTIVE, f"{op}(-a, -b)", f"-{other}(a, b)", f"{op}(-a, b)", precondition=ALWAYS),
        _law(
            DISTRIBUTIVE,
            f"{op}(a * c, b * c)",
            f"{op}(a, b) * c",
            f"{op}(a * c, b * c)",
            precondition="c is known to be 0 or more",
            when=_factor_not_negative,
            is_example=False,
            examples=(Example(f"{op}(a * s, b * s)", {}, {"s": "Sigmoid(d)"}),),
        ),
    )


EXTREMES = (
    *_extremes("Max", "Min"),
    *_extremes("Min", "Max"),
    *(
        _law(
            COMMUTATIVE,
            f"{op}({function}(a), {function}(b))",
            f"{function}({op}(a, b))",
            f"{op}({function}(a), Sin(b))",
            precondition=f"{function} never decreases",
        )
        for op, function in product(("Max", "Min"), INCREASING)
    ),
)

UNSIGNED = frozenset({DType.U8, DType.U16, DType.U32, DType.U64})


def shift_facts(direction: str) -> str:
    """The text of a shift's attributes; whatever it has besides its direction stays."""
    others = [name for name in OPS["BitShift"].attributes if name != "direction"]
    return ", ".join([f"direction={direction!r}", *(f"{name}={name}" for name in others)])


def _shifts_stay(match: Match) -> bool:
    """Shifting by the width or more is undefined."""
    most = int(match.known("A").max()) + int(match.known("B").max())
    return bool(most < 8 * match.known("A").dtype.itemsize)


def _shift(direction: str) -> Rule:
    way = shift_facts(direction)
    text = f"BitShift(BitShift(x, A, {way}), B, {way})"
    other = f"BitShift(BitShift(x, A, {shift_facts('LEFT')}), B, {shift_facts('RIGHT')})"
    small = {"A": np.array(1, np.uint16), "B": np.array(2, np.uint16), "bits": 16}
    wide = {**small, "B": np.array(15, np.uint16)}
    return formula(
        f"shifts to the {direction.lower()} add up",
        ASSOCIATIVE,
        text,
        f"BitShift(x, A + B, {way})",
        source=SOURCE,
        precondition="together less than the width of the type",
        when=_shifts_stay,
        given=small,
        kinds=UNSIGNED,
        refuses=(Example(text, wide, dtype=DType.U16), Example(other, small, dtype=DType.U16)),
    )


NUMBERS = {"x": TensorType(DType.F32, (2, 3)), "y": TensorType(DType.F32, (2, 3))}
COMPARED = (
    formula(
        "less or equal in two steps",
        DISTRIBUTIVE,
        "Or(Less(x, y), Equal(x, y))",
        "LessOrEqual(x, y)",
        source="a function of the ONNX standard written out",
        given=NUMBERS,
        kinds=frozenset({DType.BOOL}),
        refuses=(Example("Or(Less(x, y), Less(y, x))", NUMBERS),),
    ),
)

ROWS: tuple[Rule, ...] = (
    *COMPARED,
    *FACTORS,
    *PRODUCTS,
    *INVERSES,
    *EXTREMES,
    _shift("LEFT"),
    _shift("RIGHT"),
)
