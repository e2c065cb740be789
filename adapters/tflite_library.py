"""LiteRT's C API through ctypes: what a C++ program calls, without Python between it and the kernels.

The wheel's `libLiteRt.so` exports it; the Python classes of the wheel have neither the profiler nor a way to
give the accelerator its options by name. Structures are those of `litert/c/*.h`, whose sizes are promised.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pointer = ctypes.c_void_p
Array = NDArray[Any]

CPU = 1
READ, WRITE = 0, 1
RANK_MASK = 0x7F
ELEMENT_TYPES = {1: "float32", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
ELEMENT_TYPES |= {10: "float16", 11: "float64"}
CPU_OPTIONS = "xnnpack"
"""The identifier of the CPU options; LiteRT ignores options under a wrong one without a word."""
RUNTIME_OPTIONS = "runtime_options_string"


class _Layout(ctypes.Structure):
    _fields_ = (("bits", ctypes.c_uint32), ("dims", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8))


class _TensorType(ctypes.Structure):
    _fields_ = (("element_type", ctypes.c_int32), ("layout", _Layout))


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_size_t * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of LiteRT's profiler; `kind` is a `LiteRtProfilerEventType`, `index` the operator's."""

    tag: str
    kind: int
    start_us: int
    elapsed_us: int
    index: int


class LiteRtError(RuntimeError):
    """A call of the C API that returned another status than 0."""


class Library:
    """The loaded `libLiteRt.so`; every call that fails raises `LiteRtError` with its name and status."""

    def __init__(self) -> None:
        import ai_edge_litert

        self._library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))

    def call(self, name: str, *arguments: Any) -> None:
        """Call `LiteRt<name>`."""
        status = getattr(self._library, f"LiteRt{name}")(*arguments)
        if status:
            raise LiteRtError(f"LiteRt{name} returned status {status}: its own message is in the log")

    def make(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """Call `LiteRt<name>`, whose last argument receives a handle; returns the handle."""
        handle = Pointer()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle

    def function(self, name: str) -> Any:
        """The C function itself, for calls that are timed."""
        return getattr(self._library, f"LiteRt{name}")


@ctypes.CFUNCTYPE(None, Pointer)
def _keep(payload: Any) -> None:
    """Python owns the option texts: nothing to free."""


@dataclass(frozen=True, slots=True)
class TensorBuffer:
    """An input or output in LiteRT's memory."""

    handle: ctypes.c_void_p
    shape: tuple[int, ...]
    dtype: str


class CompiledModel:
    """A .tflite file compiled for the CPU, with buffers for all inputs and outputs by signature name."""

    def __init__(self, path: Path, cpu_options: Mapping[str, str], *, profile: bool) -> None:
        self._library = library = Library()
        self._texts: list[Any] = []
        self._environment = library.make("CreateEnvironment", 0, None)
        file = str(path).encode()
        self._model = library.make("CreateModelFromFile", self._environment, file)
        options = self._options(cpu_options, profile=profile)
        self._compiled = library.make("CreateCompiledModel", self._environment, self._model, options)
        signature = library.make("GetModelSignature", self._model, ctypes.c_size_t(0))
        self.inputs = self._buffers(signature, "Input")
        self.outputs = self._buffers(signature, "Output")
        self._run = library.function("RunCompiledModel")
        self._arguments = (
            self._compiled,
            ctypes.c_size_t(0),
            ctypes.c_size_t(len(self.inputs)),
            _handles(self.inputs),
            ctypes.c_size_t(len(self.outputs)),
            _handles(self.outputs),
        )
        self._profiler = None
        if profile:
            self._profiler = library.make("CompiledModelGetProfiler", self._compiled)
            library.call("ResetProfiler", self._profiler)
            library.call("StartProfiler", self._profiler)

    def run(self) -> None:
        """One inference; complete when it returns."""
        status = self._run(*self._arguments)
        if status:
            raise LiteRtError(f"LiteRtRunCompiledModel returned status {status}")

    def write(self, name: str, value: Array) -> None:
        """Copy a contiguous array of the buffer's shape and dtype into the input `name`."""
        buffer = self.inputs[name]
        if value.shape != buffer.shape or value.dtype.name != buffer.dtype:
            raise ValueError(
                f"input {name!r} is {buffer.dtype} {list(buffer.shape)}, not {value.dtype} {list(value.shape)}"
            )
        address = self._lock(buffer, WRITE)
        ctypes.memmove(address, value.ctypes.data, value.nbytes)
        self._library.call("UnlockTensorBuffer", buffer.handle)

    def read(self, name: str) -> Array:
        """A copy of the output `name`."""
        buffer = self.outputs[name]
        value: Array = np.empty(buffer.shape, buffer.dtype)
        address = self._lock(buffer, READ)
        ctypes.memmove(value.ctypes.data, address, value.nbytes)
        self._library.call("UnlockTensorBuffer", buffer.handle)
        return value

    def take_events(self) -> tuple[Event, ...]:
        """The profiler's events since the last call; the model must have been compiled for profiling."""
        library, profiler, count = self._library, self._profiler, ctypes.c_int()
        library.call("GetNumProfilerEvents", profiler, ctypes.byref(count))
        events = (_Event * count.value)()
        library.call("GetProfilerEvents", profiler, count, events)
        taken = tuple(
            Event((one.tag or b"").decode(), one.kind, one.start_us, one.elapsed_us, one.metadata[0])
            for one in events
        )
        library.call("ResetProfiler", profiler)
        return taken

    def _lock(self, buffer: TensorBuffer, mode: int) -> Any:
        address = Pointer()
        self._library.call("LockTensorBuffer", buffer.handle, ctypes.byref(address), ctypes.c_int(mode))
        return address

    def _options(self, cpu_options: Mapping[str, str], *, profile: bool) -> ctypes.c_void_p:
        library = self._library
        options = library.make("CreateOptions")
        library.call("SetOptionsHardwareAccelerators", options, ctypes.c_int(CPU))
        runtime_options = {"enable_profiling": "true" if profile else "false"}
        for identifier, values in ((CPU_OPTIONS, cpu_options), (RUNTIME_OPTIONS, runtime_options)):
            text = "".join(f"{key} = {value}\n" for key, value in values.items()).encode()
            payload = ctypes.create_string_buffer(text)
            self._texts.append(payload)
            group = library.make("CreateOpaqueOptions", identifier.encode(), payload, _keep)
            library.call("AddOpaqueOptions", options, group)
        return options

    def _buffers(self, signature: ctypes.c_void_p, kind: str) -> dict[str, TensorBuffer]:
        count = ctypes.c_size_t()
        self._library.call(f"GetNumSignature{kind}s", signature, ctypes.byref(count))
        return dict(self._buffer(signature, kind, ctypes.c_size_t(index)) for index in range(count.value))

    def _buffer(
        self, signature: ctypes.c_void_p, kind: str, index: ctypes.c_size_t
    ) -> tuple[str, TensorBuffer]:
        library, kind_type = self._library, _TensorType()
        name = ctypes.c_char_p()
        library.call(f"GetSignature{kind}Name", signature, index, ctypes.byref(name))
        tensor = library.make(f"GetSignature{kind}TensorByIndex", signature, index)
        library.call("GetRankedTensorType", tensor, ctypes.byref(kind_type))
        needs = library.make(
            f"GetCompiledModel{kind}BufferRequirements", self._compiled, ctypes.c_size_t(0), index
        )
        handle = library.make(
            "CreateManagedTensorBufferFromRequirements", self._environment, ctypes.byref(kind_type), needs
        )
        shape = tuple(kind_type.layout.dims[: kind_type.layout.bits & RANK_MASK])
        return (name.value or b"").decode(), TensorBuffer(
            handle, shape, ELEMENT_TYPES[kind_type.element_type]
        )


def _handles(buffers: Mapping[str, TensorBuffer]) -> Any:
    return (Pointer * len(buffers))(*(buffer.handle for buffer in buffers.values()))
