"""ONNX's operators on single values and along axes (arithmetic, comparison, activation, reduction) in
PyTorch.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.onnx_to_torch_operation import Operation, Row
from adapters.onnx_to_torch_types import torch_type

SMALL_POWERS = (2, 3)


def _plain(function: Any) -> Row:
    """A function of tensors that has no attributes."""
    return Row(lambda operation, *tensors: function(*tensors))


def _fold(function: Any) -> Row:
    """A function of two tensors, put together over any number of them."""
    return Row(lambda operation, *tensors: reduce(function, tensors))


def _divide(operation: Operation, left: Tensor, right: Tensor) -> Tensor:
    if left.is_floating_point():
        return left / right
    return torch.div(left, right, rounding_mode="trunc")


def _modulo(operation: Operation, left: Tensor, right: Tensor) -> Tensor:
    return torch.fmod(left, right) if operation.attribute("fmod", 0) else torch.remainder(left, right)


def _power(operation: Operation, base: Tensor, exponent: Tensor | None) -> Tensor:
    """Small whole powers are products: XNNPACK has no other power than the square."""
    if exponent is not None:
        return torch.pow(base, exponent).to(base.dtype)
    number = operation.number(1)
    if number in SMALL_POWERS:
        return reduce(torch.mul, [base] * int(number))
    if number == 0.5:
        return torch.sqrt(base)
    return torch.pow(base, number).to(base.dtype)


def _mean(operation: Operation, *tensors: Tensor) -> Tensor:
    total: Tensor = reduce(torch.add, tensors)
    return total / len(tensors)


def _clip(
    operation: Operation, value: Tensor, low: Tensor | None = None, high: Tensor | None = None
) -> Tensor:
    bounds = operation.number(1, low), operation.number(2, high)
    if all(bound is None for bound in bounds):
        return value
    if any(isinstance(bound, Tensor) for bound in bounds):
        as_tensors = [
            bound if bound is None else torch.as_tensor(bound, dtype=value.dtype) for bound in bounds
        ]
        return torch.clamp(value, *as_tensors)
    return torch.clamp(value, *bounds)


def _gelu(operation: Operation, value: Tensor) -> Tensor:
    return F.gelu(value, approximate=operation.attribute("approximate", "none"))


def _elu(operation: Operation, value: Tensor) -> Tensor:
    return F.elu(value, operation.attribute("alpha", 1.0))


def _selu(operation: Operation, value: Tensor) -> Tensor:
    alpha = operation.attribute("alpha", 1.6732632423543772)
    return operation.attribute("gamma", 1.0507009873554805) * F.elu(value, alpha)


def _celu(operation: Operation, value: Tensor) -> Tensor:
    return F.celu(value, operation.attribute("alpha", 1.0))


def _leaky_relu(operation: Operation, value: Tensor) -> Tensor:
    return F.leaky_relu(value, operation.attribute("alpha", 0.01))


def _thresholded_relu(operation: Operation, value: Tensor) -> Tensor:
    return torch.where(value > operation.attribute("alpha", 1.0), value, torch.zeros_like(value))


def _parametric_relu(operation: Operation, value: Tensor, slope: Tensor) -> Tensor:
    return torch.where(value < 0, value * slope, value)


def _hard_sigmoid(operation: Operation, value: Tensor) -> Tensor:
    scaled = operation.attribute("alpha", 0.2) * value + operation.attribute("beta", 0.5)
    return torch.clamp(scaled, 0.0, 1.0)


def _softmax(function: Any) -> Row:
    """Along another axis than the last with that axis moved: XNNPACK takes the last one only."""

    def call(operation: Operation, value: Tensor) -> Tensor:
        axis = operation.attribute("axis", -1) % value.dim()
        if axis == value.dim() - 1:
            return function(value, dim=-1)
        order = [*(other for other in range(value.dim()) if other != axis), axis]
        back = [order.index(position) for position in range(value.dim())]
        return function(value.permute(order), dim=-1).permute(back)

    return Row(call)


def _cast(operation: Operation, value: Tensor) -> Tensor:
    return value.to(torch_type(operation, operation.attribute("to")))


def _cast_like(operation: Operation, value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.dtype)


def _axes(operation: Operation, value: Tensor) -> list[int]:
    axes = operation.integers(1, "axes")
    return axes or list(range(value.dim()))


def _reduction(function: Any) -> Row:
    """A function of a tensor, the axes to reduce, and whether they stay with size 1."""

    def call(operation: Operation, value: Tensor, axes: Tensor | None = None) -> Tensor:
        if not operation.integers(1, "axes") and operation.attribute("noop_with_empty_axes", 0):
            return value
        keep = bool(operation.attribute("keepdims", 1))
        result: Tensor = function(value, _axes(operation, value), keep)
        return result.to(value.dtype)

    return Row(call, static=(1,))


def _reduce_mean(value: Tensor, axes: list[int], keep: bool) -> Tensor:
    """Kept axes first and dropped after: that is how XNNPACK takes the mean over an image."""
    if not value.is_floating_point():
        return torch.div(value.sum(axes, keep), _count(value, axes), rounding_mode="trunc")
    mean = value.mean(axes, keepdim=True)
    return mean if keep else mean.reshape(value.sum(axes).shape)


def _count(value: Tensor, axes: list[int]) -> int:
    return reduce(lambda count, axis: count * value.shape[axis], axes, 1)


def _reduce_product(value: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % value.dim() for axis in axes), reverse=True):
        value = value.prod(axis, keepdim=keep)
    return value


def _extreme_index(function: Any) -> Row:
    def call(operation: Operation, value: Tensor) -> Tensor:
        axis, keep = operation.attribute("axis", 0), bool(operation.attribute("keepdims", 1))
        if not operation.attribute("select_last_index", 0):
            return function(value, dim=axis, keepdim=keep)
        last = value.shape[axis] - 1
        return last - function(value.flip(axis), dim=axis, keepdim=keep)

    return Row(call)


def _top_k(operation: Operation, value: Tensor, count: Tensor | None) -> tuple[Tensor, ...]:
    axis = operation.attribute("axis", -1)
    largest = bool(operation.attribute("largest", 1))
    values, indices = torch.topk(value, int(operation.number(1)), dim=axis, largest=largest, sorted=True)
    return values, indices


def _cumulative_sum(operation: Operation, value: Tensor, axis: Tensor | None) -> Tensor:
    along = int(operation.number(1))
    backwards = bool(operation.attribute("reverse", 0))
    value = value.flip(along) if backwards else value
    total = torch.cumsum(value, along).to(value.dtype)
    total = total - value if operation.attribute("exclusive", 0) else total
    return total.flip(along) if backwards else total


def _l2(value: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sqrt((value * value).sum(axes, keep))


ROWS: dict[str, Row] = {
    **{
        name: _plain(function)
        for name, function in {
            "Abs": torch.abs,
            "Acos": torch.acos,
            "Asin": torch.asin,
            "Atan": torch.atan,
            "Ceil": torch.ceil,
            "Cos": torch.cos,
            "Cosh": torch.cosh,
            "Erf": torch.erf,
            "Exp": torch.exp,
            "Floor": torch.floor,
            "HardSwish": F.hardswish,
            "IsInf": torch.isinf,
            "IsNaN": torch.isnan,
            "Log": torch.log,
            "Mish": F.mish,
            "Neg": torch.neg,
            "Not": torch.logical_not,
            "Reciprocal": torch.reciprocal,
            "Relu": torch.relu,
            "Round": torch.round,
            "Sigmoid": torch.sigmoid,
            "Sign": torch.sign,
            "Sin": torch.sin,
            "Sinh": torch.sinh,
            "Softplus": F.softplus,
            "Softsign": F.softsign,
            "Sqrt": torch.sqrt,
            "Tan": torch.tan,
            "Tanh": torch.tanh,
            "Add": torch.add,
            "And": torch.logical_and,
            "Equal": torch.eq,
            "Greater": torch.gt,
            "GreaterOrEqual": torch.ge,
            "Less": torch.lt,
            "LessOrEqual": torch.le,
            "Mul": torch.mul,
            "Or": torch.logical_or,
            "Sub": torch.sub,
            "Xor": torch.logical_xor,
            "Where": torch.where,
        }.items()
    },
    **{
        name: _fold(function)
        for name, function in {
            "Max": torch.maximum,
            "Min": torch.minimum,
            "Sum": torch.add,
        }.items()
    },
    **{
        name: _reduction(function)
        for name, function in {
            "ReduceL1": lambda value, axes, keep: value.abs().sum(axes, keep),
            "ReduceL2": _l2,
            "ReduceLogSum": lambda value, axes, keep: value.sum(axes, keep).log(),
            "ReduceLogSumExp": lambda value, axes, keep: value.logsumexp(axes, keep),
            "ReduceMax": lambda value, axes, keep: value.amax(axes, keep),
            "ReduceMean": _reduce_mean,
            "ReduceMin": lambda value, axes, keep: value.amin(axes, keep),
            "ReduceProd": _reduce_product,
            "ReduceSum": lambda value, axes, keep: value.sum(axes, keep),
            "ReduceSumSquare": lambda value, axes, keep: (value * value).sum(axes, keep),
        }.items()
    },
    "ArgMax": _extreme_index(torch.argmax),
    "ArgMin": _extreme_index(torch.argmin),
    "Cast": Row(_cast),
    "CastLike": Row(_cast_like),
    "Celu": Row(_celu),
    "Clip": Row(_clip, scalars=(1, 2)),
    "CumSum": Row(_cumulative_sum, static=(1,)),
    "Div": Row(_divide),
    "Elu": Row(_elu),
    "Gelu": Row(_gelu),
    "HardSigmoid": Row(_hard_sigmoid),
    "LeakyRelu": Row(_leaky_relu),
    "LogSoftmax": _softmax(F.log_softmax),
    "Mean": Row(_mean),
    "Mod": Row(_modulo),
    "Pow": Row(_power, scalars=(1,)),
    "PRelu": Row(_parametric_relu),
    "Selu": Row(_selu),
    "Softmax": _softmax(F.softmax),
    "ThresholdedRelu": Row(_thresholded_relu),
    "TopK": Row(_top_k, static=(1,)),
}
