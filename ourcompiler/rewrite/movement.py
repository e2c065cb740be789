"""Pairs of operators that move data and come to one, or to none, without an index map; what is left is
eliminated as a whole later (SmartMem section 3.2).
"""

from collections.abc import Callable, Sequence

from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import Pointwise
from ourcompiler.rewrite.ranges import interval
from ourcompiler.rewrite.rule import ALWAYS, Example, Family, Replaced, Rule
from ourcompiler.rewrite.site import Site

SOURCE = "SmartMem section 3.2: chains of layout operators"


def _reshape(site: Site) -> Replaced | None:
    """The last reshape counts, if any."""
    x, shape = site.node.inputs[0], site.shape(site.node.output)
    if site.shape(x) == shape:
        return {site.node.output: x}
    inner = site.maker(x)
    if inner is None or inner.op != "Reshape":
        return None
    return {site.node.output: site.reshaped(inner.inputs[0], shape)}


def _transpose(site: Site) -> Replaced | None:
    """Two orders are one; where only axes of size 1 move, it is a reshape."""
    x, order = site.node.inputs[0], tuple(site.node["perm"])
    inner = site.maker(x)
    if inner is not None and inner.op == "Transpose":
        x, order = inner.inputs[0], tuple(inner["perm"][axis] for axis in order)
    if order == tuple(range(len(order))):
        return {site.node.output: x}
    moving = [axis for axis in order if site.shape(x)[axis] != 1]
    if moving == sorted(moving):
        return {site.node.output: site.reshaped(x, site.shape(site.node.output))}
    if x == site.node.inputs[0]:
        return None
    return {site.node.output: site.one("Transpose", x, perm=order)}


def _slice(site: Site) -> Replaced | None:
    node, x = site.node, site.node.inputs[0]
    starts, steps, shape = node["starts"], node["steps"], tuple(node["shape"])
    if shape == site.shape(x) and all(step == 1 for step in steps):
        return {node.output: x}
    inner = site.maker(x)
    if inner is None or inner.op != "Slice":
        return None
    pairs = list(zip(inner["starts"], inner["steps"], starts, steps, strict=True))
    whole = site.one(
        "Slice",
        inner.inputs[0],
        starts=tuple(first + step * start for first, step, start, _ in pairs),
        steps=tuple(step * further for _, step, _, further in pairs),
        shape=shape,
    )
    return {node.output: whole}


def _pad(site: Site) -> Replaced | None:
    """No border, or two borders of one fill."""
    node, x = site.node, site.node.inputs[0]
    if not any((*node["before"], *node["after"])):
        return {node.output: x}
    inner = site.maker(x)
    if inner is None or inner.op != "Pad" or inner["fill"] != node["fill"]:
        return None
    if min((*node["before"], *node["after"], *inner["before"], *inner["after"])) < 0:
        return None
    facts = {name: tuple(map(sum, zip(node[name], inner[name], strict=True))) for name in ("before", "after")}
    return {node.output: site.one("Pad", inner.inputs[0], **facts, fill=node["fill"])}


def _border(site: Site) -> tuple[str, float, tuple[int, ...]] | None:
    """The value below a spatial border, its fill, and the pads of the window with it."""
    node = site.node
    pad = site.made_by(node.inputs[0], "Pad")
    if pad is None or node.get("ceil"):
        return None
    before, after = tuple(pad["before"]), tuple(pad["after"])
    if any((*before[:2], *after[:2])) or min((*before, *after, *node["pads"])) < 0:
        return None
    pads = tuple(map(sum, zip(node["pads"], (*before[2:], *after[2:]), strict=True)))
    return pad.inputs[0], pad["fill"], pads


def _padded(site: Site) -> Replaced | None:
    """A border goes into the window that reads it."""
    found = _border(site)
    if found is None or not FILLS[site.node.op](site, *found):
        return None
    x, _, pads = found
    facts = {**dict(site.node.attributes), "pads": pads}
    if site.node.op == "AveragePool":
        facts["count_border"] = True
    return {site.node.output: site.one(site.node.op, x, *site.node.inputs[1:], **facts)}


def _zero(site: Site, x: str, fill: float, pads: tuple[int, ...]) -> bool:
    return fill == 0


def _counted(site: Site, x: str, fill: float, pads: tuple[int, ...]) -> bool:
    """Zeros that count: all of the pool's own borders have to count, too."""
    return fill == 0 and (bool(site.node["count_border"]) or not any(site.node["pads"]))


def _least(site: Site, x: str, fill: float, pads: tuple[int, ...]) -> bool:
    """A fill that is never the greatest, wherever a window has an element at all."""
    node, rank = site.node, len(site.node["kernel"])
    reach = [step * (size - 1) + 1 for size, step in zip(node["kernel"], node["dilations"], strict=True)]
    touches = all(pad < reach[number % rank] for number, pad in enumerate(pads))
    return not node["with_places"] and touches and fill <= interval(site.network, x)[0]


FILLS: dict[str, Callable[[Site, str, float, tuple[int, ...]], bool]] = {
    "Conv": _zero,
    "AveragePool": _counted,
    "MaxPool": _least,
}
"""When a border may go into a window."""

BROADCASTING = frozenset(
    row.name for row in OPS.values() if isinstance(row.code, Pointwise) and len(row.samples[0].types) > 1
)


def _expanded_operand(site: Site) -> Replaced | None:
    """What broadcasts needs no operand that is repeated before; matrices keep their last two axes."""
    node, wanted = site.node, site.type(site.node.output)
    for number, value in enumerate(node.inputs):
        inner = site.maker(value)
        if inner is None or inner.op != "Expand":
            continue
        x = inner.inputs[0]
        if node.op == "MatMul" and site.shape(x)[-2:] != site.shape(value)[-2:]:
            continue
        operands = [*node.inputs[:number], x, *node.inputs[number + 1 :]]
        found = site.one(node.op, *operands, **dict(node.attributes))
        if site.type(found) == wanted:
            return {node.output: found}
    return None


def _expand(site: Site) -> Replaced | None:
    x, inner = site.node.inputs[0], site.maker(site.node.inputs[0])
    if site.shape(x) == site.shape(site.node.output):
        return {site.node.output: x}
    if inner is None or inner.op != "Expand":
        return None
    return {site.node.output: site.one("Expand", inner.inputs[0], shape=tuple(site.node["shape"]))}


def _tile(site: Site) -> Replaced | None:
    once = all(count == 1 for count in site.node["repeats"])
    return {site.node.output: site.node.inputs[0]} if once else None


def _rule(
    name: str,
    precondition: str,
    roots: Sequence[str],
    apply: Callable[[Site], Replaced | None],
    fires: Sequence[Example],
    refuses: Sequence[Example],
) -> Rule:
    return Rule(
        name, Family.MOVEMENT, SOURCE, precondition, frozenset(roots), apply, tuple(fires), tuple(refuses), 2
    )


X, WIDE = {"x": (2, 3, 4)}, {"x": (2, 3, 4), "y": (2, 3, 4)}


def _at(x: str, start: int, size: int, step: int = 1) -> str:
    """The text of a slice of the last axis of (2, 3, 4)."""
    return f"Slice({x}, starts=(0, 0, {start}), steps=(1, 1, {step}), shape=(2, 3, {size}))"


def _border_of(x: str, size: int, fill: float = 0.0) -> str:
    return f"Pad({x}, before=(0, 0, {size}, {size}), after=(0, 0, {size}, 0), fill={fill!r})"


CONV = "Conv({}, W, None, strides=(1, 1), dilations=(1, 1), pads=(0, 1, 0, 1), group=1)"
WINDOW = "kernel=(3, 3), strides=(2, 2), dilations=(1, 1), pads=(0, 0, 0, 0), ceil={}"
MEAN = f"AveragePool({{}}, {WINDOW.format(False)}, count_border=False)"
GREATEST = f"MaxPool({{}}, {WINDOW.format(False)}, with_places=False, column_major=False)"
PICTURE = {"x": (1, 2, 6, 6), "W": (3, 2, 3, 3)}

ROWS: tuple[Rule, ...] = (
    _rule(
        "reshape of a reshape",
        ALWAYS,
        ["Reshape"],
        _reshape,
        [
            Example("Reshape(Reshape(x, shape=(6, 4)), shape=(3, 8))", X),
            Example("Reshape(Reshape(x, shape=(6, 4)), shape=(2, 3, 4)) * x", X),
            Example("Reshape(x, shape=(2, 3, 4))", X),
        ],
        [Example("Reshape(Transpose(x, perm=(1, 0, 2)), shape=(6, 4))", X)],
    ),
    _rule(
        "transposition of a transposition",
        ALWAYS,
        ["Transpose"],
        _transpose,
        [
            Example("Transpose(Transpose(x, perm=(1, 2, 0)), perm=(2, 1, 0))", X),
            Example("Transpose(Transpose(x, perm=(1, 2, 0)), perm=(2, 0, 1))", X),
            Example("Transpose(x, perm=(0, 1, 2))", X),
            Example("Transpose(x, perm=(0, 2, 1))", {"x": (2, 1, 4)}),
        ],
        [
            Example("Transpose(x, perm=(0, 2, 1))", X),
            Example("Transpose(Exp(Transpose(x, perm=(1, 0, 2))), perm=(0, 2, 1))", X),
        ],
    ),
    _rule(
        "slice of a slice",
        ALWAYS,
        ["Slice"],
        _slice,
        [
            Example(
                "Slice(s, starts=(1, 0, 2), steps=(1, 2, -2), shape=(1, 2, 2))",
                X,
                {"s": "Slice(x, starts=(0, 2, 1), steps=(1, -1, 1), shape=(2, 3, 3))"},
            ),
            Example("Slice(x, starts=(0, 0, 0), steps=(1, 1, 1), shape=(2, 3, 4))", X),
        ],
        [Example(_at("x", 1, 2), X), Example(_at("x", 3, 4, -1), X)],
    ),
    _rule(
        "a border of a border",
        "both have one fill and none is cut",
        ["Pad"],
        _pad,
        [
            Example(_border_of(_border_of("x", 1), 2), PICTURE),
            Example(_border_of("x", 0), PICTURE),
        ],
        [
            Example(_border_of(_border_of("x", 1), 2, 1.0), PICTURE),
            Example(_border_of(_border_of("x", 2), -1), PICTURE),
        ],
    ),
    _rule(
        "a border that a window can have",
        "zeros for a convolution; zeros that count for a mean; what is never the greatest for a maximum",
        list(FILLS),
        _padded,
        [
            Example(CONV.format(_border_of("x", 1)), PICTURE),
            Example(MEAN.format(_border_of("x", 1)), PICTURE),
            Example(GREATEST.format(_border_of("Relu(x)", 1)), PICTURE),
        ],
        [
            Example(CONV.format(_border_of("x", 1, 0.5)), PICTURE),
            Example(
                CONV.format("Pad(x, before=(0, 1, 1, 1), after=(0, 0, 0, 0), fill=0.0)"),
                {**PICTURE, "x": (1, 1, 6, 6)},
            ),
            Example(
                MEAN.format(_border_of("x", 1)).replace("pads=(0, 0, 0, 0)", "pads=(1, 1, 1, 1)"), PICTURE
            ),
            Example(GREATEST.format(_border_of("x", 1)), PICTURE),
            Example(GREATEST.format(_border_of("Relu(x)", 3)), PICTURE),
            Example(GREATEST.format(_border_of("Relu(x)", 1)).replace("ceil=False", "ceil=True"), PICTURE),
        ],
    ),
    _rule(
        "an operand that is repeated before it is broadcast",
        "the result has the same shape without",
        sorted(BROADCASTING | {"MatMul"}),
        _expanded_operand,
        [
            Example("x * Expand(y, shape=(2, 3, 4))", {**X, "y": (4,)}),
            Example(
                "Where(c, Expand(y, shape=(2, 3, 4)), x)",
                {**X, "y": (3, 1), "c": TensorType(DType.BOOL, (4,))},
            ),
            Example("x @ Expand(y, shape=(2, 4, 5))", {**X, "y": (4, 5)}),
        ],
        [
            Example("x * Expand(y, shape=(2, 3, 4))", {"x": (4,), "y": (3, 1)}),
            Example("x @ Expand(y, shape=(4, 5))", {**X, "y": (1, 5)}),
        ],
    ),
    _rule(
        "an expansion of an expansion",
        ALWAYS,
        ["Expand"],
        _expand,
        [
            Example("Expand(Expand(x, shape=(3, 4)), shape=(2, 3, 4))", {"x": (3, 1)}),
            Example("Expand(x, shape=(2, 3, 4))", X),
        ],
        [Example("Expand(x, shape=(2, 3, 4))", {"x": (3, 1)})],
    ),
    _rule(
        "a tile of one",
        ALWAYS,
        ["Tile"],
        _tile,
        [Example("Tile(x, repeats=(1, 1, 1))", X)],
        [Example("Tile(x, repeats=(1, 2, 1))", X)],
    ),
)
