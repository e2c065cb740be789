"""Alignment of profiles: the finest common pieces, and columns that add up."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.protocol import Profile, ProfileEntry
from benchsuite.profiled import Profiled, from_document, to_document
from reports.as_markdown import markdown
from reports.breakdown import align
from reports.breakdown_tables import breakdown_tables

NODES = ("conv1", "relu1", "conv2", "add", "transpose", "matmul")
OPERATORS = ("Conv", "Relu", "Conv", "Add", "Transpose", "MatMul")


def profiled(*entries: ProfileEntry, total: int = 1000, plain: int = 900) -> Profiled:
    return Profiled(Profile(entries, total, "its own profiler"), plain, {"version": "1"}, NODES, OPERATORS)


FINE = profiled(
    ProfileEntry("conv1", "Conv", 300, ("conv1",)),
    ProfileEntry("relu1", "Relu", 50, ("relu1",)),
    ProfileEntry("conv2", "Conv", 200, ("conv2", "add")),
    ProfileEntry("transpose", "Transpose", 80, ("transpose",), "explicit"),
    ProfileEntry("matmul", "MatMul", 150, ("matmul",)),
    ProfileEntry("pack", "Reorder", 70, (), "implicit"),
    ProfileEntry("sync", "Sync", 30, ()),
)
FUSED = profiled(
    ProfileEntry("conv1+relu1", "FusedConv", 280, ("conv1", "relu1")),
    ProfileEntry("conv2", "Conv", 150, ("conv2",)),
    ProfileEntry("add", "Add", 40, ("add",)),
    ProfileEntry("matmul", "MatMul", 400, ("matmul", "gone")),
    total=800,
    plain=790,
)


def test_pieces_are_the_finest_common_ones() -> None:
    found = align({"fine": FINE, "fused": FUSED})
    assert [piece.nodes for piece in found.pieces] == [
        ("conv1", "relu1"),
        ("conv2", "add"),
        ("transpose",),
        ("matmul",),
    ]
    assert [dict(piece.times_ns) for piece in found.pieces] == [
        {"fine": 350, "fused": 280},
        {"fine": 200, "fused": 190},
        {"fine": 80},
        {"fine": 150, "fused": 400},
    ]
    assert [piece.label for piece in found.pieces] == ["Conv, Relu", "Conv, Add", "Transpose", "MatMul"]


def test_columns_add_up() -> None:
    found = align({"fine": FINE, "fused": FUSED})
    for name, column in found.columns.items():
        pieces = sum(piece.times_ns.get(name, 0) for piece in found.pieces)
        assert pieces + column.implicit_ns + column.unattributed_ns == column.total_ns
    fine, fused = found.columns["fine"], found.columns["fused"]
    assert (fine.implicit_ns, fine.unattributed_ns) == (70, 150), "30 of them have a name, but no node"
    assert (fused.implicit_ns, fused.unattributed_ns) == (0, -70), "operators overlap"
    assert fine.overhead == pytest.approx(1000 / 900 - 1)
    assert (fine.explicit_layout_ns, fine.implicit_layout_ns) == (80, 70)


groups = st.lists(st.sets(st.sampled_from(NODES), max_size=3), max_size=6)


@given(st.lists(groups, min_size=1, max_size=3))
def test_alignment_loses_no_time_and_splits_no_operator(frameworks: list[list[set[str]]]) -> None:
    profiles = {
        str(index): profiled(
            *(ProfileEntry("x", "X", 10 + at, tuple(nodes)) for at, nodes in enumerate(entries))
        )
        for index, entries in enumerate(frameworks)
    }
    found = align(profiles)
    seen = [node for piece in found.pieces for node in piece.nodes]
    assert len(seen) == len(set(seen)), "no node is in two pieces"
    for name, one in profiles.items():
        column = found.columns[name]
        pieces = sum(piece.times_ns.get(name, 0) for piece in found.pieces)
        assert pieces + column.implicit_ns + column.unattributed_ns == one.profile.total_ns
        for entry in one.profile.entries:
            assert sum(bool(set(entry.nodes) & set(piece.nodes)) for piece in found.pieces) == bool(
                entry.nodes
            )


def test_alike_pieces_are_added_up() -> None:
    twice = profiled(*(ProfileEntry(name, "Conv", 100, (name,)) for name in ("conv1", "conv2")))
    assert align({"a": twice}).by_label() == (("Conv", 2, {"a": 200}),)


def test_long_labels_are_short() -> None:
    everything = profiled(ProfileEntry("all", "Fused", 100, NODES))
    (piece,) = align({"a": everything}).pieces
    assert piece.label == "Conv ×2, Add, MatMul, Relu, 1 more kinds"


def test_other_graphs_are_refused() -> None:
    other = Profiled(FINE.profile, 1, {}, ("x",), ("Conv",))
    with pytest.raises(ValueError, match="different graphs"):
        align({"a": FINE, "b": other})


def test_a_profile_is_kept_and_read_back() -> None:
    assert from_document(to_document(FINE)) == FINE
    with pytest.raises((KeyError, TypeError, ValueError)):
        from_document({"profile": {}})


def test_breakdown(golden: Callable) -> None:
    tables = [
        *breakdown_tables("swin, 1 thread", {"fine": FINE, "fused": FUSED}),
        breakdown_tables("swin, 1 thread", {"fine": FINE, "fused": FUSED}, every=True)[0],
    ]
    golden("breakdown.md", "\n".join(map(markdown, tables)))
