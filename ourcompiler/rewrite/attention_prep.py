"""Before attention is fused: one scale instead of several, one product for queries, keys and values."""

from collections.abc import Callable, Sequence

import numpy as np

from ourcompiler.ir.graph import Array
from ourcompiler.ops.table import axis_of
from ourcompiler.rewrite.rule import UP_TO_ROUNDING, Example, Family, Match, Replaced, Rule, formula
from ourcompiler.rewrite.site import LARGEST_BYTES, Site
from ourcompiler.rewrite.weights import along, operands_of

SOURCE = "softmax(s Q Kᵀ) V: the scale belongs to the smallest of Q, K and Q Kᵀ"


def _are_numbers(match: Match) -> bool:
    return all(match.number(name) is not None for name in "ST" if name in match.found)


Shapes = dict[str, tuple[int, ...]]


def _scale(find: str, give: str, shapes: Shapes, refuse: str, others: Shapes) -> Rule:
    given = {"S": (), "T": (), "p": (0, 2, 1), **shapes}
    return formula(
        f"{find} is {give}",
        Family.ATTENTION,
        find,
        give,
        source=SOURCE,
        precondition=f"S and T are numbers, and fewer elements are multiplied; {UP_TO_ROUNDING}",
        when=_are_numbers,
        given=given,
        refuses=(Example(refuse, given), Example(find, {**given, **others})),
    )


SCORES: Shapes = {"a": (2, 5, 3), "b": (2, 3, 5)}
SCALES = (
    _scale("(a * S) @ (b * T)", "(a * (S * T)) @ b", SCORES, "(a * S) @ (b + T)", {"S": (5, 1)}),
    _scale(
        "(a * S) @ Transpose(b * T, perm=p)",
        "(a * (S * T)) @ Transpose(b, perm=p)",
        {**SCORES, "b": (2, 5, 3)},
        "(a * S) @ Transpose(b + T, perm=p)",
        {"S": (5, 1)},
    ),
    _scale("(a @ b) * S", "(a * S) @ b", SCORES, "(a @ b) + S", {"S": (5,)}),
    _scale("(a @ b) * S", "a @ (b * S)", {"a": (9, 3), "b": (3, 5)}, "(a @ b) + S", {"a": (2, 3)}),
    _scale("(a * S) @ b", "a @ (b * S)", {"a": (9, 3), "b": (3, 5)}, "(a + S) @ b", {"a": (2, 3)}),
    _scale("a @ (b * S)", "(a * S) @ b", {"a": (2, 3), "b": (3, 5)}, "a @ (b + S)", {"a": (9, 3)}),
    _scale("(a * S) @ b", "(a @ b) * S", {"a": (2, 9), "b": (9, 2)}, "(a + S) @ b", {"S": (9,)}),
    _scale("a @ (b * S)", "(a @ b) * S", {"a": (2, 9), "b": (9, 2)}, "a @ (b + S)", {"S": (2,)}),
)


def _one_product(site: Site) -> Replaced | None:
    """Products of one value with several known matrices are one product, and a split."""
    x = site.node.inputs[0]
    readers = [site.network.nodes[key] for key in site.network.readers.get(x, ())]
    ordered = sorted(readers, key=lambda node: site.network.places[node.output])
    found = [
        (node, site.known(node.inputs[1])) for node in ordered if node.op == "MatMul" and node.inputs[0] == x
    ]
    products = [(node, weight) for node, weight in found if weight is not None and weight.ndim == 2]
    if len(products) < 2 or sum(weight.nbytes for _, weight in products) > LARGEST_BYTES:
        return None
    whole = site.one("MatMul", x, site.constant(np.concatenate([weight for _, weight in products], axis=1)))
    sizes = tuple(weight.shape[1] for _, weight in products)
    parts = site.add("Split", (whole,), axis=len(site.shape(whole)) - 1, sizes=sizes)
    return {node.output: part for (node, _), part in zip(products, parts, strict=True)}


def _one_on_parts(site: Site) -> Replaced | None:
    """The same operator with a constant on every part of a split is done once, before it."""
    op = site.node.op
    for value, _ in operands_of(site, site.node):
        split = site.maker(value)
        if split is None or split.op != "Split":
            continue
        rank = site.type(value).rank
        if axis_of(split["axis"], rank) != rank - 1:
            continue
        done = [_with_constant(site, part, op) for part in split.outputs]
        vectors = [one[1] for one in done if one is not None]
        if len(vectors) < len(done) or len(done) < 2:
            return None
        whole = site.one(op, split.inputs[0], site.constant(np.concatenate(vectors)))
        parts = site.add("Split", (whole,), **dict(split.attributes))
        return {one[0]: part for one, part in zip(done, parts, strict=True) if one is not None}
    return None


def _with_constant(site: Site, part: str, op: str) -> tuple[str, Array] | None:
    """What the only reader of a part makes of it, and the constant in each of its last elements."""
    readers = site.network.readers.get(part, {})
    if site.network.read_count(part) != 1 or not readers:
        return None
    reader = site.network.nodes[next(iter(readers))]
    if reader.op != op:
        return None
    shape = site.shape(part)
    for value, constant in operands_of(site, reader):
        vector = along(site, constant, shape, -1)
        if value == part and vector is not None and site.shape(reader.output) == shape:
            return reader.output, vector
    return None


def _rule(
    name: str,
    precondition: str,
    roots: Sequence[str],
    apply: Callable[[Site], Replaced | None],
    fires: Sequence[Example],
    refuses: Sequence[Example],
) -> Rule:
    return Rule(
        name, Family.ATTENTION, SOURCE, precondition, frozenset(roots), apply, tuple(fires), tuple(refuses), 3
    )


THREE = {"x": (2, 5, 4), "A": (4, 6), "B": (4, 6), "C": (4, 3)}
PARTS = {"s": "Split(x, axis=2, sizes=(1, 2, 1))"}
BIASED = {"x": (2, 3, 4), "A": (1,), "B": (2,), "C": (1, 1, 1)}

MERGED = (
    _rule(
        "queries, keys and values in one product",
        f"one value, matrices that are known; {UP_TO_ROUNDING}",
        ["MatMul"],
        _one_product,
        [
            Example("Exp(x @ A); Tanh(x @ B); Abs(x @ C)", THREE),
            Example("Softmax((x @ A) @ Transpose(x @ B, perm=(0, 2, 1)), axis=2) @ (x @ C)", THREE),
        ],
        [
            Example("x @ A; y @ B", {**THREE, "y": (2, 5, 4)}),
            Example("x @ A; x @ b", {**THREE, "b": (4, 6)}),
        ],
    ),
    _rule(
        "one operator on all parts of a split",
        "with a constant along the axis that is split",
        ["Add", "Mul"],
        _one_on_parts,
        [Example("s[0] + A; B + s[1]; s[2] + C", BIASED, PARTS)],
        [
            Example("s[0] + A; s[1] + B; s[2] * C", BIASED, PARTS),
            Example("s[0] + A; s[1] + B; s[2]", BIASED, PARTS),
            Example("s[0] + A; s[1] + B; s[2] + C", {**BIASED, "C": (3, 1)}, PARTS),
        ],
    ),
)

ROWS: tuple[Rule, ...] = (*SCALES, *MERGED)
