"""What code is made for: the rows of `chips.toml`, and this machine."""

import platform
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ourcompiler.errors import CompileError


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of machine.

    `triple` and `cpu` are for the C compiler; `lanes` float32 in a vector register, of which there are
    `registers`; caches in bytes, of one core.
    """

    name: str
    triple: str
    cpu: str
    lanes: int
    registers: int
    l1_bytes: int
    l2_bytes: int
    is_static: bool = False


@cache
def targets() -> Mapping[str, Target]:
    """Every row of the table, by name."""
    rows = tomllib.loads(files("ourcompiler").joinpath("chips.toml").read_text(encoding="utf-8"))
    return {name: Target(name=name, **row) for name, row in rows.items()}


def target(name: str = "host") -> Target:
    """The row of that name; `host` is the best one that this machine can run. Raises `CompileError`."""
    if name == "host":
        return targets()[_host()]
    if name not in targets():
        known = ", ".join(["host", *targets()])
        raise CompileError(f"there is no target {name!r}", hint=f"choose one of {known}")
    return targets()[name]


def _host() -> str:
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return "aarch64"
    flags = _cpu_flags()
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "avx512"
    if {"avx2", "fma"} <= flags:
        return "avx2"
    raise CompileError(
        f"there is no target for this processor ({machine})", hint="it needs AVX2 and FMA, or 64-bit ARM"
    )


def _cpu_flags() -> frozenset[str]:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("flags"):
                return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def runnable_here() -> tuple[str, ...]:
    """Targets whose code this machine runs by itself."""
    best = _host()
    return {"avx512": ("avx512", "avx2"), "avx2": ("avx2",)}.get(best, (best,))
