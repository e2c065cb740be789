"""Decompositions that read like NumPy: `x * scale + bias` puts rows of ours into the graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

import numpy as np

from ourcompiler.ir.graph import Array, Attribute
from ourcompiler.ir.index_map import IndexMap
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.onnx_in.site import Site
from ourcompiler.ops.table import axis_of

Operand: TypeAlias = Union["Value", Array, np.generic, float, int, bool]
"""A value, or what becomes a constant of the element type of the value that it meets."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the graph that is being made at `site`."""

    site: Site
    name: str

    __array_ufunc__ = None  # an array on the left leaves the operator to the value on the right

    @property
    def type(self) -> TensorType:
        """Element type and shape."""
        return self.site.builder.types[self.name]

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.type.shape

    @property
    def rank(self) -> int:
        """How many axes."""
        return len(self.shape)

    @property
    def known(self) -> Array | None:
        """What it is, when it is a constant."""
        return self.site.builder.known(self.name)

    def constant(self, value: Any) -> "Value":
        """A constant of the same element type."""
        return constant(self.site, np.asarray(value, self.dtype.numpy))

    def apply(self, op: str, *others: Operand, **facts: Attribute) -> "Value":
        """A row with this as its first operand; returns its first output."""
        names = [one.name if isinstance(one, Value) else self.constant(one).name for one in others]
        return Value(self.site, self.site.emit(op, (self.name, *names), **facts))

    def _reflected(self, op: str, other: Operand) -> "Value":
        left = other if isinstance(other, Value) else self.constant(other)
        return left.apply(op, self)

    def __add__(self, other: Operand) -> "Value":
        return self.apply("Add", other)

    def __radd__(self, other: Operand) -> "Value":
        return self._reflected("Add", other)

    def __sub__(self, other: Operand) -> "Value":
        return self.apply("Sub", other)

    def __rsub__(self, other: Operand) -> "Value":
        return self._reflected("Sub", other)

    def __mul__(self, other: Operand) -> "Value":
        return self.apply("Mul", other)

    def __rmul__(self, other: Operand) -> "Value":
        return self._reflected("Mul", other)

    def __truediv__(self, other: Operand) -> "Value":
        return self.apply("Div", other)

    def __rtruediv__(self, other: Operand) -> "Value":
        return self._reflected("Div", other)

    def __mod__(self, other: Operand) -> "Value":
        """The remainder, with the sign of the divisor."""
        return self.apply("Mod", other, fmod=False)

    def __matmul__(self, other: "Value") -> "Value":
        return self.apply("MatMul", other)

    def __and__(self, other: "Value") -> "Value":
        return self.apply("And", other)

    def equal(self, other: Operand) -> "Value":
        """Whether elements are the same."""
        return self.apply("Equal", other)

    def less(self, other: Operand) -> "Value":
        """Whether elements are less."""
        return self.apply("Less", other)

    def at_most(self, other: Operand) -> "Value":
        """Whether elements are less or the same."""
        return self.apply("LessOrEqual", other)

    def choose(self, yes: Operand, no: Operand) -> "Value":
        """`yes` where this holds, else `no`; one of them at least is a value."""
        like = yes if isinstance(yes, Value) else no
        assert isinstance(like, Value)
        pair = [one if isinstance(one, Value) else like.constant(one) for one in (yes, no)]
        return self.apply("Where", *pair)

    def clip(self, low: Operand, high: Operand) -> "Value":
        """No less than `low`, no more than `high`."""
        return self.apply("Max", low).apply("Min", high)

    def cast(self, dtype: DType) -> "Value":
        """The same numbers in another element type."""
        return self if dtype is self.dtype else self.apply("Cast", to=dtype.value)

    def reshape(self, *shape: int) -> "Value":
        """The same elements in the same order."""
        return self if shape == self.shape else self.apply("Reshape", shape=tuple(map(int, shape)))

    def expand(self, *shape: int) -> "Value":
        """Repeated to that shape, as NumPy broadcasts."""
        return self if shape == self.shape else self.apply("Expand", shape=tuple(map(int, shape)))

    def transpose(self, *order: int) -> "Value":
        """Axis `i` of the result is axis `order[i]`."""
        return self if order == tuple(range(self.rank)) else self.apply("Transpose", perm=order)

    def swapped(self, first: int, second: int) -> "Value":
        """With two axes in each other's place."""
        order = list(range(self.rank))
        order[first], order[second] = order[second], order[first]
        return self.transpose(*order)

    def moved(self, axis: int, to: int) -> "Value":
        """With one axis at another place, the others in order."""
        rest = [one for one in range(self.rank) if one != axis % self.rank]
        rest.insert(to % self.rank, axis % self.rank)
        return self.transpose(*rest)

    def part(self, axis: int, start: int, stop: int, step: int = 1) -> "Value":
        """Elements `start`, `start + step`, … before `stop` along one axis."""
        axis = axis_of(axis, self.rank)
        count = len(range(start, stop, step))
        if (start, step, count) == (0, 1, self.shape[axis]):
            return self
        starts, steps, shape = [0] * self.rank, [1] * self.rank, list(self.shape)
        starts[axis], steps[axis], shape[axis] = start if count else 0, step, count
        return self.apply("Slice", starts=tuple(starts), steps=tuple(steps), shape=tuple(shape))

    def at(self, axis: int, place: int) -> "Value":
        """One place of an axis, which is gone then."""
        shape = list(self.shape)
        del shape[axis]
        return self.part(axis, place, place + 1).reshape(*shape)

    def parts(self, axis: int, count: int) -> tuple["Value", ...]:
        """As many equal parts along one axis."""
        size = self.shape[axis] // count
        return tuple(self.part(axis, size * one, size * (one + 1)) for one in range(count))

    def take(self, axis: int, table: Any) -> "Value":
        """Elements at known places of one axis, which the axes of the table replace."""
        places = np.asarray(table, np.int64)
        facts = {"table": tuple(places.reshape(-1).tolist()), "table_shape": places.shape}
        return self.apply("Take", axis=axis, **facts)

    def pad(self, axis: int, before: int, after: int, fill: float = 0.0) -> "Value":
        """With a border along one axis."""
        if not before and not after:
            return self
        low, high = [0] * self.rank, [0] * self.rank
        low[axis], high[axis] = before, after
        return self.apply("Pad", before=tuple(low), after=tuple(high), fill=fill)

    def seen(self, view: IndexMap) -> "Value":
        """Through an index map."""
        return self.apply("View", map=view)

    def reduce(self, op: str, axes: Sequence[int], *, keep: bool = True) -> "Value":
        """Folded over some axes by one of the reductions."""
        places = tuple(sorted(axis % self.rank for axis in axes))
        return self.apply(op, axes=places, keepdims=keep)


def constant(site: Site, value: Any) -> Value:
    """A constant of the element type of `value`."""
    return Value(site, site.builder.constant(value))


def operand(site: Site, number: int) -> Value:
    """An operand of the node that must be given."""
    return Value(site, site.operand(number))


def optional(site: Site, number: int) -> Value | None:
    """An operand of the node, or None."""
    return operand(site, number) if site.has(number) else None


def joined(values: Sequence[Value], axis: int) -> Value:
    """One after another along an axis."""
    if len(values) == 1:
        return values[0]
    names = [one.name for one in values]
    return Value(values[0].site, values[0].site.emit("Concat", names, axis=axis))


def stacked(values: Sequence[Value], axis: int) -> Value:
    """Along a new axis."""
    shape = values[0].shape
    wide = (*shape[:axis], 1, *shape[axis:])
    return joined([one.reshape(*wide) for one in values], axis)


def names(*values: Value) -> tuple[str, ...]:
    """What a converter returns; what is an operand as it was gets a row of its own."""
    return tuple((one.apply("Identity") if one.name in one.site.inputs else one).name for one in values)


def along(values: Any, axis: int, rank: int) -> Array:
    """A known vector that lies along one axis of `rank`, so that it broadcasts."""
    return np.asarray(values).reshape([-1 if one == axis else 1 for one in range(rank)])
