"""Finding a formula in a graph, from the node that computes it against the flow of data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ourcompiler.ir.graph import ABSENT, Node
from ourcompiler.ir.types import DType
from ourcompiler.rewrite.expression import (
    COMMUTATIVE,
    Call,
    Expression,
    Missing,
    Name,
    Number,
    labelled,
    part,
)
from ourcompiler.rewrite.site import Site

Found = dict[str, Any]
"""What the names of a formula stand for: values and labelled parts by name, attributes as they are."""

NEAR_ULPS, BFLOAT16_STEP = 8, 2**-7
"""How far a constant of a network may be from the number in a formula: exporters round √2 and 1/√2 apart."""


def matches(site: Site, one: Expression, value: str, found: Found) -> Iterator[Found]:
    """Every way in which the formula is what computes `value`, given what its names stand for already."""
    match one:
        case Missing():
            if value == ABSENT:
                yield found
        case Number(number):
            if is_close(number, site.number(value), site, value):
                yield found
        case Name(name):
            yield from _named(site, one, value, found, name)
        case Call(op, _, _, number, label):
            if part(label, number) in found:
                if found[part(label, number)] == value:
                    yield found
                return
            node = site.maker(value)
            if node is not None and node.op == op and node.outputs[number : number + 1] == (value,):
                yield from _call(site, one, node, found)


def _named(site: Site, one: Name, value: str, found: Found, name: str) -> Iterator[Found]:
    if value == ABSENT:
        return
    if name in found:
        if found[name] == value:
            yield found
    elif not one.is_known or site.known(value) is not None:
        yield {**found, name: value}


def _call(site: Site, one: Call, node: Node, found: Found) -> Iterator[Found]:
    bound = _facts(one, node, found)
    if bound is None or len(node.inputs) > len(one.operands):
        return
    inputs = (*node.inputs, *[ABSENT] * (len(one.operands) - len(node.inputs)))
    orders = [inputs]
    if node.op in COMMUTATIVE and inputs[0] != inputs[1]:
        orders.append(inputs[::-1])
    label = labelled(one, node.outputs) if one.label else {}
    for order in orders:
        for whole in _each(site, one.operands, order, bound):
            yield {**whole, **label} if label else whole


def _each(site: Site, operands: Sequence[Expression], values: Sequence[str], found: Found) -> Iterator[Found]:
    if not operands:
        yield found
        return
    for first in matches(site, operands[0], values[0], found):
        yield from _each(site, operands[1:], values[1:], first)


def _facts(one: Call, node: Node, found: Found) -> Found | None:
    """With the attributes that the formula names; None when one is not what it says."""
    if not one.facts:
        return found
    its: Mapping[str, Any] = dict(node.attributes)
    bound = dict(found)
    for name, wanted in one.facts:
        if isinstance(wanted, Name):
            wanted = bound.setdefault(wanted.name, its[name])
        if its[name] != wanted:
            return None
    return bound


def is_close(wanted: float, found: float | None, site: Site, value: str) -> bool:
    """Whether a constant is a number, as exactly as its element type can say it."""
    if found is None:
        return False
    if found == wanted:
        return True
    dtype = site.type(value).dtype
    return dtype.is_float and bool(abs(found - wanted) <= NEAR_ULPS * epsilon(dtype) * abs(wanted))


def epsilon(dtype: DType) -> float:
    """The relative step between numbers of an element type."""
    return BFLOAT16_STEP if dtype is DType.BF16 else float(np.finfo(dtype.numpy).eps)
