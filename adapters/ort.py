"""ONNX Runtime on the CPU: as its users run it (`ort`) and with graph optimisation off (`ort-noopt`, the
reference).
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from adapters.framework import Framework
from adapters.onnx_nodes import covering, read_original
from adapters.protocol import (
    Conversion,
    Converted,
    Inputs,
    Prepared,
    Profile,
    ProfileEntry,
    Session,
    Setting,
    Unsupported,
)

KERNEL_TIME = "_kernel_time"
LAYOUT_OPERATORS = frozenset(
    {"Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Expand", "Flatten", "Concat"}
    | {"DepthToSpace", "SpaceToDepth", "Gather", "Pad", "Tile"}
)
OWN_LAYOUT_OPERATORS = frozenset({"ReorderInput", "ReorderOutput", "MemcpyToHost", "MemcpyFromHost"})
"""What ONNX Runtime puts in around its blocked (NCHWc) convolutions."""
CONVOLUTION_WITH_SUM_INPUTS = 4  # the fourth is what is added to its result


@dataclass(frozen=True, slots=True, kw_only=True)
class OrtAdapter(Framework):
    """ONNX Runtime with one level of graph optimisation (`graph_optimization_level`)."""

    def conversion(self, setting: Setting) -> Conversion | None:
        """Nothing to convert: the framework reads the pinned ONNX file itself."""
        return None

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Never called."""
        raise Unsupported("ONNX Runtime needs no conversion")

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Open the session with exactly `setting.threads` threads.

        Spinning stays on inside a run (that is the default and the fast way) and stops between runs, so that
        an idle worker's threads do not disturb the framework being measured.
        """
        import onnxruntime as ort

        ort.disable_telemetry_events()
        chosen = {**self.options, **prepared.options}
        options = ort.SessionOptions()
        level = chosen["graph_optimization_level"].upper()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
        options.intra_op_num_threads = setting.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.enable_mem_pattern = chosen.get("enable_mem_pattern", "1") == "1"
        options.enable_cpu_mem_arena = chosen.get("enable_cpu_mem_arena", "1") == "1"
        for key, value in chosen.items():
            if "." in key:  # a session configuration entry
                options.add_session_config_entry(key, value)
        profiling = _Profiling(options, prepared.path) if setting.profile else None
        session = ort.InferenceSession(str(prepared.path), options, providers=["CPUExecutionProvider"])
        facts = {"version": ort.__version__, "build": ort.get_build_info(), "precision": "fp32", **chosen}
        return OrtSession(session, {**facts, "threads": str(setting.threads)}, profiling)


class _Profiling:
    """What ONNX Runtime writes while it profiles: events, and the optimised graph that names the tensors."""

    def __init__(self, options: Any, network: Path) -> None:
        self._network = network
        # In the worker's own folder, which goes with the run even when the worker is killed.
        self._folder = tempfile.TemporaryDirectory(prefix="ort-profile-", dir=Path.cwd())
        folder = Path(self._folder.name)
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        self._optimised = folder / "optimised.onnx"
        options.optimized_model_filepath = str(self._optimised)
        weights = "session.optimized_model_external_initializers_file_name"  # for networks beyond 2 GB
        options.add_session_config_entry(weights, "optimised.bin")

    def read(self, events_path: str, inferences: int) -> Profile:
        """The profile of the last `inferences` runs."""
        events = json.loads(Path(events_path).read_text(encoding="utf-8"))
        profile = read_profile(events, inferences)
        written, followers = _optimised_nodes(self._optimised)
        tensors = [written.get(entry.name, ()) for entry in profile.entries]
        absorbed = [followers.get(entry.name, 0) for entry in profile.entries]
        original = read_original(self._network)
        return replace(profile, entries=covering(profile.entries, tensors, original, absorbed))


def _optimised_nodes(path: Path) -> tuple[Mapping[str, Sequence[str]], Mapping[str, int]]:
    """For every node of the optimised graph what it writes, and how many followers a convolution took in."""
    from models.onnx_file import load_graph

    nodes = load_graph(path).graph.node
    followers = {
        node.name: sum(attribute.name == "activation" for attribute in node.attribute)
        + (node.op_type == "Conv" and len(node.input) == CONVOLUTION_WITH_SUM_INPUTS)
        for node in nodes
    }
    return {node.name: tuple(filter(None, node.output)) for node in nodes}, followers


class OrtSession:
    """One `InferenceSession` with input buffers of its own that are filled before every run."""

    def __init__(self, session: Any, facts: Mapping[str, str], profiling: _Profiling | None) -> None:
        self._session = session
        self._facts = {**facts, "providers": ", ".join(session.get_providers())}
        self._profiling = profiling
        self._names = [value.name for value in session.get_outputs()]
        self._buffers: dict[str, np.ndarray[Any, Any]] = {}
        self._last: list[Any] = []

    def feed(self, inputs: Inputs) -> None:
        """Copy into the buffers that ONNX Runtime reads in place."""
        for name, value in inputs.items():
            buffer = self._buffers.get(name)
            if buffer is None:
                self._buffers[name] = np.array(value)
            else:
                np.copyto(buffer, value)

    def run(self) -> None:
        """One inference, synchronous; the previous outputs are released first, outside nobody's interest."""
        self._last = []
        self._last = self._session.run(self._names, self._buffers)

    def outputs(self) -> Mapping[str, Any]:
        """Outputs of the last run; ONNX Runtime's Python arrays own their memory."""
        return dict(zip(self._names, self._last, strict=True))

    def describe(self) -> Mapping[str, str]:
        """Version, build flags, options, threads, providers."""
        return self._facts

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """Run, then end the session's profile and read it; works once a session."""
        if self._profiling is None:
            raise RuntimeError("this session was not loaded for profiling")
        for _ in range(inferences):
            self.feed(inputs)
            self.run()
        return self._profiling.read(self._session.end_profiling(), inferences)


def read_profile(events: Sequence[Mapping[str, Any]], inferences: int) -> Profile:
    """ONNX Runtime's own profile of at least `inferences` runs; the last ones count, medians over them.

    The events of one node come in the order of the runs.
    """
    spans: dict[str, list[int]] = defaultdict(list)
    operators: dict[str, str] = {}
    for event in events:
        name = str(event["name"])
        if event.get("cat") != "Node" or not name.endswith(KERNEL_TIME):
            continue
        node = name.removesuffix(KERNEL_TIME)
        spans[node].append(1000 * int(event["dur"]))
        operators[node] = str(event["args"]["op_name"])
    entries = tuple(
        ProfileEntry(
            name=node,
            operator=operators[node],
            duration_ns=int(median(times[-inferences:])),
            layout=_layout(operators[node]),
        )
        for node, times in spans.items()
    )
    runs = [1000 * int(event["dur"]) for event in events if event["name"] == "model_run"]
    return Profile(entries, int(median(runs[-inferences:])), "ONNX Runtime's own profiler")


def _layout(operator: str) -> Any:
    if operator in OWN_LAYOUT_OPERATORS:
        return "implicit"
    return "explicit" if operator in LAYOUT_OPERATORS else ""


STOP_SPINNING_BETWEEN_RUNS = {"session.force_spinning_stop": "1"}

ORT = OrtAdapter(
    name="ort",
    title="ONNX Runtime, all graph optimisations",
    distribution="onnxruntime",
    options={"graph_optimization_level": "enable_all", **STOP_SPINNING_BETWEEN_RUNS},
    variants={
        "extended": {"graph_optimization_level": "enable_extended"},
        "no-arena": {"enable_cpu_mem_arena": "0"},
        "no-mem-pattern": {"enable_mem_pattern": "0"},
        "no-spinning": {"session.intra_op.allow_spinning": "0"},
        "denormal-as-zero": {"session.set_denormal_as_zero": "1"},
        "gelu-approximation": {"optimization.enable_gelu_approximation": "1"},
    },
)
ORT_NOOPT = OrtAdapter(
    name="ort-noopt",
    title="ONNX Runtime, graph optimisation off: the reference",
    distribution="onnxruntime",
    options={"graph_optimization_level": "disable_all", **STOP_SPINNING_BETWEEN_RUNS},
    notes=("graph optimisation is off on purpose: the reference for outputs, not ONNX Runtime at its best",),
)
