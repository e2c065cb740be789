"""The plan of memory: nothing that is needed at the same time overlaps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourcompiler.memory import ALIGNMENT, Need, plan

needs = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 20), st.integers(0, 8)),
    min_size=1,
    max_size=30,
).map(lambda rows: [Need(f"v{n}", size, first, first + more) for n, (size, first, more) in enumerate(rows)])


@given(needs)
def test_nothing_overlaps(wanted: list[Need]) -> None:
    arena = plan(wanted)
    for one in wanted:
        assert arena.offsets[one.name] % ALIGNMENT == 0
        assert arena.offsets[one.name] + one.byte_count <= arena.byte_count
        for other in wanted:
            if one is other or one.last < other.first or other.last < one.first:
                continue
            a, b = arena.offsets[one.name], arena.offsets[other.name]
            assert a + max(one.byte_count, 1) <= b or b + max(other.byte_count, 1) <= a


def test_memory_is_used_again() -> None:
    chain = [Need(f"v{n}", 1024, n, n + 1) for n in range(10)]
    assert plan(chain).byte_count == 2 * 1024


@pytest.mark.parametrize("count", [0, 1])
def test_little_needs_little(count: int) -> None:
    assert plan([Need("v", 1, 0, 0)] * count).byte_count == count * ALIGNMENT
