"""ONNX's Resize in PyTorch: nearest by copies or choice, linear and cubic where PyTorch's are the same."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapters.onnx_to_torch_operation import Array, Operation, Row
from adapters.onnx_to_torch_types import as_tensor

SMOOTH_MODES = {"linear": {1: "linear", 2: "bilinear", 3: "trilinear"}, "cubic": {2: "bicubic"}}
HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")
TORCH_CUBIC_COEFFICIENT = -0.75
ROUNDING: dict[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda place: np.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: np.floor(place + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _resize(operation: Operation, value: Tensor, *inputs: Tensor | None) -> Tensor:
    sizes, scales = _targets(operation, value)
    mode = operation.attribute("mode", "nearest")
    if (
        operation.attribute("antialias", 0)
        or operation.attribute("keep_aspect_ratio_policy", "stretch") != "stretch"
    ):
        raise operation.refuse("with antialias or an aspect ratio to keep")
    if mode == "nearest":
        for axis, (size, scale) in enumerate(zip(sizes, scales, strict=True)):
            if size != value.shape[axis]:
                value = _nearest(operation, value, axis, size, scale)
        return value
    return _smooth(operation, value, mode, sizes)


def _targets(operation: Operation, value: Tensor) -> tuple[list[int], list[float]]:
    """Size and scale of every axis of the result."""
    axes = [axis % value.dim() for axis in operation.attribute("axes") or range(value.dim())]
    sizes, scales = list(value.shape), [1.0] * value.dim()
    given_sizes, given_scales = operation.known.get(3), operation.known.get(2)
    for position, axis in enumerate(axes):
        if given_sizes is not None and given_sizes.size:
            sizes[axis] = int(given_sizes[position])
            scales[axis] = sizes[axis] / value.shape[axis]
        elif given_scales is not None:
            scales[axis] = float(given_scales[position])
            sizes[axis] = int(np.floor(value.shape[axis] * scales[axis]))
    return sizes, scales


def _nearest(operation: Operation, value: Tensor, axis: int, size: int, scale: float) -> Tensor:
    """Values repeated a whole number of times are concatenated beside themselves (XNNPACK has no repeat),
    others chosen by index.
    """
    indices = _indices(operation, value.shape[axis], size, scale)
    times = size // value.shape[axis]
    if times > 1 and np.array_equal(indices, np.repeat(np.arange(value.shape[axis]), times)):
        before, after = value.shape[: axis + 1], value.shape[axis + 1 :]
        copies = [value.reshape(*before, 1, -1) for _ in range(times)]  # XNNPACK wants them apart
        return torch.cat(copies, axis + 1).reshape(*before[:-1], size, *after)
    return torch.index_select(value, axis, as_tensor(indices))


def _indices(operation: Operation, old: int, new: int, scale: float) -> Array:
    """The original index for every new one, from ONNX's definition."""
    mode = operation.attribute("coordinate_transformation_mode", "half_pixel")
    place = np.arange(new, dtype=np.float64)
    if mode in HALF_PIXEL:
        place = np.zeros(new) if mode == "pytorch_half_pixel" and new == 1 else (place + 0.5) / scale - 0.5
    elif mode == "align_corners":
        place = place * (old - 1) / max(new - 1, 1)
    elif mode == "asymmetric":
        place = place / scale
    else:
        raise operation.refuse(f"with coordinate_transformation_mode {mode!r}")
    rounded = ROUNDING[operation.attribute("nearest_mode", "round_prefer_floor")](place)
    indices: Array = np.clip(rounded, 0, old - 1).astype(np.int64)
    return indices


def _smooth(operation: Operation, value: Tensor, mode: str, sizes: list[int]) -> Tensor:
    transformation = operation.attribute("coordinate_transformation_mode", "half_pixel")
    rank = value.dim() - 2
    name = SMOOTH_MODES[mode].get(rank)
    if name is None or list(value.shape[:2]) != sizes[:2]:
        raise operation.refuse(f"in mode {mode!r} of a value with {value.dim()} axes")
    if transformation not in (*HALF_PIXEL, "align_corners"):
        raise operation.refuse(f"in mode {mode!r} with coordinate_transformation_mode {transformation!r}")
    coefficient = operation.attribute("cubic_coeff_a", TORCH_CUBIC_COEFFICIENT)
    if operation.attribute("exclude_outside", 0) or coefficient != TORCH_CUBIC_COEFFICIENT:
        raise operation.refuse("with exclude_outside or a cubic_coeff_a of its own")
    return F.interpolate(value, sizes[2:], mode=name, align_corners=transformation == "align_corners")


ROWS: dict[str, Row] = {"Resize": Row(_resize, static=(1, 2, 3))}
