"""ExecuTorch with the XNNPACK delegate: PyTorch's own runtime for phones, here on the host's CPU."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.framework import Framework
from adapters.interface import Interface, onnx_interface, read_interface
from adapters.protocol import Conversion, Converted, Inputs, Prepared, Profile, Session, Setting

PROGRAM_NAME = "program.pte"
METHOD = "forward"
HERE = Path(__file__).parent
IMPORTER_FILES = ("executorch_export.py", "executorch_names.py", "onnx_to_torch*.py")


def _name_the_user() -> None:
    """PyTorch names a cache folder by the user, whom it would look up at the system's name service."""
    os.environ.setdefault("LOGNAME", str(os.getuid()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorchAdapter(Framework):
    """ONNX to PyTorch (our importer), exported, delegated to XNNPACK, run by the wheel's C++ runtime."""

    def conversion(self, setting: Setting) -> Conversion | None:
        """The importer's own files decide the result too."""
        files = (path for pattern in IMPORTER_FILES for path in sorted(HERE.glob(pattern)))
        return Conversion(
            tool="bench's importer, torch.export and to_edge_transform_and_lower",
            distributions=("executorch", "torch", "torchao", "onnx"),
            environment=self.environment,
            options=dict(self.options),
            files=tuple(files),
        )

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Write the program, the interface, and which ONNX nodes each of its parts covers.

        Raises `Unsupported` for what the importer cannot take; what PyTorch's export and ExecuTorch's
        lowering raise is theirs.
        """
        _name_the_user()
        from adapters.executorch_export import export

        facts = export(source, folder / PROGRAM_NAME, self.options)
        onnx_interface(source).write(folder)
        return Converted(PROGRAM_NAME, facts)

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Load the program with a pool of exactly `setting.threads` threads, the calling one included."""
        _name_the_user()
        from executorch.extension.pybindings import portable_lib
        from executorch.version import __version__

        portable_lib._unsafe_reset_threadpool(setting.threads)
        program = portable_lib._load_program(str(prepared.path), enable_etdump=setting.profile)
        facts = {
            "version": __version__,
            "threads": str(portable_lib._threadpool_get_thread_count()),
            "precision": setting.precision,
            **self.options,
            **prepared.options,
        }
        return ExecutorchSession(program, read_interface(prepared.path.parent), facts, prepared.path.parent)


class ExecutorchSession:
    """One loaded method; `set_inputs` copies into the memory that was planned for them."""

    def __init__(self, program: Any, interface: Interface, facts: Mapping[str, str], folder: Path) -> None:
        self._program = program  # the method lives in its memory
        self._method = program.load_method(METHOD)
        self._interface = interface
        self._facts = facts
        self._folder = folder

    def feed(self, inputs: Inputs) -> None:
        """Copy the inputs, in the program's order."""
        import torch

        self._method.set_inputs([torch.from_numpy(inputs[port.name]) for port in self._interface.inputs])

    def run(self) -> None:
        """One inference; the outputs stay in the program's memory."""
        self._method.execute()

    def outputs(self) -> Mapping[str, Any]:
        """Own copies of the last run's outputs."""
        values = self._method.get_outputs(clone_outputs=True)
        ports = self._interface.outputs
        return {port.name: port.to_onnx(value.numpy()) for port, value in zip(ports, values, strict=True)}

    def describe(self) -> Mapping[str, str]:
        """Version, threads, options, and what the delegate left to ExecuTorch's own kernels."""
        return self._facts

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """ExecuTorch's event tracer (ETDump), with XNNPACK's own operator times inside the delegates."""
        from adapters.executorch_names import read_names
        from adapters.executorch_profile import read_etdump

        wall_ns = []
        for _ in range(inferences):
            self.feed(inputs)
            start = time.perf_counter_ns()
            self.run()
            wall_ns.append(time.perf_counter_ns() - start)
        return read_etdump(self._program, read_names(self._folder), wall_ns)


PLAIN = {"depthwise": "whole", "sums": "kernels", "layer_norm": "kernel"}

EXECUTORCH = ExecutorchAdapter(
    name="executorch",
    title="ExecuTorch with XNNPACK",
    distribution="executorch",
    environment="executorch",
    options={
        "delegate": "xnnpack",
        "partition": "whole",
        "depthwise": "split",
        "sums": "products",
        "layer_norm": "products",
    },
    variants={
        "portable": {"delegate": "none", **PLAIN},
        "per-op": {"partition": "per-op"},
        "depthwise-whole": {"depthwise": "whole"},
        "sums-kernels": {"sums": "kernels"},
        "layer-norm-kernel": {"layer_norm": "kernel"},
        "plain": PLAIN,
    },
)
