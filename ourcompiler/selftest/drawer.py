"""A graph in the making, at random: shapes, constants, the choice of what to go on from."""

from math import prod
from random import Random

import numpy as np

from ourcompiler.build import Builder
from ourcompiler.ir.graph import Array
from ourcompiler.ir.types import DType, TensorType

SIZES = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 33)
LARGEST = 6000
"""Elements of a value at most: the reference is slow."""
USUAL = (
    (1, 8, 9, 9),
    (2, 6, 12, 7),
    (1, 16, 16, 16),
    (1, 17, 24),
    (2, 9, 32),
    (1, 5, 40),
    (49, 33),
    (1, 4, 5, 6, 7),
)
"""Shapes of images and sequences, as networks have them."""


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
        """A usual shape, or a small one of up to five axes."""
        if self.random.random() < 0.5:
            return self.random.choice(USUAL)
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

    def inputs(self) -> dict[str, Array]:
        """Numbers for the inputs."""
        return {
            name: self.numbers.standard_normal(self.of(name)).astype(np.float32)
            for name in self.builder.inputs
        }
