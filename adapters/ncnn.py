"""ncnn on the CPU, from ONNX by way of pnnx."""

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.framework import Framework
from adapters.interface import Interface, Port, read_interface
from adapters.ncnn_convert import WEIGHTS_NAME, convert_onnx
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

HERE = Path(__file__).parent
MISSING_LAYER = re.compile(r"layer (?P<layer>\S+) not exists or registered")
HALF_OPTIONS = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage")


@dataclass(frozen=True, slots=True, kw_only=True)
class NcnnAdapter(Framework):
    """ncnn in full precision; what its converter makes is often more than its runtime has layers for."""

    def conversion(self, setting: Setting) -> Conversion | None:
        """By pnnx, in an environment of its own."""
        return Conversion(
            tool="pnnx",
            distributions=("pnnx", "onnx"),
            environment="pnnx",
            options={"fp16": "0"},
            files=(HERE / "ncnn_convert.py",),
        )

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Convert; whether the runtime has the layers is known only at `load`."""
        return convert_onnx(source, folder)

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Load with `setting.threads` threads; raises `Unsupported` with a layer that is not there."""
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = setting.threads
        for name in HALF_OPTIONS:
            setattr(net.opt, name, False)
        net.opt.use_winograd_convolution = self.options["winograd"] == "1"
        net.opt.use_sgemm_convolution = self.options["sgemm"] == "1"
        net.opt.use_packing_layout = self.options["packing"] == "1"
        code, said = _listened(lambda: net.load_param(str(prepared.path)))
        missing = MISSING_LAYER.search(said)
        if missing is not None:
            raise Unsupported(f"layer {missing['layer']}, which pnnx made, is none of ncnn's")
        if code or net.load_model(str(prepared.path.parent / WEIGHTS_NAME)):
            raise Unsupported(f"ncnn cannot load what pnnx made: {' '.join(said.split())[-300:]}")
        facts = {
            "version": ncnn.__version__,
            "threads": str(setting.threads),
            "precision": "fp32",
            **self.options,
        }
        return NcnnSession(ncnn, net, read_interface(prepared.path.parent), facts)


class NcnnSession:
    """One network; every run is an extractor of its own, as ncnn wants it."""

    def __init__(self, module: Any, net: Any, interface: Interface, facts: Mapping[str, str]) -> None:
        self._module, self._net, self._interface, self._facts = module, net, interface, facts
        self._inputs: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}

    def feed(self, inputs: Inputs) -> None:
        """Copy into matrices of ncnn's own."""
        for port in self._interface.inputs:
            native = port.to_native(inputs[port.name])
            self._inputs[port.key] = self._module.Mat(_without_batch(native)).clone()

    def run(self) -> None:
        """One inference: all outputs are extracted."""
        extractor = self._net.create_extractor()
        for key, value in self._inputs.items():
            extractor.input(key, value)
        for port in self._interface.outputs:
            code, self._outputs[port.key] = extractor.extract(port.key)
            if code:
                raise RuntimeError(f"ncnn cannot compute output {port.name!r}: extract returned {code}")

    def outputs(self) -> Mapping[str, Any]:
        """Copies of the outputs of the last run, with their batch axis."""
        return {port.name: self._output(port) for port in self._interface.outputs}

    def describe(self) -> Mapping[str, str]:
        """Version, threads, options."""
        return self._facts

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """There is none."""
        raise Unsupported("ncnn's Python binding has no profiler (its benchmark build has one)")

    def _output(self, port: Port) -> Any:
        return port.to_onnx(np.array(self._outputs[port.key]))


def _without_batch(value: Any) -> Any:
    """Matrices of ncnn have no batch axis."""
    return value[0] if value.ndim > 1 and value.shape[0] == 1 else value


def _listened(action: Any) -> tuple[Any, str]:
    """Do something; returns its result and what it wrote to the process's stderr, which still gets there."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            result = action()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        said = file.read().decode("utf-8", errors="replace")
    sys.stderr.write(said)
    return result, said


NCNN = NcnnAdapter(
    name="ncnn",
    title="ncnn, CPU",
    distribution="ncnn",
    extra="ncnn",
    options={"winograd": "1", "sgemm": "1", "packing": "1"},
    variants={"no-winograd": {"winograd": "0"}, "no-packing": {"packing": "0"}},
)
