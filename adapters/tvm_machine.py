"""What TVM's kernels are shaped for: the vector unit and the caches of the machine that compiles."""

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")
CPU_FIELDS = ("vendor_id", "cpu family", "model", "model name", "CPU implementer", "CPU part")
FEATURE_FIELDS = ("flags", "Features")
DIGEST_DIGITS = 8


@dataclass(frozen=True, slots=True)
class VectorUnit:
    """Lanes of fp32 in a register, and the register tile of a matrix product: `rows` × `vectors`.

    `rows * vectors` accumulators, the vectors of one operand and one broadcast fit the register file.
    """

    feature: str
    lanes: int
    rows: int
    vectors: int


VECTOR_UNITS = (
    VectorUnit("avx512f", lanes=16, rows=6, vectors=4),
    VectorUnit("avx2", lanes=8, rows=6, vectors=2),
    VectorUnit("neon", lanes=4, rows=6, vectors=4),
    VectorUnit("", lanes=4, rows=6, vectors=2),
)
"""The first whose feature LLVM has for the CPU; 32, 16, 32 and 16 registers."""


def vector_unit(target: Any) -> VectorUnit:
    """The vector unit of a TVM target."""
    from tvm.target import codegen

    return next(
        row for row in VECTOR_UNITS if not row.feature or codegen.llvm_cpu_has_features(row.feature, target)
    )


def host_target() -> Any:
    """TVM's target for the CPU that LLVM finds here."""
    import tvm
    from tvm.target import codegen

    cpu, triple = codegen.llvm_get_system_cpu(), codegen.llvm_get_system_triple()
    return tvm.target.Target({"kind": "llvm", "mcpu": cpu, "mtriple": triple, "opt-level": 3})


def cpu_name() -> str:
    """The CPU's model and a digest of its features, such as `AuthenticAMD-26-2-1a2b3c4d`.

    What was compiled or tuned here is of use only where this is the same. Imports nothing.
    """
    fields: dict[str, str] = {}
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
    features = " ".join(fields.get(name, "") for name in FEATURE_FIELDS)
    digest = hashlib.sha256(features.encode()).hexdigest()[:DIGEST_DIGITS]
    short = [fields[name] for name in CPU_FIELDS if name in fields and name != "model name"]
    return "-".join([*short, digest]) if short else f"{platform.machine()}-{digest}"
