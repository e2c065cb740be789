"""Index maps: where each element of a view lies in the value that it shows.

A chain of Reshape, Transpose, Slice, … is one map (SmartMem section 3.2). Where a guard does not hold, the
element is not in the value at all but a fill, as around a padded image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from ourcompiler.ir.index import Affine, Dim, Space, constant

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Guard:
    """0 ≤ `index` < `size`."""

    index: Affine
    size: int


@dataclass(frozen=True, slots=True)
class IndexMap:
    """From the elements of a view of shape `shape` to elements of a value of shape `source`: one expression
    for each axis of the source, over the axes of the view.
    """

    shape: Shape
    source: Shape
    results: tuple[Affine, ...]
    guards: tuple[Guard, ...] = ()
    fill: float | int | None = None

    @property
    def space(self) -> Space:
        """The iteration space of the view."""
        return Space(self.shape)

    @property
    def is_identity(self) -> bool:
        """Whether the view is the value itself."""
        return not self.guards and self.shape == self.source and self.results == self.space.dims()

    @property
    def cost(self) -> int:
        """How dear it is to find an element; divisions weigh most."""
        return sum(one.cost for one in self.results) + sum(1 + guard.index.cost for guard in self.guards)

    @property
    def place(self) -> Affine:
        """The place in the dense row-major array of the source."""
        return self.space.linear(self.results, self.source)

    @property
    def is_reshape(self) -> bool:
        """Whether element after element stays where it is, so that nothing but the shape differs."""
        if self.guards or prod(self.shape) != prod(self.source):
            return False
        return self.place == self.space.linear(self.space.dims(), self.shape)

    def __str__(self) -> str:
        dims = ", ".join(f"d{number}" for number in range(len(self.shape)))
        text = f"({dims}) -> ({', '.join(map(str, self.results))})"
        if self.guards:
            tests = ", ".join(f"0 <= {one.index} < {one.size}" for one in self.guards)
            fill = f"{self.fill!r}f" if isinstance(self.fill, float) else str(self.fill)
            text += f" where {tests} else {fill}"
        return text

    def evaluate(self, index: Sequence[int]) -> tuple[int, ...] | None:
        """The element of the source, or None where it is the fill."""
        if not all(0 <= one.index.evaluate(index) < one.size for one in self.guards):
            return None
        return tuple(one.evaluate(index) for one in self.results)

    def indices(self) -> list[tuple[int, ...]]:
        """Every index of the view, in row-major order."""
        return list(product(*map(range, self.shape)))


def identity(shape: Shape) -> IndexMap:
    """The view of everything as it is."""
    return IndexMap(shape, shape, Space(shape).dims())


def index_map(
    shape: Shape,
    source: Shape,
    results: Sequence[Affine],
    guards: Sequence[Guard] = (),
    fill: float | int | None = None,
) -> IndexMap:
    """A map without the guards that always hold."""
    space = Space(shape)
    needed = []
    for guard in dict.fromkeys(guards):
        low, high = space.bounds(guard.index)
        if low < 0 or high >= guard.size:
            needed.append(guard)
    return IndexMap(shape, source, tuple(results), tuple(needed), fill if needed else None)


def compose(outer: IndexMap, inner: IndexMap) -> IndexMap | None:
    """The view `outer` of the view `inner`; None when their fills differ."""
    if outer.shape and outer.source != inner.shape:
        raise ValueError(f"a view of {outer.source} does not fit {inner.shape}")
    if outer.fill is not None and inner.fill is not None and outer.fill != inner.fill:
        return None
    space = outer.space
    results = [space.substitute(one, outer.results) for one in inner.results]
    guards = [Guard(space.substitute(one.index, outer.results), one.size) for one in inner.guards]
    fill = outer.fill if outer.fill is not None else inner.fill
    return index_map(outer.shape, inner.source, results, (*outer.guards, *guards), fill)


def reshape(source: Shape, shape: Shape) -> IndexMap:
    """The same elements in the same order."""
    space = Space(shape)
    place = space.linear(space.dims(), shape)
    return index_map(shape, source, space.delinear(place, source))


def transpose(source: Shape, order: Sequence[int]) -> IndexMap:
    """Axis `i` of the view is axis `order[i]` of the source."""
    shape = tuple(source[axis] for axis in order)
    dims = Space(shape).dims()
    return index_map(shape, source, [dims[list(order).index(axis)] for axis in range(len(source))])


def window(source: Shape, starts: Sequence[int], steps: Sequence[int], shape: Shape) -> IndexMap:
    """From `starts`, every `steps`-th element; steps may be negative."""
    space = Space(shape)
    moved = [
        space.add(space.multiply(dim, step), constant(start))
        for dim, start, step in zip(space.dims(), starts, steps, strict=True)
    ]
    return index_map(shape, source, moved)


def expand(source: Shape, shape: Shape) -> IndexMap:
    """Broadcast: axes of size 1 are repeated, axes in front are added."""
    dims = Space(shape).dims()[len(shape) - len(source) :]
    return index_map(
        shape, source, [dim if size > 1 else constant(0) for dim, size in zip(dims, source, strict=True)]
    )


def gather(source: Shape, axis: int, table: Sequence[int], table_shape: Shape) -> IndexMap:
    """Axis `axis` is replaced by the axes of a table of constant indices."""
    shape = (*source[:axis], *table_shape, *source[axis + 1 :])
    space = Space(shape)
    dims, rank = space.dims(), len(table_shape)
    place = space.linear(dims[axis : axis + rank], table_shape)
    return index_map(shape, source, [*dims[:axis], space.entry(table, place), *dims[axis + rank :]])


def pad(source: Shape, before: Sequence[int], after: Sequence[int], fill: float | int) -> IndexMap:
    """The source with a border of `fill`; negative borders cut."""
    shape = tuple(sum(one) for one in zip(before, source, after, strict=True))
    space = Space(shape)
    inner = [space.add(dim, constant(-low)) for dim, low in zip(space.dims(), before, strict=True)]
    guards = [Guard(index, size) for index, size in zip(inner, source, strict=True)]
    return index_map(shape, source, inner, guards, fill)


def roll(source: Shape, axis: int, shift: int) -> IndexMap:
    """Element `i` along the axis moves to `i + shift`, around the end."""
    space = Space(source)
    dims = list(space.dims())
    size = source[axis]
    dims[axis] = space.remainder(space.add(dims[axis], constant(-shift % size)), size)
    return index_map(source, source, dims)


def strides(place: Affine, rank: int) -> tuple[int, ...] | None:
    """The step of each dimension when the place is nothing but a sum of steps, else None."""
    if any(not isinstance(atom, Dim) for atom, _ in place.terms):
        return None
    return tuple(place.coefficient(Dim(number)) for number in range(rank))
