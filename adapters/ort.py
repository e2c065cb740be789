"""ONNX Runtime on the CPU: as its users run it (`ort`) and with graph optimisation off (`ort-noopt`, the
reference).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.protocol import Inputs, Prepared, Session, Setting


@dataclass(frozen=True, slots=True)
class OrtAdapter:
    """ONNX Runtime with one level of graph optimisation (`all` or `disable_all`)."""

    name: str
    title: str
    optimisation: str
    notes: tuple[str, ...] = ()
    distribution: str = "onnxruntime"

    def refuse(self, setting: Setting) -> str | None:
        """Only fp32: the CPU provider has no fast fp16 or bf16 path for a float32 network."""
        if setting.precision != "fp32":
            return f"ONNX Runtime's CPU provider runs these networks in fp32 only, not {setting.precision}"
        return None

    def prepare(self, model_path: Path, setting: Setting, cache: Path) -> Prepared:
        """Nothing to convert: the framework reads the pinned ONNX file itself."""
        from models.onnx_file import external_files  # onnx takes long to import

        companions = tuple(model_path.parent / location for location in external_files(model_path))
        return Prepared(model_path, companions, {"graph_optimization_level": self.optimisation})

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Open the session with exactly `setting.threads` threads.

        Spinning stays on inside a run (that is the default and the fast way) and stops between runs, so that
        an idle worker's threads do not disturb the framework being measured.
        """
        import onnxruntime as ort

        ort.disable_telemetry_events()
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(
            ort.GraphOptimizationLevel, f"ORT_{self.optimisation.upper()}"
        )
        options.intra_op_num_threads = setting.threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = ort.InferenceSession(str(prepared.path), options, providers=["CPUExecutionProvider"])
        return OrtSession(session, ort.__version__, ort.get_build_info(), self.optimisation, setting.threads)


class OrtSession:
    """One `InferenceSession` with input buffers of its own that are filled before every run."""

    def __init__(self, session: Any, version: str, build: str, optimisation: str, threads: int) -> None:
        self._session = session
        self._facts = {
            "version": version,
            "build": build,
            "optimisation": optimisation,
            "threads": str(threads),
            "providers": ", ".join(session.get_providers()),
        }
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
        """Version, build flags, optimisation level, threads, providers."""
        return self._facts


ORT = OrtAdapter(name="ort", title="ONNX Runtime, all graph optimisations", optimisation="enable_all")
ORT_NOOPT = OrtAdapter(
    name="ort-noopt",
    title="ONNX Runtime, graph optimisation off: the reference",
    optimisation="disable_all",
    notes=("graph optimisation is off on purpose: the reference for outputs, not ONNX Runtime at its best",),
)
