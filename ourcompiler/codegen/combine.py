"""A small matrix of known numbers times values, as few instructions."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import Apply, Expr, Kind, Let, Name, Number, apply, splat

Row = Sequence[Fraction]


def combined(scope: Scope, matrix: Sequence[Row], values: Sequence[Expr]) -> list[Expr]:
    """The products by name. Two columns, or two rows, that are the same but for signs share their arithmetic:
    a sum and a difference.
    """
    rows, values = _shared_columns(scope, [list(row) for row in matrix], list(values))
    found: dict[int, Expr] = {}
    for first, second in combinations(range(len(rows)), 2):
        if first in found or second in found or not _differ_in_signs(rows[first], rows[second]):
            continue
        pairs = list(zip(rows[first], rows[second], strict=True))
        even = scope.let(_sum(scope, [a if a == b else Fraction(0) for a, b in pairs], values))
        odd = scope.let(_sum(scope, [a if a != b else Fraction(0) for a, b in pairs], values))
        found[first] = scope.let(apply("add", even, odd))
        found[second] = scope.let(apply("sub", even, odd))
    for number, row in enumerate(rows):
        if number not in found:
            found[number] = scope.let(_sum(scope, row, values))
    return [found[number] for number in range(len(rows))]


def arithmetic(matrix: Sequence[Row]) -> int:
    """The instructions that the products take."""
    scope = Scope()
    combined(scope, matrix, [Name(f"x{number}", Kind(DType.F32)) for number in range(len(matrix[0]))])
    return sum(_instructions(one.value) for one in scope.blocks[-1] if isinstance(one, Let))


def _instructions(expr: Expr) -> int:
    return 1 + sum(map(_instructions, expr.arguments)) if isinstance(expr, Apply) else 0


def _differ_in_signs(first: Row, second: Row) -> bool:
    """Whether both are the same but for signs, some equal and some not."""
    pairs = list(zip(first, second, strict=True))
    return all(abs(a) == abs(b) for a, b in pairs) and any(a == b != 0 for a, b in pairs) and first != second


def _shared_columns(
    scope: Scope, rows: list[list[Fraction]], values: list[Expr]
) -> tuple[list[list[Fraction]], list[Expr]]:
    """Instead of two values their sum and their difference, where each row takes one of these."""
    columns = [[row[number] for row in rows] for number in range(len(values))]
    taken: set[int] = set()
    for first, second in combinations(range(len(values)), 2):
        if {first, second} & taken or not _differ_in_signs(columns[first], columns[second]):
            continue
        taken |= {first, second}
        pair = values[first], values[second]
        values[first] = scope.let(apply("add", *pair))
        values[second] = scope.let(apply("sub", *pair))
        for row in rows:
            if row[first] == row[second]:
                row[second] = Fraction(0)
            else:
                row[first], row[second] = Fraction(0), row[first]
    return rows, values


def _sum(scope: Scope, factors: Row, values: Sequence[Expr]) -> Expr:
    """The sum of values times factors; a factor of one costs no multiplication."""
    terms = sorted(
        ((factor, value) for factor, value in zip(factors, values, strict=True) if factor),
        key=lambda one: one[0] != 1,
    )
    kind = values[0].kind
    total: Expr | None = None
    for factor, value in terms:
        if total is None:
            total = value if factor == 1 else apply("mul", value, _number(factor, kind))
        elif abs(factor) == 1:
            total = apply("add" if factor > 0 else "sub", total, value)
        else:
            total = Apply("fma", (value, _number(factor, kind), total), kind)
    return _number(Fraction(0), kind) if total is None else total


def _number(value: Fraction, kind: Kind) -> Expr:
    return splat(Number(float(value), Kind(kind.dtype)), kind.lanes)
