"""The program `peak` for a machine."""

from pathlib import Path

from benchsuite.device.build import built

SOURCE = Path(__file__).parent / "peak.c"


def built_peak(machine: str) -> Path:
    """The program for `aarch64` or `x86_64`; raises `BenchError` for another, or when it cannot be built."""
    return built(SOURCE, machine)


def peak_words(program: str, threads: int, seconds: float, cores: tuple[int, ...]) -> list[str]:
    """Its command: so many seconds for arithmetic and again for memory; no cores leave that to the
    scheduler.
    """
    return [program, str(threads), str(seconds), ",".join(map(str, cores)) or "-"]
