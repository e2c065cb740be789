"""Depthwise convolutions with large kernels as sums of smaller ones, for XNNPACK.

XNNPACK's depthwise kernels have at most 25 taps. A larger one falls to its general convolution, one group a
channel: 7 × 7 over 96 channels of 56 × 56 pixels takes ten times as long so as in three pieces (8.8 and
0.83 ms on one core of a Zen 5). The pieces are symmetric sets of rows, so that each is a convolution with
dilation and even pads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np

from adapters.onnx_to_torch_graph import Source
from adapters.onnx_to_torch_operation import Array, Operation

MOST_TAPS = 25


def with_small_depthwise_kernels(source: Source) -> Source:
    """Every depthwise convolution of more than `MOST_TAPS` taps in pieces, where it can be cut evenly."""
    constants = dict(source.constants)
    operations: list[Operation] = []
    for operation in source.operations:
        weight = constants.get(operation.inputs[1]) if operation.operator == "Conv" else None
        if weight is None or not _is_cut(operation, weight):
            operations.append(operation)
            continue
        sets = row_sets(weight.shape[2], MOST_TAPS // prod(weight.shape[3:]))
        constants.update((_part_name(operation, chosen), _part(weight, chosen)) for chosen in sets)
        operations.extend(_pieces(operation, sets))
    return replace(source, operations=tuple(operations), constants=constants)


def row_sets(rows: int, most: int) -> list[range]:
    """The numbers 0 … rows - 1 as sets of at most `most` (two or more), evenly spaced and symmetric."""
    if rows <= most:
        return [range(rows)]
    if rows % 2 and (rows + 1) // 2 <= most:
        return [range(0, rows, 2), range(1, rows, 2)]
    low, high, sets = 0, rows - 1, []
    while high - low + 1 > most:
        sets.append(range(low, high + 1, high - low))
        low, high = low + 1, high - 1
    return [*sets, range(low, high + 1)] if high >= low else sets


def _is_cut(operation: Operation, weight: Array) -> bool:
    """Depthwise, too many taps in rows of at most half as many, no dilation, and pads of half the kernel."""
    rows, across, spatial = weight.shape[2], prod(weight.shape[3:]), weight.ndim - 2
    if weight.shape[1] != 1 or operation.attribute("group", 1) == 1 or spatial not in (1, 2):
        return False
    if rows * across <= MOST_TAPS or 2 * across > MOST_TAPS:
        return False
    if operation.attribute("auto_pad", "NOTSET") != "NOTSET":
        return False
    dilations, pads = (
        operation.attribute("dilations") or [1],
        operation.attribute("pads") or [0] * 2 * spatial,
    )
    return set(dilations) == {1} and min(pads[0], pads[spatial]) >= (rows - 1) // 2


def _pieces(operation: Operation, sets: list[range]) -> Iterator[Operation]:
    """A convolution for every set of rows, the bias with the first, and the sums."""
    value, _, *bias = operation.inputs
    total = ""
    for index, chosen in enumerate(sets):
        last = index == len(sets) - 1
        result = operation.outputs[0] if last and not total else f"{operation.outputs[0]} piece {index}"
        inputs = (value, _part_name(operation, chosen), *(bias if index == 0 else ()))
        attributes = _attributes(operation.attributes, chosen)
        yield replace(operation, inputs=inputs, outputs=(result,), attributes=attributes)
        if total:
            summed = operation.outputs[0] if last else f"{operation.outputs[0]} sum {index}"
            yield operation.part("Add", (total, result), summed)
            result = summed
        total = result


def _attributes(attributes: Mapping[str, object], chosen: range) -> dict[str, object]:
    """The convolution's attributes for some of its rows."""
    pads = list(attributes["pads"])  # type: ignore[call-overload]
    spatial = len(pads) // 2
    for position in (0, spatial):
        pads[position] -= chosen.start
    dilations = [chosen.step, *[1] * (spatial - 1)]
    kept = {name: value for name, value in attributes.items() if name != "kernel_shape"}
    return {**kept, "pads": pads, "dilations": dilations}


def _part(weight: Array, chosen: range) -> Array:
    return np.ascontiguousarray(weight[:, :, chosen.start : chosen.stop : chosen.step])


def _part_name(operation: Operation, chosen: range) -> str:
    return f"{operation.inputs[1]} rows {chosen.start}:{chosen.stop}:{chosen.step}"
