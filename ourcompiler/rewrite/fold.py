"""What is known is computed, what changes nothing goes, what is computed twice is computed once."""

import numpy as np

from ourcompiler.ir.types import FLOATS, DType, TensorType
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import Mapping5, View
from ourcompiler.rewrite.expression import COMMUTATIVE
from ourcompiler.rewrite.rule import UP_TO_ROUNDING, Example, Family, Replaced, Rule, formula, usual
from ourcompiler.rewrite.site import Site, fold

NUMBERS = frozenset(DType) - {DType.BOOL}
INTEGERS = NUMBERS - FLOATS
BOOLEANS = frozenset({DType.BOOL})
ANY = frozenset(DType)
ORDINARY = "an operand that leaves the other as it is"
SMALL_VIEW = 1 << 12
"""The NumPy reference of a `View` looks at every element by itself."""


def _fold(site: Site) -> Replaced | None:
    node = site.node
    values = [site.known(one) if one else None for one in node.inputs]
    if node.body is not None or not node.operands:
        return None
    if any(value is None and one for one, value in zip(node.inputs, values, strict=True)):
        return None
    row, types = OPS[node.op], [site.type(one) for one in node.outputs]
    count = sum(one.element_count for one in types)
    repeats = isinstance(row.code, View) and row.mapping is Mapping5.ONE_TO_MANY
    if (repeats and count > site.type(node.inputs[0]).element_count) or (
        node.op == "View" and count > SMALL_VIEW
    ):
        return None
    made = fold(node.op, values, dict(node.attributes), types)
    return {name: site.constant(value) for name, value in zip(node.outputs, made, strict=True)}


FOLD = Rule(
    "operators of constants are computed",
    Family.FOLD,
    "constant folding",
    "the result is at most four times as large as the operands, or 64 KiB, and does not only repeat them",
    None,
    _fold,
    (
        Example("x + Exp(Transpose(A, perm=(1, 0)))", {"x": (130, 140), "A": (140, 130)}),
        Example("x @ (A @ B)", {"x": (2, 150), "A": (150, 160), "B": (160, 150)}),
    ),
    (
        Example("x + Exp(x)"),
        Example("x * Expand(A, shape=(300, 200))", {"x": (300, 200), "A": (200,)}),
        Example("x * (A * B)", {"x": (300, 200), "A": (300, 1), "B": (200,)}),
    ),
    1,
)


def _twin(site: Site) -> Replaced | None:
    twin = site.network.twin(site.node)
    return None if twin is None else dict(zip(site.node.outputs, twin.outputs, strict=True))


TWIN = Rule(
    "equal nodes are one",
    Family.FOLD,
    "common subexpressions",
    "the same operator of the same values with the same attributes",
    None,
    _twin,
    (
        Example("Mul(Exp(x), Sigmoid(Exp(x)))"),
        Example("Split(x, axis=0, sizes=(1, 3))[0] * Split(x, axis=0, sizes=(1, 3))[1]", {"x": (4, 3)}),
        Example("(x * A) / (x * B)", {"A": 2.0, "B": 2.0}),
    ),
    (
        Example("LeakyRelu(x, alpha=0.1) * LeakyRelu(x, alpha=0.2)"),
        Example("Sub(x, y) * Sub(y, x)"),
    ),
    1,
)


def _chosen(site: Site) -> Replaced | None:
    condition, yes, no = site.node.inputs
    found = site.number(condition)
    if yes == no:
        return {site.node.output: yes}
    return None if found is None else {site.node.output: yes if found else no}


CHOSEN = Rule(
    "a choice that is made",
    Family.IDENTITY,
    ORDINARY,
    "the condition is the same everywhere, or both sides are",
    frozenset({"Where"}),
    _chosen,
    (
        Example("Where(C, x, y)", {"C": np.ones((), bool)}),
        Example("Where(C, x, Exp(y))", {"C": np.zeros((1,), bool)}),
        Example("Where(c, x, x)", {"c": TensorType(DType.BOOL, (3,)), "x": (2, 3)}),
    ),
    (
        Example("Where(C, x, y)", {"C": np.array([True, False]), "x": (2,), "y": (2,)}),
        Example("Where(C, x, y)", {"C": np.ones((2, 3), bool), "x": (3,), "y": (3,)}),
    ),
    1,
)

MANTISSA = {DType.BF16: 8, DType.F16: 11, DType.F32: 24, DType.F64: 53}
EXPONENT = {DType.BF16: 8, DType.F16: 5, DType.F32: 8, DType.F64: 11}


def holds_all(wide: DType, narrow: DType) -> bool:
    """Whether every number of one element type is one of the other."""
    if narrow is wide or narrow is DType.BOOL:
        return True
    if wide is DType.BOOL:
        return False
    if narrow.is_float:
        fits = wide.is_float and MANTISSA[wide] >= MANTISSA[narrow] and EXPONENT[wide] >= EXPONENT[narrow]
        return bool(fits)
    bits = 8 * narrow.byte_count - narrow.is_signed
    if wide.is_float:
        return bits <= MANTISSA[wide]
    return 8 * wide.byte_count - wide.is_signed >= bits and wide.is_signed >= narrow.is_signed


def _cast(site: Site) -> Replaced | None:
    source = site.node.inputs[0]
    if site.type(source).dtype is site.dtype:
        return {site.node.output: source}
    inner = site.maker(source)
    if inner is None or inner.op != "Cast":
        return None
    first = inner.inputs[0]
    if not holds_all(site.type(source).dtype, site.type(first).dtype):
        return None
    if site.type(first).dtype is site.dtype:
        return {site.node.output: first}
    return {site.node.output: site.one("Cast", first, to=site.dtype.value)}


CAST = Rule(
    "casts that lose nothing",
    Family.IDENTITY,
    ORDINARY,
    "the type between holds every number of the first",
    frozenset({"Cast"}),
    _cast,
    (
        Example("Cast(x, to='f32')"),
        Example("Cast(Cast(x, to='f64'), to='f32')"),
        Example("Cast(Cast(x, to='i64'), to='f32')", {"x": TensorType(DType.U8, (5,))}),
        Example("Cast(Cast(x, to='f32'), to='f64')", {"x": TensorType(DType.BF16, (5,))}),
    ),
    (
        Example("Cast(Cast(x, to='f16'), to='f32')"),
        Example("Cast(Cast(x, to='i32'), to='f32')"),
        Example("Cast(Cast(x, to='f32'), to='i32')", {"x": TensorType(DType.I32, (5,))}),
    ),
    2,
)


UNCHANGED: tuple[tuple[str, str, frozenset[DType], str], ...] = (
    ("x + 0", "x", NUMBERS, "x + 2"),
    ("x - 0", "x", NUMBERS, "0 - x"),
    ("x * 1", "x", NUMBERS, "x * 2"),
    ("x / 1", "x", NUMBERS, "1 / x"),
    ("x ** 1", "x", NUMBERS, "x ** 2"),
    ("And(x, True)", "x", BOOLEANS, "And(x, False)"),
    ("Or(x, False)", "x", BOOLEANS, "Or(x, True)"),
    ("Xor(x, False)", "x", BOOLEANS, "Xor(x, True)"),
    ("BitwiseOr(x, 0)", "x", INTEGERS, "BitwiseOr(x, 1)"),
    ("BitwiseXor(x, 0)", "x", INTEGERS, "BitwiseXor(x, 1)"),
    ("Identity(x)", "x", ANY, "Exp(x)"),
    ("Neg(Neg(x))", "x", NUMBERS, "Neg(Abs(x))"),
    ("Not(Not(x))", "x", BOOLEANS, "Not(And(x, y))"),
    ("BitwiseNot(BitwiseNot(x))", "x", INTEGERS, "BitwiseNot(x)"),
    ("Abs(Abs(x))", "Abs(x)", NUMBERS, "Abs(Relu(x))"),
    ("Abs(Neg(x))", "Abs(x)", NUMBERS, "Neg(Abs(x))"),
    ("Relu(Relu(x))", "Relu(x)", NUMBERS, "Relu(Neg(Relu(x)))"),
    ("Floor(Floor(x))", "Floor(x)", FLOATS, "Floor(Ceil(x))"),
    ("Ceil(Ceil(x))", "Ceil(x)", FLOATS, "Ceil(Floor(x))"),
    ("Round(Round(x))", "Round(x)", FLOATS, "Round(Floor(x))"),
    ("Min(x, x)", "x", NUMBERS, "Min(x, y)"),
    ("Max(x, x)", "x", NUMBERS, "Max(x, y)"),
    ("And(x, x)", "x", BOOLEANS, "And(x, y)"),
    ("Or(x, x)", "x", BOOLEANS, "Or(x, y)"),
    ("-(x - y)", "y - x", FLOATS, "-(x + y)"),
    ("x - (-y)", "x + y", NUMBERS, "x - Abs(y)"),
    ("x + (-y)", "x - y", NUMBERS, "x + Abs(y)"),
    ("(-x) * (-y)", "x * y", NUMBERS, "(-x) * y"),
    ("(-x) / (-y)", "x / y", FLOATS, "(-x) / y"),
)
"""What is found, what it is, for which elements, and something like it that is not."""

SIMPLE = tuple(
    formula(
        f"{find} is {give}",
        Family.IDENTITY,
        find,
        give,
        source=ORDINARY,
        precondition="the result has the operand's shape",
        kinds=kinds,
        refuses=(Example(refuse, dtype=usual(kinds)),),
    )
    for find, give, kinds, refuse in UNCHANGED
)

RECIPROCALS = formula(
    "1/(1/x) is x",
    Family.IDENTITY,
    "Reciprocal(Reciprocal(x))",
    "x",
    source=ORDINARY,
    precondition=UP_TO_ROUNDING,
    domain=(0.25, 2.0),
    refuses=(Example("Reciprocal(Sqrt(x))", domain=(0.25, 2.0)),),
)


def _bounded(name: str, find: str, fires: str, refuse: str) -> Rule:
    return formula(
        name,
        Family.IDENTITY,
        find,
        "x",
        source="value ranges",
        precondition="x is known to be 0 or more",
        when=lambda match: match.is_within("x", 0.0),
        examples=(Example(fires),),
        refuses=(Example(refuse), Example(find)),
        is_example=False,
    )


BOUNDED = (
    _bounded("|x| is x", "Abs(x)", "Abs(Exp(x))", "Abs(Tanh(x))"),
    _bounded("relu(x) is x", "Relu(x)", "Relu(Sigmoid(x) + 1)", "Relu(Tanh(x))"),
    _bounded("max(x, 0) is x", "Max(x, 0)", "Max(Softmax(x, axis=0), 0)", "Max(x * y, 0)"),
)


def _ordered(site: Site) -> Replaced | None:
    left, right = site.node.inputs
    if site.known(left) is None or site.known(right) is not None:
        return None
    return {site.node.output: site.one(site.node.op, right, left, **dict(site.node.attributes))}


ORDERED = Rule(
    "constants stand right",
    Family.CANONICAL,
    "DNNFusion section 4.2: A ⊙ B = B ⊙ A enables other rules",
    "the operator is commutative",
    COMMUTATIVE,
    _ordered,
    (Example("A * x"), Example("A + x"), Example("Min(A, x)")),
    (
        Example("A - x"),
        Example("A / x"),
        Example("x * A"),
        Example("MatMul(A, x)", {"A": (2, 3), "x": (3, 4)}),
    ),
    1,
)

ROWS: tuple[Rule, ...] = (FOLD, TWIN, CHOSEN, CAST, *SIMPLE, RECIPROCALS, *BOUNDED, ORDERED)
