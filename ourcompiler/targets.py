"""What code is made for: the rows of `chips.toml`, and this machine."""

import platform
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ourcompiler.errors import CompileError


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of machine.

    `triple` and `cpu` are for the C compiler; `lanes` float32 in a vector register, of which there are
    `registers`; caches in bytes, of one core; `panel_bytes` the largest panel of a product's right side that
    every tile reads at full speed (most of the first cache, unless the second is as fast); what that core
    computes and moves at most; what starting a kernel costs.
    """

    name: str
    triple: str
    cpu: str
    lanes: int
    registers: int
    l1_bytes: int
    l2_bytes: int
    panel_bytes: int
    flops_per_second: float
    bytes_per_second: float
    start_ns: float
    is_static: bool = False
    memory: str = "buffer"


@dataclass(frozen=True, slots=True)
class Memory:
    """A kind of memory: how many dimensions of a value can be walked from neighbour to neighbour, elements of
    one place, and how many places there are in each direction (0: no limit).
    """

    name: str
    contiguous: int
    vector: int
    width: int = 0
    height: int = 0


MEMORY = "memory"


@cache
def _chips() -> Mapping[str, Any]:
    return tomllib.loads(files("ourcompiler").joinpath("chips.toml").read_text(encoding="utf-8"))


@cache
def targets() -> Mapping[str, Target]:
    """Every row of the table, by name."""
    return {name: Target(name=name, **row) for name, row in _chips().items() if name != MEMORY}


@cache
def memories() -> Mapping[str, Memory]:
    """Every kind of memory, by name."""
    return {name: Memory(name=name, **row) for name, row in _chips()[MEMORY].items()}


def memory(name: str) -> Memory:
    """The kind of memory of that name. Raises `CompileError`."""
    if name not in memories():
        raise CompileError(
            f"there is no memory {name!r}", hint=f"choose one of {', '.join(sorted(memories()))}"
        )
    return memories()[name]


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
