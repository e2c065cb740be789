"""One more operator for a random graph: each step reads values that there are and adds one."""

from collections.abc import Callable
from math import prod

import numpy as np

from ourcompiler.ir.graph import ABSENT
from ourcompiler.ops.conv import conv_facts
from ourcompiler.ops.pool import window_facts
from ourcompiler.selftest.drawer import LARGEST, Drawer

UNARY = (
    "Abs",
    "Neg",
    "Tanh",
    "Sigmoid",
    "Erf",
    "Relu",
    "Softsign",
    "Floor",
    "Sin",
    "Cos",
    "HardSwish",
    "Mish",
)
BINARY = ("Add", "Sub", "Mul", "Min", "Max")
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")

Step = Callable[[Drawer, str], str | None]
"""None when the value does not suit it."""


def _unary(drawer: Drawer, x: str) -> str:
    return drawer.emit(drawer.random.choice(UNARY), x)


def _binary(drawer: Drawer, x: str) -> str:
    shape = drawer.of(x)
    same = [name for name in drawer.values if drawer.of(name) == shape]
    if drawer.random.random() < 0.5:
        other = drawer.random.choice(same)
    else:
        kept = shape[drawer.random.randint(0, len(shape)) :]
        other = drawer.constant(*(size if drawer.random.random() < 0.7 else 1 for size in kept))
    pair = (x, other) if drawer.random.random() < 0.5 else (other, x)
    return drawer.emit(drawer.random.choice(BINARY), *pair)


def _divide(drawer: Drawer, x: str) -> str:
    below = drawer.emit("Add", drawer.emit("Abs", x), drawer.builder.constant(np.float32(0.5)))
    return drawer.emit("Div", drawer.constant(1), below)


def _clip(drawer: Drawer, x: str) -> str:
    return drawer.emit("Clip", x, low=-0.75, high=1.5)


def _running_sum(drawer: Drawer, x: str) -> str:
    axis = drawer.random.randrange(len(drawer.of(x)))
    facts = {name: drawer.random.random() < 0.5 for name in ("exclusive", "reverse")}
    return drawer.emit("CumSum", drawer.emit("Tanh", x), axis=axis, **facts)


def _where(drawer: Drawer, x: str) -> str:
    condition = drawer.emit("Less", x, drawer.constant(1))
    return drawer.emit("Where", condition, x, drawer.emit("Neg", x))


def _reshape(drawer: Drawer, x: str) -> str:
    count = prod(drawer.of(x))
    shape: list[int] = []
    while count > 1 and len(shape) < 4:
        factor = drawer.random.choice([one for one in range(1, min(count, 40) + 1) if count % one == 0])
        shape.append(factor)
        count //= factor
    return drawer.emit("Reshape", x, shape=(*shape, count))


def _transpose(drawer: Drawer, x: str) -> str:
    order = list(range(len(drawer.of(x))))
    drawer.random.shuffle(order)
    return drawer.emit("Transpose", x, perm=tuple(order))


def _slice(drawer: Drawer, x: str) -> str:
    starts, steps, shape = [], [], []
    for size in drawer.of(x):
        step = drawer.random.choice((1, 1, 2, -1))
        count = drawer.random.randint(1, -(-size // abs(step)))
        reach = (count - 1) * abs(step)
        low = drawer.random.randint(0, size - 1 - reach)
        starts.append(low if step > 0 else low + reach)
        steps.append(step)
        shape.append(count)
    return drawer.emit("Slice", x, starts=tuple(starts), steps=tuple(steps), shape=tuple(shape))


def _pad(drawer: Drawer, x: str) -> str:
    sizes = drawer.of(x)
    before = tuple(drawer.random.choice((0, 0, 1, 2)) for _ in sizes)
    after = tuple(drawer.random.choice((0, 0, 1)) for _ in sizes)
    return drawer.emit("Pad", x, before=before, after=after, fill=drawer.random.choice((0.0, 1.5)))


def _roll(drawer: Drawer, x: str) -> str | None:
    axis = drawer.random.randrange(len(drawer.of(x)))
    size = drawer.of(x)[axis]
    if size < 2:
        return None
    cut = drawer.random.randrange(1, size)
    first, second = drawer.builder.add("Split", (x,), axis=axis, sizes=(cut, size - cut))
    return drawer.emit("Concat", second, first, axis=axis)


def _concat(drawer: Drawer, x: str) -> str:
    axis = drawer.random.randrange(len(drawer.of(x)))
    return drawer.emit("Concat", x, drawer.emit("Tanh", x), axis=axis)


def _gather(drawer: Drawer, x: str) -> str:
    axis = drawer.random.randrange(len(drawer.of(x)))
    size = drawer.of(x)[axis]
    table = tuple(drawer.random.randrange(size) for _ in range(drawer.random.randint(1, 6)))
    return drawer.emit("Take", x, axis=axis, table=table, table_shape=(len(table),))


def _matmul(drawer: Drawer, x: str) -> str:
    *_, depth = drawer.of(x)
    columns = drawer.random.choice((1, 4, 9, 16, 31, 48))
    if len(drawer.of(x)) < 2:
        x = drawer.emit("Reshape", x, shape=(1, depth))
    return drawer.emit("MatMul", x, drawer.constant(depth, columns, scale=depth**-0.5))


def _attention(drawer: Drawer, x: str) -> str | None:
    shape = drawer.of(x)
    if len(shape) < 2 or prod(shape[:-1]) * shape[-2] > LARGEST:
        return None
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    scores = drawer.emit("MatMul", x, drawer.emit("Transpose", x, perm=order))
    scaled = drawer.emit("Mul", scores, drawer.builder.constant(np.float32(shape[-1] ** -0.5)))
    if drawer.random.random() < 0.5:
        scaled = drawer.emit("Add", scaled, drawer.constant(shape[-2], shape[-2]))
    return drawer.emit("MatMul", drawer.emit("Softmax", scaled, axis=len(shape) - 1), x)


def _is_image(drawer: Drawer, x: str, rank: int) -> bool:
    """Whether the value has a batch, channels and `rank` spatial axes that a window of 3 fits into."""
    shape = drawer.of(x)
    return len(shape) == rank + 2 and min(shape[2:]) >= 3


def _conv(drawer: Drawer, x: str) -> str | None:
    rank = len(drawer.of(x)) - 2
    if not 1 <= rank <= 3 or not _is_image(drawer, x, rank):
        return None
    channels = drawer.of(x)[1]
    group = (
        channels if drawer.random.random() < 0.4 else drawer.random.choice([1, *(2,) * (channels % 2 == 0)])
    )
    outputs = group * drawer.random.choice((1, 2, 5, 8))
    weight = drawer.constant(
        outputs, channels // group, *(3,) * rank, scale=(3**rank * channels / group) ** -0.5
    )
    bias = drawer.constant(outputs) if drawer.random.random() < 0.5 else ABSENT
    facts = conv_facts(
        rank, pads=drawer.random.choice((0, 1)), strides=drawer.random.choice((1, 2)), group=group
    )
    return drawer.emit("Conv", x, weight, bias, **facts)


def _pool(drawer: Drawer, x: str) -> str | None:
    rank = len(drawer.of(x)) - 2
    if not 1 <= rank <= 3 or not _is_image(drawer, x, rank):
        return None
    facts = window_facts((3,) * rank, strides=drawer.random.choice((1, 2)), pads=1)
    if drawer.random.random() < 0.5:
        return drawer.emit("MaxPool", x, **facts, with_places=False, column_major=False)
    return drawer.emit("AveragePool", x, **facts, count_border=drawer.random.random() < 0.5)


def _softmax(drawer: Drawer, x: str) -> str:
    return drawer.emit("Softmax", x, axis=drawer.random.randrange(len(drawer.of(x))))


def _norm(drawer: Drawer, x: str) -> str:
    shape = drawer.of(x)
    axis = drawer.random.randrange(len(shape))
    scale = drawer.constant(*shape[axis:])
    bias = drawer.constant(*shape[axis:]) if drawer.random.random() < 0.5 else ABSENT
    return drawer.emit("LayerNorm", x, scale, bias, axis=axis, epsilon=1e-3)


def _reduce(drawer: Drawer, x: str) -> str:
    rank = len(drawer.of(x))
    axes = tuple(axis for axis in range(rank) if drawer.random.random() < 0.4) or (rank - 1,)
    keep = drawer.random.random() < 0.7 or len(axes) == rank
    return drawer.emit(drawer.random.choice(REDUCTIONS), x, axes=axes, keepdims=keep)


STEPS: tuple[Step, ...] = (
    *(_unary, _unary, _binary, _binary, _where, _divide, _clip, _running_sum),
    *(_reshape, _reshape, _transpose, _transpose, _slice, _pad, _roll, _concat, _gather),
    *(_matmul, _matmul, _attention, _conv, _conv, _pool, _softmax, _norm, _reduce),
)
"""What may come next."""
