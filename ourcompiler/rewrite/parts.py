"""Parts of a value: slices, splits and joins that come to one, or to none."""

from collections.abc import Callable, Sequence

from ourcompiler.ir.graph import Node
from ourcompiler.ir.index_map import roll
from ourcompiler.ops.table import axis_of
from ourcompiler.rewrite.rule import ALWAYS, Example, Family, Replaced, Rule
from ourcompiler.rewrite.site import Site

SOURCE = "SmartMem section 3.2: chains of layout operators"


def _split(site: Site) -> Replaced | None:
    """All in one part, or one part of which alone is read."""
    node, x = site.node, site.node.inputs[0]
    if len(node.outputs) == 1:
        return {node.output: x}
    read = [number for number, name in enumerate(node.outputs) if site.network.read_count(name)]
    if len(read) != 1:
        return None
    start = sum(node["sizes"][: read[0]])
    axis = axis_of(node["axis"], site.type(x).rank)
    return {node.outputs[read[0]]: _sliced(site, x, axis, start, node["sizes"][read[0]])}


def _sliced(site: Site, x: str, axis: int, start: int, size: int) -> str:
    """A part of the value along one axis, which may be all of it."""
    shape = site.shape(x)
    if size == shape[axis]:
        return x
    starts = tuple(start if number == axis else 0 for number in range(len(shape)))
    part = (*shape[:axis], size, *shape[axis + 1 :])
    return site.one("Slice", x, starts=starts, steps=(1,) * len(shape), shape=part)


Piece = tuple[str, int, int]
"""A value, where along an axis a part of it begins, and its size."""


def _piece(site: Site, value: str, axis: int) -> Piece:
    node, shape = site.maker(value), site.shape(value)
    if node is not None and node.op == "Split" and axis_of(node["axis"], len(shape)) == axis:
        number = node.outputs.index(value)
        return node.inputs[0], sum(node["sizes"][:number]), node["sizes"][number]
    if node is not None and node.op == "Slice" and all(step == 1 for step in node["steps"]):
        source = site.shape(node.inputs[0])
        if all(
            size == whole or number == axis
            for number, (size, whole) in enumerate(zip(shape, source, strict=True))
        ):
            return node.inputs[0], node["starts"][axis], shape[axis]
    return value, 0, shape[axis]


def _concat(site: Site) -> Replaced | None:
    """One operand; operands that are joined already; parts of a value that follow one another, or all its
    parts.
    """
    node, values = site.node, list(site.node.inputs)
    axis = axis_of(node["axis"], len(site.shape(node.output)))
    if len(values) == 1:
        return {node.output: values[0]}
    flat = [inner for one in values for inner in _joined(site, one, axis)]
    pieces = [_piece(site, one, axis) for one in flat]
    if all(piece[0] == one for piece, one in zip(pieces, flat, strict=True)):
        return {node.output: site.one("Concat", *flat, axis=axis)} if len(flat) > len(values) else None
    if len({source for source, _, _ in pieces}) == 1:
        return {node.output: _rejoined(site, pieces, axis)}
    merged = _merged(pieces)
    if len(merged) == len(values):
        return None
    parts = [_sliced(site, source, axis, start, size) for source, start, size in merged]
    return {node.output: site.one("Concat", *parts, axis=axis)}


def _joined(site: Site, value: str, axis: int) -> Sequence[str]:
    inner = site.made_by(value, "Concat")
    is_same = inner is not None and axis_of(inner["axis"], len(site.shape(value))) == axis
    return inner.inputs if inner is not None and is_same else (value,)


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Parts that follow one another are one."""
    found: list[Piece] = []
    for source, start, size in pieces:
        if found and found[-1][0] == source and found[-1][1] + found[-1][2] == start:
            found[-1] = (source, found[-1][1], found[-1][2] + size)
        else:
            found.append((source, start, size))
    return found


def _rejoined(site: Site, pieces: Sequence[Piece], axis: int) -> str:
    """Parts of one value: itself, a slice, a roll, or elements by a table."""
    source, first, _ = pieces[0]
    table = [place for _, start, size in pieces for place in range(start, start + size)]
    whole = site.shape(source)[axis]
    if table == list(range(first, first + len(table))):
        return _sliced(site, source, axis, first, len(table))
    if table == [(first + place) % whole for place in range(whole)]:
        return site.one("View", source, map=roll(site.shape(source), axis, -first))
    return site.one("Take", source, axis=axis, table=tuple(table), table_shape=(len(table),))


def _split_of_split(site: Site) -> Replaced | None:
    """A part of a split that is split again, along the same axis: all parts at once."""
    node, value = site.node, site.node.inputs[0]
    outer = site.made_by(value, "Split")
    if outer is None:
        return None
    rank = site.type(value).rank
    axis, place = axis_of(node["axis"], rank), outer.outputs.index(value)
    if axis_of(outer["axis"], rank) != axis:
        return None
    names = (*outer.outputs[:place], *node.outputs, *outer.outputs[place + 1 :])
    sizes = (*outer["sizes"][:place], *node["sizes"], *outer["sizes"][place + 1 :])
    parts = site.add("Split", outer.inputs, axis=axis, sizes=sizes)
    return dict(zip(names, parts, strict=True))


def _slices(site: Site) -> Replaced | None:
    """Slices along one axis that leave nothing out and overlap nowhere are a split."""
    x = site.node.inputs[0]
    readers = [site.network.nodes[key] for key in site.network.readers.get(x, ())]
    for axis, whole in enumerate(site.shape(x)):
        if site.node["starts"][axis] or not _cuts(site, site.node, axis):
            continue
        found = sorted(
            (node["starts"][axis], node.output)
            for node in readers
            if node.op == "Slice" and _cuts(site, node, axis)
        )
        sizes = tuple(site.shape(name)[axis] for _, name in found)
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        if len(found) > 1 and sum(sizes) == whole and starts == [start for start, _ in found]:
            parts = site.add("Split", (x,), axis=axis, sizes=sizes)
            return {name: part for (_, name), part in zip(found, parts, strict=True)}
    return None


def _cuts(site: Site, node: Node, axis: int) -> bool:
    """Whether a slice takes a part along that axis, and everything along the others."""
    shape, source = site.shape(node.output), site.shape(node.inputs[0])
    others = all(
        size == whole or number == axis
        for number, (size, whole) in enumerate(zip(shape, source, strict=True))
    )
    return others and shape[axis] < source[axis] and all(step == 1 for step in node["steps"])


def _take(site: Site) -> Replaced | None:
    """Elements that follow one another are a slice."""
    node, x = site.node, site.node.inputs[0]
    table = list(node["table"])
    if len(node["table_shape"]) != 1 or not table or table != list(range(table[0], table[0] + len(table))):
        return None
    return {node.output: _sliced(site, x, axis_of(node["axis"], site.type(x).rank), table[0], len(table))}


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


PARTS = "Split(x, axis=2, sizes=(1, 2, 1))"
SLICED = {"s": PARTS}

ROWS: tuple[Rule, ...] = (
    _rule(
        "a split of which one part is read",
        ALWAYS,
        ["Split"],
        _split,
        [Example(f"{PARTS}[1]", X), Example("Split(x, axis=1, sizes=(3,))[0]", X)],
        [Example("s[0] * s[2]", X, SLICED)],
    ),
    _rule(
        "parts that are joined",
        "parts of one value, or operands that are joined along the same axis",
        ["Concat"],
        _concat,
        [
            Example("Concat(x, axis=1)", X),
            Example("Concat(s[0], s[1], s[2], axis=2)", X, SLICED),
            Example("Concat(s[1], s[2], axis=2)", X, SLICED),
            Example("Concat(s[2], s[0], s[1], axis=2)", X, SLICED),
            Example("Concat(s[2], s[1], s[0], axis=2)", X, SLICED),
            Example(f"Concat({_at('x', 1, 3)}, {_at('x', 0, 1)}, axis=2)", X),
            Example(f"Concat({_at('x', 0, 1)}, {_at('x', 1, 2)}, y, axis=2)", WIDE),
            Example("Concat(Concat(x, y, axis=1), x, axis=1)", WIDE),
        ],
        [
            Example("Concat(x, y, axis=1)", WIDE),
            Example("Concat(Concat(x, y, axis=1), Concat(y, x, axis=1), axis=2)", WIDE),
            Example(f"Concat({_at('x', 1, 3)}, y, axis=2)", WIDE),
        ],
    ),
    _rule(
        "a split of a part of a split",
        "along the same axis",
        ["Split"],
        _split_of_split,
        [
            Example("u[0] + u[1]; s[0]; s[2]", X, {**SLICED, "u": "Split(s[1], axis=2, sizes=(1, 1))"}),
            Example(
                "u[1]; s[1]",
                {"x": (4, 3)},
                {"s": "Split(x, axis=0, sizes=(3, 1))", "u": "Split(s[0], axis=0, sizes=(1, 2))"},
            ),
        ],
        [
            Example("u[0]; u[1]; s[0]", X, {**SLICED, "u": "Split(s[1], axis=1, sizes=(1, 2))"}),
            Example("u[0]; u[1]; Exp(s[1])", X, {**SLICED, "u": "Split(s[1], axis=2, sizes=(1, 1))"}),
        ],
    ),
    _rule(
        "slices that are all of a value",
        "along one axis, without gap or overlap",
        ["Slice"],
        _slices,
        [
            Example(f"{_at('x', 0, 1)}; {_at('x', 1, 3)}", X),
            Example(f"{_at('x', 2, 2)} * {_at('x', 0, 2)}; Exp(x)", X),
        ],
        [
            Example(f"{_at('x', 0, 1)}; {_at('x', 2, 2)}", X),
            Example(f"{_at('x', 0, 2)}; {_at('x', 1, 3)}", X),
            Example(f"{_at('x', 0, 2)}; {_at('x', 3, 2, -1)}", X),
        ],
    ),
    _rule(
        "elements that follow one another",
        "the table counts up by one",
        ["Take"],
        _take,
        [
            Example("Take(x, axis=2, table=(1, 2, 3), table_shape=(3,))", X),
            Example("Take(x, axis=1, table=(0, 1, 2), table_shape=(3,))", X),
        ],
        [
            Example("Take(x, axis=2, table=(1, 3), table_shape=(2,))", X),
            Example("Take(x, axis=2, table=(1, 2), table_shape=(1, 2))", X),
            Example("Take(x, axis=2, table=(1,), table_shape=())", X),
        ],
    ),
)
