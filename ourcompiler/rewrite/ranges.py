"""Between which numbers the elements of a value are, NaN apart: for rules that hold for some numbers only."""

import math
from collections.abc import Callable, Mapping
from math import inf

from ourcompiler.ir.graph import Node
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import View
from ourcompiler.rewrite.network import COMPARED_ELEMENTS, Network

Interval = tuple[float, float]
ANYTHING: Interval = (-inf, inf)
NOT_NEGATIVE: Interval = (0.0, inf)
DEPTH = 8
"""How many nodes are asked, one above the other."""
EXP_LIMIT = 700.0

Ask = Callable[[str], Interval]


def interval(network: Network, value: str, depth: int = DEPTH) -> Interval:
    """The least and the greatest number that an element can be."""
    known = network.constants.get(value)
    if known is not None:
        if not known.size or known.size > COMPARED_ELEMENTS or known.dtype.kind not in "fiub":
            return ANYTHING
        return float(known.min()), float(known.max())
    node = network.maker(value)
    if node is None or not depth:
        return ANYTHING
    if node.op in FIXED:
        return FIXED[node.op]
    rule = COMPUTED.get(node.op)
    if rule is not None:
        return rule(node, lambda operand: interval(network, operand, depth - 1))
    if node.op != "View" and node.op in OPS and isinstance(OPS[node.op].code, View) and node.op != "Pad":
        return interval(network, node.inputs[0], depth - 1)
    return ANYTHING


FIXED: Mapping[str, Interval] = {
    **dict.fromkeys(("Sigmoid", "HardSigmoid", "Softmax", "Hardmax"), (0.0, 1.0)),
    **dict.fromkeys(("Tanh", "Erf", "Sin", "Cos", "Sign", "Softsign"), (-1.0, 1.0)),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceSumSquare", "Softplus", "Sqrt"), NOT_NEGATIVE),
    "LogSoftmax": (-inf, 0.0),
}
"""What is bounded whatever it reads."""


def _exp(node: Node, ask: Ask) -> Interval:
    low, high = ask(node.inputs[0])
    return math.exp(min(low, EXP_LIMIT)), math.exp(high) if high < EXP_LIMIT else inf


def _abs(node: Node, ask: Ask) -> Interval:
    low, high = ask(node.inputs[0])
    return (0.0 if low < 0 < high else min(abs(low), abs(high))), max(abs(low), abs(high))


def _relu(node: Node, ask: Ask) -> Interval:
    low, high = ask(node.inputs[0])
    return max(low, 0.0), max(high, 0.0)


def _neg(node: Node, ask: Ask) -> Interval:
    low, high = ask(node.inputs[0])
    return -high, -low


def _add(node: Node, ask: Ask) -> Interval:
    (low, high), (least, most) = map(ask, node.inputs)
    return low + least, high + most


def _sub(node: Node, ask: Ask) -> Interval:
    (low, high), (least, most) = map(ask, node.inputs)
    return low - most, high - least


def _mul(node: Node, ask: Ask) -> Interval:
    if node.inputs[0] == node.inputs[1]:
        low, high = _abs(node, ask)
        return low * low, high * high
    left, right = map(ask, node.inputs)
    ends = [_times(one, other) for one in left for other in right]
    return min(ends), max(ends)


def _times(left: float, right: float) -> float:
    """0 · ∞ is a bound of 0: the ∞ is none of the elements."""
    return 0.0 if not left or not right else left * right


def _div(node: Node, ask: Ask) -> Interval:
    left, (low, _) = map(ask, node.inputs)
    if low < 0:
        return ANYTHING
    return (0.0 if left[0] >= 0 else -inf), (0.0 if left[1] <= 0 else inf)


def _reciprocal(node: Node, ask: Ask) -> Interval:
    low, high = ask(node.inputs[0])
    return (1 / high, 1 / low) if low > 0 else NOT_NEGATIVE if low == 0 else ANYTHING


def _max(node: Node, ask: Ask) -> Interval:
    left, right = map(ask, node.inputs)
    return max(left[0], right[0]), max(left[1], right[1])


def _min(node: Node, ask: Ask) -> Interval:
    left, right = map(ask, node.inputs)
    return min(left[0], right[0]), min(left[1], right[1])


def _clip(node: Node, ask: Ask) -> Interval:
    low, high = ask(node.inputs[0])
    least, most = float(node["low"]), float(node["high"])
    return min(max(low, least), most), min(max(high, least), most)


def _same(node: Node, ask: Ask) -> Interval:
    return ask(node.inputs[0])


def _sum(node: Node, ask: Ask) -> Interval:
    low, high = ask(node.inputs[0])
    return (0.0 if low >= 0 else -inf), (0.0 if high <= 0 else inf)


def _where(node: Node, ask: Ask) -> Interval:
    yes, no = map(ask, node.inputs[1:])
    return min(yes[0], no[0]), max(yes[1], no[1])


def _concat(node: Node, ask: Ask) -> Interval:
    parts = [ask(one) for one in node.inputs]
    return min(low for low, _ in parts), max(high for _, high in parts)


def _pad(node: Node, ask: Ask) -> Interval:
    low, high = ask(node.inputs[0])
    return min(low, float(node["fill"])), max(high, float(node["fill"]))


COMPUTED: Mapping[str, Callable[[Node, Ask], Interval]] = {
    "Exp": _exp,
    "Abs": _abs,
    "Relu": _relu,
    "Neg": _neg,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Reciprocal": _reciprocal,
    "Max": _max,
    "Min": _min,
    "Clip": _clip,
    "Where": _where,
    "Concat": _concat,
    "Pad": _pad,
    "ReduceSum": _sum,
    **dict.fromkeys(("Identity", "ReduceMean", "ReduceMax", "ReduceMin"), _same),
}
"""What is bounded by the bounds of what it reads."""
