"""Which original nodes a fused operator covers: every node once, told from names of tensors and nodes."""

import pytest

from adapters.onnx_nodes import OriginalGraph, covering
from adapters.protocol import ProfileEntry

# conv → add (with a shortcut) → relu → norm/Mean … norm/Mul → out
ORIGINAL = OriginalGraph(
    writer={"c": "conv", "s": "shortcut", "a": "add", "r": "relu", "m": "norm/Mean", "d": "norm/Sub",
            "y": "norm/Mul"},
    reads={"conv": ("x",), "shortcut": ("x",), "add": ("c", "s"), "relu": ("a",), "norm/Mean": ("r",),
           "norm/Sub": ("r", "m"), "norm/Mul": ("d", "scale")},
    convolutions=frozenset({"conv", "shortcut"}),
)  # fmt: skip


def entry(name: str, layout: str = "") -> ProfileEntry:
    return ProfileEntry(name, "any", 1, layout=layout)  # type: ignore[arg-type]


def covered(
    entries: list[tuple[ProfileEntry, tuple[str, ...]]], absorbed: tuple[int, ...] = ()
) -> dict[str, tuple[str, ...]]:
    given, written = zip(*entries, strict=True)
    return {one.name: one.nodes for one in covering(given, written, ORIGINAL, absorbed)}


def test_tensors_bound_what_is_covered() -> None:
    found = covered([(entry("k0"), ("s",)), (entry("k1"), ("r",)), (entry("k2"), ("y",))])
    assert found == {
        "k0": ("shortcut",),
        "k1": ("conv", "add", "relu"),
        "k2": ("norm/Mean", "norm/Sub", "norm/Mul"),
    }


def test_names_help_where_tensors_were_renamed() -> None:
    """A convolution in a blocked layout writes a tensor of its own, and is named after a node or a tensor."""
    blocked = [
        (entry("shortcut_blocked"), ("t0",)),
        (entry("c_nchwc"), ("t1",)),
        (entry("reorder", "implicit"), ("r",)),
        (entry("norm/Mul/Fused"), ("y",)),
    ]
    assert covered(blocked, absorbed=(0, 2, 0, 0)) == {
        "shortcut_blocked": ("shortcut",),
        "c_nchwc": ("conv", "add", "relu"),
        "reorder": (),
        "norm/Mul/Fused": ("norm/Mean", "norm/Sub", "norm/Mul"),
    }


def test_followers_are_absorbed_no_further_than_told() -> None:
    blocked = [(entry("c_nchwc"), ("t1",)), (entry("rest"), ("r",)), (entry("norm"), ("y",))]
    found = covered(blocked, absorbed=(1, 0, 0))
    assert found["c_nchwc"] == ("conv", "shortcut", "add")
    assert found["rest"] == ("relu",)


def test_a_convolution_named_after_its_last_follower_takes_no_more() -> None:
    """ONNX Runtime calls a blocked convolution after the tensor that its activation wrote."""
    blocked = [(entry("shortcut_blocked"), ("s",)), (entry("r_nchwc"), ("t1",)), (entry("norm"), ("y",))]
    found = covered(blocked, absorbed=(0, 2, 0))
    assert found["r_nchwc"] == ("conv", "add", "relu")
    assert found["norm"] == ("norm/Mean", "norm/Sub", "norm/Mul")


@pytest.mark.parametrize(
    ("name", "node"),
    [("norm/Mean", "norm/Mean"), ("norm/Mean/Fused", "norm/Mean"), ("a_token_3", "add"), ("zebra", None)],
)
def test_the_longest_name_counts(name: str, node: str | None) -> None:
    assert ORIGINAL.named_by(name) == node
