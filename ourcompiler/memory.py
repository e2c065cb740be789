"""The plan of memory: one arena, every value at a fixed place while it is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Need:
    """A buffer and the steps during which it is needed, both ends included."""

    name: str
    byte_count: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Arena:
    """Places in bytes from the start of the arena."""

    offsets: Mapping[str, int]
    byte_count: int


def plan(needs: Sequence[Need]) -> Arena:
    """Places for all buffers: the largest first, each at the lowest place where nothing needed at the same
    time lies (greedy by size, as TFLite and MNN do; Pisarchyk and Lee 2020).
    """
    placed: list[tuple[int, int, Need]] = []
    for need in sorted(needs, key=lambda one: (-one.byte_count, one.first, one.name)):
        beside = sorted(
            (start, end) for start, end, one in placed if one.first <= need.last and need.first <= one.last
        )
        at, size = 0, aligned(need.byte_count)
        for start, end in beside:
            if start - at >= size:
                break
            at = max(at, end)
        placed.append((at, at + size, need))
    offsets = {need.name: start for start, _, need in placed}
    return Arena(offsets, max((end for _, end, _ in placed), default=0))


def aligned(byte_count: int) -> int:
    """Whole cache lines; nothing takes one too, so that every buffer has a place of its own."""
    return max(ALIGNMENT, -(-byte_count // ALIGNMENT) * ALIGNMENT)
