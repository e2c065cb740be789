"""Weights and inputs drawn from a seed: the same bits with every numpy, on every machine.

Only the raw output of the Philox counter generator is used, which numpy guarantees to keep; numpy's
distributions may change between versions. Philox has 2**256 positions for each key, so any piece of a tensor
can be drawn alone.
"""

from functools import cache
from math import fsum, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.model import InputSpec, Model
from models.recipe import TensorRecipe

Array = NDArray[Any]
FloatArray = NDArray[np.float32]

LEVELS = 65_536
VALUES_PER_COUNTER = 16  # one Philox counter gives 4 words of 64 bits, so 16 levels of 16 bits
COUNTERS_PER_CHUNK = 16_384  # 512 KiB of raw words and 1 MiB of values: stays in a second-level cache
CHUNK_VALUES = COUNTERS_PER_CHUNK * VALUES_PER_COUNTER
INPUT_STREAM = 2**32  # far from the streams of weights, which are numbered from 0


@cache
def unit_normal_table() -> FloatArray:
    """Shape [65536]: the normal quantiles at (i + 1/2) / 65536, scaled to a variance of exactly 1."""
    quantile = NormalDist().inv_cdf
    return _unit_variance([quantile((level + 0.5) / LEVELS) for level in range(LEVELS)])


@cache
def unit_uniform_table() -> FloatArray:
    """Shape [65536]: evenly spaced, mean 0, variance 1."""
    return _unit_variance([2 * (level + 0.5) / LEVELS - 1 for level in range(LEVELS)])


UNIT_TABLES = {"normal": unit_normal_table, "uniform": unit_uniform_table}


def _unit_variance(values: list[float]) -> FloatArray:
    scale = 1 / sqrt(fsum(value * value for value in values) / len(values))
    table = np.array([value * scale for value in values], dtype=np.float32)
    table.setflags(write=False)
    return table


def draw_piece(tensor: TensorRecipe, seed: int, start: int, count: int) -> Array:
    """Values `start` … `start + count` of the flattened tensor, in its dtype; `start` is a multiple of 16.

    An `exact` tensor is not drawn: its values are in `constants.npz`.
    """
    if tensor.kind == "constant":
        return np.full(count, tensor.value, dtype=tensor.dtype)
    # One look-up in the scaled table gives the bits of float32(mean) + float32(std) * unit in a single pass.
    table = np.float32(tensor.mean) + np.float32(tensor.std) * UNIT_TABLES[tensor.kind]()
    return _look_up(table, seed, tensor.stream, start, count)


def _look_up(table: FloatArray, seed: int, stream: int, start: int, count: int) -> FloatArray:
    values = np.empty(count, dtype=np.float32)
    generator = np.random.Philox(key=[seed, stream], counter=start // VALUES_PER_COUNTER)
    for first in range(0, count, CHUNK_VALUES):
        target = values[first : first + CHUNK_VALUES]
        words = generator.random_raw(-(-target.size // VALUES_PER_COUNTER) * 4)
        levels = words.astype("<u8", copy=False).view("<u2")[: target.size]
        # Every level is inside the table; `clip` spares numpy the buffered copy that `raise` makes.
        np.take(table, levels, out=target, mode="clip")
    return values


def draw_inputs(model: Model, seed: int) -> dict[str, Array]:
    """Every input of the network by name, in its shape and dtype; the same for the same seed, everywhere."""
    return {
        spec.name: _draw_input(spec, seed, INPUT_STREAM + index) for index, spec in enumerate(model.inputs)
    }


def _draw_input(spec: InputSpec, seed: int, stream: int) -> Array:
    if spec.draw == "constant":
        return np.full(spec.shape, spec.value, dtype=spec.dtype)
    if spec.draw == "integers":
        words = np.random.Philox(key=[seed, stream]).random_raw(spec.element_count)
        # The span is tiny beside 2**64, so that the remainder is uniform for every purpose here.
        offsets = (words % np.uint64(spec.high - spec.low)).astype(np.int64)
        return (offsets + spec.low).astype(spec.dtype).reshape(spec.shape)
    values = _look_up(unit_normal_table(), seed, stream, 0, spec.element_count)
    return values.astype(spec.dtype, copy=False).reshape(spec.shape)
