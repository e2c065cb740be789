"""One network loaded in MNN: its `Interpreter` and `Session`, fed and read in ONNX's names and layouts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from adapters.interface import Interface, Port, read_interface
from adapters.mnn_convert import WEIGHTS_SUFFIX
from adapters.protocol import Inputs, Profile, Setting, Unsupported

SESSION_DEBUG, SESSION_RELEASE = 0, 1
"""`Interpreter::SessionMode`: whether operators can be watched."""
MODES = {"normal": 0, "high": 1, "low": 2}
"""`BackendConfig`'s words for precision, memory and power."""
HINTS = {"winograd_memory_level": 3, "geometry_compute_mask": 4, "memory_allocator": 2, "load_threads": 13}
"""`Interpreter::HintMode` by our names."""
INFO_BACKENDS = 2
CPU_WITH_EXTENSION = 13
BACKENDS = {0: "CPU", CPU_WITH_EXTENSION: "CPU, AVX2 kernels"}


def open_session(path: Path, options: Mapping[str, str], setting: Setting) -> "MnnSession":
    """Load the .mnn file `path` with exactly `setting.threads` threads; all memory is reserved here.

    `_mnncengine` is the extension module; `createSession` imports the package `MNN` itself, which leaves
    alone `MNN.tools`, the part that calls pip and reports home. Raises `Unsupported` when MNN's outputs are
    not the network's, and what MNN raises for a file that is damaged.
    """
    import _mnncengine as mnn

    interpreter = mnn.Interpreter(str(path))
    interpreter.setExternalFile(str(path) + WEIGHTS_SUFFIX)
    interpreter.setSessionMode(SESSION_DEBUG if setting.profile else SESSION_RELEASE)
    for option, hint in HINTS.items():
        interpreter.setSessionHint(hint, int(options[option]))
    config = {"backend": "CPU", "numThread": setting.threads}
    config |= {name: MODES[options[name]] for name in ("precision", "memory", "power")}
    session = interpreter.createSession(config)
    facts = {**options, "version": mnn.version(), "threads": str(setting.threads)}
    return MnnSession(mnn, interpreter, session, path.parent, facts)


class MnnSession:
    """One MNN session. Its input buffers hold other values after a run: `feed` comes before each."""

    def __init__(
        self, mnn: Any, interpreter: Any, session: Any, folder: Path, facts: Mapping[str, str]
    ) -> None:
        self._mnn = mnn
        self._interpreter = interpreter
        self._session = session
        self._folder = folder
        self._facts = facts
        self._interface: Interface = read_interface(folder)
        self._halide = {
            "float32": mnn.Halide_Type_Float,
            "int32": mnn.Halide_Type_Int,
            "uint8": mnn.Halide_Type_Uint8,
        }
        self._inputs = interpreter.getSessionInputAll(session)
        self._outputs = interpreter.getSessionOutputAll(session)
        self._check_ports()

    def feed(self, inputs: Inputs) -> None:
        """Copy into the session's own tensors, which may be in a packed layout."""
        for port in self._interface.inputs:
            if port.key in self._inputs:  # an input that nothing uses is not in the file
                self._inputs[port.key].copyFrom(self._host(port, port.to_native(inputs[port.name])))

    def run(self) -> None:
        """One inference, synchronous; the outputs stay in the session."""
        error = self._interpreter.runSession(self._session)
        if error:
            raise RuntimeError(f"MNN's runSession returned the error {error}")

    def outputs(self) -> Mapping[str, Any]:
        """Copies of the outputs of the last run, in ONNX's dtypes."""
        found = {}
        for port in self._interface.outputs:
            host = self._host(port, np.zeros(port.shape, port.native_dtype))
            self._outputs[port.key].copyToHostTensor(host)
            found[port.name] = port.to_onnx(np.array(host.getNumpyData()))
        return found

    def describe(self) -> Mapping[str, str]:
        """Version, threads, options, the backend that MNN says it uses, and the class it computes in."""
        backend = self._interpreter.getSessionInfo(self._session, INFO_BACKENDS)
        return {**self._facts, "backend": BACKENDS.get(backend, str(backend)), "precision": "fp32"}

    def profile(self, inputs: Inputs, inferences: int) -> Profile:
        """Run with callbacks around every operator; the session must have been loaded for it."""
        from adapters.mnn_profile import profile_session

        def once(before: Any, after: Any) -> None:
            self.feed(inputs)
            self._interpreter.runSessionWithCallBackInfo(self._session, before, after)

        return profile_session(once, inferences, self._folder)

    def _host(self, port: Port, value: Any) -> Any:
        """A host tensor with a copy of `value`, in ONNX's layout."""
        layout = self._mnn.Tensor_DimensionType_Caffe
        return self._mnn.Tensor(tuple(value.shape), self._halide[port.native_dtype], value, layout)

    def _check_ports(self) -> None:
        """What MNN made of the outputs must be what the network says: it copies without a check."""
        for port in self._interface.outputs:
            if port.key not in self._outputs:
                raise Unsupported(f"MNN dropped the output {port.name!r}")
            shape = tuple(self._outputs[port.key].getShape())
            if shape != port.shape:
                raise Unsupported(f"MNN makes {list(shape)} of output {port.name!r}, not {list(port.shape)}")
