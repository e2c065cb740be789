"""OpenVINO on the CPU: reads ONNX itself; latency hint, one stream, the precision that was asked for."""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from adapters.framework import Framework
from adapters.graph_names import operator_place
from adapters.openvino_profile import profile_requests, true_precision
from adapters.protocol import (
    Conversion,
    Converted,
    Inputs,
    Prepared,
    Profile,
    Session,
    Setting,
    Unsupported,
)

DEVICE = "CPU"
PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16"}
TELEMETRY = "openvino_telemetry"
UNCONVERTED = re.compile(r"No conversion rule found for operations: (?P<operators>.+)")
RESULT_SUFFIX = "/sink_port_0"
"""What the ONNX reader appends to an output's name when it names the node behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenvinoAdapter(Framework):
    """OpenVINO's CPU plugin; `options` are properties of the compiled model, by OpenVINO's own names."""

    def conversion(self, setting: Setting) -> Conversion | None:
        """Nothing to convert: the framework reads the pinned ONNX file itself."""
        return None

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Never called."""
        raise Unsupported("OpenVINO needs no conversion")

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Read and compile for the CPU with exactly `setting.threads` threads.

        Raises `Unsupported` for an operator that OpenVINO does not have and for a dynamic input.
        """
        ov = import_openvino()
        model = read_network(ov.Core(), prepared.path)
        options = {
            **self.options,
            **prepared.options,
            "INFERENCE_NUM_THREADS": str(setting.threads),
            "INFERENCE_PRECISION_HINT": PRECISION_HINTS[setting.precision],
            "PERF_COUNT": "YES" if setting.profile else "NO",
        }
        compiled = ov.Core().compile_model(model, DEVICE, options)
        return OpenvinoSession(ov, compiled, options, prepared.path)


def import_openvino() -> Any:
    """OpenVINO without its telemetry.

    `import openvino` reports to Google Analytics unless the user has declined before, and leaves files in the
    home directory. An empty module in the place of `openvino_telemetry` makes it fall back to its own stub.
    """
    sys.modules.setdefault(TELEMETRY, ModuleType(TELEMETRY))
    import openvino

    return openvino


def read_network(core: Any, path: Path) -> Any:
    """OpenVINO's model of an ONNX file; raises `Unsupported` with the operator or the dynamic input."""
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        found = UNCONVERTED.search(str(error))
        if found is None:
            raise
        operators = [name.strip().rpartition("-")[0] or name for name in found["operators"].split(",")]
        places = "; ".join(operator_place(path, operator.rpartition(".")[2]) for operator in operators)
        raise Unsupported(f"{places}: OpenVINO has no conversion rule for {found['operators']}") from error
    for port in model.inputs:
        if port.partial_shape.is_dynamic:
            name, shape = port.node.friendly_name, port.partial_shape
            raise Unsupported(f"input {name!r} has the dynamic shape {shape}: give its sizes with --dim")
    return model


class OpenvinoSession:
    """One `InferRequest` with input tensors of its own that are filled before every run."""

    def __init__(self, ov: Any, compiled: Any, options: Mapping[str, str], path: Path) -> None:
        self._ov = ov
        self._compiled = compiled
        self._options = options
        self._path = path
        self._request = compiled.create_infer_request()
        self._buffers = {}
        for port in compiled.inputs:
            tensor = ov.Tensor(port.element_type, port.shape)
            self._request.set_tensor(port, tensor)
            self._buffers[port.node.friendly_name] = tensor.data
        self._outputs = {_output_name(port): port for port in compiled.outputs}

    def feed(self, inputs: Inputs) -> None:
        """Copy into the tensors that OpenVINO reads in place."""
        for name, value in inputs.items():
            np.copyto(self._buffers[name], value)

    def run(self) -> None:
        """One inference, synchronous; the outputs stay in OpenVINO's own tensors."""
        self._request.infer(share_outputs=True)

    def outputs(self) -> Mapping[str, Any]:
        """Copies of the outputs of the last run."""
        tensors = {name: self._request.get_tensor(port) for name, port in self._outputs.items()}
        return {name: np.array(tensor.data) for name, tensor in tensors.items()}

    def describe(self) -> Mapping[str, str]:
        """Version, build, the threads and the precision that OpenVINO says it uses, all options."""
        version, _, build = self._ov.get_version().partition("-")
        return {
            **self._options,
            "version": version,
            "build": build,
            "threads": str(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            "precision": true_precision(self._compiled.get_runtime_model()),
        }

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """OpenVINO's performance counters; works once a session, loaded with `Setting.profile`."""

        def once() -> None:
            self.feed(inputs)
            self.run()

        return profile_requests(self._compiled, self._request, once, inferences, self._path)


def _output_name(port: Any) -> str:
    """ONNX's name of an output, which OpenVINO keeps in the name of the node behind it."""
    return str(port.node.friendly_name).removesuffix(RESULT_SUFFIX)


OPENVINO = OpenvinoAdapter(
    name="openvino",
    title="OpenVINO, CPU plugin",
    distribution="openvino",
    extra="openvino",
    precisions=("fp32", "bf16"),
    options={
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": "YES",
        "EXECUTION_MODE_HINT": "PERFORMANCE",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    },
    variants={
        "no-pinning": {"ENABLE_CPU_PINNING": "NO"},
        "accuracy": {"EXECUTION_MODE_HINT": "ACCURACY"},
        "denormal-as-zero": {"CPU_DENORMALS_OPTIMIZATION": "YES"},
        "tbb-auto": {"TBB_PARTITIONER": "AUTO"},
        "no-snippets": {"SNIPPETS_MODE": "DISABLE"},
    },
)
