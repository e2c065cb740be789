"""IREE on the CPU: compiled ahead of time by LLVM for this processor, weights beside the program."""

import ctypes
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.framework import Framework
from adapters.interface import Interface, read_interface
from adapters.iree_convert import convert_network, processor
from adapters.iree_profile import profile_program
from adapters.iree_weights import SCOPE, parameter_index
from adapters.protocol import Conversion, Converted, Inputs, Prepared, Profile, Session, Setting

HERE = Path(__file__).parent
ELEMENT_TYPES = {
    "float32": "FLOAT_32",
    "float64": "FLOAT_64",
    "float16": "FLOAT_16",
    "int64": "SINT_64",
    "int32": "SINT_32",
    "int8": "SINT_8",
    "uint8": "UINT_8",
    "bool": "BOOL_8",
}
"""IREE's name of a dtype."""

MALLOC_MMAP_THRESHOLD, MALLOC_TRIM_THRESHOLD = -3, -1
KEPT_BYTES = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class IreeAdapter(Framework):
    """IREE with one set of compiler flags (`adapters.iree_convert.compile_flags`)."""

    def conversion(self, setting: Setting) -> Conversion | None:
        """Import from ONNX and compilation for this machine's processor."""
        return Conversion(
            tool="iree-compile",
            distributions=("iree-base-compiler", "iree-base-runtime", "onnx"),
            options={**self.options, "processor": processor()},
            files=(HERE / "iree_convert.py", HERE / "iree_weights.py"),
        )

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Import and compile; falls back to less tiling where the compiler fails, and says so."""
        return convert_network(source, folder, self.options)

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Load the compiled program; one thread is the calling one, more are workers of IREE's own."""
        options = {**self.options, **prepared.options}
        return IreeSession(prepared.path, options, setting.threads)


def device_flags(options: Mapping[str, str], threads: int) -> tuple[str, tuple[str, ...]]:
    """IREE's device for a number of threads, and the process-wide flags that it needs.

    A worker's stack must hold what the compiler was allowed to put on one (`stack_limit_bytes`).
    """
    if threads == 1:
        return "local-sync", ()
    stack_bytes = 2 * int(options["stack_limit_bytes"])
    return "local-task", (
        f"--task_topology_group_count={threads}",
        f"--task_worker_stack_size={stack_bytes}",
    )


class IreeSession:
    """One loaded program with input buffers of its own that are filled before every run."""

    def __init__(self, path: Path, options: Mapping[str, str], threads: int) -> None:
        from iree import runtime

        self._runtime = runtime
        self._path = path
        self._options = options
        self._threads = threads
        self._interface: Interface = read_interface(path.parent)
        if options["keep_memory"] == "1":
            keep_freed_memory()
        driver, flags = device_flags(options, threads)
        if flags:
            runtime.flags.parse_flags(*flags)
        self._device = runtime.get_driver(driver).create_default_device()
        self._instance = runtime.VmInstance()
        self._modules = self._load_modules()
        self._context = runtime.VmContext(self._instance, modules=self._modules)
        self._function = self._modules[-1].lookup_function(entry_point(self._modules[-1].function_names))
        self._inputs = runtime.VmVariantList(len(self._interface.inputs))
        self._buffers = {port.name: self._input_buffer(port) for port in self._interface.inputs}
        self._last: Any = None
        # Outputs freed after the device of IREE's worker threads crash the process, at its end as well.
        weakref.finalize(self, vars(self).pop, "_last", None)

    def _load_modules(self) -> list[Any]:
        runtime = self._runtime
        index = parameter_index(runtime, self._path.parent)
        provider = index.create_provider(scope=SCOPE)
        return [
            runtime.create_hal_module(self._instance, self._device),
            runtime.create_io_parameters_module(self._instance, provider),
            runtime.VmModule.mmap(self._instance, str(self._path)),
        ]

    def _input_buffer(self, port: Any) -> np.ndarray[Any, Any]:
        """Allocate a buffer, hand it to the program, and return numpy's view of its memory."""
        runtime = self._runtime
        view = self._device.allocator.allocate_buffer_copy(
            memory_type=runtime.MemoryType.DEVICE_LOCAL | runtime.MemoryType.HOST_VISIBLE,
            allowed_usage=runtime.BufferUsage.DEFAULT | runtime.BufferUsage.MAPPING,
            device=self._device,
            buffer=np.zeros(port.shape, port.native_dtype),
            element_type=getattr(runtime.HalElementType, ELEMENT_TYPES[port.native_dtype]),
        )
        self._inputs.push_ref(view)
        array: np.ndarray[Any, Any] = view.map().asarray(list(port.shape), np.dtype(port.native_dtype))
        return array

    def feed(self, inputs: Inputs) -> None:
        """Copy into the buffers that the program reads in place."""
        for name, value in inputs.items():
            np.copyto(self._buffers[name], value)

    def run(self) -> None:
        """One inference; returns when the outputs are complete. The previous outputs are freed first."""
        self._last = None
        outputs = self._runtime.VmVariantList(len(self._interface.outputs))
        self._context.invoke(self._function, self._inputs, outputs)
        self._last = outputs

    def outputs(self) -> Mapping[str, Any]:
        """Copies of the outputs of the last run: IREE's own memory lives only as long as its view."""
        found = {}
        for index, port in enumerate(self._interface.outputs):
            view = self._last.get_as_object(index, self._runtime.HalBufferView)
            native = view.map().asarray(list(view.shape), np.dtype(port.native_dtype))
            found[port.name] = port.to_onnx(native)
        return found

    def describe(self) -> Mapping[str, str]:
        """Version, device, threads, and all options, with what the compiler made it give up."""
        from iree.runtime import version

        device, flags = device_flags(self._options, self._threads)
        facts = {"version": version.VERSION, "build": version.REVISIONS.get("IREE", "")}
        running = {"device": " ".join((device, *flags)), "threads": str(self._threads), "precision": "fp32"}
        return {**self._options, **facts, **running}

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """IREE's own profile, recorded by its benchmark program in a process of its own: the Python binding
        has none.
        """
        device, flags = device_flags(self._options, self._threads)
        command = (f"--device={device}", *flags, f"--function={self._function.name}")
        return profile_program(self._path, self._options, self._interface, command, inputs, inferences)


def entry_point(names: list[str]) -> str:
    """The network's own function among a program's: neither an initialiser nor the asynchronous twin."""
    return next(name for name in names if not name.startswith("_") and not name.endswith("$async"))


def keep_freed_memory() -> None:
    """Tell the C library to keep freed memory: IREE allocates intermediate values anew in every run."""
    library = ctypes.CDLL(None)
    library.mallopt(MALLOC_MMAP_THRESHOLD, KEPT_BYTES // 2)
    library.mallopt(MALLOC_TRIM_THRESHOLD, KEPT_BYTES)


IREE = IreeAdapter(
    name="iree",
    title="IREE, compiled for this processor",
    distribution="iree-base-runtime",
    extra="iree",
    options={
        "opt_level": "O3",
        "data_tiling": "1",
        "im2col": "1",
        "channels_last": "0",
        "ukernels": "default",
        "fuse_multi_use": "0",
        "stack_limit_bytes": "1048576",
        "keep_memory": "0",
    },
    variants={
        "o2": {"opt_level": "O2"},
        "no-data-tiling": {"data_tiling": "0"},
        "fuse-multi-use": {"fuse_multi_use": "1"},
        "no-im2col": {"im2col": "0"},
        "plain": {"data_tiling": "0", "im2col": "0"},
        "channels-last": {"channels_last": "1", "im2col": "0"},
        "no-ukernels": {"ukernels": "none"},
        "all-ukernels": {"ukernels": "all"},
        "keep-memory": {"keep_memory": "1"},
    },
)
