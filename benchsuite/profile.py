"""Where one inference's time goes, from the framework's own profiler, in one schema for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from adapters.protocol import Adapter, Profile, ProfileEntry, Setting
from benchsuite.device.protocol import Device
from benchsuite.loaded import loaded
from benchsuite.policy import Policy
from benchsuite.prepare import Say
from models.model import Model

INFERENCES = 10
PLAIN = "as it is timed"


@dataclass(frozen=True, slots=True)
class Profiled:
    """A profile, and `plain_ns`, an inference as it is timed: profiling costs the difference.

    `node_names` are those of the network's own graph, in its order: what entries may name.
    """

    profile: Profile
    plain_ns: int
    facts: dict[str, str]
    node_names: tuple[str, ...]

    @property
    def unattributed_ns(self) -> int:
        """What the entries leave of the profiled inference; negative where entries overlap."""
        return self.profile.total_ns - sum(entry.duration_ns for entry in self.profile.entries)

    @property
    def covered_nodes(self) -> frozenset[str]:
        """Nodes of the network that some entry names."""
        named = {node for entry in self.profile.entries for node in entry.nodes}
        return frozenset(named & set(self.node_names))

    def layout_ns(self, kind: str) -> int:
        """Time of layout transformations, `explicit` or `implicit`."""
        return sum(entry.duration_ns for entry in self.profile.entries if entry.layout == kind)


def profile_network(
    device: Device,
    adapter: Adapter,
    model: Model,
    threads: int,
    *,
    policy: Policy,
    cache: Path,
    inferences: int = INFERENCES,
    precision: str = "fp32",
    say: Say = lambda text: None,
) -> Profiled:
    """Run the network as it is timed, then with the framework's own profiler, in a worker each.

    Raises `BenchError` when the framework cannot run the network or has no profiler.
    """
    plain, profiling = Setting(threads, precision), Setting(threads, precision, profile=True)
    with loaded(device, adapter, model, plain, policy=policy, cache=cache, say=say) as session:
        plain_ns = session.ask(do="run", iterations=inferences, rewarm=1)["run_ns"]
    with loaded(device, adapter, model, profiling, policy=policy, cache=cache, say=say) as session:
        reply = session.ask(do="profile", inferences=inferences)
        facts = session.facts
    return Profiled(_profile(reply), int(median(plain_ns)), facts, _node_names(model))


def _profile(reply: dict[str, Any]) -> Profile:
    entries = tuple(ProfileEntry(**{**entry, "nodes": tuple(entry["nodes"])}) for entry in reply["entries"])
    return Profile(entries, int(reply["total_ns"]), str(reply["source"]))


def _node_names(model: Model) -> tuple[str, ...]:
    from models.onnx_file import load_graph

    return tuple(node.name for node in load_graph(model.graph).graph.node)


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """All entries of one operator of the framework, added up."""

    operator: str
    count: int
    duration_ns: int
    layout: str


def by_operator(entries: Sequence[ProfileEntry]) -> tuple[OperatorTime, ...]:
    """Entries added up by operator and kind of layout transformation, the longest first."""
    totals: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        totals.setdefault((entry.operator, entry.layout), []).append(entry.duration_ns)
    times = (OperatorTime(name, len(spans), sum(spans), layout) for (name, layout), spans in totals.items())
    return tuple(sorted(times, key=lambda one: (-one.duration_ns, one.operator)))
