"""The columns of an operator's row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ourcompiler.ir.graph import Array, Attribute
from ourcompiler.ir.index_map import IndexMap
from ourcompiler.ir.scalar import Code
from ourcompiler.ir.types import DType, TensorType


class Mapping5(Enum):
    """How elements of an operand map to elements of the output (DNNFusion Table 2), least complex first."""

    ONE_TO_ONE = "one-to-one"
    REORGANIZE = "reorganize"
    SHUFFLE = "shuffle"
    ONE_TO_MANY = "one-to-many"
    MANY_TO_MANY = "many-to-many"


class LayoutClass(Enum):
    """Whether its speed depends on the layout of its input, and whether it can choose that of its output
    (SmartMem Tables 3 and 4).
    """

    DEPENDENT_VARIABLE = "ILD & Variable"
    INDEPENDENT_VARIABLE = "ILI & Variable"
    DEPENDENT_FIXED = "ILD & Fixed"
    INDEPENDENT_FIXED = "ILI & Fixed"


Facts = Mapping[str, Any]
Types = Sequence[TensorType | None]
Arrays = Sequence[Array | None]


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Code: an expression for one element; operands are broadcast to the output's shape."""

    code: Code


@dataclass(frozen=True, slots=True)
class View:
    """Code: none. Output number `n` shows elements of the first operand through `views(type, facts)[n]`."""

    views: Callable[[TensorType, Facts], Sequence[IndexMap]]


@dataclass(frozen=True, slots=True)
class Template:
    """Code: the loop nest of that name in `codegen/templates`."""

    name: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Operands to try an operator on: a type each (None: absent), its attributes.

    `domain` bounds the drawn numbers, `values` gives operands that cannot be drawn (indices, say).
    """

    types: tuple[TensorType | None, ...]
    facts: Mapping[str, Attribute] = field(default_factory=dict)
    domain: tuple[float, float] = (-3.0, 3.0)
    values: Mapping[int, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpDef:
    """One operator.

    `infer` gives the types of the outputs and raises ValueError for operands that do not fit; `reference`
    computes with NumPy, apart from `code` on purpose. `tolerance` bounds how far generated code may be from
    the reference, relative to the largest element.
    """

    name: str
    mapping: Mapping5
    layout: LayoutClass
    infer: Callable[[Types, Facts], tuple[TensorType, ...]]
    reference: Callable[[Arrays, Facts], tuple[Array, ...]]
    code: Pointwise | View | Template
    samples: tuple[Sample, ...]
    attributes: tuple[str, ...] = ()
    tolerance: float = 1e-5


def f32(*shape: int) -> TensorType:
    """A float32 tensor type."""
    return TensorType(DType.F32, shape)


def given(types: Types, number: int) -> TensorType:
    """The type of an operand that must be there; raises ValueError when it is not."""
    found = types[number] if number < len(types) else None
    if found is None:
        raise ValueError(f"operand {number} is missing")
    return found


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front; raises ValueError when there is no such axis."""
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"axis {axis} of a tensor with {rank} axes")
    return axis % rank if rank else 0


def axes_of(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from the front, in order, each once; raises ValueError for a repeated one."""
    found = sorted(axis_of(axis, rank) for axis in axes)
    if len(set(found)) < len(found):
        raise ValueError(f"axes {tuple(axes)} repeat one")
    return tuple(found)


def broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The common shape as NumPy has it; raises ValueError when there is none."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        larger = {size for size in sizes if size != 1}
        if len(larger) > 1:
            raise ValueError(f"shapes {' and '.join(map(str, shapes))} do not broadcast")
        result.append(larger.pop() if larger else 1)
    return tuple(result)
