"""What code is made for: the rows of `chips.toml`, and this machine."""

import platform
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ourcompiler.errors import CompileError
from ourcompiler.tilings import USUAL, Tilings


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of machine.

    `triple` and `cpu` are for the C compiler; `lanes` float32 in a vector register, of which there are
    `registers`; caches in bytes, of one core; `panel_bytes` the largest panel of a product's right side that
    every tile reads at full speed (most of the first cache, or so much of the second that the next one fits
    too); what that core computes and moves at most; what starting a kernel costs; `tilings` are what a search
    found for the chip at hand (ADR 31).
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
    tilings: Tilings = USUAL


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
HOST = "host"


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


def target(name: str = HOST) -> Target:
    """The row of that name; `host` is the best one that this machine can run. Raises `CompileError`."""
    if name == HOST:
        return targets()[_host()]
    if name not in targets():
        known = ", ".join([HOST, *targets()])
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


def chip() -> str:
    """The kind of processor of this machine, by its maker's numbers: `AuthenticAMD 25.1`, or of ARM all kinds
    of cores (`arm 41.d05 41.d44`). Empty where the system does not tell.
    """
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        rows = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in file)]
    facts = dict(reversed(rows))
    if {"vendor_id", "cpu family", "model"} <= set(facts):
        return f"{facts['vendor_id']} {facts['cpu family']}.{facts['model']}"
    makers = [value.removeprefix("0x") for name, value in rows if name == "CPU implementer"]
    parts = [value.removeprefix("0x") for name, value in rows if name == "CPU part"]
    cores = sorted({f"{maker}.{part}" for maker, part in zip(makers, parts, strict=False)})
    return " ".join(["arm", *cores]) if cores else ""


def runnable_here() -> tuple[str, ...]:
    """Targets whose code this machine runs by itself."""
    best = _host()
    return {"avx512": ("avx512", "avx2"), "avx2": ("avx2",)}.get(best, (best,))
