"""ncnn on the CPU: ONNX through pnnx, then an extractor a run, as its users and its benchmark tool do."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.framework import Framework
from adapters.interface import Interface, Port, read_interface
from adapters.protocol import Conversion, Converted, Inputs, Prepared, Profile, Session, Setting, Unsupported

HERE = Path(__file__).parent
CONVERTER_FILES = (HERE / "ncnn_convert.py", HERE / "ncnn_rewrites.py")
CONVERTER_OPTIONS = ("optimisation_level", "rewrites")
BIN_SUFFIX = ".bin"
SWITCHES = {
    "winograd": "use_winograd_convolution",
    "winograd_6x6": "use_winograd63_convolution",
    "sgemm": "use_sgemm_convolution",
    "packing": "use_packing_layout",
    "light_mode": "lightmode",
}
"""Our options and the members of `ncnn::Option` that they set."""
NARROW = (
    *("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"),
    *("use_bf16_packed", "use_bf16_storage"),
    *("use_int8_inference", "use_int8_packed", "use_int8_storage", "use_int8_arithmetic"),
)
"""Members that keep or compute in less than fp32 where the processor can: off in the fp32 class."""
WAIT_POLICY = "OMP_WAIT_POLICY"


@dataclass(frozen=True, slots=True, kw_only=True)
class NcnnAdapter(Framework):
    """ncnn's `Net` and `Extractor`, without Vulkan."""

    def conversion(self, setting: Setting) -> Conversion | None:
        """pnnx, in an environment of its own; the thread count does not matter."""
        return Conversion(
            tool="pnnx",
            distributions=("pnnx", "ncnn", "onnx"),
            environment="pnnx",
            options={key: self.options[key] for key in CONVERTER_OPTIONS},
            files=CONVERTER_FILES,
        )

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Convert with pnnx; raises `Unsupported` for a network with layers that ncnn does not have."""
        from adapters.ncnn_convert import convert_onnx

        return convert_onnx(source, folder, self.options)

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Read the two files with exactly `setting.threads` threads, everything in fp32."""
        import ncnn

        ncnn.set_omp_num_threads(setting.threads)
        net = ncnn.Net()
        net.opt.num_threads = setting.threads
        net.opt.use_vulkan_compute = False
        for member in NARROW:
            setattr(net.opt, member, False)
        for option, member in SWITCHES.items():
            setattr(net.opt, member, self.options[option] == "1")
        weights = prepared.path.with_suffix(BIN_SUFFIX)
        if net.load_param(str(prepared.path)) or net.load_model(str(weights)):
            raise RuntimeError(f"ncnn cannot read {prepared.path.name} and {weights.name}: see the log")
        facts = {**self.options, "version": ncnn.__version__, "threads": str(net.opt.num_threads)}
        axes = {key: int(axis) for key, axis in prepared.options.items()}
        return NcnnSession(ncnn, net, read_interface(prepared.path.parent), axes, facts)


class NcnnSession:
    """A loaded net; every run is a new extractor, which is how ncnn is used."""

    def __init__(
        self, ncnn: Any, net: Any, interface: Interface, axes: Mapping[str, int], facts: Mapping[str, str]
    ) -> None:
        self._ncnn = ncnn
        self._net = net
        self._interface = interface
        self._facts = facts
        self._axes = axes  # of the batch, by input and output, as pnnx found them
        self._keys = [port.key for port in interface.outputs]
        self._inputs: list[tuple[str, Any]] = []
        self._last: list[Any] = []

    def feed(self, inputs: Inputs) -> None:
        """Copy into matrices in ncnn's own memory."""
        self._inputs = [(port.key, self._matrix(port, inputs[port.name])) for port in self._interface.inputs]

    def run(self) -> None:
        """One inference, synchronous; the outputs stay in ncnn's matrices."""
        extractor = self._net.create_extractor()
        for key, matrix in self._inputs:
            extractor.input(key, matrix)
        found = [extractor.extract(key) for key in self._keys]
        errors = {key: code for key, (code, _) in zip(self._keys, found, strict=True) if code}
        if errors:
            raise RuntimeError(f"ncnn could not compute {errors}")
        self._last = [matrix for _, matrix in found]

    def outputs(self) -> Mapping[str, Any]:
        """Copies of the outputs of the last run, with their batch axis."""
        pairs = zip(self._interface.outputs, self._last, strict=True)
        return {
            port.name: port.to_onnx(np.array(matrix.numpy(batch_index=self._axes[port.key])))
            for port, matrix in pairs
        }

    def describe(self) -> Mapping[str, str]:
        """Version, threads, options, the switches that narrow, and the class it computes in."""
        option = self._net.opt
        narrow = [member for member in NARROW if getattr(option, member)]
        idle = os.environ.get(WAIT_POLICY, "libgomp's default")
        return {**self._facts, "precision": ", ".join(narrow) or "fp32", "idle_threads": idle}

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """Refused: there is no way to time a layer."""
        raise Unsupported("ncnn's Python module has no profiler: its wheel is built without NCNN_BENCHMARK")

    def _matrix(self, port: Port, value: Any) -> Any:
        """A matrix of ncnn's own with a copy of the value."""
        return self._ncnn.Mat(port.to_native(value), batch_index=self._axes[port.key]).clone()


NCNN = NcnnAdapter(
    name="ncnn",
    title="ncnn, CPU",
    distribution="ncnn",
    extra="ncnn",
    options={
        "optimisation_level": "2",
        "rewrites": "1",
        "winograd": "1",
        "winograd_6x6": "1",
        "sgemm": "1",
        "packing": "1",
        "light_mode": "1",
    },
    variants={
        "no-rewrites": {"rewrites": "0"},
        "no-winograd": {"winograd": "0"},
        "small-winograd": {"winograd_6x6": "0"},
        "no-sgemm": {"sgemm": "0"},
        "no-packing": {"packing": "0"},
        "no-light-mode": {"light_mode": "0"},
    },
)
