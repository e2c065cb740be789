"""Signals: Fourier transforms as products with a constant matrix, windows and filters as constants."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ourcompiler.ir.graph import Array
from ourcompiler.ir.index import Space
from ourcompiler.ir.index_map import index_map
from ourcompiler.onnx_in.site import Convert, Site, element_type
from ourcompiler.onnx_in.value import Value, constant, names, operand, optional
from ourcompiler.ops.table import axis_of

LONGEST = 2048
"""Of a transform, whose matrix has four numbers for each pair of places."""
FIRST_OPSET_WITH_AXIS_OPERAND = 20


def _turns(count: int, rows: int, columns: int) -> tuple[Array, Array]:
    """Cosine and sine of every pair of places; `count` are a whole turn, and 0 is exact."""
    steps = np.outer(np.arange(rows), np.arange(columns)) % count
    angles = 2 * np.pi * steps / count
    cosine, sine = np.cos(angles), np.sin(angles)
    cosine[4 * steps % (2 * count) == count] = 0
    sine[2 * steps % count == 0] = 0
    return cosine, sine


def _matrix(parts: int, rows: int, count: int, columns: int, inverse: bool) -> Array:
    """From (rows, real and imaginary) to (columns, real and imaginary), as one matrix."""
    cosine, sine = _turns(count, rows, columns)
    sine = sine if inverse else -sine
    whole = np.array([[cosine, sine], [-sine, cosine]])[:parts]
    matrix = whole.transpose(2, 0, 3, 1).reshape(rows * parts, columns * 2)
    return matrix / count if inverse else matrix


def _half_matrix(rows: int, count: int) -> Array:
    """The inverse for a real signal, from the first half of its spectrum; the other half mirrors it."""
    cosine, sine = _turns(count, rows, count)
    weights = np.full(rows, 2.0)
    weights[0] = 1.0
    if count % 2 == 0 and rows > count // 2:
        weights[count // 2] = 1.0
    whole: Array = np.stack([cosine, -sine], axis=1) * weights[:, None, None]
    return whole.reshape(rows * 2, count) / count


def _transformed(x: Value, matrix: Array, columns: int) -> Value:
    """(…, places, parts) times a matrix: (…, columns, parts)."""
    flat = x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
    row = flat if flat.rank > 1 else flat.reshape(1, *flat.shape)
    found = row @ x.constant(matrix)
    return found.reshape(*x.shape[:-2], columns, matrix.shape[1] // columns)


def _fourier(site: Site) -> Sequence[str]:
    x = operand(site, 0)
    inverse, half = (bool(site.attribute(name, 0)) for name in ("inverse", "onesided"))
    if site.opset < FIRST_OPSET_WITH_AXIS_OPERAND:
        axis = site.attribute("axis", 1)
    else:
        axis = int(site.known(2, "its axis").reshape(-1)[0]) if site.has(2) else -2
    axis = axis_of(axis, x.rank)
    parts = x.shape[-1]
    if parts not in (1, 2) or axis == x.rank - 1 or (inverse and half and parts == 1):
        raise site.error(
            f"a transform of {x.shape} along axis {axis}", "the last axis is real, or real and imaginary"
        )
    usual = 2 * (x.shape[axis] - 1) if inverse and half else x.shape[axis]
    count = int(site.known(1, "its length").reshape(-1)[0]) if site.has(1) else usual
    rows = min(x.shape[axis], count // 2 + 1 if inverse and half else count)
    moved = x.part(axis, 0, rows).moved(axis, -2)
    columns = count if inverse or not half else count // 2 + 1
    _check_length(site, count)
    matrix = _half_matrix(rows, count) if inverse and half else _matrix(parts, rows, count, columns, inverse)
    return names(_transformed(moved, matrix, columns).moved(-2, axis))


def _check_length(site: Site, count: int) -> None:
    if not 0 < count <= LONGEST:
        hint = f"transforms of up to {LONGEST} are compiled: cut it into frames (STFT)"
        raise site.error(f"a Fourier transform of {count} places", hint)


def _short_fourier(site: Site) -> Sequence[str]:
    """Frames that overlap are a view; the window is multiplied into the matrix when it is known."""
    x, window = operand(site, 0), optional(site, 2)
    x = x.reshape(*x.shape, 1) if x.rank == 2 else x
    step = int(site.known(1, "its step").reshape(-1)[0])
    if site.has(3):
        length = int(site.known(3, "its length").reshape(-1)[0])
    else:
        length = x.shape[1] if window is None else window.shape[0]
    if x.rank != 3 or x.shape[2] not in (1, 2) or step < 1 or not 0 < length <= x.shape[1]:
        raise site.error(
            f"frames of {length} every {step} of {x.shape}", "(batch, places, parts), frames within"
        )
    _check_length(site, length)
    shape = (x.shape[0], 1 + (x.shape[1] - length) // step, length, x.shape[2])
    space = Space(shape)
    dims = space.dims()
    place = space.add(space.multiply(dims[1], step), dims[2])
    frames = x.seen(index_map(shape, x.shape, [dims[0], place, dims[3]]))
    columns = length // 2 + 1 if site.attribute("onesided", 1) else length
    matrix = _matrix(x.shape[2], length, length, columns, inverse=False)
    if window is not None and window.known is not None:
        matrix = matrix * np.repeat(window.known.astype(np.float64), x.shape[2])[:, None]
    elif window is not None:
        frames = frames * window.reshape(length, 1)
    return names(_transformed(frames, matrix, columns))


def _window(site: Site, first: float, second: float, third: float) -> Sequence[str]:
    """A sum of cosines."""
    size = int(site.known(0, "its size").reshape(-1)[0])
    dtype = element_type(site.attribute("output_datatype", 1), site.where)
    turns = 2 * np.pi * np.arange(size) / max(size - (0 if site.attribute("periodic", 1) else 1), 1)
    found = first - second * np.cos(turns) + third * np.cos(2 * turns)
    return names(constant(site, found.astype(dtype.numpy)))


def _mel_filters(site: Site) -> Sequence[str]:
    """Triangles over the spectrum, evenly spaced in mel."""
    count, length, rate = (int(site.known(number, "its shape").reshape(-1)[0]) for number in range(3))
    low, high = (float(site.known(number, "its range").reshape(-1)[0]) for number in (3, 4))
    dtype = element_type(site.attribute("output_datatype", 1), site.where)
    if count < 1 or length < 1 or rate < 1:
        raise site.error(f"{count} filters of {length} places at {rate} Hz", "all above 0")
    ends = 2595 * np.log10(1 + np.array([low, high]) / 700)
    mels = np.arange(count + 2) * ((ends[1] - ends[0]) / (count + 2)) + ends[0]
    hertz = 700 * (10 ** (mels / 2595) - 1)
    edges = ((length + 1) * hertz // rate).astype(int)
    found = np.zeros((length // 2 + 1, count), np.float64)
    for number in range(count):
        left, middle, right = edges[number : number + 3]
        if middle == left:
            found[middle, number] = 1
        for place in range(left, middle + 1 if middle > left else left):
            found[place, number] = (place - left) / (middle - left)
        for place in range(middle, right):
            found[place, number] = (right - place) / (right - middle)
    return names(constant(site, found.astype(dtype.numpy)))


ROWS: dict[str, Convert] = {
    "DFT": _fourier,
    "STFT": _short_fourier,
    "HannWindow": partial(_window, first=0.5, second=0.5, third=0.0),
    "HammingWindow": partial(_window, first=25 / 46, second=21 / 46, third=0.0),
    "BlackmanWindow": partial(_window, first=0.42, second=0.5, third=0.08),
    "MelWeightMatrix": _mel_filters,
}
