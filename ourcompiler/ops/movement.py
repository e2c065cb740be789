"""Operators that compute nothing: every output element is an element of the operand, found by an index map.

After the elimination of layout transformations none of them is left as a kernel: their maps stand on the
edges of those who read (SmartMem section 3.2).
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ourcompiler.ir import index_map as maps
from ourcompiler.ir.graph import Array, Attribute
from ourcompiler.ir.index_map import IndexMap
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.table import (
    Arrays,
    Facts,
    LayoutClass,
    Mapping5,
    OpDef,
    Sample,
    Types,
    View,
    axis_of,
    f32,
    given,
)

Views = Callable[[TensorType, Facts], Sequence[IndexMap]]
Reference = Callable[[Array, Facts], tuple[Array, ...]]
Cases = Sequence[tuple[tuple[int, ...], dict[str, Attribute]]]

PAD_FILL = 1.5


def _row(
    name: str, mapping: Mapping5, layout: LayoutClass, views: Views, reference: Reference, cases: Cases
) -> OpDef:
    def infer(types: Types, facts: Facts) -> tuple[TensorType, ...]:
        source = given(types, 0)
        shapes = [one.shape for one in views(source, facts)]
        if any(size < 0 for shape in shapes for size in shape):
            raise ValueError(f"{source.shape} would become {' and '.join(map(str, shapes))}")
        return tuple(TensorType(source.dtype, shape) for shape in shapes)

    def compute(arrays: Arrays, facts: Facts) -> tuple[Array, ...]:
        if arrays[0] is None:
            raise ValueError("the operand is missing")
        return reference(arrays[0], facts)

    samples = [Sample((f32(*shape),), facts) for shape, facts in cases]
    shape, facts = cases[0]
    samples += [Sample((TensorType(one, shape),), facts) for one in (DType.I64, DType.BOOL, DType.F16)]
    return OpDef(
        name=name,
        mapping=mapping,
        layout=layout,
        infer=infer,
        reference=compute,
        code=View(views),
        samples=tuple(samples),
        attributes=tuple(facts),
    )


def _one(view: Callable[[tuple[int, ...], Facts], IndexMap]) -> Views:
    return lambda source, facts: (view(source.shape, facts),)


def _reshape(source: tuple[int, ...], facts: Facts) -> IndexMap:
    shape = tuple(facts["shape"])
    if prod(shape) != prod(source):
        raise ValueError(f"{source} has {prod(source)} elements, {shape} has {prod(shape)}")
    return maps.reshape(source, shape)


def _transpose(source: tuple[int, ...], facts: Facts) -> IndexMap:
    order = tuple(facts["perm"])
    if sorted(order) != list(range(len(source))):
        raise ValueError(f"{order} is no order of {len(source)} axes")
    return maps.transpose(source, order)


def _slice(source: tuple[int, ...], facts: Facts) -> IndexMap:
    starts, steps, shape = facts["starts"], facts["steps"], tuple(facts["shape"])
    for size, start, step, count in zip(source, starts, steps, shape, strict=True):
        last = start + step * (count - 1)
        if count and not (0 <= start < size and 0 <= last < size):
            raise ValueError(f"a slice from {start} to {last} of an axis of {size}")
    return maps.window(source, starts, steps, shape)


def _slice_reference(x: Array, facts: Facts) -> tuple[Array, ...]:
    parts = zip(facts["starts"], facts["steps"], facts["shape"], strict=True)
    return (x[np.ix_(*[start + step * np.arange(count) for start, step, count in parts])] if x.ndim else x,)


def _split(source: TensorType, facts: Facts) -> tuple[IndexMap, ...]:
    axis, sizes = axis_of(facts["axis"], source.rank), facts["sizes"]
    if sum(sizes) != source.shape[axis]:
        raise ValueError(f"parts of {tuple(sizes)} of an axis of {source.shape[axis]}")
    found, start = [], 0
    for size in sizes:
        starts = [start if one == axis else 0 for one in range(source.rank)]
        shape = (*source.shape[:axis], size, *source.shape[axis + 1 :])
        found.append(maps.window(source.shape, starts, (1,) * source.rank, shape))
        start += size
    return tuple(found)


def _expand(source: tuple[int, ...], facts: Facts) -> IndexMap:
    shape = tuple(facts["shape"])
    fits = len(shape) >= len(source) and all(
        size in (1, wanted) for size, wanted in zip(reversed(source), reversed(shape), strict=False)
    )
    if not fits:
        raise ValueError(f"{source} cannot be repeated to {shape}")
    return maps.expand(source, shape)


def _tile(source: tuple[int, ...], facts: Facts) -> IndexMap:
    repeats = tuple(facts["repeats"])
    inner = tuple(n for one in zip(repeats, source, strict=True) for n in one)
    kept = tuple(n for size in source for n in (1, size))
    wide = maps.compose(maps.expand(kept, inner), maps.reshape(source, kept))
    assert wide is not None  # no fill on either side
    shape = tuple(count * size for count, size in zip(repeats, source, strict=True))
    whole = maps.compose(maps.reshape(inner, shape), wide)
    assert whole is not None
    return whole


def _take(source: tuple[int, ...], facts: Facts) -> IndexMap:
    axis, table = axis_of(facts["axis"], len(source)), facts["table"]
    if any(not 0 <= one < source[axis] for one in table):
        raise ValueError(f"an index outside of an axis of {source[axis]}")
    return maps.gather(source, axis, table, tuple(facts["table_shape"]))


def _take_reference(x: Array, facts: Facts) -> tuple[Array, ...]:
    table = np.array(facts["table"], np.int64).reshape(facts["table_shape"])
    return (np.take(x, table, axis=facts["axis"]),)


def _pad(source: TensorType, facts: Facts) -> tuple[IndexMap, ...]:
    fill = float(facts["fill"]) if source.dtype.is_float else int(facts["fill"])
    return (maps.pad(source.shape, facts["before"], facts["after"], fill),)


def _pad_reference(x: Array, facts: Facts) -> tuple[Array, ...]:
    before, after = facts["before"], facts["after"]
    cut = tuple(
        slice(max(-low, 0), size - max(-high, 0))
        for low, high, size in zip(before, after, x.shape, strict=True)
    )
    border = [(max(low, 0), max(high, 0)) for low, high in zip(before, after, strict=True)]
    return (np.pad(x[cut], border, constant_values=facts["fill"]),)


def _depth_to_space(source: tuple[int, ...], facts: Facts) -> IndexMap:
    block = facts["block"]
    n, c, h, w = _image(source, block)
    if c % (block * block):
        raise ValueError(f"{c} channels in blocks of {block} × {block}")
    depth = c // (block * block)
    first, order = (
        ((n, block, block, depth, h, w), (0, 3, 4, 1, 5, 2))
        if facts["mode"] == "DCR"
        else ((n, depth, block, block, h, w), (0, 1, 4, 2, 5, 3))
    )
    return _rearranged(source, first, order, (n, depth, h * block, w * block))


def _space_to_depth(source: tuple[int, ...], facts: Facts) -> IndexMap:
    block = facts["block"]
    n, c, h, w = _image(source, block)
    if h % block or w % block:
        raise ValueError(f"an image of {h} × {w} in blocks of {block} × {block}")
    first = (n, c, h // block, block, w // block, block)
    order = (0, 3, 5, 1, 2, 4) if facts["mode"] == "DCR" else (0, 1, 3, 5, 2, 4)
    return _rearranged(source, first, order, (n, c * block * block, h // block, w // block))


def _image(source: tuple[int, ...], block: int) -> tuple[int, ...]:
    if len(source) != 4 or block < 1:
        raise ValueError(f"blocks of {block} of {source}, where an image has 4 axes")
    return source


def _rearranged(
    source: tuple[int, ...], first: tuple[int, ...], order: tuple[int, ...], last: tuple[int, ...]
) -> IndexMap:
    turned = maps.compose(maps.transpose(first, order), maps.reshape(source, first))
    assert turned is not None  # no fill on either side
    whole = maps.compose(maps.reshape(turned.shape, last), turned)
    assert whole is not None
    return whole


def _depth_to_space_reference(x: Array, facts: Facts) -> tuple[Array, ...]:
    """The standard's own formula, with strides instead of axes in the map."""
    n, c, h, w = x.shape
    block, depth = facts["block"], c // facts["block"] ** 2
    out = np.empty((n, depth, h * block, w * block), x.dtype)
    for row in range(block):
        for column in range(block):
            place = row * block + column
            part = (
                x[:, place * depth : (place + 1) * depth]
                if facts["mode"] == "DCR"
                else x[:, place :: block * block]
            )
            out[:, :, row::block, column::block] = part
    return (out,)


def _space_to_depth_reference(x: Array, facts: Facts) -> tuple[Array, ...]:
    block = facts["block"]
    parts = [x[:, :, row::block, column::block] for row in range(block) for column in range(block)]
    if facts["mode"] == "DCR":
        return (np.concatenate(parts, axis=1),)
    return (np.stack(parts, axis=2).reshape(x.shape[0], -1, *parts[0].shape[2:]),)


def _view(source: TensorType, facts: Facts) -> tuple[IndexMap, ...]:
    found: IndexMap = facts["map"]
    if found.source != source.shape:
        raise ValueError(f"a view of {found.source} does not fit {source.shape}")
    return (found,)


def _view_reference(x: Array, facts: Facts) -> tuple[Array, ...]:
    """Every element by itself: slow, and as simple as it can be."""
    found: IndexMap = facts["map"]
    elements: list[Any] = [found.evaluate(index) for index in found.indices()]
    values = [found.fill if one is None else x[one] for one in elements]
    return (np.array(values, x.dtype).reshape(found.shape),)


REORGANIZE, SHUFFLE = Mapping5.REORGANIZE, Mapping5.SHUFFLE
DEPENDENT, INDEPENDENT = LayoutClass.DEPENDENT_FIXED, LayoutClass.INDEPENDENT_FIXED

ROWS = (
    _row(
        "Reshape",
        REORGANIZE,
        DEPENDENT,
        _one(_reshape),
        lambda x, facts: (x.reshape(facts["shape"]),),
        [((2, 3, 4), {"shape": (4, 6)}), ((24,), {"shape": (2, 1, 12)}), ((1,), {"shape": ()})],
    ),
    _row(
        "Transpose",
        SHUFFLE,
        DEPENDENT,
        _one(_transpose),
        lambda x, facts: (np.transpose(x, facts["perm"]),),
        [
            ((2, 3, 4), {"perm": (2, 0, 1)}),
            ((7, 5), {"perm": (1, 0)}),
            ((1, 8, 9, 3), {"perm": (0, 3, 1, 2)}),
        ],
    ),
    _row(
        "Slice",
        Mapping5.ONE_TO_ONE,
        INDEPENDENT,
        _one(_slice),
        _slice_reference,
        [
            ((5, 7), {"starts": (1, 6), "steps": (2, -3), "shape": (2, 3)}),
            ((9,), {"starts": (8,), "steps": (-1,), "shape": (9,)}),
        ],
    ),
    _row(
        "Split",
        Mapping5.ONE_TO_ONE,
        INDEPENDENT,
        _split,
        lambda x, facts: tuple(np.split(x, np.cumsum(facts["sizes"])[:-1], axis=facts["axis"])),
        [((4, 9), {"axis": 1, "sizes": (3, 2, 4)}), ((6,), {"axis": -1, "sizes": (6,)})],
    ),
    _row(
        "Expand",
        Mapping5.ONE_TO_MANY,
        INDEPENDENT,
        _one(_expand),
        lambda x, facts: (np.broadcast_to(x, facts["shape"]).copy(),),
        [((3, 1), {"shape": (2, 3, 4)}), ((), {"shape": (5,)})],
    ),
    _row(
        "Tile",
        Mapping5.ONE_TO_MANY,
        INDEPENDENT,
        _one(_tile),
        lambda x, facts: (np.tile(x, facts["repeats"]),),
        [((2, 3), {"repeats": (2, 3)}), ((4,), {"repeats": (1,)})],
    ),
    _row(
        "Take",
        Mapping5.ONE_TO_MANY,
        INDEPENDENT,
        _one(_take),
        _take_reference,
        [
            ((4, 5), {"axis": 0, "table": (3, 0, 0, 2), "table_shape": (2, 2)}),
            ((3, 8), {"axis": 1, "table": (6, 4, 2, 0), "table_shape": (4,)}),
            ((3, 8), {"axis": 1, "table": (5,), "table_shape": ()}),
        ],
    ),
    _row(
        "Pad",
        Mapping5.ONE_TO_MANY,
        INDEPENDENT,
        _pad,
        _pad_reference,
        [
            ((2, 3), {"before": (0, 1), "after": (2, 1), "fill": PAD_FILL}),
            ((5, 5), {"before": (-1, 0), "after": (2, -2), "fill": 0.0}),
        ],
    ),
    _row(
        "DepthToSpace",
        SHUFFLE,
        DEPENDENT,
        _one(_depth_to_space),
        _depth_to_space_reference,
        [((1, 8, 2, 3), {"block": 2, "mode": mode}) for mode in ("DCR", "CRD")],
    ),
    _row(
        "SpaceToDepth",
        SHUFFLE,
        DEPENDENT,
        _one(_space_to_depth),
        _space_to_depth_reference,
        [((1, 2, 4, 6), {"block": 2, "mode": mode}) for mode in ("DCR", "CRD")],
    ),
    _row(
        "View",
        SHUFFLE,
        DEPENDENT,
        _view,
        _view_reference,
        [
            ((6, 8), {"map": maps.roll((6, 8), 0, 2)}),
            ((2, 3), {"map": maps.pad((2, 3), (1, 0), (0, 1), 2.0)}),
        ],
    ),
)
