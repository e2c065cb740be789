"""ONNX's operators that move values without computing, in PyTorch; written with what XNNPACK takes (reshape,
permute, slice, concatenate), not with what it leaves to portable kernels (split, squeeze, expand).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.onnx_to_torch_operation import Operation, Row
from adapters.onnx_to_torch_types import as_tensor

PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def _reshape(operation: Operation, value: Tensor, shape: Tensor | None) -> Tensor:
    sizes = operation.integers(1) or []
    if not operation.attribute("allowzero", 0):
        sizes = [value.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return value.reshape(sizes)


def _flatten(operation: Operation, value: Tensor) -> Tensor:
    axis = operation.attribute("axis", 1)
    rows = int(np.prod(value.shape[: axis % value.dim() if axis < 0 else axis]))
    return value.reshape(rows, -1)


def _squeeze(operation: Operation, value: Tensor, axes: Tensor | None = None) -> Tensor:
    given = operation.integers(1, "axes")
    dropped = [axis for axis, size in enumerate(value.shape) if size == 1] if given is None else given
    dropped = [axis % value.dim() for axis in dropped]
    return value.reshape([size for axis, size in enumerate(value.shape) if axis not in dropped])


def _unsqueeze(operation: Operation, value: Tensor, axes: Tensor | None = None) -> Tensor:
    given = operation.integers(1, "axes") or []
    rank = value.dim() + len(given)
    sizes = list(value.shape)
    for axis in sorted(axis % rank for axis in given):
        sizes.insert(axis, 1)
    return value.reshape(sizes)


def _transpose(operation: Operation, value: Tensor) -> Tensor:
    return value.permute(operation.attribute("perm") or list(reversed(range(value.dim()))))


def _expand(operation: Operation, value: Tensor, shape: Tensor | None) -> Tensor:
    return value.expand(np.broadcast_shapes(tuple(value.shape), tuple(operation.integers(1) or ())))


def _tile(operation: Operation, value: Tensor, repeats: Tensor | None) -> Tensor:
    for axis, count in enumerate(operation.integers(1) or []):
        value = torch.cat([value] * count, axis) if count > 1 else value
    return value


def _concatenate(operation: Operation, *values: Tensor) -> Tensor:
    return torch.cat(values, operation.attribute("axis"))


def _cut(value: Tensor, axis: int, start: int, end: int, step: int = 1) -> Tensor:
    """Part of an axis: 0 ≤ start ≤ end ≤ size, step ≥ 1."""
    if (start, step) == (0, 1) and end == value.shape[axis]:
        return value
    return torch.ops.aten.slice.Tensor(value, axis, start, end, step)


def _slice(operation: Operation, value: Tensor, *inputs: Tensor | None) -> Tensor:
    starts, ends = operation.integers(1, "starts") or [], operation.integers(2, "ends") or []
    axes = operation.integers(3, "axes") or list(range(len(starts)))
    steps = operation.integers(4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        indices = range(value.shape[axis])[start:end:step]
        if step < 0:
            forward = indices[::-1]
            value = _cut(value, axis, forward.start, forward.stop, forward.step).flip(axis)
        else:
            value = _cut(value, axis, indices.start, max(indices.start, indices.stop), step)
    return value


def _split(operation: Operation, value: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis, count = operation.attribute("axis", 0), len(operation.outputs)
    total = value.shape[axis]
    each = -(-total // count)
    given = operation.integers(1, "split") or [min(each, total - each * index) for index in range(count)]
    ends = np.cumsum(given).tolist()
    return tuple(_cut(value, axis, end - size, end) for end, size in zip(ends, given, strict=True))


def _gather(operation: Operation, value: Tensor, indices: Tensor | None) -> Tensor:
    """Constant evenly spaced indices are a slice, rows of a table an embedding."""
    axis = operation.attribute("axis", 0) % value.dim()
    if indices is None:
        known = operation.known[1]
        numbers = [int(index) for index in known.reshape(-1)]
        step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
        part = _cut(value, axis, numbers[0], numbers[-1] + 1, step)
        return part if known.ndim else part.reshape(value.shape[:axis] + value.shape[axis + 1 :])
    indices = torch.remainder(indices, value.shape[axis])  # negative ones count from the end
    if axis == 0 and value.dim() == 2:  # a table
        return F.embedding(indices, value)
    chosen = torch.index_select(value, axis, indices.reshape(-1))
    return chosen.reshape(value.shape[:axis] + indices.shape + value.shape[axis + 1 :])


def _gather_elements(operation: Operation, value: Tensor, indices: Tensor) -> Tensor:
    axis = operation.attribute("axis", 0)
    return torch.gather(value, axis, torch.remainder(indices, value.shape[axis]))


def _gather_nd(operation: Operation, value: Tensor, indices: Tensor) -> Tensor:
    if operation.attribute("batch_dims", 0):
        raise operation.refuse("with batch_dims")
    return value[tuple(indices.unbind(-1))]


def _scatter_nd(operation: Operation, value: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    mode = operation.attribute("reduction", "none")
    if mode not in ("none", "add"):
        raise operation.refuse(f"with reduction {mode!r}")
    return value.index_put(tuple(indices.unbind(-1)), updates, accumulate=mode == "add")


def _scatter_elements(operation: Operation, value: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    axis, mode = operation.attribute("axis", 0), operation.attribute("reduction", "none")
    indices = torch.remainder(indices, value.shape[axis])
    if mode == "none":
        return torch.scatter(value, axis, indices, updates)
    if mode == "add":
        return torch.scatter_add(value, axis, indices, updates)
    raise operation.refuse(f"with reduction {mode!r}")


def _one_hot(operation: Operation, indices: Tensor, depth: Any, values: Tensor) -> Tensor:
    count, axis = int(operation.number(1)), operation.attribute("axis", -1)
    hits = torch.remainder(indices.to(torch.int64), count).unsqueeze(-1) == torch.arange(
        count, device=indices.device
    )
    chosen = torch.where(hits, values[1], values[0])
    return chosen if axis in (-1, indices.dim()) else chosen.movedim(-1, axis)


def _trilu(operation: Operation, value: Tensor, diagonal: Tensor | None = None) -> Tensor:
    number = int(operation.number(1, 0))
    return torch.triu(value, number) if operation.attribute("upper", 1) else torch.tril(value, number)


def _pad(operation: Operation, value: Tensor, *inputs: Tensor | None) -> Tensor:
    mode = operation.attribute("mode", "constant")
    pads, rank = operation.integers(1) or [], value.dim()
    axes = operation.integers(3) or list(range(rank))
    before = dict.fromkeys(range(rank), 0)
    after = dict(before)
    for position, axis in enumerate(axes):
        before[axis % rank], after[axis % rank] = pads[position], pads[position + len(axes)]
    flat = [size for axis in reversed(range(rank)) for size in (before[axis], after[axis])]
    if mode == "constant":
        while flat[-2:] == [0, 0]:
            flat = flat[:-2]
        return F.pad(value, flat, "constant", operation.number(2, 0)) if flat else value
    return _pad_by_copying(operation, value, flat, PAD_MODES[mode])


def _pad_by_copying(operation: Operation, value: Tensor, flat: list[int], mode: str) -> Tensor:
    """PyTorch copies at the borders of the last one to three axes of a batch only."""
    padded = max((index // 2 + 1 for index, size in enumerate(flat) if size), default=0)
    if not padded:
        return value
    spatial = min(padded, 3)
    if padded > spatial or value.dim() < spatial:
        raise operation.refuse(f"in mode {mode!r} of {padded} axes")
    shape = value.shape
    batched = value.reshape(1, -1, *shape[len(shape) - spatial :])
    result = F.pad(batched, flat[: 2 * spatial], mode)
    return result.reshape(*shape[: len(shape) - spatial], *result.shape[2:])


def _depth_to_space(operation: Operation, value: Tensor) -> Tensor:
    block = operation.attribute("blocksize")
    batch, channels, height, width = value.shape
    left = channels // block**2
    if operation.attribute("mode", "DCR") == "DCR":
        parts, order = [batch, block, block, left, height, width], [0, 3, 4, 1, 5, 2]
    else:
        parts, order = [batch, left, block, block, height, width], [0, 1, 4, 2, 5, 3]
    return value.reshape(parts).permute(order).reshape(batch, left, height * block, width * block)


def _space_to_depth(operation: Operation, value: Tensor) -> Tensor:
    block = operation.attribute("blocksize")
    batch, channels, height, width = value.shape
    parts = [batch, channels, height // block, block, width // block, block]
    moved = value.reshape(parts).permute([0, 3, 5, 1, 2, 4])
    return moved.reshape(batch, channels * block**2, height // block, width // block)


def _constant(operation: Operation) -> Tensor:
    import onnx

    given: Sequence[Any] = [value for value in operation.attributes.values() if value is not None]
    if isinstance(given[0], onnx.TensorProto):
        return as_tensor(onnx.numpy_helper.to_array(given[0]).copy())
    kind = next(iter(operation.attributes))
    return torch.tensor(given[0], dtype=torch.float32 if "float" in kind else torch.int64)


def _constant_of_shape(operation: Operation, shape: Tensor | None) -> Tensor:
    import onnx

    value = operation.attribute("value")
    number = torch.zeros(1) if value is None else as_tensor(onnx.numpy_helper.to_array(value).copy())
    return number.reshape(()).expand(operation.integers(0) or []).clone()


def _range(operation: Operation, *inputs: Tensor | None) -> Tensor:
    start, limit, delta = (operation.known[position] for position in range(3))
    return as_tensor(np.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype))


def _identity(operation: Operation, value: Tensor, *inputs: Tensor | None) -> Tensor:
    return value


ROWS: dict[str, Row] = {
    "Concat": Row(_concatenate),
    "Constant": Row(_constant),
    "ConstantOfShape": Row(_constant_of_shape, static=(0,)),
    "DepthToSpace": Row(_depth_to_space),
    "Dropout": Row(_identity, static=(1, 2)),
    "Expand": Row(_expand, static=(1,)),
    "Flatten": Row(_flatten),
    "Gather": Row(_gather, ranges=(1,)),
    "GatherElements": Row(_gather_elements),
    "GatherND": Row(_gather_nd),
    "Identity": Row(_identity),
    "OneHot": Row(_one_hot, static=(1,)),
    "Pad": Row(_pad, static=(1, 2, 3)),
    "Range": Row(_range, static=(0, 1, 2)),
    "Reshape": Row(_reshape, static=(1,)),
    "ScatterElements": Row(_scatter_elements),
    "ScatterND": Row(_scatter_nd),
    "Slice": Row(_slice, static=(1, 2, 3, 4)),
    "SpaceToDepth": Row(_space_to_depth),
    "Split": Row(_split, static=(1,)),
    "Squeeze": Row(_squeeze, static=(1,)),
    "Tile": Row(_tile, static=(1,)),
    "Transpose": Row(_transpose),
    "Trilu": Row(_trilu, static=(1,)),
    "Unsqueeze": Row(_unsqueeze, static=(1,)),
}
