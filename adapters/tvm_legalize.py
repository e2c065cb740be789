"""From Relax operators to our kernels: weights that are known are packed here, once, in numpy."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np

from adapters.tvm_convolutions import Window, convolution, depthwise, merged_groups, pack_filters
from adapters.tvm_import import mapped_tensor
from adapters.tvm_kernels import (
    Array,
    Tile,
    choose_tile,
    pack_columns,
    product_of_two,
    product_with_weights,
)
from adapters.tvm_machine import VectorUnit

FUSABLE_WITH_WHAT_FOLLOWS = {"op_pattern": 4}
"""TVM's number for an operator that element-wise ones may be fused behind."""
ALONE = {"op_pattern": 8}
"""TVM's number for an operator that is fused with nothing."""
VIEWS = ("relax.reshape", "relax.squeeze", "relax.expand_dims", "relax.flatten")
EXCHANGE = "exchange_last_axes"
MOST_DEPTHWISE_PIXELS = 8
MOST_FACTORS = 4

Legalize = Callable[[Any, Any], Any]


def legalizations(unit: VectorUnit) -> dict[str, Legalize]:
    """Our way to lower each operator, by its name; what a function cannot take it hands to TVM's own."""
    return {
        "relax.matmul": lambda builder, call: _matmul(builder, call, unit),
        "relax.permute_dims": _transpose,
        "relax.power": _power,
        **dict.fromkeys(VIEWS, _view),
        "relax.nn.conv2d": lambda builder, call: _convolution(builder, call, unit, "NHWC", "OHWI"),
        "relax.nn.conv1d": lambda builder, call: _convolution(builder, call, unit, "NWC", "OWI"),
    }


def _matmul(builder: Any, call: Any, unit: VectorUnit) -> Any:
    a, b = call.args
    a_shape, b_shape = _shape(a), _shape(b)
    if a.ty.dtype.dtype != "float32" or min(len(a_shape), len(b_shape)) < 2:
        return _own(builder, call)
    weight = _known(builder, b) if len(b_shape) == 2 else None
    if weight is not None:
        rows = int(np.prod(a_shape[:-1]))
        tile = choose_tile(rows, b_shape[1], b_shape[0], unit)
        packed = _constant(pack_columns(weight, tile))
        kernel = partial(product_with_weights, width=b_shape[1], tile=tile)
        return _kernel(builder, "matmul", kernel, a, packed)
    source = _transposed_source(builder, b)
    tile = choose_tile(a_shape[-2], b_shape[-1], a_shape[-1], unit)
    name = "matmul" if source is None else "matmul_transposed"
    kernel = partial(product_of_two, b_transposed=source is not None, tile=tile)
    return _kernel(builder, name, kernel, a, b if source is None else source)


def _convolution(builder: Any, call: Any, unit: VectorUnit, layout: str, kernel_layout: str) -> Any:
    data, filters = call.args
    attrs = call.attrs
    weight = _known(builder, filters)
    layouts = (attrs.data_layout, attrs.kernel_layout, attrs.out_layout)
    if weight is None or layouts != (layout, kernel_layout, layout) or data.ty.dtype.dtype != "float32":
        return _own(builder, call)
    outputs, *taps, group_inputs = weight.shape
    groups, count = int(attrs.groups), len(taps)
    padding = [int(size) for size in attrs.padding]
    window = Window(
        kernel=tuple(taps),
        strides=tuple(map(int, attrs.strides)),
        dilation=tuple(map(int, attrs.dilation)),
        before=tuple(padding[:count]),
        after=tuple(padding[count:]),
    )
    spatial = window.output(_shape(data)[1:-1])
    if group_inputs == 1 and outputs == groups:
        return _depthwise(builder, data, weight, window, spatial, unit)
    merge = merged_groups(groups, outputs // groups, unit.lanes)
    if merge is None:
        return _own(builder, call)
    width = outputs // groups * merge
    depth = int(np.prod(taps)) * group_inputs * merge
    tile = choose_tile(int(np.prod(spatial)), width, depth, unit, exact=groups > merge)
    kernel = partial(convolution, window=window, outputs=outputs, groups=groups // merge, tile=tile)
    return _kernel(builder, "conv", kernel, data, _constant(pack_filters(weight, groups, merge, tile)))


def _depthwise(
    builder: Any, data: Any, weight: Array, window: Window, spatial: list[int], unit: VectorUnit
) -> Any:
    channels = weight.shape[0]
    lanes = next(size for size in (unit.lanes, unit.lanes // 2, unit.lanes // 4, 1) if channels % size == 0)
    pixels = min(
        range(1, MOST_DEPTHWISE_PIXELS + 1), key=lambda rows: (-(-spatial[-1] // rows) * (rows + 1), -rows)
    )
    filters = np.ascontiguousarray(np.moveaxis(weight[..., 0], 0, -1))
    kernel = partial(depthwise, window=window, tile=Tile(pixels, lanes, lanes))
    return _kernel(builder, "depthwise_conv", kernel, data, _constant(filters))


def _kernel(builder: Any, name: str, kernel: Any, *operands: Any) -> Any:
    """A call of the kernel; its other arguments are bound already, since TVM takes tensors only."""
    return builder.call_te(
        kernel, *operands, primfunc_name_hint=name, primfunc_attrs=FUSABLE_WITH_WHAT_FOLLOWS
    )


def _own(builder: Any, call: Any) -> Any:
    """TVM's own lowering."""
    return call.op.get_attr("FLegalize")(builder, call)


def _shape(value: Any) -> list[int]:
    return [int(size) for size in value.ty.shape]


def _constant(value: Array) -> Any:
    from tvm import relax

    return relax.const(mapped_tensor(value))


def _bound(builder: Any, value: Any) -> Any:
    """What a variable stands for, or the value itself."""
    from tvm import relax

    while isinstance(value, relax.Var):
        found = builder.lookup_binding(value)
        if found is None:
            return value
        value = found
    return value


def _known(builder: Any, value: Any) -> Array | None:
    """The numbers of a constant, None when they come at run time."""
    from tvm import ir

    found = _bound(builder, value)
    return np.from_dlpack(found.value) if isinstance(found, ir.GenericConst) else None


def _view(builder: Any, call: Any) -> Any:
    """Another shape for the same numbers, which costs nothing as long as it is not fused into anything."""
    from tvm import topi

    return builder.call_te(
        topi.reshape, call.args[0], _shape(call), primfunc_name_hint="reshape", primfunc_attrs=ALONE
    )


def _power(builder: Any, call: Any) -> Any:
    """A whole power as products, since the C library's function takes one number at a time."""
    from tvm import te

    exponent = _known(builder, call.args[1])
    count = 0 if exponent is None or exponent.size != 1 else float(exponent.reshape(-1)[0])
    if count not in range(2, MOST_FACTORS + 1):
        return _own(builder, call)

    def multiplied(x: Any) -> Any:
        return te.compute(x.shape, lambda *at: prod(x(*at) for _ in range(int(count))), name="power")

    return builder.call_te(multiplied, call.args[0], primfunc_name_hint="power")


def _transpose(builder: Any, call: Any) -> Any:
    """TVM's own transpose, with a name by which a matrix product recognises one of its last two axes."""
    rank = len(_shape(call))
    axes = range(rank)[::-1] if call.attrs.axes is None else [int(axis) for axis in call.attrs.axes]
    if rank < 2 or list(axes) != [*range(rank - 2), rank - 1, rank - 2]:
        return _own(builder, call)
    from tvm import topi

    return builder.call_te(topi.transpose, call.args[0], list(axes), primfunc_name_hint=EXCHANGE)


def _transposed_source(builder: Any, value: Any) -> Any | None:
    """What was transposed when a value is another one with its last two axes exchanged."""
    from tvm import relax

    found = _bound(builder, value)
    if not isinstance(found, relax.Call) or getattr(found.op, "name", "") != "relax.call_tir":
        return None
    return found.args[1].fields[0] if found.args[0].name_hint.startswith(EXCHANGE) else None


def fold_layouts(module: Any) -> Any:
    """The module with transposes and reshapes of constants done, in numpy: TVM would compile each."""
    from tvm import ir, relax

    @relax.expr_functor.mutator
    class Fold(relax.PyExprMutator):  # type: ignore[misc]
        def visit_call_(self, call: Any) -> Any:
            done = super().visit_call_(call)
            name = getattr(done.op, "name", "") if isinstance(done, relax.Call) else ""
            if name not in {"relax.permute_dims", "relax.reshape"}:
                return done
            found = _bound(self.builder_, done.args[0])
            if not isinstance(found, ir.GenericConst):
                return done
            values = np.from_dlpack(found.value)
            if name == "relax.reshape":
                return _constant(values.reshape(_shape(done)))
            axes = done.attrs.axes
            return _constant(values.transpose(None if axes is None else [int(axis) for axis in axes]))

    folded = Fold(module)
    module["main"] = folded.visit_expr(module["main"])
    return module
