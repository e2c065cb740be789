"""What a roofline needs, from the facts of a run: the most a device does, the least a network asks for."""

from dataclasses import dataclass

from benchsuite.device.protocol import Facts

SOURCE = "ceiling.source"
MISSING = ".missing"
"""End of the name of a fact, after the thread count: why it has no ceiling."""
OLDER_SOURCE = "a large matrix product, copies of memory"
"""In runs that do not tell: there was one probe only."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that a device was seen to do with so many threads."""

    threads: int
    flops_per_second: float
    bytes_per_second: float


@dataclass(frozen=True, slots=True)
class Work:
    """The least that one inference must do: multiply-accumulates, and bytes of weights and inputs, once."""

    macs: int
    weight_bytes: int
    input_bytes: int

    @property
    def flops(self) -> float:
        """A multiply-accumulate is two operations."""
        return 2.0 * self.macs

    @property
    def bytes(self) -> int:
        """Compulsory traffic; activations may stay in the caches."""
        return self.weight_bytes + self.input_bytes


def ceiling_of(facts: Facts, threads: int) -> Ceiling | None:
    """The ceiling that a run's facts tell; None where there was no probe, as in runs of an older bench."""
    flops, traffic = (
        facts.get(f"ceiling.{threads}t.{name}") for name in ("flops_per_second", "bytes_per_second")
    )
    if not isinstance(flops, int | float) or not isinstance(traffic, int | float):
        return None
    return Ceiling(threads, float(flops), float(traffic)) if flops > 0 and traffic > 0 else None


def source_of(facts: Facts) -> str:
    """What the ceiling's figures are of: the probe of phones is another one than that of this machine."""
    return str(facts.get(SOURCE) or OLDER_SOURCE)


def why_no_ceiling(facts: Facts) -> str:
    """Why the probe of a run gave nothing; empty where that is not known, or there was none."""
    found = [one for name, one in facts.items() if name.startswith("ceiling.") and name.endswith(MISSING)]
    return str(found[0]) if found else ""


def work_of(facts: Facts, model: str) -> Work | None:
    """The work that a run's facts tell of a network; None in runs of an older bench."""
    found = [facts.get(f"network.{model}.{name}") for name in ("macs", "weight_bytes", "input_bytes")]
    numbers = [value for value in found if isinstance(value, int) and value >= 0]
    return Work(*numbers) if len(numbers) == len(found) else None
