"""Build benchmark tools that are not in the wheels, from a checkout of their sources, against the wheel's own
library.
"""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from models.errors import BenchError

HERE = Path(__file__).parent
COMPILER = ("g++", "-std=c++20", "-O2")
TAIL_LINES = 8
SESSION_SOURCES = ("ort_test_session.cc", "strings_helper.cc")

STUBS = {
    "core/framework/session_options.h": """#pragma once
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <core/session/onnxruntime_c_api.h>
#include <core/session/onnxruntime_cxx_api.h>
#define ORT_DISALLOW_COPY_ASSIGNMENT_AND_MOVE(name) \\
  name(const name&) = delete; name& operator=(const name&) = delete
#define ORT_THROW(...) throw std::runtime_error("the perf test cannot run this")
inline std::string ToUTF8String(const std::string& text) { return text; }
namespace gsl { template <class To, class From> To narrow(From value) { return static_cast<To>(value); } }
using gsl::narrow;
""",
    "TestCase.h": """#pragma once
#include <filesystem>
#include <string>
class TestModelInfo {
 public:
  virtual ~TestModelInfo() = default;
  virtual const std::filesystem::path& GetModelUrl() const = 0;
  virtual int GetInputCount() const = 0;
  virtual const std::string& GetInputName(size_t index) const = 0;
};
""",
    "OrtValueList.h": "",
    "providers.h": "",
    "onnxruntime_config.h": "",
}
"""Headers of ours in place of those that draw in protobuf, abseil and the test data loader: what is timed is
behind the public C++ API.
"""


def build_onnxruntime(source: Path | None, folder: Path) -> Path:
    """The perf test's session class with a driver of ours, linked with the wheel's library; built once.

    `source` is a checkout of ONNX Runtime, of the installed version or an older one (its API is versioned).
    Raises `BenchError` when it is missing or cannot be compiled.
    """
    program = folder / "onnxruntime_perf"
    if program.exists():
        return program
    if source is None:
        raise BenchError(
            "its sources are needed", where="onnxruntime_perf_test", hint="--onnxruntime-source DIR"
        )
    stubs = folder / "onnxruntime_stubs"
    for name, text in STUBS.items():
        (stubs / name).parent.mkdir(parents=True, exist_ok=True)
        (stubs / name).write_text(text, encoding="utf-8")
    tests = source / "onnxruntime" / "test" / "perftest"
    places = (stubs, source / "include" / "onnxruntime", source / "onnxruntime", tests)
    public = source / "include" / "onnxruntime" / "core" / "session"
    library = _onnxruntime_library(folder)
    _compile(
        *(f"-I{place}" for place in (*places, public)),
        *(str(tests / name) for name in SESSION_SOURCES),
        str(HERE / "own_tools_onnxruntime.cc"),
        *("-include", "core/framework/session_options.h"),
        str(library),
        f"-Wl,-rpath,{library.parent}",
        *("-o", str(program)),
    )
    return program


def _onnxruntime_library(folder: Path) -> Path:
    """A link to the library in the wheel, by the name that programs look for."""
    spec = find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    found = sorted((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"))
    if not found:
        raise BenchError("the wheel has no libonnxruntime.so to link with", where="onnxruntime_perf_test")
    link = folder / "libonnxruntime.so.1"
    if not link.exists():
        link.symlink_to(found[0])
    return link


def build_mnn(source: Path | None, folder: Path) -> Path:
    """The loop of MNN's benchmark as a library that is loaded beside MNN's extension module; built once.

    `source` is a checkout of MNN of the installed version. The wheel is built with the old ABI of libstdc++.
    Raises `BenchError` when it is missing or cannot be compiled.
    """
    library = folder / "mnn_benchmark.so"
    if library.exists():
        return library
    if source is None:
        raise BenchError("needs its headers", where="MNN benchmark", hint="--mnn-source DIR")
    _compile(
        *("-shared", "-fPIC", "-D_GLIBCXX_USE_CXX11_ABI=0", f"-I{source / 'include'}"),
        str(HERE / "own_tools_mnn.cc"),
        *("-o", str(library)),
    )
    return library


def _compile(*arguments: str) -> None:
    if shutil.which(COMPILER[0]) is None:
        raise BenchError(f"there is no {COMPILER[0]} on the PATH", hint="install a C++ compiler")
    done = subprocess.run([*COMPILER, *arguments], capture_output=True, text=True)
    if done.returncode:
        tail = "\n  ".join(done.stderr.strip().splitlines()[-TAIL_LINES:])
        raise BenchError(f"cannot be compiled:\n  {tail}", where=COMPILER[0])
