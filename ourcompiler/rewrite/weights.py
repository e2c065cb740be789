"""Constants beside a product go into its weights: batch normalisation, biases, scales before and after.

A product is a Conv, a ConvTranspose or a MatMul whose weights are known; y = W x + b and y·s + t is
(s W) x + (s b + t).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ourcompiler.ir.graph import ABSENT, Array, Node
from ourcompiler.ops.conv import conv_facts
from ourcompiler.rewrite.rule import UP_TO_ROUNDING, Example, Family, Replaced, Rule
from ourcompiler.rewrite.site import LARGEST_BYTES, Site

SOURCE = "batch normalisation of known statistics is a scale and a shift"
CHANNELS = "the constant varies along the channels only"


def along(site: Site, value: str, shape: tuple[int, ...], axis: int) -> Array | None:
    """A constant that is broadcast to `shape` and varies along one axis at most, as a vector of that axis."""
    array = site.known(value)
    if array is None or array.ndim > len(shape):
        return None
    padded = (1,) * (len(shape) - array.ndim) + array.shape
    axis %= len(shape)
    if any(size != 1 for number, size in enumerate(padded) if number != axis) or padded[axis] not in (
        1,
        shape[axis],
    ):
        return None
    return np.broadcast_to(array.reshape(-1), (shape[axis],))


@dataclass(frozen=True)
class Product:
    """A product with known weights: which axes its weights run along, and how they are scaled."""

    node: Node
    weight: Array
    bias: Array | None
    axis: int
    """Of the channels, in the operand and in the result."""

    @property
    def x(self) -> str:
        """The operand that is not known."""
        return self.node.inputs[0]

    @property
    def group(self) -> int:
        """How many groups of channels there are."""
        return int(self.node.get("group", 1))

    def scaled(self, factors: Array) -> Array:
        """The weights, with each channel of the result times a factor."""
        return WEIGHTS[self.node.op][0](self.weight, factors, self.group)

    def scaled_before(self, factors: Array) -> Array:
        """The weights, with each channel of the operand times a factor."""
        return WEIGHTS[self.node.op][1](self.weight, factors, self.group)

    def of_shift(self, shift: Array) -> Array:
        """What a constant in each channel of the operand adds to each channel of the result."""
        parts = self.scaled_before(shift).astype(np.float64)
        kernel = tuple(range(2, parts.ndim))
        if self.node.op == "MatMul":
            return np.asarray(parts.sum(axis=-2))
        return np.asarray(parts.sum(axis=(1, *kernel)))

    def again(self, site: Site, weight: Array, bias: Array | None, x: str | None = None) -> str:
        """The same product with other weights."""
        dtype = self.weight.dtype
        operands = [x or self.x, site.constant(weight.astype(dtype, copy=False))]
        if self.node.op != "MatMul":
            operands.append(ABSENT if bias is None else site.constant(bias.astype(dtype, copy=False)))
        return site.one(self.node.op, *operands, **dict(self.node.attributes))


Scale = Callable[[Array, Array, int], Array]


def _column(weight: Array, *shape: int) -> tuple[int, ...]:
    return (*shape, *[1] * (weight.ndim - 2))


def _conv_after(weight: Array, factors: Array, group: int) -> Array:
    return np.asarray(weight * factors.reshape(_column(weight, -1, 1)))


def _conv_before(weight: Array, factors: Array, group: int) -> Array:
    parts = weight.reshape(group, -1, *weight.shape[1:])
    return np.asarray(parts * factors.reshape(_column(weight, group, 1, weight.shape[1]))).reshape(
        weight.shape
    )


def _transposed_after(weight: Array, factors: Array, group: int) -> Array:
    return _conv_before(weight, factors, group)


def _transposed_before(weight: Array, factors: Array, group: int) -> Array:
    return _conv_after(weight, factors, group)


def _matmul_after(weight: Array, factors: Array, group: int) -> Array:
    return np.asarray(weight * factors)


def _matmul_before(weight: Array, factors: Array, group: int) -> Array:
    return np.asarray(weight * factors[:, None])


WEIGHTS: Mapping[str, tuple[Scale, Scale]] = {
    "Conv": (_conv_after, _conv_before),
    "ConvTranspose": (_transposed_after, _transposed_before),
    "MatMul": (_matmul_after, _matmul_before),
}
"""How weights are scaled for a scale after and a scale before the product."""
PRODUCTS = frozenset(WEIGHTS)
CONVOLUTIONS = PRODUCTS - {"MatMul"}


def product_of(site: Site, node: Node | None) -> Product | None:
    """The node as a product with known weights."""
    if node is None or node.op not in PRODUCTS or site.known(node.inputs[0]) is not None:
        return None
    weight = site.known(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else ABSENT
    if weight is None or weight.nbytes > LARGEST_BYTES or (bias and site.known(bias) is None):
        return None
    return Product(node, weight, site.known(bias) if bias else None, -1 if node.op == "MatMul" else 1)


def operands_of(site: Site, node: Node | None) -> list[tuple[str, str]]:
    """The two operands of a commutative node, both ways, where the second is known."""
    if node is None:
        return []
    left, right = node.inputs
    return [pair for pair in ((left, right), (right, left)) if site.known(pair[1]) is not None]


def _beside(site: Site, product: Product | None, constant: str, value: str) -> Array | None:
    """The constant in each channel of what the product makes."""
    return None if product is None else along(site, constant, site.shape(value), product.axis)


def _scale_after(site: Site) -> Replaced | None:
    for value, factor in operands_of(site, site.node):
        product = product_of(site, site.made_by(value, *PRODUCTS))
        factors = _beside(site, product, factor, value)
        if product and factors is not None:
            bias = None if product.bias is None else product.bias * factors
            return {site.node.output: product.again(site, product.scaled(factors), bias)}
    return None


def _scale_after_bias(site: Site) -> Replaced | None:
    for value, factor in operands_of(site, site.node):
        added = site.made_by(value, "Add")
        for inner, bias in operands_of(site, added):
            product = product_of(site, site.made_by(inner, "MatMul"))
            factors = _beside(site, product, factor, value)
            if product and factors is not None:
                scaled = product.again(site, product.scaled(factors), None)
                return {site.node.output: site.one("Add", scaled, site.one("Mul", bias, factor))}
    return None


def _shift_after(site: Site) -> Replaced | None:
    for value, shift in operands_of(site, site.node):
        product = product_of(site, site.made_by(value, *CONVOLUTIONS))
        shifts = _beside(site, product, shift, value)
        if product and shifts is not None:
            bias = shifts if product.bias is None else product.bias + shifts
            return {site.node.output: product.again(site, product.weight, bias)}
    return None


def _scale_before(site: Site) -> Replaced | None:
    product = product_of(site, site.node)
    if product is None:
        return None
    for value, factor in operands_of(site, site.made_by(product.x, "Mul")):
        factors = along(site, factor, site.shape(product.x), product.axis)
        if factors is not None and site.shape(value) == site.shape(product.x):
            return {
                site.node.output: product.again(site, product.scaled_before(factors), product.bias, value)
            }
    return None


def _shift_before(site: Site) -> Replaced | None:
    """Where a border of zeros is added the shift is not there: only without one."""
    product = product_of(site, site.node)
    if product is None or any(site.node.get("pads", ())) or site.node.op == "ConvTranspose":
        return None
    for value, shift in operands_of(site, site.made_by(product.x, "Add")):
        shifts = along(site, shift, site.shape(product.x), product.axis)
        if shifts is None or site.shape(value) != site.shape(product.x):
            continue
        more = product.of_shift(shifts)
        if site.node.op == "Conv":
            bias = more if product.bias is None else product.bias + more
            return {site.node.output: product.again(site, product.weight, bias, value)}
        if product.weight.ndim == 2:
            again = product.again(site, product.weight, None, value)
            return {site.node.output: site.one("Add", again, site.like(more, again))}
    return None


def _shift_before_bias(site: Site) -> Replaced | None:
    """(x + t) W + b is x W + (t W + b)."""
    for value, bias in operands_of(site, site.node):
        product = product_of(site, site.made_by(value, "MatMul"))
        if product is None:
            continue
        for inner, shift in operands_of(site, site.made_by(product.x, "Add")):
            shifts = along(site, shift, site.shape(product.x), -1)
            if shifts is None or site.shape(inner) != site.shape(product.x) or product.weight.ndim != 2:
                continue
            again = product.again(site, product.weight, None, inner)
            more = site.one("Add", site.like(product.of_shift(shifts), value), bias)
            return {site.node.output: site.one("Add", again, more)}
    return None


IMAGE = {"x": (1, 4, 5, 6), "W": (6, 4, 3, 3), "B": (6,)}
GROUPED = {"x": (1, 4, 5, 6), "W": (6, 2, 3, 3), "B": (6,)}
SPREAD = {"x": (1, 4, 3, 3), "W": (4, 3, 2, 2), "B": (6,)}
MATRIX = {"x": (2, 5, 4), "W": (4, 3), "B": (3,)}


def _call(op: str, x: str = "x", bias: str = "B", **more: int) -> str:
    """The text of a product, with its attributes."""
    facts: Mapping[str, Any] = conv_facts(2, **more)
    return f"{op}({x}, W, {bias}, {', '.join(f'{name}={value!r}' for name, value in facts.items())})"


CONV, NO_BIAS = _call("Conv", pads=1), _call("Conv", bias="None", pads=1)
TRANSPOSED = _call("ConvTranspose", group=2, strides=2, output_padding=0)
OUT, SPREAD_OUT, IN = (6, 1, 1), (1, 6, 1, 1), (4, 1, 1)


def _example(text: str, shapes: Mapping[str, Any], **more: Any) -> Example:
    return Example(text, {**shapes, **more})


def _rule(
    name: str,
    roots: frozenset[str],
    apply: Any,
    examples: tuple[Example, ...],
    refuses: tuple[Example, ...],
    depth: int,
) -> Rule:
    return Rule(
        name,
        Family.CANONICAL,
        SOURCE,
        f"weights are known, {CHANNELS}; {UP_TO_ROUNDING}",
        roots,
        apply,
        examples,
        refuses,
        depth,
    )


MUL, ADD = frozenset({"Mul"}), frozenset({"Add"})

ROWS: tuple[Rule, ...] = (
    _rule(
        "a scale after a product",
        MUL,
        _scale_after,
        (
            _example(f"{CONV} * S", IMAGE, S=OUT),
            _example(f"{NO_BIAS} * S", IMAGE, S=()),
            _example(f"S * {_call('Conv', group=2, pads=1)}", GROUPED, S=OUT),
            _example(f"{TRANSPOSED} * S", SPREAD, S=SPREAD_OUT),
            _example("(x @ W) * S", MATRIX, S=(3,)),
            _example("(x @ W) * S", {"x": (2, 5, 4), "W": (2, 4, 3)}, S=(1, 1, 3)),
        ),
        (
            _example(f"{CONV} * S", IMAGE, S=(6,)),
            _example(f"{CONV} * s", IMAGE, s=OUT),
            _example("(x @ w) * S", {"x": (5, 4), "w": (4, 3)}, S=(3,)),
            _example("(x @ W) * S", MATRIX, S=(5, 1)),
            Example("y * S; y", {**IMAGE, "S": OUT}, {"y": CONV}),
        ),
        2,
    ),
    _rule(
        "a scale after a product and its bias",
        MUL,
        _scale_after_bias,
        (_example("(x @ W + B) * S", MATRIX, S=(3,)), _example("(B + x @ W) * S", MATRIX, S=())),
        (_example("(x @ W + B) * S", MATRIX, S=(5, 1)), _example("(x @ W + b) * S", MATRIX, S=(3,), b=(3,))),
        3,
    ),
    _rule(
        "a shift after a convolution",
        ADD,
        _shift_after,
        (
            _example(f"{CONV} + T", IMAGE, T=OUT),
            _example(f"{NO_BIAS} + T", IMAGE, T=(1,)),
            _example(f"T + {TRANSPOSED}", SPREAD, T=SPREAD_OUT),
        ),
        (_example(f"{CONV} + T", IMAGE, T=(5, 1)), _example(f"{CONV} + t", IMAGE, t=OUT)),
        2,
    ),
    _rule(
        "a scale before a product",
        PRODUCTS,
        _scale_before,
        (
            _example(_call("Conv", "x * S", pads=1), IMAGE, S=IN),
            _example(_call("Conv", "x * S", pads=1, group=2), GROUPED, S=IN),
            _example(_call("ConvTranspose", "x * S", group=2, output_padding=0), SPREAD, S=IN),
            _example("(S * x) @ W", MATRIX, S=(4,)),
        ),
        (
            _example(_call("Conv", "x * S", pads=1), IMAGE, S=(5, 1)),
            _example("(x * S) @ W", MATRIX, S=(5, 1)),
            _example("(x * S) @ W", {"x": (2, 5, 1), "W": (4, 3)}, S=(4,)),
        ),
        2,
    ),
    _rule(
        "a shift before a product",
        PRODUCTS,
        _shift_before,
        (
            _example(_call("Conv", "x + T"), IMAGE, T=IN),
            _example(_call("Conv", "x + T", bias="None", group=2), GROUPED, T=IN),
            _example("(x + T) @ W", MATRIX, T=(4,)),
        ),
        (
            _example(_call("Conv", "x + T", pads=1), IMAGE, T=IN),
            _example("(x + T) @ W", {"x": (5, 3), "W": (3, 4)}, T=(3,)),
        ),
        2,
    ),
    _rule(
        "a shift before a product with a bias",
        ADD,
        _shift_before_bias,
        (_example("(x + T) @ W + B", {"x": (5, 3), "W": (3, 4), "B": (4,)}, T=(3,)),),
        (_example("(x + T) @ W + B", {"x": (5, 3), "W": (3, 4), "B": (4,)}, T=(5, 1)),),
        3,
    ),
)
