"""What may change places with a reduction, or go into it (DNNFusion section 4.2, the commutative rules): a
factor that does not vary along the reduced axes, a function that never decreases and an extreme, another
reduction.

Printed rules among them: ReduceSum(BitShift(A)) and ReduceProd(Exp(A)). ReduceSum(Log(A)) is not
Log(ReduceProd(A)): the product overflows or vanishes long before the sum does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ourcompiler.ir.graph import Node
from ourcompiler.ir.types import DType
from ourcompiler.ops.reduce import reduced
from ourcompiler.ops.table import axes_of
from ourcompiler.rewrite.algebra import INCREASING, ROUNDED_SUM, UNSIGNED, shift_facts
from ourcompiler.rewrite.rule import (
    POSITIVE,
    SQUARE,
    UP_TO_ROUNDING,
    Example,
    Family,
    Match,
    Replaced,
    Rule,
    formula,
)
from ourcompiler.rewrite.site import Site

SOURCE = "DNNFusion section 4.2, Table 4: commutative rules of reductions"
NESTED = frozenset({"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"})
KEEP, DROP = "axes=(1,), keepdims=True", "axes=(0,), keepdims=False"
CUBE = {"x": (3, 4, 5), "y": (3, 4, 5)}


def _reduced_to(site: Site, op: str, x: str, axes: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """The reduction in that shape, whether it keeps the axes or not."""
    keep = reduced(site.shape(x), axes, True) == shape
    return site.reshaped(site.one(op, x, axes=axes, keepdims=keep), shape)


def _axes(site: Site, node: Node) -> tuple[int, ...]:
    return axes_of(node["axes"], site.type(node.inputs[0]).rank)


def _nested(site: Site) -> Replaced | None:
    """A reduction of a reduction is one over the axes of both."""
    inner = site.made_by(site.node.inputs[0], site.node.op)
    if inner is None:
        return None
    x, first = inner.inputs[0], _axes(site, inner)
    rank = site.type(x).rank
    left = list(range(rank)) if inner["keepdims"] else [axis for axis in range(rank) if axis not in first]
    axes = tuple(sorted({*first, *(left[axis] for axis in _axes(site, site.node))}))
    value = _reduced_to(site, site.node.op, x, axes, site.shape(site.node.output))
    return {site.node.output: value}


def _turned(site: Site) -> Replaced | None:
    """A reduction of a transposed value needs no transposition, or a smaller one after it."""
    inner = site.made_by(site.node.inputs[0], "Transpose")
    if inner is None:
        return None
    order = inner["perm"]
    axes = tuple(sorted(order[axis] for axis in _axes(site, site.node)))
    keep = bool(site.node["keepdims"])
    value = site.one(site.node.op, inner.inputs[0], axes=axes, keepdims=keep)
    left = [axis for axis in order if keep or axis not in axes]
    places = tuple(sorted(left).index(axis) for axis in left)
    if places != tuple(range(len(left))):
        value = site.one("Transpose", value, perm=places)
    return {site.node.output: value}


THROUGH: Mapping[str, frozenset[str]] = {
    "ReduceSum": frozenset({"Mul", "Div"}),
    "ReduceMean": frozenset({"Mul", "Div", "Add", "Sub"}),
    "ReduceMax": frozenset({"Add", "Sub"}),
    "ReduceMin": frozenset({"Add", "Sub"}),
}
"""Operators with a second operand that may be applied after a reduction as well, if it is the same for all
that is folded.
"""


def _outside(site: Site) -> Replaced | None:
    """What is the same along the reduced axes is applied to the result."""
    if not site.dtype.is_float:
        return None
    inner = site.made_by(site.node.inputs[0], *THROUGH[site.node.op])
    if inner is None:
        return None
    left, right = inner.inputs
    pairs = [(left, right)] if inner.op in ("Div", "Sub") else [(left, right), (right, left)]
    axes, shape = _axes(site, site.node), site.shape(inner.output)
    for x, same in pairs:
        padded = (1,) * (len(shape) - site.type(same).rank) + site.shape(same)
        whole = site.shape(x)
        if len(whole) != len(shape) or any(padded[axis] != 1 or whole[axis] != shape[axis] for axis in axes):
            continue
        keep = bool(site.node["keepdims"])
        value = site.one(site.node.op, x, axes=axes, keepdims=keep)
        if not keep and site.type(same).rank:
            same = site.reshaped(same, reduced(padded, axes, False))
        return {site.node.output: site.one(inner.op, value, same)}
    return None


OPPOSITE = {"ReduceMax": "ReduceMin", "ReduceMin": "ReduceMax"}


def _increasing(site: Site) -> Replaced | None:
    """The greatest of f(x) is f of the greatest."""
    inner = site.made_by(site.node.inputs[0], *INCREASING, "Neg")
    if inner is None or not site.dtype.is_float:
        return None
    op = OPPOSITE[site.node.op] if inner.op == "Neg" else site.node.op
    value = site.one(op, inner.inputs[0], **dict(site.node.attributes))
    return {site.node.output: site.one(inner.op, value, **dict(inner.attributes))}


def _rule(
    name: str,
    family: Family,
    precondition: str,
    roots: frozenset[str],
    apply: Callable[[Site], Replaced | None],
    examples: Sequence[Example],
    refuses: Sequence[Example],
) -> Rule:
    return Rule(name, family, SOURCE, precondition, roots, apply, tuple(examples), tuple(refuses), 2)


MOVED = (
    _rule(
        "a reduction of a reduction",
        Family.ASSOCIATIVE,
        UP_TO_ROUNDING,
        NESTED,
        _nested,
        [
            *(Example(f"{op}({op}(x, {DROP}), {DROP})", CUBE) for op in sorted(NESTED)),
            Example(f"ReduceSum(ReduceSum(x, {KEEP}), axes=(2,), keepdims=False)", CUBE),
            Example(f"ReduceMax(ReduceMax(x, {KEEP}), axes=(0, 2), keepdims=True)", CUBE),
        ],
        [Example(f"ReduceSum(ReduceMax(x, {KEEP}), axes=(2,), keepdims=True)", CUBE)],
    ),
    _rule(
        "a reduction of a transposed value",
        Family.COMMUTATIVE,
        UP_TO_ROUNDING,
        NESTED | {"ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"},
        _turned,
        [
            Example("ReduceSum(Transpose(x, perm=(2, 0, 1)), axes=(0,), keepdims=False)", CUBE),
            Example("ReduceMax(Transpose(x, perm=(2, 1, 0)), axes=(0,), keepdims=False)", CUBE),
            Example("ReduceL2(Transpose(x, perm=(1, 2, 0)), axes=(1,), keepdims=True)", CUBE),
        ],
        [Example("Softmax(Transpose(x, perm=(2, 0, 1)), axis=0)", CUBE)],
    ),
    _rule(
        "what is the same for all that is folded",
        Family.DISTRIBUTIVE,
        f"the operand does not vary along the reduced axes; {UP_TO_ROUNDING}",
        frozenset(THROUGH),
        _outside,
        [
            Example(f"ReduceSum(x * s, {KEEP})", {**CUBE, "s": (3, 1, 5)}),
            Example(f"ReduceSum(A * x, {DROP})", {**CUBE, "A": ()}),
            Example(f"ReduceMean(x / s, {DROP})", {**CUBE, "s": (4, 1)}, {}, POSITIVE),
            Example(f"ReduceMean(s + x, {DROP})", {**CUBE, "s": (1, 4, 5)}),
            Example(f"ReduceMax(x - s, {KEEP})", {**CUBE, "s": (5,)}),
            Example(f"ReduceMin(x + s, {KEEP})", {**CUBE, "s": (3, 1, 1)}),
        ],
        [
            Example(f"ReduceSum(x * s, {KEEP})", {**CUBE, "s": (4, 1)}),
            Example(f"ReduceSum(x + s, {KEEP})", {**CUBE, "s": (3, 1, 5)}),
            Example(f"ReduceMax(x * s, {KEEP})", {**CUBE, "s": (3, 1, 5)}),
            Example(f"ReduceSum(s / x, {KEEP})", {**CUBE, "s": (3, 1, 5)}, {}, POSITIVE),
            Example(f"ReduceSum(x * s, {KEEP})", {"x": (3, 1, 5), "s": (4, 1)}),
        ],
    ),
    _rule(
        "the extreme of an increasing function",
        Family.COMMUTATIVE,
        "the function never decreases, or is a change of sign",
        frozenset(OPPOSITE),
        _increasing,
        [
            *(Example(f"ReduceMax({one}(x), {KEEP})", CUBE) for one in INCREASING),
            Example(f"ReduceMin(-x, {DROP})", CUBE),
        ],
        [Example(f"ReduceMax(Sin(x), {KEEP})", CUBE), Example(f"ReduceSum(Exp(x), {KEEP})", CUBE)],
    ),
)


def _same_shape(match: Match) -> bool:
    return match.shape("x") == match.shape("y")


def _is_result(match: Match) -> bool:
    """Whether m does not vary along what is folded."""
    return match.shape("m") == match.site.shape(match.site.node.output)


def _shift_is_same(match: Match) -> bool:
    """Whether the amount of a shift is one for all."""
    return match.known("A").size == 1


def _into(
    family: Family, find: str, give: str, refuse: str, *, precondition: str = UP_TO_ROUNDING, **more: Any
) -> Rule:
    facts = {**CUBE, "m": (3, 1, 5), "a": (1,), "k": True}
    domain = more.pop("domain", SQUARE)
    return formula(
        f"{find} is {give}",
        family,
        find,
        give,
        source=SOURCE,
        precondition=precondition,
        given={**facts, **more.pop("given", {})},
        domain=domain,
        refuses=(Example(refuse, facts, domain=domain), *more.pop("refuses", ())),
        **more,
    )


def _r(op: str, x: str) -> str:
    return f"Reduce{op}({x}, axes=a, keepdims=k)"


INTO = (
    _into(
        Family.COMMUTATIVE,
        _r("Prod", "Exp(x)"),
        f"Exp({_r('Sum', 'x')})",
        _r("Sum", "Exp(x)"),
        precondition=ROUNDED_SUM,
    ),
    _into(Family.COMMUTATIVE, _r("Sum", "x * x"), _r("SumSquare", "x"), _r("Sum", "x * y")),
    _into(Family.COMMUTATIVE, _r("Sum", "Abs(x)"), _r("L1", "x"), _r("Mean", "Abs(x)")),
    _into(Family.COMMUTATIVE, f"Sqrt({_r('SumSquare', 'x')})", _r("L2", "x"), f"Sqrt({_r('L1', 'x')})"),
    _into(
        Family.COMMUTATIVE,
        f"Log({_r('Sum', 'x')})",
        _r("LogSum", "x"),
        f"Log({_r('Mean', 'x')})",
        domain=POSITIVE,
    ),
    _into(
        Family.COMMUTATIVE,
        _r("LogSum", "Exp(x)"),
        _r("LogSumExp", "x"),
        _r("LogSum", "Exp(x) * Exp(y)"),
        precondition="up to rounding; where a power overflows, the new form does not",
    ),
    _into(
        Family.DISTRIBUTIVE,
        f"m + {_r('LogSumExp', 'x - m')}",
        _r("LogSumExp", "x"),
        f"m + {_r('LogSumExp', 'x - y')}",
        precondition="m does not vary along the reduced axes",
        when=_is_result,
    ),
    _into(
        Family.DISTRIBUTIVE,
        f"{_r('Sum', 'x')} + {_r('Sum', 'y')}",
        _r("Sum", "x + y"),
        f"{_r('Sum', 'x')} + {_r('Max', 'y')}",
        precondition="both have one shape",
        when=_same_shape,
        refuses=(
            Example(
                f"{_r('Sum', 'x')} + {_r('Sum', 'y')}", {"x": (3, 4, 5), "y": (3, 2, 5), "a": (1,), "k": True}
            ),
        ),
    ),
    _into(
        Family.ASSOCIATIVE,
        f"Max({_r('Max', 'x')}, {_r('Max', 'y')})",
        _r("Max", "Max(x, y)"),
        f"Max({_r('Max', 'x')}, {_r('Min', 'y')})",
        precondition="both have one shape",
        when=_same_shape,
    ),
    _into(
        Family.ASSOCIATIVE,
        f"Min({_r('Min', 'x')}, {_r('Min', 'y')})",
        _r("Min", "Min(x, y)"),
        f"Min({_r('Min', 'x')}, {_r('Max', 'y')})",
        precondition="both have one shape",
        when=_same_shape,
    ),
    formula(
        "a sum of shifted numbers is their shifted sum",
        Family.COMMUTATIVE,
        f"ReduceSum(BitShift(x, A, {shift_facts('LEFT')}), {KEEP})",
        f"BitShift(ReduceSum(x, {KEEP}), A, {shift_facts('LEFT')})",
        source=SOURCE,
        precondition="shifts to the left by one amount: modulo the width of the type it is a product",
        when=_shift_is_same,
        given={**CUBE, "A": np.array(3, np.uint16), "bits": 16},
        kinds=UNSIGNED,
        domain=(0.0, 9.0),
        refuses=(
            Example(
                f"ReduceSum(BitShift(x, A, {shift_facts('RIGHT')}), {KEEP})",
                {**CUBE, "A": np.array(1, np.uint16), "bits": 16},
                dtype=DType.U16,
            ),
            Example(
                f"ReduceSum(BitShift(x, A, {shift_facts('LEFT')}), {KEEP})",
                {**CUBE, "A": np.array([1, 2, 3, 4, 5], np.uint16), "bits": 16},
                dtype=DType.U16,
            ),
        ),
    ),
)

ROWS: tuple[Rule, ...] = (*MOVED, *INTO)
