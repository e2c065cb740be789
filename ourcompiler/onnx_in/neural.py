"""Reductions, products, convolution and pooling."""

from collections.abc import Sequence
from functools import partial
from math import ceil, prod

from ourcompiler.ir.graph import Attribute
from ourcompiler.onnx_in.site import Convert, Site
from ourcompiler.ops.table import axis_of

REDUCTIONS = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
]
OLD_SOFTMAX_OPSET = 13
"""Before it, softmax flattens everything from its axis on."""


def axis_from(site: Site, name: str, otherwise: int, rank: int) -> int:
    """An axis from an attribute, counted from the front."""
    try:
        return axis_of(site.attribute(name, otherwise), rank)
    except ValueError as error:
        raise site.error(str(error)) from error


def _reduce(site: Site, op: str) -> Sequence[str]:
    rank = site.type(0).rank
    keep = bool(site.attribute("keepdims", 1))
    axes = site.integers(1, "axes", ())
    if not axes and not site.attribute("noop_with_empty_axes", 0):
        axes = tuple(range(rank))
    axes = tuple(sorted(axis % rank if rank else axis for axis in axes))
    return (site.emit(op, (site.operand(0),), axes=axes, keepdims=keep),)


def _place(site: Site, op: str) -> Sequence[str]:
    facts = {
        "axis": axis_from(site, "axis", 0, site.type(0).rank),
        "keepdims": bool(site.attribute("keepdims", 1)),
        "last": bool(site.attribute("select_last_index", 0)),
    }
    return (site.emit(op, site.inputs, **facts),)


def _softmax(site: Site, op: str) -> Sequence[str]:
    shape = site.type(0).shape
    if site.opset >= OLD_SOFTMAX_OPSET:
        return (site.emit(op, site.inputs, axis=axis_from(site, "axis", -1, len(shape))),)
    axis = axis_from(site, "axis", 1, len(shape))
    flat = site.emit("Reshape", site.inputs, shape=(prod(shape[:axis]), prod(shape[axis:])))
    return (site.emit("Reshape", (site.emit(op, (flat,), axis=1),), shape=shape),)


def _running(site: Site, op: str) -> Sequence[str]:
    axis = int(site.known(1, "its axis").reshape(-1)[0]) % max(site.type(0).rank, 1)
    facts = {name: bool(site.attribute(name, 0)) for name in ("exclusive", "reverse")}
    return (site.emit(op, (site.operand(0),), axis=axis, **facts),)


def _top(site: Site) -> Sequence[str]:
    count = site.integers(1, "k") if site.has(1) else (site.attribute("k"),)
    facts = {
        "axis": axis_from(site, "axis", -1, site.type(0).rank),
        "k": int(count[0]),
        "largest": bool(site.attribute("largest", 1)),
    }
    return site.emit_all("TopK", (site.operand(0),), **facts)


def _matmul(site: Site) -> Sequence[str]:
    """Vectors are matrices of one row or column, which the result does not keep."""
    left, right = site.operand(0), site.operand(1)
    if not site.type(0).rank or not site.type(1).rank:
        raise site.error("a product with a scalar")
    row, column = site.type(0).rank == 1, site.type(1).rank == 1
    if row:
        left = site.emit("Reshape", (left,), shape=(1, *site.type(0).shape))
    if column:
        right = site.emit("Reshape", (right,), shape=(*site.type(1).shape, 1))
    found = site.emit("MatMul", (left, right))
    if row or column:
        shape = site.builder.types[found].shape
        end = shape[len(shape) - 2 :]
        kept = (*shape[:-2], *(() if row else end[:1]), *(() if column else end[1:]))
        found = site.emit("Reshape", (found,), shape=kept)
    return (found,)


def _gemm(site: Site) -> Sequence[str]:
    """Alpha · A B + beta · C, with A and B turned if asked for."""
    operands = []
    for number, name in ((0, "transA"), (1, "transB")):
        one = site.operand(number)
        operands.append(site.emit("Transpose", (one,), perm=(1, 0)) if site.attribute(name, 0) else one)
    found = site.emit("MatMul", operands)
    alpha, beta = site.attribute("alpha", 1.0), site.attribute("beta", 1.0)
    if alpha != 1:
        found = site.emit("Mul", (found, site.number(alpha, found)))
    if site.has(2) and beta != 0:
        bias = site.operand(2)
        bias = bias if beta == 1 else site.emit("Mul", (bias, site.number(beta, bias)))
        found = site.emit("Add", (found, bias))
    return (found,)


def borders(
    site: Site, sizes: Sequence[int], kernel: Sequence[int], facts: dict[str, Attribute]
) -> tuple[int, ...]:
    """Borders, from the attribute or from `auto_pad`."""
    rank, mode = len(sizes), site.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        return (0,) * (2 * rank)
    if mode == "NOTSET":
        return tuple(site.attribute("pads", (0,) * (2 * rank)))
    strides, dilations = integers_of(facts, "strides"), integers_of(facts, "dilations")
    before, after = [], []
    for axis in range(rank):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        positions = ceil(sizes[axis] / strides[axis])
        total = max((positions - 1) * strides[axis] + reach - sizes[axis], 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return (*before, *after)


def integers_of(facts: dict[str, Attribute], name: str) -> tuple[int, ...]:
    """The attribute, whose elements are integers."""
    found = facts[name]
    assert isinstance(found, tuple)
    return tuple(int(one) for one in found)


def window_facts(site: Site, rank: int) -> dict[str, Attribute]:
    """Steps of a window, 1 where none are given."""
    return {
        "strides": tuple(site.attribute("strides", (1,) * rank)),
        "dilations": tuple(site.attribute("dilations", (1,) * rank)),
    }


def _conv(site: Site) -> Sequence[str]:
    sizes, kernel = site.type(0).shape[2:], site.type(1).shape[2:]
    facts = window_facts(site, len(sizes))
    facts["pads"] = borders(site, sizes, kernel, facts)
    facts["group"] = site.attribute("group", 1)
    operands = (site.operand(0), site.operand(1), site.operand_or_absent(2))
    return (site.emit("Conv", operands, **facts),)


def _conv_transpose(site: Site) -> Sequence[str]:
    sizes, kernel = site.type(0).shape[2:], site.type(1).shape[2:]
    rank = len(sizes)
    facts = window_facts(site, rank)
    extra = tuple(site.attribute("output_padding", (0,) * rank))
    widened = list(extra)
    strides, dilations = integers_of(facts, "strides"), integers_of(facts, "dilations")
    reach = [dilations[axis] * (kernel[axis] - 1) + 1 for axis in range(rank)]
    wanted = site.attribute("output_shape")
    mode = site.attribute("auto_pad", "NOTSET")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [sizes[axis] * strides[axis] for axis in range(rank)]
    if wanted is None:
        pads = tuple(site.attribute("pads", (0,) * (2 * rank))) if mode == "NOTSET" else (0,) * (2 * rank)
    else:
        wanted = wanted[-rank:]
        before, after = [], []
        for axis in range(rank):
            total = strides[axis] * (sizes[axis] - 1) + extra[axis] + reach[axis] - wanted[axis]
            if total < 0:  # the output is wider than what the windows reach
                widened[axis] -= total
                total = 0
            small = total // 2
            before.append(small if mode == "SAME_UPPER" else total - small)
            after.append(total - small if mode == "SAME_UPPER" else small)
        pads = (*before, *after)
    facts |= {"pads": pads, "group": site.attribute("group", 1), "output_padding": tuple(widened)}
    operands = (site.operand(0), site.operand(1), site.operand_or_absent(2))
    return (site.emit("ConvTranspose", operands, **facts),)


def _pool_facts(site: Site) -> dict[str, Attribute]:
    sizes, kernel = site.type(0).shape[2:], tuple(site.attribute("kernel_shape"))
    facts = window_facts(site, len(sizes))
    facts["pads"] = borders(site, sizes, kernel, facts)
    return {**facts, "kernel": kernel, "ceil": bool(site.attribute("ceil_mode", 0))}


def _max_pool(site: Site) -> Sequence[str]:
    facts = {
        "with_places": len(site.node.output) > 1,
        "column_major": bool(site.attribute("storage_order", 0)),
    }
    return site.emit_all("MaxPool", site.inputs, **_pool_facts(site), **facts)


def _average_pool(site: Site) -> Sequence[str]:
    count = bool(site.attribute("count_include_pad", 0))
    return (site.emit("AveragePool", site.inputs, **_pool_facts(site), count_border=count),)


def _lp_pool(site: Site) -> Sequence[str]:
    return (site.emit("LpPool", site.inputs, **_pool_facts(site), p=site.attribute("p", 2)),)


def _global(site: Site, op: str) -> Sequence[str]:
    axes = tuple(range(2, site.type(0).rank))
    return (site.emit(op, site.inputs, axes=axes, keepdims=True),)


ROWS: dict[str, Convert] = {
    **{op: partial(_reduce, op=op) for op in REDUCTIONS},
    **{op: partial(_place, op=op) for op in ("ArgMax", "ArgMin")},
    **{op: partial(_softmax, op=op) for op in ("Softmax", "LogSoftmax", "Hardmax")},
    **{op: partial(_running, op=op) for op in ("CumSum", "CumProd")},
    "TopK": _top,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "GlobalAveragePool": partial(_global, op="ReduceMean"),
    "GlobalMaxPool": partial(_global, op="ReduceMax"),
}
