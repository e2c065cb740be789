"""What a rule must lower: operations, then nodes, then the price of the functions used, then bytes of
intermediate values, then movement and disorder. DNNFusion section 4.2 counts operations, one an element
whatever the function, and so does this.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from math import prod
from typing import NamedTuple

from ourcompiler.ir.graph import Array, Attribute, Graph, Node
from ourcompiler.ir.scalar import Scalar, operand
from ourcompiler.ir.types import TensorType
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import Mapping5, Pointwise, View
from ourcompiler.rewrite.expression import COMMUTATIVE

PRICES: Mapping[str, int] = {
    "div": 4,
    "mod": 4,
    "sqrt": 4,
    "pow": 16,
    **dict.fromkeys(("exp", "expm1", "log", "log1p", "erf", "gelu", "sin", "cos", "tan", "tanh"), 8),
}
"""Scalar functions that are dearer than an addition, about how much."""
POWER_FLOPS = 4
"""Operations that a power of any exponent is counted as: it is a logarithm, a product and an exponential."""
MOVED: Mapping[Mapping5, int] = {Mapping5.REORGANIZE: 1, Mapping5.ONE_TO_ONE: 1}
"""Movement that stays in order, an element; other movement counts twice."""


class Cost(NamedTuple):
    """Compared from left to right."""

    flops: int = 0
    nodes: int = 0
    price: int = 0
    byte_count: int = 0
    disorder: int = 0

    def plus(self, other: "Cost") -> "Cost":
        """Both together."""
        return Cost(*(mine + its for mine, its in zip(self, other, strict=True)))


Types = Mapping[str, TensorType]


def cost_of(node: Node, types: Types, known: Mapping[str, Array]) -> Cost:
    """The cost of one node; constants are not counted as intermediate values."""
    moved = isinstance(OPS[node.op].code, View) if node.op in OPS else False
    values = (
        [] if moved else [*dict.fromkeys(one for one in node.operands if one not in known), *node.outputs]
    )
    return Cost(
        _flops(node, types),
        1,
        _price(node, types),
        sum(types[one].byte_count for one in values),
        _moved(node, types) + _disorder(node, known),
    )


def total(nodes: Iterable[Node], types: Types, known: Mapping[str, Array]) -> Cost:
    """The cost of several nodes."""
    found = Cost()
    for node in nodes:
        found = found.plus(cost_of(node, types, known))
    return found


def graph_cost(graph: Graph) -> Cost:
    """The cost of a network."""
    return total(graph.nodes, graph.types, graph.constants)


def _flops(node: Node, types: Types) -> int:
    if node.body is not None:
        return sum(_flops(inner, node.body.types) for inner in node.body.nodes)
    code = OPS[node.op].code
    if isinstance(code, View):
        return 0
    if isinstance(code, Pointwise):
        return types[node.output].element_count * (POWER_FLOPS if node.op == "Pow" else 1)
    count = TEMPLATES.get(code.name)
    return count(node, types) if count else 0


Count = Callable[[Node, Types], int]

REDUCED = {"ReduceL1": 2, "ReduceL2": 2, "ReduceSumSquare": 2, "ReduceLogSumExp": 2}
"""Reductions that do something to each element first."""


def _read(node: Node, types: Types) -> int:
    return types[node.inputs[0]].element_count


def _reduce(node: Node, types: Types) -> int:
    return REDUCED.get(node.op, 1) * _read(node, types)


def _normalize(node: Node, types: Types) -> int:
    """The mean, the variance, and what is done with them; then scale and bias."""
    return ((1 if node.op == "RMSNorm" else 3) + len(node.operands)) * _read(node, types)


def _matmul(node: Node, types: Types) -> int:
    return 2 * types[node.output].element_count * types[node.inputs[0]].shape[-1]


def _conv(node: Node, types: Types) -> int:
    weight, out = types[node.inputs[1]], types[node.output].element_count
    return out * (2 * prod(weight.shape[1:]) + len(node.operands) - 2)


def _conv_transpose(node: Node, types: Types) -> int:
    weight, out = types[node.inputs[1]], types[node.output].element_count
    return 2 * _read(node, types) * prod(weight.shape[1:]) + out * (len(node.operands) - 2)


def _pool(node: Node, types: Types) -> int:
    return types[node.output].element_count * int(prod(node["kernel"]))


TEMPLATES: Mapping[str, Count] = {
    "reduce": _reduce,
    "softmax": lambda node, types: 3 * _read(node, types),
    "normalize": _normalize,
    "matmul": _matmul,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "pool": _pool,
    "arg_reduce": _read,
    "running": _read,
    "top": lambda node, types: 8 * _read(node, types),
}
"""Operations of a loop nest, by its name; others only move."""


def _price(node: Node, types: Types) -> int:
    row = OPS.get(node.op)
    if row is None or not isinstance(row.code, Pointwise):
        return 0
    return types[node.output].element_count * _pointwise_price(node.op, len(node.inputs), node.attributes)


def _moved(node: Node, types: Types) -> int:
    """Elements that only move; out of order they count twice."""
    row = OPS.get(node.op)
    if row is None or not isinstance(row.code, View):
        return 0
    return sum(types[one].element_count for one in node.outputs) * MOVED.get(row.mapping, 2)


@lru_cache(maxsize=1024)
def _pointwise_price(op: str, count: int, attributes: tuple[tuple[str, Attribute], ...]) -> int:
    code = OPS[op].code
    assert isinstance(code, Pointwise)
    return _scalar_price(code.code(*map(operand, range(count)), **dict(attributes)))


def _scalar_price(one: Scalar) -> int:
    mine = 0 if one.function in ("operand", "literal") else PRICES.get(one.function, 1)
    return mine + sum(_scalar_price(argument) for argument in one.arguments)


def _disorder(node: Node, known: Mapping[str, Array]) -> int:
    """Constants that are read, and 1 for what could be written in the usual order: constants right, x + (−c)
    for x − c, 1/x by name.
    """
    count = sum(one in known for one in node.inputs)
    if len(node.inputs) != 2:
        return count
    left, right = (one in known for one in node.inputs)
    backwards = left and not right and (node.op in COMMUTATIVE or node.op == "Div")
    return count + int(backwards or (node.op == "Sub" and right))
