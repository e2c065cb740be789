"""Where one inference's time goes: a framework's own profile beside an inference as it is timed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adapters.protocol import Profile, ProfileEntry


@dataclass(frozen=True, slots=True)
class Profiled:
    """A profile, and `plain_ns`, an inference as it is timed: profiling costs the difference.

    `node_names` are those of the network's own graph, in its order: what entries may name; `node_operators`
    are their types.
    """

    profile: Profile
    plain_ns: int
    facts: dict[str, str]
    node_names: tuple[str, ...]
    node_operators: tuple[str, ...] = ()

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


def read_profile(reply: Mapping[str, Any]) -> Profile:
    """A profile from a worker's reply, or from what a journal keeps of one."""
    entries = tuple(ProfileEntry(**{**entry, "nodes": tuple(entry["nodes"])}) for entry in reply["entries"])
    return Profile(entries, int(reply["total_ns"]), str(reply["source"]))


def to_document(found: Profiled) -> dict[str, object]:
    """Plain JSON values that `from_document` reads: what a journal keeps."""
    return asdict(found)


def from_document(document: Mapping[str, Any]) -> Profiled:
    """A profile from what a journal keeps; raises ValueError, KeyError or TypeError for anything else."""
    return Profiled(
        read_profile(document["profile"]),
        int(document["plain_ns"]),
        {str(name): str(value) for name, value in document["facts"].items()},
        tuple(map(str, document["node_names"])),
        tuple(map(str, document["node_operators"])),
    )
