"""Every sample of every operator, with operands drawn from its domain."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ourcompiler.build import Builder
from ourcompiler.ir.graph import ABSENT, Array, Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import OpDef, Sample


@dataclass(frozen=True)
class Case:
    """One sample of one operator."""

    row: OpDef
    number: int

    @property
    def sample(self) -> Sample:
        """The operands and attributes to try."""
        return self.row.samples[self.number]

    def __str__(self) -> str:
        return f"{self.row.name}-{self.number}"


CASES = tuple(Case(row, number) for row in OPS.values() for number in range(len(row.samples)))


def drawn(case: Case) -> list[Array | None]:
    """Operands from the sample's domain, the same in every run."""
    generator = np.random.default_rng(zlib.crc32(str(case).encode()))
    return [_operand(case.sample, number, one, generator) for number, one in enumerate(case.sample.types)]


def _operand(
    sample: Sample, number: int, one: TensorType | None, generator: np.random.Generator
) -> Array | None:
    if one is None:
        return None
    if number in sample.values:
        return np.asarray(sample.values[number], one.dtype.numpy).reshape(one.shape)
    low, high = sample.domain
    if one.dtype is DType.BOOL:
        return generator.random(one.shape) < 0.5
    if not one.dtype.is_float:
        return generator.integers(
            max(int(low), 0) if not one.dtype.is_signed else int(low), int(high) + 1, one.shape
        ).astype(one.dtype.numpy)
    return generator.uniform(low, high, one.shape).astype(one.dtype.numpy)


def graph_of(case: Case) -> Graph:
    """The operator alone; its operands are the inputs `x0`, `x1`, …, its results `y0`, `y1`, …"""
    builder = Builder()
    names = [
        ABSENT if one is None else builder.input(f"x{number}", one)
        for number, one in enumerate(case.sample.types)
    ]
    made = builder.add(case.row.name, names, **dict[str, Any](case.sample.facts))
    return builder.graph([(f"y{number}", name) for number, name in enumerate(made)])


def inputs_of(case: Case) -> dict[str, Array]:
    """The operands by those names."""
    return {f"x{number}": value for number, value in enumerate(drawn(case)) if value is not None}
