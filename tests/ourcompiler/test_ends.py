"""Results and operands at the edges: the same value twice, what is an input or known, nothing at all."""

from collections.abc import Callable

import numpy as np
import pytest

from ourcompiler.build import Builder
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.selftest.compare import failures
from ourcompiler.selftest.random_graphs import Drawn

Make = Callable[..., list[str]]


def case(make: Make, *shapes: tuple[int, ...], dtype: DType = DType.F32) -> Drawn:
    """The graph that `make` builds from inputs of these shapes."""
    builder = Builder("ends")
    inputs = [builder.input("x", TensorType(dtype, shape)) for shape in shapes or ((4, 9),)]
    made = make(builder, *inputs)
    graph = builder.graph([(f"y{number}", name) for number, name in enumerate(made)])
    generator = np.random.default_rng(0)
    return Drawn(
        graph,
        {
            name: (3 * generator.standard_normal(builder.types[name].shape)).astype(dtype.numpy)
            for name in builder.inputs
        },
    )


def one(builder: Builder, op: str, *operands: str, **facts: object) -> str:
    return builder.add(op, operands, **facts)[0]  # type: ignore[arg-type]


def ones(builder: Builder, *shape: int) -> str:
    return builder.constant(np.ones(shape, np.float32))


def same_twice(b: Builder, x: str) -> list[str]:
    return [one(b, "Tanh", x)] * 2


def made_twice(b: Builder, x: str) -> list[str]:
    return [one(b, "Tanh", x), one(b, "Tanh", x)]


def an_input(b: Builder, x: str) -> list[str]:
    return [x, one(b, "Tanh", x), x]


def a_constant(b: Builder, x: str) -> list[str]:
    return [ones(b, 5), one(b, "Tanh", x)]


def views(b: Builder, x: str) -> list[str]:
    made = one(b, "Tanh", x)
    turned, flat = one(b, "Transpose", made, perm=(1, 0)), one(b, "Reshape", made, shape=(2, 18))
    return [made, turned, flat, one(b, "Transpose", x, perm=(1, 0))]


def joined(b: Builder, x: str) -> list[str]:
    made, other = one(b, "Tanh", x), one(b, "Neg", x)
    inner = one(b, "Concat", made, other, axis=1)
    return [made, one(b, "Concat", made, x, made, axis=0), one(b, "Concat", inner, made, other, axis=1)]


def joined_and_read(b: Builder, x: str) -> list[str]:
    made = one(b, "Tanh", x)
    whole = one(b, "Concat", made, one(b, "MatMul", made, ones(b, 9, 4)), axis=1)
    mean = one(b, "ReduceMean", made, axes=(1,), keepdims=True)
    return [whole, one(b, "MatMul", whole, ones(b, 13, 5)), mean]


def nothing(b: Builder, x: str) -> list[str]:
    total = one(b, "ReduceSum", x, axes=(1,), keepdims=True)
    joined = one(b, "Concat", x, x, axis=1)
    padded = one(b, "Pad", x, before=(0, 1), after=(0, 1), fill=1.5)
    return [one(b, "Tanh", x), joined, total, padded, one(b, "Transpose", x, perm=(1, 0))]


def no_rows(b: Builder, x: str) -> list[str]:
    made = one(b, "MatMul", one(b, "Tanh", x), ones(b, 4, 6))
    normed = one(b, "LayerNorm", x, ones(b, 4), "", axis=1, epsilon=1e-3)
    return [made, one(b, "Softmax", x, axis=1), normed, one(b, "Concat", x, ones(b, 2, 4), axis=0)]


def no_depth(b: Builder, x: str, y: str) -> list[str]:
    return [one(b, "MatMul", x, y)]


def single(b: Builder, x: str) -> list[str]:
    return [one(b, "Tanh", x), one(b, "Reshape", x, shape=(1, 1))]


def unread(b: Builder, x: str, y: str) -> list[str]:
    return [one(b, "Tanh", x)]


def typed(b: Builder, x: str, y: str) -> list[str]:
    product = one(b, "MatMul", x, y)
    wide = one(b, "Cast", product, to="f32")
    largest = one(b, "ReduceMax", x, axes=(0,), keepdims=False)
    turned = one(b, "Transpose", one(b, "Abs", x), perm=(1, 0))
    joined = one(b, "Concat", one(b, "Transpose", x, perm=(1, 0)), turned, axis=0)
    return [product, one(b, "Tanh", wide), largest, joined]


CASES = {
    **{
        make.__name__: case(make)
        for make in (same_twice, made_twice, an_input, a_constant, views, joined, joined_and_read)
    },
    "nothing": case(nothing, (4, 0)),
    "no_rows": case(no_rows, (0, 4)),
    "no_depth": case(no_depth, (4, 0), (0, 5)),
    "single": case(single, ()),
    "unread": case(unread, (3,), (4,)),
    **{
        f"typed {dtype.value}": case(typed, (4, 9), (9, 6), dtype=dtype)
        for dtype in (DType.F64, DType.I32, DType.U8, DType.I8)
    },
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return failures(CASES, tmp_path_factory.mktemp("ends"))


@pytest.mark.parametrize("name", CASES)
def test_what_is_at_the_edges(name: str, wrong: dict[str, str]) -> None:
    assert name not in wrong, wrong[name]
