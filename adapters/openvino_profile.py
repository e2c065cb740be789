"""Where OpenVINO's time goes: its performance counters, led back to ONNX nodes, and the precision that it
really computes in.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Literal

from adapters.onnx_nodes import read_original
from adapters.protocol import Profile, ProfileEntry, Unsupported

NANOSECONDS_PER_MICROSECOND = 1000
PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
"""Floating-point classes by OpenVINO's name."""

LOWEST_FIRST = ("bf16", "fp16", "fp32")
NO_COMPUTATION = frozenset(
    {"Const", "Constant", "Input", "Parameter", "Output", "Result", "Reorder", "Convert"}
)
LAYOUT_OPERATORS = frozenset(
    {"Reshape", "Transpose", "Split", "StridedSlice", "Concatenation", "Broadcast", "Gather", "Pad", "Tile"}
    | {"DepthToSpace", "SpaceToDepth", "ShuffleChannels", "Roll", "SliceScatter"}
)
OWN_LAYOUT_OPERATORS = frozenset({"Reorder"})
"""What the CPU plugin puts in between kernels that want different memory formats."""

COUNTING = ("YES", "True")
"""How the property reads when counters are on: as text it comes back as it was given, "NO" included."""

SOURCE = (
    "OpenVINO's performance counters (means over the inferences, not medians: they only add up; resolution "
    "1 µs)"
)


def true_precision(runtime_model: Any) -> str:
    """The lowest floating-point class that a computing node of the compiled network runs in."""
    found = {
        PRECISIONS.get(_fact(node, "runtimePrecision"))
        for node in runtime_model.get_ordered_ops()
        if _fact(node, "layerType") not in NO_COMPUTATION
    }
    return next((name for name in LOWEST_FIRST if name in found), "fp32")


def profile_requests(
    compiled: Any, request: Any, once: Callable[[], None], inferences: int, source: Path
) -> Profile:
    """Profile `inferences` calls of `once` after one that warms up; nothing may have run before.

    Raises `Unsupported` when the session was not loaded for it.
    """
    if str(compiled.get_property("PERF_COUNT")) not in COUNTING:
        raise Unsupported("OpenVINO counts only in a session that is loaded for profiling")
    once()
    warm = _mean_microseconds(request)
    walls_ns = []
    for _ in range(inferences):
        start = time.perf_counter_ns()
        once()
        walls_ns.append(time.perf_counter_ns() - start)
    covered = _original_nodes(compiled.get_runtime_model(), _node_by_name(source))
    entries = tuple(
        _entry(info, warm.get(info.node_name, 0), inferences, covered.get(info.node_name, ()))
        for info in request.profiling_info
        if _has_run(info)
    )
    return Profile(entries, int(median(walls_ns)), SOURCE)


def _entry(info: Any, warm_microseconds: int, inferences: int, nodes: tuple[str, ...]) -> ProfileEntry:
    """The counter is a mean over all runs, the first and slow one included: that one is taken out."""
    mean_ns = NANOSECONDS_PER_MICROSECOND * _microseconds(info)
    warm_ns = NANOSECONDS_PER_MICROSECOND * warm_microseconds
    duration_ns = ((inferences + 1) * mean_ns - warm_ns) // inferences
    return ProfileEntry(
        name=f"{info.node_name} [{info.exec_type}]",
        operator=info.node_type,
        duration_ns=max(0, duration_ns),
        nodes=nodes,
        layout=_layout(info.node_type),
    )


def _node_by_name(source: Path) -> Mapping[str, str]:
    """ONNX nodes by what OpenVINO calls them: by their own name, or by their tensor's if it is an output of
    the network.
    """
    original = read_original(source)
    by_tensor = {tensor: node for tensor, node in original.writer.items() if node}
    return {**by_tensor, **{node: node for node in original.reads if node}}


def _original_nodes(runtime_model: Any, names: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """The ONNX nodes that each node of the compiled network covers, as far as OpenVINO kept their names.

    OpenVINO names what an ONNX node became after that node; what it makes besides (constants, the parts of a
    node that became several) has names of its own, which are left out.
    """
    covered = {}
    for node in runtime_model.get_ordered_ops():
        originals = _fact(node, "originalLayersNames").split(",")
        covered[node.friendly_name] = tuple(names[name] for name in originals if name in names)
    return covered


def _mean_microseconds(request: Any) -> Mapping[str, int]:
    return {info.node_name: _microseconds(info) for info in request.profiling_info}


def _microseconds(info: Any) -> int:
    seconds: float = info.real_time.total_seconds()
    return round(seconds * 1e6)


def _has_run(info: Any) -> bool:
    return str(info.status).endswith("EXECUTED")


def _fact(node: Any, key: str) -> str:
    facts = node.rt_info
    return str(facts[key].value) if key in facts else ""


def _layout(operator: str) -> Literal["", "explicit", "implicit"]:
    if operator in OWN_LAYOUT_OPERATORS:
        return "implicit"
    return "explicit" if operator in LAYOUT_OPERATORS else ""
