"""Where the elements of a value lie in its buffer: the layout that was chosen for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ourcompiler.ir.index import Affine, Space
from ourcompiler.ir.index_map import IndexMap


@dataclass(frozen=True, slots=True)
class Storage:
    """`place` is over the axes of the value, of shape `shape`; the buffer has `count` elements."""

    shape: tuple[int, ...]
    place: Affine
    count: int

    @property
    def is_dense(self) -> bool:
        """Whether it is the row-major array that everybody outside expects."""
        space = Space(self.shape)
        return self.place == space.linear(space.dims(), self.shape)

    def at(self, space: Space, index: Sequence[Affine]) -> Affine:
        """The place of an element, as an expression of another space."""
        return space.substitute(self.place, index)


def dense(shape: tuple[int, ...]) -> Storage:
    """Row-major."""
    space = Space(shape)
    return Storage(shape, space.linear(space.dims(), shape), prod(shape))


def ordered(shape: tuple[int, ...], order: Sequence[int], gap: int = 0) -> Storage:
    """With the axes from the slowest to the fastest in this order; after each run of the fastest one lie as
    many elements that nobody uses as `gap` says. Dense without one.
    """
    space = Space(shape)
    dims, extents = space.dims(), [shape[axis] for axis in order]
    if gap:
        extents[-1] += gap
    return Storage(shape, space.linear([dims[axis] for axis in order], extents), prod(extents))


def seen_as(view: IndexMap, inverse: IndexMap, within: Storage) -> Storage:
    """The value that `view` shows, stored so that the view itself lies as `within` says.

    `inverse` finds the element of the view for an element of the value.
    """
    return Storage(view.source, within.at(inverse.space, inverse.results), within.count)
