"""The sampler for a machine."""

from pathlib import Path

from benchsuite.device.build import built

SOURCE = Path(__file__).parent / "sampler.c"


def built_sampler(machine: str) -> Path:
    """The program for `aarch64` or `x86_64`; raises `BenchError` for another, or when it cannot be built."""
    return built(SOURCE, machine)
