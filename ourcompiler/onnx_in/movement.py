"""Shapes and movement: where ONNX has operands for a shape, ours has an attribute that is known."""

from collections.abc import Sequence
from math import prod

import numpy as np

from ourcompiler.onnx_in.site import Convert, Site, element_type
from ourcompiler.ops.table import axes_of, axis_of


def _reshaped(site: Site, shape: Sequence[int]) -> Sequence[str]:
    return (site.emit("Reshape", (site.operand(0),), shape=tuple(int(one) for one in shape)),)


def _reshape(site: Site) -> Sequence[str]:
    source, wanted = site.type(0).shape, list(site.integers(1, "shape"))
    if not site.attribute("allowzero", 0):
        for axis, size in enumerate(wanted):
            if size == 0:
                if axis >= len(source):
                    raise site.error(f"shape {tuple(wanted)} copies axis {axis} of {source}")
                wanted[axis] = source[axis]
    if wanted.count(-1) > 1 or min(wanted, default=0) < -1:
        raise site.error(f"{tuple(wanted)} is no shape")
    if -1 in wanted:
        rest = -prod(wanted)
        if not rest or prod(source) % rest:
            raise site.error(f"{source} does not fit into {tuple(wanted)}")
        wanted[wanted.index(-1)] = prod(source) // rest
    return _reshaped(site, wanted)


def _flatten(site: Site) -> Sequence[str]:
    shape, axis = site.type(0).shape, site.attribute("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return _reshaped(site, (prod(shape[:axis]), prod(shape[axis:])))


def _squeeze(site: Site) -> Sequence[str]:
    shape = site.type(0).shape
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    axes = _axes(site, site.integers(1, "axes", ones), len(shape))
    if any(shape[axis] != 1 for axis in axes):
        raise site.error(f"axes {axes} of {shape} are not all 1")
    return _reshaped(site, [size for axis, size in enumerate(shape) if axis not in axes])


def _unsqueeze(site: Site) -> Sequence[str]:
    shape, axes = site.type(0).shape, site.integers(1, "axes")
    rank = len(shape) + len(axes)
    places = _axes(site, axes, rank)
    rest = iter(shape)
    return _reshaped(site, [1 if axis in places else next(rest) for axis in range(rank)])


def _axes(site: Site, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    try:
        return axes_of(axes, rank)
    except ValueError as error:
        raise site.error(str(error)) from error


def _axis(site: Site, otherwise: int, rank: int) -> int:
    try:
        return axis_of(site.attribute("axis", otherwise), rank)
    except ValueError as error:
        raise site.error(str(error)) from error


def _transpose(site: Site) -> Sequence[str]:
    rank = site.type(0).rank
    order = site.attribute("perm", list(reversed(range(rank))))
    return (site.emit("Transpose", (site.operand(0),), perm=tuple(order)),)


def _slice(site: Site) -> Sequence[str]:
    shape = site.type(0).shape
    starts, ends = site.integers(1, "starts"), site.integers(2, "ends")
    axes = _each_axis(site, site.integers(3, "axes", range(len(starts))), len(shape))
    steps = site.integers(4, "steps", [1] * len(starts))
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise site.error("starts, ends, axes and steps of different lengths")
    begin, step_of, count = [0] * len(shape), [1] * len(shape), list(shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step == 0:
            raise site.error("a step of 0")
        place = slice(start, end, step).indices(shape[axis])
        begin[axis], step_of[axis], count[axis] = place[0], step, len(range(*place))
    begin = [start if size else 0 for start, size in zip(begin, count, strict=True)]
    facts = {"starts": tuple(begin), "steps": tuple(step_of), "shape": tuple(count)}
    return (site.emit("Slice", (site.operand(0),), **facts),)


def _each_axis(site: Site, axes: Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front, in the order in which they were given."""
    _axes(site, axes, rank)
    return [axis % rank for axis in axes]


def _split(site: Site) -> Sequence[str]:
    shape = site.type(0).shape
    axis = _axis(site, 0, len(shape))
    count = len(site.node.output)
    if site.has(1) or site.attribute("split") is not None:
        sizes = site.integers(1, "split")
    else:
        part = -(-shape[axis] // count)
        sizes = tuple(min(part, shape[axis] - part * number) for number in range(count))
    if len(sizes) != count:
        raise site.error(f"{len(sizes)} parts for {count} outputs")
    return site.emit_all("Split", (site.operand(0),), axis=axis, sizes=tuple(sizes))


def _concat(site: Site) -> Sequence[str]:
    return (site.emit("Concat", site.inputs, axis=_axis(site, 1, site.type(0).rank)),)


def _expand(site: Site) -> Sequence[str]:
    source, wanted = site.type(0).shape, site.integers(1, "shape")
    try:
        shape = np.broadcast_shapes(source, wanted)
    except ValueError:
        raise site.error(f"{source} cannot be repeated to {wanted}") from None
    return (site.emit("Expand", (site.operand(0),), shape=tuple(shape)),)


def _tile(site: Site) -> Sequence[str]:
    return (site.emit("Tile", (site.operand(0),), repeats=site.integers(1, "repeats")),)


def _pad(site: Site) -> Sequence[str]:
    rank, mode = site.type(0).rank, site.attribute("mode", "constant")
    pads = site.integers(1, "pads")
    axes = _each_axis(site, site.integers(3, "axes", range(rank)), rank)
    if len(pads) != 2 * len(axes):
        raise site.error(f"{len(pads)} borders for {len(axes)} axes")
    before, after = [0] * rank, [0] * rank
    for number, axis in enumerate(axes):
        before[axis], after[axis] = pads[number], pads[number + len(axes)]
    if mode != "constant":
        return (_mirrored(site, before, after, mode),)
    fill = site.attribute("value", 0.0)
    if site.has(2):
        value = site.known(2, "its fill").reshape(-1)
        fill = value[0].item() if value.size else 0.0
    borders = {"before": tuple(before), "after": tuple(after)}
    return (site.emit("Pad", (site.operand(0),), **borders, fill=float(fill)),)


NUMPY_MODES = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _mirrored(site: Site, before: Sequence[int], after: Sequence[int], mode: str) -> str:
    """A border of the operand's own elements: a table of indices along each axis that has one."""
    if mode not in NUMPY_MODES:
        raise site.error(f"a border of mode {mode!r}")
    found = site.operand(0)
    for axis, size in enumerate(site.type(0).shape):
        low, high = before[axis], after[axis]
        if not low and not high:
            continue
        places = np.arange(size)[max(-low, 0) : size - max(-high, 0)]
        try:
            table = np.pad(places, (max(low, 0), max(high, 0)), mode=NUMPY_MODES[mode])  # type: ignore[call-overload]
        except ValueError as error:
            raise site.error(f"a border of {low} and {high} on an axis of {size}: {error}") from error
        facts = {"table": tuple(int(one) for one in table), "table_shape": (len(table),)}
        found = site.emit("Take", (found,), axis=axis, **facts)
    return found if found != site.operand(0) else site.emit("Identity", (found,))


def _gather(site: Site) -> Sequence[str]:
    source = site.type(0)
    axis = _axis(site, 0, source.rank)
    table = site.builder.known(site.operand(1))
    if table is None:
        return (site.emit("Gather", site.inputs, axis=axis),)
    size = source.shape[axis]
    flat = tuple(int(one) + (size if one < 0 else 0) for one in table.reshape(-1))
    facts = {"table": flat, "table_shape": tuple(table.shape)}
    return (site.emit("Take", (site.operand(0),), axis=axis, **facts),)


def _with_axis(site: Site) -> Sequence[str]:
    axis = _axis(site, 0, site.type(0).rank)
    return (site.emit(site.node.op_type, site.inputs, axis=axis),)


def _gather_nd(site: Site) -> Sequence[str]:
    return (site.emit("GatherND", site.inputs, batch_dims=site.attribute("batch_dims", 0)),)


def _scatter_elements(site: Site) -> Sequence[str]:
    axis = _axis(site, 0, site.type(0).rank)
    facts = {"axis": axis, "reduction": site.attribute("reduction", "none")}
    return (site.emit("ScatterElements", site.inputs, **facts),)


def _scatter_nd(site: Site) -> Sequence[str]:
    return (site.emit("ScatterND", site.inputs, reduction=site.attribute("reduction", "none")),)


def _depth_to_space(site: Site) -> Sequence[str]:
    facts = {"block": site.attribute("blocksize"), "mode": site.attribute("mode", "DCR")}
    return (site.emit("DepthToSpace", site.inputs, **facts),)


def _space_to_depth(site: Site) -> Sequence[str]:
    facts = {"block": site.attribute("blocksize"), "mode": site.attribute("mode", "DCR")}
    return (site.emit("SpaceToDepth", site.inputs, **facts),)


def _shape(site: Site) -> Sequence[str]:
    shape = site.type(0).shape
    part = shape[slice(site.attribute("start", 0), site.attribute("end"))]
    return (site.builder.constant(np.array(part, np.int64)),)


def _size(site: Site) -> Sequence[str]:
    return (site.builder.constant(np.array(site.type(0).element_count, np.int64)),)


def _constant(site: Site) -> Sequence[str]:
    for name, numpy in (("value_float", np.float32), ("value_int", np.int64)):
        if (one := site.attribute(name)) is not None:
            return (site.builder.constant(np.array(one, numpy)),)
    for name, numpy in (("value_floats", np.float32), ("value_ints", np.int64)):
        if (many := site.attribute(name)) is not None:
            return (site.builder.constant(np.array(many, numpy)),)
    value = site.attribute("value")
    if value is None:
        raise site.error("a constant of strings or of a sparse tensor")
    return (site.builder.constant(value),)


def _constant_of_shape(site: Site) -> Sequence[str]:
    shape = tuple(int(one) for one in site.known(0, "its shape").reshape(-1))
    value = site.attribute("value", np.zeros(1, np.float32))
    one = site.builder.constant(np.asarray(value).reshape(()))
    return (site.emit("Expand", (one,), shape=shape),)


def _range(site: Site) -> Sequence[str]:
    start, limit, step = (site.known(number, "its length").item() for number in range(3))
    if step == 0:
        raise site.error("a step of 0")
    count = max(int(np.ceil((limit - start) / step)), 0)
    dtype = site.type(0).dtype.numpy
    return (site.builder.constant((start + step * np.arange(count)).astype(dtype)),)


def _eye_like(site: Site) -> Sequence[str]:
    one = site.type(0)
    code = site.attribute("dtype")
    dtype = element_type(code, site.where) if code is not None else one.dtype
    rows, columns = one.shape
    return (site.builder.constant(np.eye(rows, columns, site.attribute("k", 0), dtype.numpy)),)


def _is_given(site: Site) -> Sequence[str]:
    """Of an optional value that is a tensor."""
    return (site.builder.constant(np.array(site.has(0))),)


def _as_it_is(site: Site) -> Sequence[str]:
    return (site.emit("Identity", (site.operand(0),)),)


ROWS: dict[str, Convert] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Slice": _slice,
    "Split": _split,
    "Concat": _concat,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Gather": _gather,
    "GatherElements": _with_axis,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "Scatter": _scatter_elements,
    "ScatterND": _scatter_nd,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Shape": _shape,
    "Size": _size,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "EyeLike": _eye_like,
    "OptionalHasElement": _is_given,
    "OptionalGetElement": _as_it_is,
}
