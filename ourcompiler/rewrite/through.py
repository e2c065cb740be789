"""Constants after a product that was moved go into its weights: a layer's scale behind a transposition, the
scale of queries behind the split of one projection.

Which channels a constant meets is found by moving it back: what comes out must be one number a channel. Other
parts of a split meet nothing.
"""

from math import prod

import numpy as np

from ourcompiler.ir.graph import Array, Node
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import View, axis_of
from ourcompiler.rewrite.rule import UP_TO_ROUNDING, Example, Family, Replaced, Rule
from ourcompiler.rewrite.site import Site
from ourcompiler.rewrite.weights import CONVOLUTIONS, PRODUCTS, Product, operands_of, product_of

MOVEMENT = frozenset(row.name for row in OPS.values() if isinstance(row.code, View)) - {"Pad", "View"}
"""Operators that show elements of one value, and nothing else."""
NEUTRAL = {"Mul": 1.0, "Add": 0.0}
MOST_ELEMENTS = 1 << 24
"""Larger constants are not moved back."""

Step = tuple[Node, int]
"""A node that moves, and the number of its output that goes on."""


def _through(site: Site) -> Replaced | None:
    for value, constant in operands_of(site, site.node):
        steps, inner = _steps(site, value)
        found = _product_under(site, inner) if steps and site.dtype.is_float else None
        if found is None or site.shape(value) != site.shape(site.node.output):
            continue
        vector = _channels(site, value, constant, steps, inner, found[0].axis)
        if vector is not None:
            return _moved_again(site, steps, _changed(site, vector, *found))
    return None


def _steps(site: Site, value: str) -> tuple[list[Step], str]:
    """The movement that makes a value, last first, and the value that is moved."""
    steps: list[Step] = []
    while (node := site.made_by(value, *MOVEMENT)) is not None:
        steps.append((node, node.outputs.index(value)))
        value = node.inputs[0]
    return steps, value


def _product_under(site: Site, value: str) -> tuple[Product, str] | None:
    """A product that takes the constant, and the bias that was added to it by itself."""
    is_scale = site.node.op == "Mul"
    product = product_of(site, site.made_by(value, *(PRODUCTS if is_scale else CONVOLUTIONS)))
    if product is not None:
        return product, ""
    for inner, bias in operands_of(site, site.made_by(value, "Add")):
        product = product_of(site, site.made_by(inner, "MatMul"))
        if product is not None and site.shape(inner) == site.shape(value):
            return product, bias
    return None


def _channels(
    site: Site, value: str, constant: str, steps: list[Step], moved: str, axis: int
) -> Array | None:
    """The constant in each channel of the product, or None where it is not one number a channel."""
    number, array = site.number(constant), site.known(constant)
    if array is None or prod(site.shape(value)) > MOST_ELEMENTS:
        return None
    found: Array | None = np.asarray(number, array.dtype)
    if number is None:
        found = np.broadcast_to(array, site.shape(value))
    for node, part in steps:
        found = None if found is None else _back(site, node, part, found)
    if found is None:
        return None
    count = site.shape(moved)[axis]
    if not found.ndim:
        return np.full(count, found)
    rows = np.moveaxis(found, axis, -1).reshape(-1, count)
    return rows[0] if bool((rows == rows[0]).all()) else None


def _back(site: Site, node: Node, part: int, array: Array) -> Array | None:
    """What the operand of a node meets, when output `part` meets the array; a number meets everything."""
    if node.op == "Split":
        return _before_split(site, node, part, array)
    if not array.ndim:
        return array
    if node.op == "Transpose":
        return array.transpose(np.argsort(node["perm"]))
    return array.reshape(site.shape(node.inputs[0])) if node.op == "Reshape" else None


def _before_split(site: Site, node: Node, part: int, array: Array) -> Array | None:
    shape = site.shape(node.inputs[0])
    if prod(shape) > MOST_ELEMENTS:
        return None
    whole = np.full(shape, NEUTRAL[site.node.op], array.dtype)
    axis = axis_of(node["axis"], len(shape))
    start = sum(node["sizes"][:part])
    place = [slice(None)] * len(shape)
    place[axis] = slice(start, start + node["sizes"][part])
    whole[tuple(place)] = array
    return whole


def _changed(site: Site, vector: Array, product: Product, bias: str) -> str:
    """The product, with its bias if it has one, times or plus a constant in each channel."""
    if site.node.op == "Mul":
        scaled = None if product.bias is None else product.bias * vector
        whole = product.again(site, product.scaled(vector), scaled)
    elif product.node.op == "MatMul":
        whole = product.again(site, product.weight, None)
    else:
        return product.again(site, product.weight, vector if product.bias is None else product.bias + vector)
    return site.one("Add", whole, site.one(site.node.op, bias, site.constant(vector))) if bias else whole


def _moved_again(site: Site, steps: list[Step], value: str) -> Replaced:
    """The movement of the changed product; other parts of a split take the places of those that were."""
    replaced: dict[str, str] = {}
    for node, part in reversed(steps):
        outputs = site.add(node.op, (value,), **dict(node.attributes))
        others = zip(node.outputs, outputs, strict=True)
        replaced |= {old: new for number, (old, new) in enumerate(others) if number != part}
        value = outputs[part]
    return replaced | {site.node.output: value}


HEADS = "Transpose(Reshape({}, shape=(2, 5, 2, 3)), perm=(0, 2, 1, 3))"
PROJECTED = {"x": (2, 5, 4), "W": (4, 6), "B": (6,)}
PACKED = {
    "t": "Split(Transpose(Reshape(x @ W + B, shape=(2, 5, 3, 2)), perm=(2, 0, 1, 3)), axis=0, sizes=(1, 2))"
}
IMAGE = {"x": (1, 3, 4, 4), "W": (6, 3, 1, 1), "B": (6,)}
FLAT = (
    "Reshape(Conv(x, W, B, strides=(1, 1), dilations=(1, 1), pads=(0, 0, 0, 0), group=1), shape=(1, 6, 16))"
)


def _rule(name: str, root: str, fires: tuple[Example, ...], refuses: tuple[Example, ...]) -> Rule:
    return Rule(
        name,
        Family.CANONICAL,
        "a constant in each channel is one of the product's weights, wherever the channels are moved",
        f"one number a channel, weights that are known; {UP_TO_ROUNDING}",
        frozenset({root}),
        _through,
        fires,
        refuses,
        6,
    )


ROWS: tuple[Rule, ...] = (
    _rule(
        "a scale after a moved product",
        "Mul",
        (
            Example(f"{HEADS.format('x @ W')} * S", {**PROJECTED, "S": (1, 1)}),
            Example(f"{HEADS.format('x @ W + B')} * S", {**PROJECTED, "S": (2, 1, 3)}),
            Example("Transpose(x @ W + B, perm=(0, 2, 1)) * S", {**PROJECTED, "S": (6, 1)}),
            Example(f"S * Transpose({FLAT}, perm=(0, 2, 1))", {**IMAGE, "S": (6,)}),
            Example(
                "Slice(x @ W, starts=(0, 0, 1), steps=(1, 1, 2), shape=(2, 5, 2)) * S", {**PROJECTED, "S": ()}
            ),
            Example("t[0] * S; Exp(t[1])", {**PROJECTED, "S": ()}, PACKED),
            Example("Reshape(t[1], shape=(2, 10, 2)) * S; t[0]", {**PROJECTED, "S": (2, 1, 2)}, PACKED),
        ),
        (
            Example(f"{HEADS.format('x @ W')} * S", {**PROJECTED, "S": (5, 1)}),
            Example(f"{HEADS.format('x @ w')} * S", {"x": (2, 5, 4), "w": (4, 6), "S": ()}),
            Example("t[0] * S; Exp(t[1]) + t[0]", {**PROJECTED, "S": ()}, PACKED),
            Example(f"{HEADS.format('x @ W')} * S", {**PROJECTED, "S": (3, 1, 1, 1, 1)}),
        ),
    ),
    _rule(
        "a shift after a moved product",
        "Add",
        (
            Example(f"Transpose({FLAT}, perm=(0, 2, 1)) + T", {**IMAGE, "T": (6,)}),
            Example(f"{HEADS.format('x @ W + B')} + T", {**PROJECTED, "T": (2, 1, 3)}),
            Example("T + t[0]; Exp(t[1])", {**PROJECTED, "T": (2,)}, PACKED),
        ),
        (
            Example(f"Transpose({FLAT}, perm=(0, 2, 1)) + T", {**IMAGE, "T": (16, 1)}),
            Example(f"{HEADS.format('x @ W')} + T", {**PROJECTED, "T": (2, 1, 3)}),
        ),
    ),
)
