"""What TVM's kernels are shaped for: the vector unit and the caches of the machine that compiles."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")
CPU_FIELDS = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
FEATURE_FIELDS = ("flags", "Features")
VECTOR_FEATURES = ("sse", "avx", "fma", "f16c", "amx", "asimd", "sve", "fp", "bf16", "i8mm")
DIGEST_DIGITS = 8


@dataclass(frozen=True, slots=True)
class VectorUnit:
    """Lanes of fp32 in a register, how many registers, and the most `vectors` in a row of a register tile."""

    feature: str
    lanes: int
    registers: int
    vectors: int


VECTOR_UNITS = (
    VectorUnit("avx512f", lanes=16, registers=32, vectors=4),
    VectorUnit("avx2", lanes=8, registers=16, vectors=2),
    VectorUnit("neon", lanes=4, registers=32, vectors=4),
    VectorUnit("", lanes=4, registers=16, vectors=2),
)
"""The first whose feature LLVM has for the CPU."""

FAST_MATH = ("fast-math-reassoc", "fast-math-nnan", "fast-math-nsz", "fast-math-contract")


def vector_unit(target: Any, options: Mapping[str, str]) -> VectorUnit:
    """The vector unit of a TVM target; `lanes` and `vectors` of the options, where not 0, take its place."""
    from tvm.target import codegen

    found = next(
        row for row in VECTOR_UNITS if not row.feature or codegen.llvm_cpu_has_features(row.feature, target)
    )
    lanes, vectors = int(options.get("lanes", 0)), int(options.get("vectors", 0))
    return replace(found, lanes=lanes or found.lanes, vectors=vectors or found.vectors)


def host_target(options: Mapping[str, str]) -> Any:
    """TVM's target for the CPU that LLVM finds here.

    With `fast-math` sums may be taken in another order, without which LLVM vectorises no sum, and NaN is not
    looked after; infinities are.
    """
    import tvm
    from tvm.target import codegen

    cpu, triple = codegen.llvm_get_system_cpu(), codegen.llvm_get_system_triple()
    relaxed = dict.fromkeys(FAST_MATH, options.get("fast-math", "1") == "1")
    return tvm.target.Target({"kind": "llvm", "mcpu": cpu, "mtriple": triple, "opt-level": 3, **relaxed})


def tuning_target(options: Mapping[str, str]) -> Any:
    """The host's target with the number of cores, which MetaSchedule wants to know: one."""
    import tvm

    target = host_target(options)
    return tvm.target.Target({**target.export(), "num-cores": 1})


def cpu_name() -> str:
    """The CPU's model and a digest of its vector features, such as `AuthenticAMD-26-2-1a2b3c4d`.

    What was compiled or tuned here is of use only where this is the same. Imports nothing.
    """
    fields: dict[str, str] = {}
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    listed = " ".join(fields.get(name, "") for name in FEATURE_FIELDS).split()
    features = sorted(name for name in listed if name.startswith(VECTOR_FEATURES))
    digest = hashlib.sha256(" ".join(features).encode()).hexdigest()[:DIGEST_DIGITS]
    model = [fields[name] for name in CPU_FIELDS if name in fields]
    return "-".join([*(model or [platform.machine()]), digest])
