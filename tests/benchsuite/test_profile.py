"""Profiles: a run of its own, entries that name the network's nodes, sums that can be checked."""

from pathlib import Path

import pytest

from adapters.catalogue import adapter
from adapters.protocol import Profile, ProfileEntry
from benchsuite.device.local import LocalDevice
from benchsuite.policy import Policy
from benchsuite.profile import by_operator, profile_network
from benchsuite.profiled import Profiled
from models.errors import BenchError
from models.model import Model

QUICK = Policy(warm_up_seconds=0.01)
ENTRIES = (
    ProfileEntry("a", "Conv", 500, ("conv",)),
    ProfileEntry("b", "Reorder", 70, layout="implicit"),
    ProfileEntry("c", "Conv", 300, ("conv2", "relu")),
    ProfileEntry("d", "Transpose", 30, ("transpose",), "explicit"),
)
PROFILED = Profiled(
    Profile(ENTRIES, 1000, "a profiler"), 900, {}, ("conv", "conv2", "relu", "transpose", "x")
)


def test_what_no_entry_explains_is_left_over() -> None:
    assert PROFILED.unattributed_ns == 100
    assert (PROFILED.layout_ns("explicit"), PROFILED.layout_ns("implicit")) == (30, 70)
    assert PROFILED.covered_nodes == {"conv", "conv2", "relu", "transpose"}


def test_sums_by_operator_are_longest_first() -> None:
    found = [(one.operator, one.count, one.duration_ns, one.layout) for one in by_operator(ENTRIES)]
    assert found == [("Conv", 2, 800, ""), ("Reorder", 1, 70, "implicit"), ("Transpose", 1, 30, "explicit")]


def test_a_real_profile_names_every_node(network: Model, tmp_path: Path) -> None:
    device = LocalDevice()
    try:
        found = profile_network(
            device, adapter("ort"), network, 1, policy=QUICK, cache=tmp_path, inferences=3
        )
    finally:
        device.close()
    assert found.covered_nodes == set(found.node_names) != set()
    assert 0 < sum(entry.duration_ns for entry in found.profile.entries) <= found.profile.total_ns
    assert found.plain_ns > 0
    assert found.profile.source == "ONNX Runtime's own profiler"


def test_what_a_framework_wrote_for_it_is_gone(network: Model, tmp_path: Path) -> None:
    device = LocalDevice()
    scratch = Path(device.scratch("x")).parent
    profile_network(device, adapter("ort"), network, 1, policy=QUICK, cache=tmp_path, inferences=1)
    device.close()
    assert not scratch.exists()


def test_a_setting_that_is_refused_says_why(network: Model, tmp_path: Path) -> None:
    device = LocalDevice()
    with pytest.raises(BenchError, match="refused: ONNX Runtime runs these networks in fp32 only") as caught:
        profile_network(device, adapter("ort"), network, 1, policy=QUICK, cache=tmp_path, precision="bf16")
    device.close()
    assert caught.value.where == "tiny/ort"
