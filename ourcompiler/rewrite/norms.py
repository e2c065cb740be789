"""Normalisation, recognised from what exporters and hand-written models make of it.

The other rules bring its parts into few forms: squares are products, divisions by √ are quotients, sums times
1/n are means. A variance as E[x²] − E[x]², as ONNX's own functions have it, is the same number up to
rounding, in which it loses what the square of the mean has more of digits; its rules have names of their own,
to be switched off.
"""

from collections.abc import Mapping
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ourcompiler.ir.graph import ABSENT, Node
from ourcompiler.rewrite.pattern import epsilon
from ourcompiler.rewrite.rule import (
    POSITIVE,
    UP_TO_ROUNDING,
    Example,
    Family,
    Match,
    Replaced,
    Rule,
    formula,
)
from ourcompiler.rewrite.site import Site
from ourcompiler.rewrite.weights import along, operands_of

SOURCE = "decompositions of PyTorch's and TensorFlow's exporters, and models written by hand"
NORMS = ("LayerNorm", "RMSNorm", "GroupNorm")

MEAN = "ReduceMean({}, axes=a, keepdims=True)"
SQUARES = (
    "ReduceMean({0} * {0}, axes=a, keepdims=True)",
    "ReduceMean({0} ** 2, axes=a, keepdims=True)",
    "(ReduceSumSquare({0}, axes=a, keepdims=True) * R)",
)
"""The mean of the squares; R is 1/n."""
QUOTIENTS = ("{} / Sqrt({} + E)", "{} * Reciprocal(Sqrt({} + E))", "{} * ({} + E) ** -0.5")
DEVIATION = {"m": MEAN.format("x"), "d": "x - m"}
CENTRED = tuple(form.format("d", square.format("d")) for form, square in product(QUOTIENTS, SQUARES))
BY_MOMENTS = tuple(
    form.format("d", f"(ReduceMean({square}, axes=a, keepdims=True) - {mean})")
    for form, square, mean in product(QUOTIENTS, ("x * x", "x ** 2"), ("m * m", "m ** 2"))
)
PLAIN = tuple(form.format("x", square.format("x")) for form, square in product(QUOTIENTS, SQUARES))


def _facts(match: Match) -> dict[str, Any] | None:
    """The number that is added to the variance, if the rest is a mean over whole axes."""
    shape, axes = match.shape("x"), match["a"]
    small = match.number("E")
    if small is None or small < 0:
        return None
    if "R" in match.found and not _is_share(match, prod(shape[axis] for axis in axes)):
        return None
    return {"e": float(small)}


def _is_share(match: Match, count: int) -> bool:
    """Whether R is 1/n."""
    share = match.number("R")
    step = epsilon(match.site.type(match["R"]).dtype)
    return share is not None and abs(share * count - 1) <= 4 * step


def _last_axes(match: Match) -> Mapping[str, Any] | bool:
    facts, rank = _facts(match), len(match.shape("x"))
    first = rank - len(match["a"])
    if facts is None or tuple(match["a"]) != tuple(range(first, rank)):
        return False
    return {**facts, "i": first}


def _other_axes(match: Match) -> Mapping[str, Any] | bool:
    """The axes go to the end and come back."""
    facts, rank, axes = _facts(match), len(match.shape("x")), tuple(match["a"])
    if facts is None or axes == tuple(range(rank - len(axes), rank)):
        return False
    there = (*(axis for axis in range(rank) if axis not in axes), *axes)
    back = tuple(there.index(axis) for axis in range(rank))
    return {**facts, "i": rank - len(axes), "p": there, "q": back}


SMALL = {"E": 1e-5, "R": 0.25}
LAST = {**SMALL, "x": (2, 3, 4), "a": (2,)}
IMAGE = {**SMALL, "x": (2, 4, 3, 3), "a": (1,)}
NOT_A_MEAN = (
    Example(CENTRED[2], {**LAST, "R": 1 / 3}, DEVIATION),
    Example("d / Sqrt(ReduceMean(d * d, axes=(1,), keepdims=True) + E)", LAST, DEVIATION),
    Example("d / (Sqrt(ReduceMean(d * d, axes=a, keepdims=True)) + E)", LAST, DEVIATION),
    Example("d / Sqrt(ReduceMean(d * y, axes=a, keepdims=True) + E)", {**LAST, "y": (2, 3, 4)}, DEVIATION),
)


def _recognised(
    name: str, finds: tuple[str, ...], give: str, when: Any, given: Mapping[str, Any], **more: Any
) -> Rule:
    return formula(
        name,
        Family.NORM,
        finds,
        give,
        source=SOURCE,
        precondition=f"one mean over the same axes, a number added to it; {UP_TO_ROUNDING}",
        when=when,
        given=given,
        **more,
    )


TURNED = "Transpose({}(Transpose(x, perm=p), {}axis=i, epsilon=e), perm=q)"
RECOGNISED = (
    formula(
        "a sum times 1/n is a mean",
        Family.NORM,
        "ReduceSum(x, axes=a, keepdims=k) * R",
        "ReduceMean(x, axes=a, keepdims=k)",
        source=SOURCE,
        precondition=f"R is 1/n; {UP_TO_ROUNDING}",
        when=lambda match: _is_share(match, prod(match.shape("x")[axis] for axis in match["a"])),
        given={**LAST, "k": False},
        refuses=(Example("ReduceSum(x, axes=a, keepdims=True) * R", {**LAST, "R": 1 / 3}),),
    ),
    _recognised(
        "layer normalisation",
        CENTRED,
        "LayerNorm(x, None, None, axis=i, epsilon=e)",
        _last_axes,
        LAST,
        where=DEVIATION,
        examples=(Example(CENTRED[0], {**LAST, "a": (1, 2)}, DEVIATION),),
        refuses=NOT_A_MEAN,
    ),
    _recognised(
        "layer normalisation by moments",
        BY_MOMENTS,
        "LayerNorm(x, None, None, axis=i, epsilon=e)",
        _last_axes,
        LAST,
        where=DEVIATION,
        refuses=(Example("d / Sqrt((ReduceMean(x * x, axes=a, keepdims=True) - m) + E)", LAST, DEVIATION),),
    ),
    _recognised(
        "layer normalisation by moments of other axes",
        BY_MOMENTS,
        TURNED.format("LayerNorm", "None, None, "),
        _other_axes,
        IMAGE,
        where=DEVIATION,
        refuses=(Example(BY_MOMENTS[0], LAST, DEVIATION),),
    ),
    _recognised(
        "layer normalisation of other axes",
        CENTRED,
        TURNED.format("LayerNorm", "None, None, "),
        _other_axes,
        IMAGE,
        where=DEVIATION,
        refuses=(Example(CENTRED[0], LAST, DEVIATION),),
    ),
    _recognised(
        "root mean square normalisation",
        PLAIN,
        "RMSNorm(x, None, axis=i, epsilon=e)",
        _last_axes,
        LAST,
        refuses=(
            Example(PLAIN[2], {**LAST, "R": 1 / 3}),
            Example("x / Sqrt(ReduceMean(x, axes=a, keepdims=True) + E)", LAST, domain=POSITIVE),
        ),
    ),
    _recognised(
        "root mean square normalisation of other axes",
        PLAIN,
        TURNED.format("RMSNorm", "None, "),
        _other_axes,
        IMAGE,
        refuses=(Example(PLAIN[0], LAST),),
    ),
)

INVERSE = tuple(
    form.format(square.format("d"))
    for form, square in product(
        ("G / Sqrt({} + E)", "Reciprocal(Sqrt({} + E)) * G", "({} + E) ** -0.5 * G"), SQUARES
    )
)


def _known_scale(match: Match) -> Mapping[str, Any] | bool:
    """Scale and bias lie along the normalised axes."""
    found = _last_axes(match)
    if not isinstance(found, Mapping):
        return False
    tail = match.shape("x")[found["i"] :]
    scale, bias = (_fitting(match.known(name), tail) for name in "GB")
    return False if scale is None or bias is None else {**found, "s": scale, "b": bias}


def _fitting(array: Any, tail: tuple[int, ...]) -> Any:
    """A constant without its leading axes of one, if it then fits the normalised axes."""
    extra = max(array.ndim - len(tail), 0)
    shape = array.shape[extra:]
    is_within = all(size in (1, whole) for size, whole in zip(reversed(shape), reversed(tail), strict=False))
    return array.reshape(shape) if is_within and prod(array.shape[:extra]) == 1 else None


SPLIT_UP = tuple(
    _recognised(
        f"layer normalisation written as x·i + (B − m·i), form {number}",
        ("x * i + (B - m * i)",),
        "LayerNorm(x, s, b, axis=first, epsilon=e)",
        lambda match: _renamed(_known_scale(match)),
        {**LAST, "G": (4,), "B": (4,)},
        where={**DEVIATION, "i": inverse},
        refuses=(
            Example("x * i + (B - m * i)", {**LAST, "G": (3, 1), "B": (4,)}, {**DEVIATION, "i": inverse}),
        ),
    )
    for number, inverse in enumerate(INVERSE)
)


def _renamed(found: Mapping[str, Any] | bool) -> Mapping[str, Any] | bool:
    """`i` is a part of the formula there."""
    return {**found, "first": found["i"]} if isinstance(found, Mapping) else found


def _norm_under(site: Site, value: str) -> tuple[Node, tuple[int, ...] | None] | None:
    """The normalisation that makes a value, and the order of axes if it is transposed after."""
    node = site.made_by(value, *NORMS, "Transpose")
    if node is None or node.op != "Transpose":
        return None if node is None else (node, None)
    inner = site.made_by(node.inputs[0], *NORMS)
    return None if inner is None else (inner, node["perm"])


def _fits_norm(site: Site, norm: Node, order: tuple[int, ...] | None, value: str) -> Any:
    """A constant beside a normalisation, as its scale or bias would be; None where it does not fit."""
    array, shape = site.known(value), site.shape(norm.output)
    if array is None or array.ndim > len(shape):
        return None
    if order is not None:
        array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape).transpose(np.argsort(order))
    if norm.op == "GroupNorm":
        return along(site, site.constant(array), shape, 1)
    return _fitting(array, shape[norm["axis"] % len(shape) :])


def _operand(node: Node, number: int) -> str:
    return node.inputs[number] if number < len(node.inputs) else ABSENT


def _combined(site: Site, op: str, old: str, new: str) -> str:
    return new if old == ABSENT else site.one(op, old, new)


def _again(site: Site, norm: Node, order: tuple[int, ...] | None, scale: str, bias: str) -> str:
    operands = (norm.inputs[0], scale) if norm.op == "RMSNorm" else (norm.inputs[0], scale, bias)
    value = site.one(norm.op, *operands, **dict(norm.attributes))
    return value if order is None else site.one("Transpose", value, perm=order)


def _scale_after(site: Site) -> Replaced | None:
    for value, factor in operands_of(site, site.node):
        found = _norm_under(site, value)
        array = found and _fits_norm(site, *found, factor)
        if found and array is not None:
            norm, order = found
            new = site.constant(np.ascontiguousarray(array))
            scale, bias = _operand(norm, 1), _operand(norm, 2)
            scale = _combined(site, "Mul", scale, new)
            bias = site.one("Mul", bias, new) if bias else ABSENT
            return {site.node.output: _again(site, norm, order, scale, bias)}
    return None


def _shift_after(site: Site) -> Replaced | None:
    for value, shift in operands_of(site, site.node):
        found = _norm_under(site, value)
        array = found and _fits_norm(site, *found, shift)
        if found and array is not None and found[0].op != "RMSNorm":
            norm, order = found
            new = site.constant(np.ascontiguousarray(array))
            bias = _combined(site, "Add", _operand(norm, 2), new)
            return {site.node.output: _again(site, norm, order, _operand(norm, 1), bias)}
    return None


def _channel_scale(site: Site) -> Replaced | None:
    """Over everything but the channels, with a scale for each channel: a group for each channel."""
    for value, factor in operands_of(site, site.node):
        norm = site.made_by(value, "LayerNorm")
        if norm is None or _operand(norm, 1) or _operand(norm, 2):
            continue
        shape = site.shape(value)
        scale = along(site, factor, shape, 1) if len(shape) > 2 and norm["axis"] % len(shape) == 2 else None
        if scale is not None:
            facts = {"groups": shape[1], "epsilon": norm["epsilon"]}
            one = site.constant(np.ascontiguousarray(scale))
            return {site.node.output: site.one("GroupNorm", norm.inputs[0], one, ABSENT, **facts)}
    return None


def _without_ones(site: Site) -> Replaced | None:
    """A scale of ones and a bias of zeros are not there."""
    node = site.node
    kept = [
        ABSENT if name and site.number(name) == (1.0, 0.0)[number] else name
        for number, name in enumerate(node.inputs[1:])
    ]
    if tuple(kept) == node.inputs[1:]:
        return None
    return {node.output: site.one(node.op, node.inputs[0], *kept, **dict(node.attributes))}


def _reshaped_norm(site: Site) -> Replaced | None:
    """A normalisation between two reshapes: of the last axes, or of groups of channels, without them."""
    norm = site.made_by(site.node.inputs[0], "LayerNorm", "GroupNorm")
    before = site.maker(norm.inputs[0]) if norm else None
    shape = site.shape(site.node.output)
    if norm is None or before is None or before.op != "Reshape":
        return None
    x, inner = site.reshaped(before.inputs[0], shape), site.shape(before.output)
    scale, bias = _operand(norm, 1), _operand(norm, 2)
    if norm.op == "LayerNorm":
        tail, count = inner[norm["axis"] % len(inner) :], 0
        size = prod(tail)
    else:
        tail, size = (), prod(inner[1:]) // norm["groups"]
        count = norm["groups"] if inner[0] == shape[0] and inner[1] == norm["groups"] else 0
    for axis in range(len(shape)):
        if shape[axis:] == tail or (prod(shape[axis:]) == size and not scale and not bias):
            found = site.one("LayerNorm", x, scale, bias, axis=axis, epsilon=norm["epsilon"])
            return {site.node.output: found}
    groups = prod(shape[1:]) // size if shape and size and not prod(shape[1:]) % size else 0
    if len(shape) < 2 or not groups or shape[1] % groups or ((scale or bias) and count != groups):
        return None
    operands = [_for_channels(site, one, shape[1] // groups) for one in (scale, bias)]
    if None in operands:
        return None
    facts = {"groups": groups, "epsilon": norm["epsilon"]}
    return {site.node.output: site.one("GroupNorm", x, *(one or ABSENT for one in operands), **facts)}


def _for_channels(site: Site, value: str, times: int) -> str | None:
    """One number a group, as one a channel."""
    array = site.known(value) if value else None
    if value == ABSENT:
        return ABSENT
    return None if array is None else site.constant(np.repeat(array, times))


def _rule(
    name: str, roots: tuple[str, ...], apply: Any, examples: list[Example], refuses: list[Example]
) -> Rule:
    return Rule(
        name,
        Family.NORM,
        SOURCE,
        f"constants that lie along what is normalised; {UP_TO_ROUNDING}",
        frozenset(roots),
        apply,
        tuple(examples),
        tuple(refuses),
        3,
    )


def _norm(x: str, scale: str = "None", bias: str = "None", axis: int = 2) -> str:
    return f"LayerNorm({x}, {scale}, {bias}, axis={axis}, epsilon=1e-05)"


def _group(x: str, groups: int, scale: str = "None", bias: str = "None") -> str:
    return f"GroupNorm({x}, {scale}, {bias}, groups={groups}, epsilon=1e-05)"


ROW, PICTURE = {"x": (2, 3, 4)}, {"x": (2, 4, 3, 3)}
RMS = "RMSNorm(x, {}, axis=2, epsilon=1e-05)"
CHANNEL_FIRST = f"Transpose({_norm('Transpose(x, perm=(0, 2, 3, 1))', axis=3)}, perm=(0, 3, 1, 2))"
IN_GROUPS = "Reshape({}, shape=(2, 4, 3, 3))"

BESIDE = (
    _rule(
        "a scale after a normalisation",
        ("Mul",),
        _scale_after,
        [
            Example(f"{_norm('x')} * S", {**ROW, "S": (4,)}),
            Example(f"S * {_norm('x', 'A', 'B')}", {**ROW, "A": (4,), "B": (4,), "S": (1, 1, 4)}),
            Example(f"{RMS.format('None')} * S", {**ROW, "S": ()}),
            Example(f"{_group('x', 2)} * S", {**PICTURE, "S": (4, 1, 1)}),
            Example(f"{CHANNEL_FIRST} * S", {**PICTURE, "S": (4, 1, 1)}),
        ],
        [
            Example(f"{_norm('x')} * S", {**ROW, "S": (3, 1)}),
            Example(f"{_norm('x')} * s", {**ROW, "s": (4,)}),
            Example(f"{_group('x', 2)} * S", {**PICTURE, "S": (3,)}),
        ],
    ),
    _rule(
        "a shift after a normalisation",
        ("Add",),
        _shift_after,
        [
            Example(f"{_norm('x', 'S')} + B", {**ROW, "S": (4,), "B": (4,)}),
            Example(f"B + {_norm('x', 'None', 'A')}", {**ROW, "A": (4,), "B": (4,)}),
            Example(f"{_group('x', 2)} + B", {**PICTURE, "B": (4, 1, 1)}),
            Example(f"{CHANNEL_FIRST} + B", {**PICTURE, "B": (4, 1, 1)}),
        ],
        [
            Example(f"{_norm('x')} + B", {**ROW, "B": (3, 1)}),
            Example(f"{RMS.format('None')} + B", {**ROW, "B": (4,)}),
        ],
    ),
    _rule(
        "instance normalisation",
        ("Mul",),
        _channel_scale,
        [Example(f"{_norm('x')} * S", {**PICTURE, "S": (4, 1, 1)})],
        [
            Example(f"{_norm('x', axis=1)} * S", {**PICTURE, "S": (4, 1, 1)}),
            Example(f"{_norm('x')} * S", {**PICTURE, "S": (3,)}),
        ],
    ),
    _rule(
        "a scale of ones and a bias of zeros",
        NORMS,
        _without_ones,
        [
            Example(_norm("x", "S", "B"), {**ROW, "S": np.ones(4), "B": np.zeros(4)}),
            Example(RMS.format("S"), {**ROW, "S": np.ones(4)}),
            Example(_group("x", 2, "S", "B"), {**PICTURE, "S": np.ones(4), "B": (4,)}),
        ],
        [Example(_norm("x", "S", "B"), {**ROW, "S": np.zeros(4), "B": np.ones(4)})],
    ),
    _rule(
        "a normalisation between reshapes",
        ("Reshape",),
        _reshaped_norm,
        [
            Example(IN_GROUPS.format(_group("Reshape(x, shape=(2, 2, 18))", 2)), PICTURE),
            Example(
                IN_GROUPS.format(_group("Reshape(x, shape=(2, 2, 18))", 2, "S", "B")),
                {**PICTURE, "S": (2,), "B": (2,)},
            ),
            Example(IN_GROUPS.format(_norm("Reshape(x, shape=(2, 2, 2, 3, 3))")), PICTURE),
            Example(IN_GROUPS.format(_norm("Reshape(x, shape=(4, 18))", axis=1)), PICTURE),
            Example(f"Reshape({_norm('Reshape(x, shape=(6, 4))', axis=1)}, shape=(2, 3, 4))", ROW),
            Example(f"Reshape({_group('Reshape(x, shape=(2, 2, 18))', 2)}, shape=(2, 4, 9))", PICTURE),
        ],
        [
            Example(
                IN_GROUPS.format(_norm("Reshape(x, shape=(4, 18))", "S", axis=1)), {**PICTURE, "S": (18,)}
            ),
            Example(IN_GROUPS.format(_group("Reshape(x, shape=(2, 4, 9))", 2, "S")), {**PICTURE, "S": (4,)}),
            Example(IN_GROUPS.format(_norm("Reshape(x, shape=(6, 12))", axis=1)), PICTURE),
        ],
    ),
)

ROWS: tuple[Rule, ...] = (*RECOGNISED, *SPLIT_UP, *BESIDE)
