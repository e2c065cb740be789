"""TFLite on the CPU: `tflite` is LiteRT, its living successor; `tflite-runtime` is the last wheel of the old
name. Both run the same .tflite file, made by onnx2tf, with XNNPACK.
"""

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.framework import Framework
from adapters.interface import Interface, read_interface
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
CONVERTER_FILES = tuple(HERE / f"tflite_{part}.py" for part in ("convert", "flatbuffer", "layout", "weights"))
CONVERTER_OPTIONS = ("input_layout",)

XNNPACK_FLAGS = {
    "dynamic-fully-connected": 0x008,
    "transient-indirection": 0x020,
    "latest-operators": 0x040,
    "consistent-arithmetic": 0x200,
    "no-reshaping": 0x400,
}
"""`TFLITE_XNNPACK_DELEGATE_FLAG_*` that can matter in fp32."""
DEFAULT_FLAGS = "default"
FLAGS_MARK = "+"
NO_CACHE, FILE_CACHE, MEMORY_CACHE = "none", "file", "memory"
MEMORY_CACHE_PATH = ":memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class TfliteAdapter(Framework):
    """A runtime for .tflite files; `load` is each row's own."""

    def conversion(self, setting: Setting) -> Conversion | None:
        """onnx2tf, in an environment of its own; the thread count does not matter."""
        return Conversion(
            tool="onnx2tf",
            distributions=("onnx2tf", "onnx"),
            environment="onnx2tf",
            options={key: self.options[key] for key in CONVERTER_OPTIONS},
            files=CONVERTER_FILES,
        )

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Convert with onnx2tf; raises `Unsupported` with the operator and its node."""
        from adapters.tflite_convert import convert_onnx

        return convert_onnx(source, folder, self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteRtAdapter(TfliteAdapter):
    """LiteRT through its C API, as a C++ program and `litert-benchmark` use it (`CompiledModel`)."""

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Compile for the CPU with exactly `setting.threads` threads."""
        from importlib.metadata import version

        from adapters.tflite_library import CompiledModel, LiteRtError

        with tempfile.TemporaryDirectory(prefix="tflite-weights-") as cache:  # stays mapped when removed
            options = cpu_options(self.options, setting.threads, cache)
            try:
                model = CompiledModel(prepared.path, options, profile=setting.profile)
            except LiteRtError as error:
                if self.options["single_delegate_hint"] == "0":
                    raise
                raise Unsupported(
                    f"XNNPACK does not run all of its operators, which is promised: {error}"
                ) from error
        facts = {"version": version(self.distribution), "precision": "fp32", **self.options}
        facts |= {"threads": str(setting.threads), "api": "CompiledModel (C)"}
        return LiteRtSession(model, prepared.path.parent, facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpreterAdapter(TfliteAdapter):
    """tflite-runtime, whose wheel has the Interpreter only."""

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Make the interpreter with exactly `setting.threads` threads."""
        import tflite_runtime
        from tflite_runtime import interpreter as runtime

        resolvers = {
            "delegate": runtime.OpResolverType.AUTO,
            "builtin": runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        }
        interpreter = runtime.Interpreter(
            model_path=str(prepared.path),
            num_threads=setting.threads,
            experimental_op_resolver_type=resolvers[self.options["kernel_mode"]],
        )
        interpreter.allocate_tensors()
        facts = {"version": tflite_runtime.__version__, "build": tflite_runtime.__git_version__}
        facts |= {"precision": "fp32", "threads": str(setting.threads), "api": "Interpreter", **self.options}
        return InterpreterSession(interpreter, read_interface(prepared.path.parent), facts)


def cpu_options(options: Mapping[str, str], threads: int, cache_folder: str) -> dict[str, str]:
    """LiteRT's CPU options as TOML values; those that are at LiteRT's own default are left out."""
    chosen = {"num_threads": str(threads), "kernel_mode": f'"{options["kernel_mode"]}"'}
    names = options["xnnpack_flags"]
    if names != DEFAULT_FLAGS:
        chosen["flags"] = str(sum(XNNPACK_FLAGS[name] for name in names.split(FLAGS_MARK)))
    if options["single_delegate_hint"] == "1":
        chosen["hint_fully_delegated_to_single_delegate"] = "true"
    paths = {NO_CACHE: "", FILE_CACHE: f"{cache_folder}/weights", MEMORY_CACHE: MEMORY_CACHE_PATH}
    path = paths[options["weight_cache"]]
    if path:
        chosen["weight_cache_file_path"] = f'"{path}"'
    return chosen


class LiteRtSession:
    """A compiled model with buffers in LiteRT's own memory."""

    def __init__(self, model: Any, folder: Path, facts: Mapping[str, str]) -> None:
        self._model = model
        self._folder = folder
        self._interface: Interface = read_interface(folder)
        self._facts = facts
        self.run = model.run  # the timed call, without a frame of ours around it

    def feed(self, inputs: Inputs) -> None:
        """Bring into the file's layout and dtype, and copy into LiteRT's buffers."""
        for port in self._interface.inputs:
            self._model.write(port.key, port.to_native(inputs[port.name]))

    def outputs(self) -> Mapping[str, Any]:
        """Outputs of the last run in ONNX's layout."""
        return {port.name: port.to_onnx(self._model.read(port.key)) for port in self._interface.outputs}

    def describe(self) -> Mapping[str, str]:
        """Version, threads, options."""
        return self._facts

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """Run with LiteRT's profiler; raises `Unsupported` unless the session was loaded for it."""
        from adapters.tflite_convert import OPERATORS_NAME
        from adapters.tflite_profile import read_profile

        if not self._model.is_profiled:
            raise Unsupported("the session was not loaded for profiling: `Setting.profile` must be true")
        self.feed(inputs)
        self.run()  # the first run prepares more than later ones
        runs, wall_ns = [], []
        for _ in range(inferences):
            self.feed(inputs)
            self._model.start_profiler()
            start = time.perf_counter_ns()
            self._model.run()
            wall_ns.append(time.perf_counter_ns() - start)
            runs.append(self._model.stop_profiler())
        rows = json.loads((self._folder / OPERATORS_NAME).read_text(encoding="utf-8"))
        return read_profile(runs, wall_ns, rows)


class InterpreterSession:
    """An interpreter; its inputs and outputs lie in its arena."""

    def __init__(self, interpreter: Any, interface: Interface, facts: Mapping[str, str]) -> None:
        self._interpreter = interpreter
        self._interface = interface
        self._facts = facts
        self._inputs = {one["name"]: one["index"] for one in interpreter.get_input_details()}
        self._outputs = {one["name"]: one["index"] for one in interpreter.get_output_details()}
        self.run = interpreter.invoke

    def feed(self, inputs: Inputs) -> None:
        """Bring into the file's layout and dtype, and copy into the arena."""
        for port in self._interface.inputs:
            self._interpreter.set_tensor(self._inputs[port.key], port.to_native(inputs[port.name]))

    def outputs(self) -> Mapping[str, Any]:
        """Outputs of the last run in ONNX's layout."""
        read = self._interpreter.get_tensor
        return {port.name: port.to_onnx(read(self._outputs[port.key])) for port in self._interface.outputs}

    def describe(self) -> Mapping[str, str]:
        """Version, threads, options."""
        return self._facts

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """Refused: the wheel has no profiler."""
        raise Unsupported("tflite-runtime's wheel has no profiler; `tflite` (LiteRT) has one")


TFLITE = LiteRtAdapter(
    name="tflite",
    title="TFLite (LiteRT) with XNNPACK",
    distribution="ai-edge-litert",
    extra="tflite",
    options={
        "input_layout": "as-used",
        "kernel_mode": "delegate",
        "xnnpack_flags": DEFAULT_FLAGS,
        "weight_cache": NO_CACHE,
        "single_delegate_hint": "0",
    },
    variants={
        "no-xnnpack": {"kernel_mode": "builtin"},
        "weight-cache": {"weight_cache": FILE_CACHE},
        "memory-weight-cache": {"weight_cache": MEMORY_CACHE},
        "single-delegate": {"single_delegate_hint": "1"},
        "dynamic-fully-connected": {"xnnpack_flags": "dynamic-fully-connected"},
        "latest-operators": {"xnnpack_flags": "dynamic-fully-connected+latest-operators"},
        "transient-indirection": {"xnnpack_flags": "dynamic-fully-connected+transient-indirection"},
        "no-reshaping": {"xnnpack_flags": "dynamic-fully-connected+no-reshaping"},
        "consistent-arithmetic": {"xnnpack_flags": "dynamic-fully-connected+consistent-arithmetic"},
        "onnx-layout": {"input_layout": "onnx"},
        "channels-last": {"input_layout": "channels-last"},
    },
)
TFLITE_RUNTIME = InterpreterAdapter(
    name="tflite-runtime",
    title="TFLite runtime 2.14 (2023, the last of its name) with XNNPACK",
    distribution="tflite-runtime",
    environment="tflite-runtime",
    options={"input_layout": "as-used", "kernel_mode": "delegate"},
    variants={
        "no-xnnpack": {"kernel_mode": "builtin"},
        "onnx-layout": {"input_layout": "onnx"},
        "channels-last": {"input_layout": "channels-last"},
    },
    notes=("the last tflite-runtime is of October 2023; its successor LiteRT is `tflite`",),
)
