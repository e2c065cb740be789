"""MNN on the CPU: ONNX through its own converter, then a session as its C++ API and benchmark tool use it."""

from dataclasses import dataclass, replace
from pathlib import Path

from adapters.framework import Framework
from adapters.mnn_convert import CONVERTER_OPTIONS, convert_onnx
from adapters.protocol import Conversion, Converted, Prepared, Session, Setting

HERE = Path(__file__).parent
CONVERTER_FILES = (HERE / "mnn_convert.py", HERE / "mnn_winograd.py", HERE / "mnn_session.py")
WINOGRAD, WHERE_ACCURATE = "winograd_memory_level", "where-accurate"
ACCURATE_LEVEL = "accurate_winograd_level"


@dataclass(frozen=True, slots=True, kw_only=True)
class MnnAdapter(Framework):
    """MNN's `Interpreter` and `Session` on its CPU backend."""

    def conversion(self, setting: Setting) -> Conversion | None:
        """`mnnconvert`, in the main environment; the thread count does not matter."""
        return Conversion(
            tool="mnnconvert",
            distributions=("mnn", "onnx"),
            options={key: self.options[key] for key in CONVERTER_OPTIONS},
            files=CONVERTER_FILES,
        )

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """Convert with MNN's converter and find out which Winograd tiles are accurate enough.

        Raises `Unsupported` with the operators that the converter does not have.
        """
        from adapters.mnn_winograd import largest_accurate_level

        converted = convert_onnx(source, folder, self.options)
        level = largest_accurate_level(source, folder / converted.file, self.options)
        return replace(converted, options={ACCURATE_LEVEL: level})

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Make a session with exactly `setting.threads` threads."""
        from adapters.mnn_session import open_session

        options = dict(self.options)
        if options[WINOGRAD] == WHERE_ACCURATE:
            options[WINOGRAD] = prepared.options[ACCURATE_LEVEL]
        return open_session(prepared.path, options, setting)


NO_AVX512 = (
    "the wheel of MNN has no AVX-512 kernels (its build option MNN_AVX512 is off): on a processor that has "
    "them a build of one's own was 1.1 to 1.7 times as fast (Zen 5), or 1.0 to 1.1 times (Zen 4)"
)
MNN = MnnAdapter(
    name="mnn",
    title="MNN, CPU backend",
    distribution="mnn",
    extra="mnn",
    notes=(NO_AVX512,),
    options={
        "gelu": "native",
        "gelu_approximation": "1",
        "transformer_fuse": "0",
        "external_weights": "1",
        "native_group_convolution": "0",
        "optimize_level": "1",
        "optimize_prefer": "0",
        "matmul_to_convolution": "1",
        "precision": "high",
        "memory": "normal",
        "power": "normal",
        WINOGRAD: WHERE_ACCURATE,
        "geometry_compute_mask": "65535",
        "memory_allocator": "0",
        "load_threads": "0",
    },
    variants={
        "transformer-fuse": {"transformer_fuse": "1"},
        "no-winograd": {WINOGRAD: "0"},
        "small-winograd": {WINOGRAD: "1"},
        "large-winograd": {WINOGRAD: "3"},
        "exact-gelu": {"gelu_approximation": "0"},
        "gelu-as-erf": {"gelu": "erf"},
        "native-groups": {"native_group_convolution": "1"},
        "matmul-as-it-is": {"matmul_to_convolution": "0"},
        "high-memory": {"memory": "high"},
        "high-power": {"power": "high"},
    },
)
