"""Some operators at once for a random graph, as networks have them: blocks that rules and fusion look for."""

from math import prod

import numpy as np

from ourcompiler.ops.conv import conv_facts
from ourcompiler.selftest.drawer import LARGEST, Drawer
from ourcompiler.selftest.random_steps import Step


def _scalar(drawer: Drawer, value: float) -> str:
    return drawer.builder.constant(np.float32(value))


def _residual(drawer: Drawer, x: str) -> str:
    """A normalised value through two layers, and the value itself added."""
    width = drawer.of(x)[-1]
    normed = drawer.emit(
        "LayerNorm", x, drawer.constant(width), drawer.constant(width), axis=-1, epsilon=1e-3
    )
    inner = drawer.random.choice((8, 16, 33))
    if len(drawer.of(x)) < 2:
        normed = drawer.emit("Reshape", normed, shape=(1, width))
    up = drawer.emit("MatMul", normed, drawer.constant(width, inner, scale=width**-0.5))
    bent = _gelu(drawer, drawer.emit("Add", up, drawer.constant(inner)))
    down = drawer.emit("MatMul", bent, drawer.constant(inner, width, scale=inner**-0.5))
    return drawer.emit("Add", x, drawer.emit("Add", down, drawer.constant(width)))


def _gelu(drawer: Drawer, x: str) -> str:
    """GELU as exporters write it."""
    bent = drawer.emit("Erf", drawer.emit("Div", x, _scalar(drawer, 2**0.5)))
    gate = drawer.emit("Add", bent, _scalar(drawer, 1.0))
    return drawer.emit("Mul", drawer.emit("Mul", x, gate), _scalar(drawer, 0.5))


def _silu(drawer: Drawer, x: str) -> str:
    return drawer.emit("Mul", x, drawer.emit("Sigmoid", x))


def _rms_norm(drawer: Drawer, x: str) -> str:
    """The root of the mean square, written out."""
    mean = drawer.emit("ReduceMean", drawer.emit("Mul", x, x), axes=(len(drawer.of(x)) - 1,), keepdims=True)
    root = drawer.emit("Sqrt", drawer.emit("Add", mean, _scalar(drawer, 1e-2)))
    return drawer.emit("Mul", drawer.emit("Div", x, root), drawer.constant(drawer.of(x)[-1]))


def _heads(drawer: Drawer, x: str) -> str | None:
    """Attention of two heads over a sequence, from one product for query, key and value."""
    shape = drawer.of(x)
    if len(shape) != 3 or shape[1] ** 2 * 2 * shape[0] > LARGEST:
        return None
    batch, length, width = shape
    inner = drawer.random.choice((4, 8, 16))
    product = drawer.emit("MatMul", x, drawer.constant(width, 6 * inner, scale=width**-0.5))
    seen = drawer.emit("Reshape", product, shape=(batch, length, 3, 2, inner))
    turned = drawer.emit("Transpose", seen, perm=(2, 0, 3, 1, 4))
    parts = drawer.builder.add("Split", (turned,), axis=0, sizes=(1, 1, 1))
    query, key, value = (drawer.emit("Reshape", one, shape=(batch, 2, length, inner)) for one in parts)
    scores = drawer.emit("MatMul", query, drawer.emit("Transpose", key, perm=(0, 1, 3, 2)))
    scaled = drawer.emit("Mul", scores, _scalar(drawer, inner**-0.5))
    if drawer.random.random() < 0.5:
        scaled = drawer.emit("Add", scaled, drawer.constant(2, length, length))
    mixed = drawer.emit("MatMul", drawer.emit("Softmax", scaled, axis=-1), value)
    joined = drawer.emit("Transpose", mixed, perm=(0, 2, 1, 3))
    return drawer.emit("Reshape", joined, shape=(batch, length, 2 * inner))


def _windows(drawer: Drawer, x: str) -> str | None:
    """An image cut into windows of two by two, as sequences."""
    shape = drawer.of(x)
    if len(shape) != 4 or shape[2] < 4 or shape[3] < 4:
        return None
    batch, channels, rows, columns = shape
    even = drawer.emit(
        "Slice", x, starts=(0,) * 4, steps=(1,) * 4, shape=(batch, channels, rows // 2 * 2, columns // 2 * 2)
    )
    cut = drawer.emit("Reshape", even, shape=(batch, channels, rows // 2, 2, columns // 2, 2))
    turned = drawer.emit("Transpose", cut, perm=(0, 2, 4, 3, 5, 1))
    return drawer.emit("Reshape", turned, shape=(batch * (rows // 2) * (columns // 2), 4, channels))


def _sequence(drawer: Drawer, x: str) -> str | None:
    """An image as a sequence of its places."""
    shape = drawer.of(x)
    if len(shape) != 4:
        return None
    flat = drawer.emit("Reshape", x, shape=(shape[0], shape[1], shape[2] * shape[3]))
    return drawer.emit("Transpose", flat, perm=(0, 2, 1))


def _group_norm(drawer: Drawer, x: str) -> str | None:
    shape = drawer.of(x)
    if len(shape) < 3 or prod(shape[2:]) < 2:
        return None
    groups = drawer.random.choice([one for one in range(1, shape[1] + 1) if shape[1] % one == 0])
    scale, bias = drawer.constant(shape[1]), drawer.constant(shape[1])
    return drawer.emit("GroupNorm", x, scale, bias, groups=groups, epsilon=1e-2)


def _separable(drawer: Drawer, x: str) -> str | None:
    """A depthwise convolution and a pointwise one, with activations between."""
    shape = drawer.of(x)
    if len(shape) != 4 or min(shape[2:]) < 3:
        return None
    channels, outputs = shape[1], drawer.random.choice((4, 9, 16))
    deep = drawer.emit(
        "Conv",
        x,
        drawer.constant(channels, 1, 3, 3, scale=1 / 3),
        drawer.constant(channels),
        **conv_facts(2, pads=1, group=channels, strides=drawer.random.choice((1, 2))),
    )
    weight = drawer.constant(outputs, channels, 1, 1, scale=channels**-0.5)
    return drawer.emit("Conv", _silu(drawer, deep), weight, drawer.constant(outputs), **conv_facts(2))


def _transposed(drawer: Drawer, x: str) -> str | None:
    shape = drawer.of(x)
    if len(shape) not in (3, 4) or prod(shape) * 4 > LARGEST:
        return None
    rank = len(shape) - 2
    weight = drawer.constant(shape[1], 5, *(2,) * rank, scale=shape[1] ** -0.5)
    facts = conv_facts(rank, strides=2, output_padding=0)
    return drawer.emit("ConvTranspose", x, weight, drawer.constant(5), **facts)


BLOCKS: tuple[Step, ...] = (
    *(_residual, _gelu, _silu, _rms_norm, _group_norm),
    *(_heads, _heads, _windows, _sequence, _separable, _transposed),
)
"""What may come next, beside single operators."""
