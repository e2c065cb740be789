"""Graphs drawn at random from the operator table, to be compiled and compared with the reference.

Numbers stay near 1: what could grow without bound goes through a squashing operator first.
"""

from collections.abc import Callable
from math import prod
from random import Random

import numpy as np

from ourcompiler.build import Builder
from ourcompiler.ir.graph import ABSENT, Array, Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.conv import conv_facts
from ourcompiler.ops.pool import window_facts

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
SIZES = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 33)
LARGEST = 6000
LEAST_NODES, MOST_NODES = 3, 14


class Drawer:
    """One graph in the making."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.builder = Builder(f"random {seed}")
        self.values: list[str] = []
        for _ in range(self.random.randint(1, 3)):
            self.values.append(self.builder.input("x", TensorType(DType.F32, self.shape())))

    def shape(self) -> tuple[int, ...]:
        """A small shape of up to five axes."""
        shape: tuple[int, ...] = ()
        for _ in range(self.random.randint(1, 5)):
            size = self.random.choice(SIZES)
            if prod(shape) * size <= LARGEST:
                shape = (*shape, size)
        return shape or (4,)

    def pick(self) -> str:
        """A value to go on from; late ones more often."""
        return self.random.choice([*self.values[-3:], self.random.choice(self.values)])

    def constant(self, *shape: int, scale: float = 1.0) -> str:
        """A constant of that shape."""
        return self.builder.constant((scale * self.numbers.standard_normal(shape)).astype(np.float32), "w")

    def emit(self, op: str, *operands: str, **facts: object) -> str:
        """A node; its first result."""
        return self.builder.add(op, operands, **facts)[0]  # type: ignore[arg-type]

    def of(self, name: str) -> tuple[int, ...]:
        """The shape of a value."""
        return self.builder.types[name].shape

    def graph(self) -> Graph:
        """A graph with the last value, and perhaps others, as results."""
        for _ in range(self.random.randint(LEAST_NODES, MOST_NODES)):
            made = self.random.choice(STEPS)(self, self.pick())
            if made is not None and 0 < prod(self.of(made)) <= LARGEST:
                self.values.append(made)
        results = [self.values[-1], *(one for one in self.values[:-1] if self.random.random() < 0.15)]
        return self.builder.graph([(f"y{number}", name) for number, name in enumerate(results)])

    def inputs(self) -> dict[str, Array]:
        """Numbers for the inputs."""
        return {
            name: self.numbers.standard_normal(self.of(name)).astype(np.float32)
            for name in self.builder.inputs
        }


Step = Callable[[Drawer, str], str | None]


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


def _image(drawer: Drawer, x: str, rank: int) -> str | None:
    """The value as an image with `rank` spatial axes."""
    shape = drawer.of(x)
    if len(shape) >= rank + 2 or prod(shape) < 8:
        return x if len(shape) == rank + 2 and min(shape[2:]) >= 3 else None
    return None


def _conv(drawer: Drawer, x: str) -> str | None:
    rank = drawer.random.choice((1, 2, 3))
    image = _image(drawer, x, rank)
    if image is None:
        return None
    channels = drawer.of(image)[1]
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
    return drawer.emit("Conv", image, weight, bias, **facts)


def _pool(drawer: Drawer, x: str) -> str | None:
    rank = drawer.random.choice((1, 2))
    image = _image(drawer, x, rank)
    if image is None:
        return None
    facts = window_facts((3,) * rank, strides=drawer.random.choice((1, 2)), pads=1)
    if drawer.random.random() < 0.5:
        return drawer.emit("MaxPool", image, **facts, with_places=False, column_major=False)
    return drawer.emit("AveragePool", image, **facts, count_border=drawer.random.random() < 0.5)


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
    *(_unary, _unary, _binary, _binary, _where),
    *(_reshape, _reshape, _transpose, _transpose, _slice, _pad, _roll, _concat, _gather),
    *(_matmul, _matmul, _attention, _conv, _conv, _pool, _softmax, _norm, _reduce),
)
"""What may come next."""
