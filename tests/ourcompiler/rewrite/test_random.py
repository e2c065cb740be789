"""All rules on drawn graphs, where they meet in ways that nobody thought of."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ourcompiler.build import Builder
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.reference import run
from ourcompiler.rewrite.cost import graph_cost
from ourcompiler.rewrite.passes import rewrite

SHAPES = ((4,), (3, 4), (2, 3, 4), (3, 1), (1, 3, 4))
CONSTANTS = (0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 1 / 3)
UNARY = ("Abs", "Neg", "Relu", "Sigmoid", "Tanh", "Erf", "Identity", "Softplus")
BINARY = ("Add", "Sub", "Mul", "Max", "Min")
REDUCED = ("ReduceSum", "ReduceMean", "ReduceMax")


class Drawing:
    """A graph in the making, with every value that may be read so far."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.builder = Builder()
        self.values = [self.builder.input("x", TensorType(DType.F64, one)) for one in SHAPES]

    def value(self) -> str:
        """One of the later values, mostly."""
        count = len(self.values)
        return self.values[
            max(int(count - self.random.geometric(0.25)), int(self.random.integers(count)) // 2)
        ]

    def add(self, op: str, *inputs: str, **facts: object) -> str:
        origin = (f"{op}.{len(self.builder.nodes)}",)
        return self.builder.add(op, inputs, origin=origin, **facts)[0]  # type: ignore[arg-type]

    def number(self) -> str:
        return self.builder.constant(np.float64(self.random.choice(CONSTANTS)))

    def shape(self, value: str) -> tuple[int, ...]:
        return self.builder.types[value].shape

    def other(self, value: str) -> str:
        """A value that broadcasts with it, or a constant."""
        if self.random.random() < 0.4:
            shape = self.shape(value)[-1:] if self.random.random() < 0.5 else ()
            return self.builder.constant(self.random.uniform(-2, 2, shape)) if shape else self.number()
        for _ in range(20):
            found = self.value()
            try:
                np.broadcast_shapes(self.shape(found), self.shape(value))
            except ValueError:
                continue
            return found
        return value


def unary(drawing: Drawing) -> str:
    return drawing.add(str(drawing.random.choice(UNARY)), drawing.value())


def binary(drawing: Drawing) -> str:
    value = drawing.value()
    operands = [value, drawing.other(value)]
    if drawing.random.random() < 0.3:
        operands.reverse()
    return drawing.add(str(drawing.random.choice(BINARY)), *operands)


def quotient(drawing: Drawing) -> str:
    """By something above 1."""
    value = drawing.value()
    below = drawing.add(
        "Add", drawing.add("Abs", drawing.other(value)), drawing.builder.constant(np.float64(1))
    )
    if drawing.random.random() < 0.5:
        return drawing.add("Mul", value, drawing.add("Reciprocal", below))
    return drawing.add("Div", value, below)


def power(drawing: Drawing) -> str:
    value = drawing.add("Tanh", drawing.value())
    choice = drawing.random.integers(3)
    if choice == 0:
        return drawing.add("Pow", value, drawing.builder.constant(np.float64(2)))
    return drawing.add("Exp", value) if choice == 1 else drawing.add("Sqrt", drawing.add("Abs", value))


def reduction(drawing: Drawing) -> str:
    value = drawing.value()
    rank = len(drawing.shape(value))
    axes = (
        tuple(
            sorted(drawing.random.choice(rank, drawing.random.integers(1, rank + 1), replace=False).tolist())
        )
        if rank
        else ()
    )
    keep = bool(drawing.random.random() < 0.7)
    return drawing.add(str(drawing.random.choice(REDUCED)), value, axes=axes, keepdims=keep)


def movement(drawing: Drawing) -> str:
    value = drawing.value()
    shape = drawing.shape(value)
    if drawing.random.random() < 0.5:
        return drawing.add("Transpose", value, perm=tuple(drawing.random.permutation(len(shape)).tolist()))
    return drawing.add(
        "Reshape", value, shape=(1, *shape) if len(shape) < 3 else (shape[0] * shape[1], *shape[2:])
    )


def parts(drawing: Drawing) -> str:
    """Two slices, in either order, together again."""
    value = drawing.value()
    shape = drawing.shape(value)
    if not shape or shape[-1] < 2:
        return drawing.add("Neg", value)
    cut, rank = int(drawing.random.integers(1, shape[-1])), len(shape)
    found = [
        drawing.add(
            "Slice", value, starts=(*[0] * (rank - 1), start), steps=(1,) * rank, shape=(*shape[:-1], size)
        )
        for start, size in ((0, cut), (cut, shape[-1] - cut))
    ]
    if drawing.random.random() < 0.5:
        found.reverse()
    return drawing.add("Concat", *found, axis=rank - 1)


def matrix(drawing: Drawing) -> str:
    """With known weights, often with a bias, or of two values."""
    value = drawing.value()
    shape = drawing.shape(value)
    if len(shape) < 2:
        return drawing.add("Neg", value)
    if drawing.random.random() < 0.3:
        order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
        return drawing.add("MatMul", value, drawing.add("Transpose", value, perm=order))
    weight = drawing.builder.constant(drawing.random.uniform(-1, 1, (shape[-1], 4)))
    found = drawing.add("MatMul", value, weight)
    if drawing.random.random() < 0.6:
        found = drawing.add("Add", found, drawing.builder.constant(drawing.random.uniform(-1, 1, 4)))
    return found


def split(drawing: Drawing) -> str:
    """All parts can be read."""
    value = drawing.value()
    shape = drawing.shape(value)
    axis = int(drawing.random.integers(len(shape))) if shape else 0
    if not shape or shape[axis] < 2:
        return drawing.add("Softplus", value)
    found = drawing.builder.add("Split", (value,), axis=axis, sizes=(1, shape[axis] - 1))
    drawing.values.append(found[0])
    return found[1]


def softened(drawing: Drawing) -> str:
    """Softmax or a normalisation, in parts."""
    value = drawing.value()
    shape = drawing.shape(value)
    if not shape:
        return drawing.add("Abs", value)
    facts = {"axes": (len(shape) - 1,), "keepdims": True}
    if drawing.random.random() < 0.5:
        power = drawing.add("Exp", drawing.add("Sub", value, drawing.add("ReduceMax", value, **facts)))
        return drawing.add("Div", power, drawing.add("ReduceSum", power, **facts))
    centred = drawing.add("Sub", value, drawing.add("ReduceMean", value, **facts))
    variance = drawing.add("ReduceMean", drawing.add("Mul", centred, centred), **facts)
    small = drawing.builder.constant(np.float64(0.1))
    return drawing.add("Div", centred, drawing.add("Sqrt", drawing.add("Add", variance, small)))


STEPS: tuple[Callable[[Drawing], str], ...] = (
    *(unary, unary, binary, binary, binary, quotient, power, reduction),
    *(movement, movement, parts, matrix, matrix, split, softened),
)


def drawn(seed: int) -> Graph:
    drawing = Drawing(seed)
    for _ in range(30):
        drawing.values.append(STEPS[drawing.random.integers(len(STEPS))](drawing))
    results = [drawing.values[-1], *drawing.random.choice(drawing.values[len(SHAPES) :], 3)]
    graph = drawing.builder.graph([(f"y{number}", str(value)) for number, value in enumerate(results)])
    shaped = {name: one.reshape(graph.types[name].shape) for name, one in graph.constants.items()}
    return replace(graph, constants=shaped)  # the builder keeps a folded scalar as an array of one element


@pytest.mark.parametrize("seed", range(150))
def test_the_meaning_stays(seed: int) -> None:
    graph = drawn(seed)
    random = np.random.default_rng(seed)
    feeds = {name: random.uniform(-2, 2, graph.types[name].shape) for name in graph.inputs}
    after = rewrite(graph)
    assert graph_cost(after) <= graph_cost(graph)
    assert rewrite(after) == after
    expected, found = run(graph, feeds), run(after, feeds)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9 * np.abs(value).max(initial=1.0))
