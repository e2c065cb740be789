"""Where one inference's time goes, from the framework's own profiler, in one schema for all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from adapters.protocol import Adapter, ProfileEntry, Setting
from benchsuite.device.protocol import Device
from benchsuite.loaded import loaded
from benchsuite.policy import Policy
from benchsuite.prepare import Say
from benchsuite.profiled import Profiled, read_profile
from models.model import Model

INFERENCES = 10
PLAIN = "as it is timed"


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
    plain = Setting(threads, precision, target=device.target)
    profiling = replace(plain, profile=True)
    with loaded(device, adapter, model, plain, policy=policy, cache=cache, say=say) as session:
        plain_ns = session.ask(do="run", iterations=inferences, rewarm=1)["run_ns"]
    with loaded(device, adapter, model, profiling, policy=policy, cache=cache, say=say) as session:
        reply = session.ask(do="profile", inferences=inferences)
        facts = session.facts
    names, operators = _nodes(model)
    return Profiled(read_profile(reply), int(median(plain_ns)), facts, names, operators)


def _nodes(model: Model) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and types of the network's nodes, as the frameworks are given them."""
    from models.onnx_file import load_graph
    from models.onnx_names import node_names

    graph = load_graph(model.graph).graph
    return node_names(graph), tuple(node.op_type for node in graph.node)


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
