"""Small formulas over tensors, as text: what a rule looks for, what it gives, and what it is tried on.

    x * Sigmoid(x)                     operators by their sign or by the name of their row
    ReduceSum(x, axes=a, keepdims=k)   attributes by keyword; a name there stands for whatever it is
    (x * A) @ B                        names in capitals are known when compiling
    Split(x, axis=0, sizes=(1, 2))[1]  an output by its number

A chain of one associative operator, `x * y * z`, is that operator of all of them, in no order; nested calls,
`Mul(Mul(x, y), z)`, are exactly what they say.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any, Protocol

import numpy as np

from ourcompiler.ir.graph import ABSENT, Array, Attribute

ASSOCIATIVE = frozenset(
    {"Add", "Mul", "Min", "Max", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor"}
)
"""Operators whose operands may be grouped in any way."""
COMMUTATIVE = ASSOCIATIVE | {"Equal"}
"""Operators whose two operands may change places."""
SIGNS: Mapping[type[ast.AST], str] = {
    ast.Add: "Add",
    ast.Sub: "Sub",
    ast.Mult: "Mul",
    ast.Div: "Div",
    ast.Pow: "Pow",
    ast.MatMult: "MatMul",
}


@dataclass(frozen=True, slots=True)
class Name:
    """Whatever stands there; the same everywhere in one formula."""

    name: str

    @property
    def is_known(self) -> bool:
        """Whether it stands for constants only."""
        return self.name.isupper()


@dataclass(frozen=True, slots=True)
class Number:
    """A constant all of whose elements are this number."""

    value: float | bool


@dataclass(frozen=True, slots=True)
class Missing:
    """An operand that is not given."""


@dataclass(frozen=True, slots=True)
class Call:
    """Output `number` of an operator; `label` is the name that `where` gave it."""

    op: str
    operands: tuple["Expression", ...]
    facts: tuple[tuple[str, Any], ...] = ()
    number: int = 0
    label: str = ""


Expression = Name | Number | Missing | Call


def parse(text: str, where: Mapping[str, Expression] | None = None) -> Expression:
    """The formula of a text, with the names of `where` replaced; raises ValueError for what is none."""
    return _expression(ast.parse(text.strip(), mode="eval").body, where or {})


def _expression(tree: ast.AST, where: Mapping[str, Expression]) -> Expression:
    match tree:
        case ast.Name(name):
            return where.get(name, Name(name))
        case ast.Constant(None):
            return Missing()
        case ast.Constant(value) if isinstance(value, bool | int | float):
            return Number(value)
        case ast.UnaryOp(ast.USub(), ast.Constant(value)) if isinstance(value, int | float):
            return Number(-value)
        case ast.UnaryOp(ast.USub(), inner):
            return Call("Neg", (_expression(inner, where),))
        case ast.BinOp(left, sign, right):
            return _chained(SIGNS[type(sign)], _expression(left, where), _expression(right, where), left)
        case ast.Subscript(inner, ast.Constant(number)):
            found = _expression(inner, where)
            assert isinstance(found, Call)
            return replace(found, number=int(str(number)))
        case ast.Call(ast.Name(op), operands, keywords):
            facts = sorted((one.arg or "", _fact(one.value)) for one in keywords)
            return Call(op, tuple(_expression(one, where) for one in operands), tuple(facts))
    raise ValueError(f"{ast.unparse(tree)!r} is no formula")


def _chained(op: str, left: Expression, right: Expression, written: ast.AST) -> Expression:
    """`x * y * z` has three operands: the left side goes on unless it was a name or a call."""
    is_chain = isinstance(written, ast.BinOp) and isinstance(left, Call) and left.op == op
    if op in ASSOCIATIVE and is_chain and isinstance(left, Call) and not left.label:
        return Call(op, (*left.operands, right))
    return Call(op, (left, right))


def _fact(tree: ast.AST) -> Any:
    if isinstance(tree, ast.Name):
        return Name(tree.id)
    if isinstance(tree, ast.Tuple) and any(isinstance(one, ast.Name) for one in tree.elts):
        return tuple(_fact(one) for one in tree.elts)
    return ast.literal_eval(ast.unparse(tree))


def groupings(one: Expression) -> Iterator[Expression]:
    """Every way to put parentheses into the chains of a formula, so that operators have two operands."""
    if not isinstance(one, Call):
        yield one
        return
    for operands in product(*(tuple(groupings(operand)) for operand in one.operands)):
        if one.op in ASSOCIATIVE and len(operands) > 2:
            for tree in _trees(one.op, operands):
                yield replace(tree, label=one.label) if isinstance(tree, Call) else tree
        else:
            yield replace(one, operands=operands)


def _trees(op: str, operands: Sequence[Expression]) -> Iterator[Expression]:
    """Every unordered binary tree over the operands."""
    if len(operands) == 1:
        yield operands[0]
        return
    rest = range(1, len(operands))
    for count in range(len(operands) - 1):
        for chosen in combinations(rest, count):
            left = [operands[0], *(operands[number] for number in chosen)]
            right = [operands[number] for number in rest if number not in chosen]
            for pair in product(tuple(_trees(op, left)), tuple(_trees(op, right))):
                yield Call(op, pair)


def patterns(text: str, where: Mapping[str, str] | None = None) -> tuple[Call, ...]:
    """Every form of a formula that a graph may have; names of `where` stand for formulas of their own, each
    of which may use those before it.
    """
    worlds: list[dict[str, Expression]] = [{}]
    for name, inner in (where or {}).items():
        worlds = [
            {**world, name: replace(form, label=name) if isinstance(form, Call) else form}
            for world in worlds
            for form in groupings(parse(inner, world))
        ]
    found = [form for world in worlds for form in groupings(parse(text, world))]
    return tuple(dict.fromkeys(one for one in found if isinstance(one, Call)))


class Maker(Protocol):
    """Where values can be made: a graph in the making, or the site of a rule."""

    def add(self, op: str, inputs: Sequence[str], **facts: Attribute) -> tuple[str, ...]:
        """A new node; returns the names of its outputs."""

    def constant(self, value: Any) -> str:
        """A value that is known."""


def make(maker: Maker, one: Expression, found: dict[str, Any], dtype: np.dtype[Any]) -> str:
    """Add the nodes of a formula; returns the name of its value.

    `found` says what the names stand for: values by name, arrays, numbers; facts as they are. Labelled parts
    are made once, and are added to it.
    """
    match one:
        case Missing():
            return ABSENT
        case Number(value):
            return maker.constant(np.array(value, dtype))
        case Name(name):
            meant = found[name]
            if not isinstance(meant, str):
                meant = maker.constant(meant if isinstance(meant, np.ndarray) else np.array(meant, dtype))
            return str(meant)
        case Call(label=label, number=number) if part(label, number) in found:
            return str(found[part(label, number)])
    operands = [make(maker, operand, found, dtype) for operand in one.operands]
    while len(operands) > 2 and one.op in ASSOCIATIVE:
        operands[:2] = maker.add(one.op, operands[:2])
    facts = {name: meaning(value, found) for name, value in one.facts}
    outputs = maker.add(one.op, operands, **facts)
    if one.label:
        found |= labelled(one, outputs)
    return outputs[one.number]


def part(label: str, number: int) -> str:
    """How an output of a labelled node is called."""
    return f"{label}[{number}]" if label else ""


def labelled(one: Call, outputs: Sequence[str]) -> dict[str, str]:
    """What the label of a formula stands for, and that of each output."""
    return {one.label: outputs[one.number]} | {part(one.label, n): name for n, name in enumerate(outputs)}


def meaning(value: Any, found: Mapping[str, Any]) -> Any:
    """What an attribute is, with names replaced."""
    if isinstance(value, Name):
        return found[value.name]
    if isinstance(value, tuple):
        return tuple(meaning(one, found) for one in value)
    return value


def is_number(array: Array) -> bool:
    """Whether all elements are the same one."""
    flat = array.reshape(-1)
    return bool(flat.size) and bool(flat[0] == flat[-1]) and bool(np.all(flat == flat[0]))
