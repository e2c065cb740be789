"""ONNX's operators with weights, windows or normalisation, in PyTorch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.onnx_to_torch_operation import Operation, Row

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
MATRIX_AXES = 2
LINEAR = "Linear"
"""Not ONNX's: a MatMul with a constant matrix, stored transposed, and the Add of a bias after it."""
INVERSE_ROOT = "InverseSqrt"
"""Not ONNX's either: 1 / √x."""


def _window(operation: Operation, value: Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Strides, and pads before and after every spatial axis: [before …, after …]."""
    rank = len(kernel)
    strides = operation.attribute("strides") or [1] * rank
    dilations = operation.attribute("dilations") or [1] * rank
    mode = operation.attribute("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return strides, operation.attribute("pads") or [0] * 2 * rank
    if mode == "VALID":
        return strides, [0] * 2 * rank
    before, after = [], []
    for size, extent, stride, dilation in zip(value.shape[-rank:], kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (extent - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return strides, before + after


def _symmetric(
    value: Tensor, pads: Sequence[int], fill: float, limit: Sequence[int] | None = None
) -> tuple[Tensor, list[int]]:
    """The pads that are left to the operator itself: all when they are the same on both sides and no larger
    than `limit` allows, else none, and the value is padded with `fill` before.
    """
    rank = len(pads) // 2
    before, after = list(pads[:rank]), list(pads[rank:])
    if before == after and (
        limit is None or all(pad <= most for pad, most in zip(before, limit, strict=True))
    ):
        return value, before
    flat = [size for axis in reversed(range(rank)) for size in (before[axis], after[axis])]
    return F.pad(value, flat, "constant", fill), [0] * rank


def _convolution(operation: Operation, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = weight.shape[2:]
    strides, pads = _window(operation, value, kernel)
    value, padding = _symmetric(value, pads, 0.0)
    dilations = operation.attribute("dilations") or [1] * len(kernel)
    function = CONVOLUTIONS[len(kernel)]
    group = operation.attribute("group", 1)
    return function(value, weight, bias, strides, padding, dilations, group)


def _transposed_convolution(
    operation: Operation, value: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Uneven pads are cut from the result of a convolution without pads."""
    kernel = weight.shape[2:]
    rank = len(kernel)
    if operation.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or operation.attribute(
        "output_shape"
    ):
        raise operation.refuse("with auto_pad or output_shape")
    strides = operation.attribute("strides") or [1] * rank
    pads = operation.attribute("pads") or [0] * 2 * rank
    extra = operation.attribute("output_padding") or [0] * rank
    dilations = operation.attribute("dilations") or [1] * rank
    group, even = operation.attribute("group", 1), pads[:rank] == pads[rank:]
    padding = pads[:rank] if even else [0] * rank
    result = TRANSPOSED[rank](value, weight, bias, strides, padding, extra, group, dilations)
    if even:
        return result
    for axis in range(rank):
        size = result.shape[2 + axis] - pads[axis] - pads[rank + axis]
        result = result.narrow(2 + axis, pads[axis], size)
    return result


def _half(kernel: Sequence[int]) -> list[int]:
    return [extent // 2 for extent in kernel]


def _max_pool(operation: Operation, value: Tensor) -> Tensor:
    kernel = operation.attribute("kernel_shape")
    strides, pads = _window(operation, value, kernel)
    value, padding = _symmetric(value, pads, float("-inf"), _half(kernel))
    dilations = operation.attribute("dilations") or [1] * len(kernel)
    ceil = bool(operation.attribute("ceil_mode", 0))
    return MAX_POOLS[len(kernel)](value, kernel, strides, padding, dilations, ceil)


def _average_pool(operation: Operation, value: Tensor) -> Tensor:
    """Where PyTorch cannot pad, the sum over padded zeros is divided by the count over padded ones."""
    kernel = operation.attribute("kernel_shape")
    if any(dilation != 1 for dilation in operation.attribute("dilations") or ()):
        raise operation.refuse("with dilations")
    strides, pads = _window(operation, value, kernel)
    padded, padding = _symmetric(value, pads, 0.0, _half(kernel))
    ceil, counts_pads = (
        bool(operation.attribute("ceil_mode", 0)),
        bool(operation.attribute("count_include_pad", 0)),
    )
    function: Any = AVERAGE_POOLS[len(kernel)]
    if padded is value:
        return function(value, kernel, strides, padding, ceil, counts_pads)
    average = function(padded, kernel, strides, padding, ceil)
    if counts_pads:
        return average
    ones, _ = _symmetric(torch.ones_like(value), pads, 0.0, [-1] * len(kernel))
    return average / function(ones, kernel, strides, padding, ceil)


def _global_pool(function: Any) -> Row:
    return Row(lambda operation, value: function(value, list(range(2, value.dim())), True))


def _batch_norm(operation: Operation, value: Tensor, *statistics: Tensor) -> Tensor:
    scale, bias, mean, variance = statistics
    if operation.attribute("training_mode", 0):
        raise operation.refuse("in training mode")
    return F.batch_norm(value, mean, variance, scale, bias, False, 0.0, operation.attribute("epsilon", 1e-5))


def _layer_norm(operation: Operation, value: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    shape = value.shape[operation.attribute("axis", -1) % value.dim() :]
    scale = scale if scale.shape == shape else scale.expand(shape)
    bias = bias if bias is None or bias.shape == shape else bias.expand(shape)
    return F.layer_norm(value, shape, scale, bias, operation.attribute("epsilon", 1e-5))


def _rms_norm(operation: Operation, value: Tensor, scale: Tensor) -> Tensor:
    axes = list(range(operation.attribute("axis", -1) % value.dim(), value.dim()))
    mean_square = (value * value).mean(axes, keepdim=True)
    return value * torch.rsqrt(mean_square + operation.attribute("epsilon", 1e-5)) * scale


def _normalised(value: Tensor, groups: int, epsilon: float) -> Tensor:
    """Every group of channels of every image with mean 0 and variance 1: a layer norm over its values, for
    which ExecuTorch has a vectorised kernel, as it has none for group norms.
    """
    rows = value.reshape(value.shape[0], groups, -1)
    return F.layer_norm(rows, [rows.shape[-1]], None, None, epsilon).reshape(value.shape)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape([1, -1] + [1] * (like.dim() - 2))


def _instance_norm(operation: Operation, value: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    normalised = _normalised(value, value.shape[1], operation.attribute("epsilon", 1e-5))
    return normalised * _per_channel(scale, value) + _per_channel(bias, value)


def _group_norm(operation: Operation, value: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Opset 18 has a scale for every group, opset 21 one for every channel."""
    groups, channels = operation.attribute("num_groups"), value.shape[1]
    if operation.opset < 21:
        scale, bias = (values.repeat_interleave(channels // groups) for values in (scale, bias))
    normalised = _normalised(value, groups, operation.attribute("epsilon", 1e-5))
    return normalised * _per_channel(scale, value) + _per_channel(bias, value)


def _lp_norm(operation: Operation, value: Tensor) -> Tensor:
    order, axis = operation.attribute("p", 2), operation.attribute("axis", -1)
    return value / torch.linalg.vector_norm(value, order, axis, keepdim=True)


def _gemm(operation: Operation, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    alpha, beta = operation.attribute("alpha", 1.0), operation.attribute("beta", 1.0)
    left = left.t() if operation.attribute("transA", 0) else left
    right = right if operation.attribute("transB", 0) else right.t()
    if bias is not None and bias.dim() == 1 and bias.shape[0] == right.shape[0] and alpha == beta == 1.0:
        return F.linear(left, right, bias)
    product = F.linear(left, right)
    product = product if alpha == 1.0 else alpha * product
    if bias is None:
        return product
    return product + (bias if beta == 1.0 else beta * bias)


def _matrix_product(operation: Operation, left: Tensor, right: Tensor) -> Tensor:
    """A batched product without PyTorch's expand, which would be a copy by a portable kernel."""
    if left.dim() == right.dim() == MATRIX_AXES or min(left.dim(), right.dim()) < MATRIX_AXES:
        return torch.matmul(left, right)
    batch = torch.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    rows, inner, columns = left.shape[-2], left.shape[-1], right.shape[-1]
    left = left if left.shape[:-2] == batch else left.expand(*batch, rows, inner)
    right = right if right.shape[:-2] == batch else right.expand(*batch, inner, columns)
    if len(batch) == 1:
        return torch.bmm(left, right)
    product = torch.bmm(left.reshape(-1, rows, inner), right.reshape(-1, inner, columns))
    return product.reshape(*batch, rows, columns)


def _einsum(operation: Operation, *operands: Tensor) -> Tensor:
    return torch.einsum(operation.attribute("equation"), *operands)


def _linear(operation: Operation, value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(value, weight, bias)


ROWS: dict[str, Row] = {
    "AveragePool": Row(_average_pool),
    "BatchNormalization": Row(_batch_norm),
    "Conv": Row(_convolution),
    "ConvTranspose": Row(_transposed_convolution),
    "Einsum": Row(_einsum),
    "Gemm": Row(_gemm),
    "GlobalAveragePool": _global_pool(torch.mean),
    "GlobalMaxPool": _global_pool(torch.amax),
    "GroupNormalization": Row(_group_norm),
    "InstanceNormalization": Row(_instance_norm),
    "LayerNormalization": Row(_layer_norm),
    INVERSE_ROOT: Row(lambda operation, value: torch.rsqrt(value)),
    LINEAR: Row(_linear),
    "LpNormalization": Row(_lp_norm),
    "MatMul": Row(_matrix_product),
    "MaxPool": Row(_max_pool),
    "RMSNormalization": Row(_rms_norm),
}
