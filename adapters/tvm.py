"""Apache TVM on the CPU: schedules of our own (`tvm`), tuned (`tvm-tuned`), as it comes (`tvm-default`)."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.framework import Framework
from adapters.interface import Interface, onnx_interface, read_interface
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
from adapters.tvm_database import NONE, all_records, files_of
from adapters.tvm_machine import cpu_name, host_target, vector_unit

HERE = Path(__file__).parent
CONVERTER_FILES = tuple(sorted(HERE.glob("tvm*.py")))
DISTRIBUTIONS = ("apache-tvm", "apache-tvm-ffi")


@dataclass(frozen=True, slots=True, kw_only=True)
class TvmAdapter(Framework):
    """TVM's compiler, with the schedules of `adapters.tvm_schedule`, with those that were tuned (`tuned`), or
    (`schedule` "none") with no more than its own pipeline.
    """

    def conversion(self, setting: Setting) -> Conversion | None:
        """Compiled for the CPU of this machine; how long idle threads spin is no matter of compiling."""
        compiled = {key: value for key, value in self.options.items() if key not in SHORT_SPIN}
        return Conversion(
            tool="TVM's compiler",
            distributions=DISTRIBUTIONS,
            options={**compiled, "cpu": cpu_name()},
            files=(*CONVERTER_FILES, *(files_of(cpu_name()) if self.tuned else ())),
        )

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Import, lower, fuse, schedule, compile, link; weights go into a file of their own."""
        from adapters.tvm_compile import LIBRARY, build, fused, fused_by_default

        onnx_interface(source).write(folder)
        records = all_records(files_of(cpu_name())) if self.tuned else NONE
        target = host_target(self.options)
        if self.options["schedule"] == "none":
            network = fused_by_default(source, target)
        else:
            network = fused(source, target, vector_unit(target, self.options), records)
        if self.tuned and not network.kernels_measured:
            raise Unsupported(
                f"no kernel of this network was tuned on a {cpu_name()}: "
                "`bench frameworks tune tvm-tuned --models NETWORK` makes a database"
            )
        build(network, target, folder)
        tuning = {"tuned": network.tuning} if self.tuned else {}
        return Converted(LIBRARY, {"target": str(target), **tuning})

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Load the library and the weights; TVM reads the number of threads when it is imported.

        It must not bind its threads to cores itself: the worker does that, the same way for every framework.
        """
        os.environ["TVM_NUM_THREADS"] = str(setting.threads)
        os.environ["TVM_BIND_THREADS"] = "0"
        os.environ["TVM_THREAD_POOL_SPIN_COUNT"] = self.options["spin-count"]
        return TvmSession(prepared.path, {**self.options, **prepared.options})


class TvmSession:
    """One virtual machine with input buffers of its own that are filled before every run."""

    def __init__(self, library: Path, options: Mapping[str, str]) -> None:
        import tvm
        from tvm import relax
        from tvm.target import codegen

        from adapters.tvm_compile import DESCRIPTION, WEIGHTS

        description = json.loads((library.parent / DESCRIPTION).read_text(encoding="utf-8"))
        self._kernels = description["kernels"]
        self._interface: Interface = read_interface(library.parent)
        self._machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
        self._tensors = {
            port.name: tvm.runtime.empty(port.shape, port.native_dtype) for port in self._interface.inputs
        }
        self._buffers = {name: np.from_dlpack(tensor) for name, tensor in self._tensors.items()}
        weights = read_weights(library.parent / WEIGHTS, description["weights"])
        self._machine.set_input("main", *self._tensors.values(), *weights)
        self._facts = {
            "version": tvm.__version__,
            "build": f"LLVM {codegen.llvm_version_major()}",
            "threads": str(tvm.runtime.num_threads()),
            "precision": "fp32",
            **options,
        }

    def feed(self, inputs: Inputs) -> None:
        """Copy into the tensors that the machine reads."""
        for name, value in inputs.items():
            np.copyto(self._buffers[name], value)

    def run(self) -> None:
        """One inference; the outputs stay in TVM's own tensors."""
        self._machine.invoke_stateful("main")

    def outputs(self) -> Mapping[str, Any]:
        """Copies of the outputs of the last run."""
        found = self._machine.get_outputs("main")
        values = [found] if hasattr(found, "numpy") else list(found)
        ports = self._interface.outputs
        return {port.name: port.to_onnx(value.numpy()) for port, value in zip(ports, values, strict=True)}

    def describe(self) -> Mapping[str, str]:
        """Version, LLVM, threads, target and options."""
        return self._facts

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """Every kernel's time, from the virtual machine's instrumentation."""
        from adapters.tvm_profile import profile

        def run() -> None:
            self.feed(inputs)
            self.run()

        return profile(self._machine, self._kernels, run, inferences)


def read_weights(path: Path, rows: list[dict[str, Any]]) -> list[Any]:
    """The tensors of a weights file, each read straight into TVM's memory."""
    import tvm

    tensors = []
    with path.open("rb") as file:
        for row in rows:
            tensor = tvm.runtime.empty(tuple(row["shape"]), row["dtype"])
            file.seek(row["offset"])
            file.readinto(np.from_dlpack(tensor).reshape(-1).view(np.uint8).data)
            tensors.append(tensor)
    return tensors


SHORT_SPIN = {"spin-count": "5000"}
"""How often an idle thread asks for work before it sleeps. TVM's own 300000 take 0.1 s and more, through
which an idle worker would disturb the framework being measured.
"""
TVM = TvmAdapter(
    name="tvm",
    title="Apache TVM, schedules of our own, not tuned",
    distribution="apache-tvm",
    extra="tvm",
    options={"schedule": "tiles", "fast-math": "1", "lanes": "0", "vectors": "0", **SHORT_SPIN},
    variants={
        "strict-math": {"fast-math": "0"},
        "half-vectors": {"lanes": "8"},
        "tall-tiles": {"vectors": "2"},
        "square-tiles": {"vectors": "3"},
        "long-spin": {"spin-count": "300000"},
    },
)
TVM_TUNED = TvmAdapter(
    name="tvm-tuned",
    title="Apache TVM, kernels tuned with MetaSchedule where that beat our schedules",
    distribution="apache-tvm",
    extra="tvm",
    options=dict(TVM.options),
    tuner="adapters.tvm_tune",
)
TVM_DEFAULT = TvmAdapter(
    name="tvm-default",
    title="Apache TVM as it comes: its own CPU pipeline, no schedules",
    distribution="apache-tvm",
    extra="tvm",
    options={"schedule": "none", "fast-math": "0", **SHORT_SPIN},
    notes=(
        "TVM's default pipeline has no schedules for a CPU: loops as written, in one thread; `tvm` has them",
    ),
)
