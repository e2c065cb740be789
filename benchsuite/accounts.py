"""Where the wall time of a run goes: what measures, and what the harness itself costs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

MEASURING = ("loading", "warm_up", "timed")
"""What has to be paid by any harness. `preparing` is paid once a network: drawing weights, converting,
reference.
"""


class Accounts:
    """Seconds by name; what no name claims is `harness`. Names inside a claimed stretch are subtracted
    from it.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._seconds = dict.fromkeys((*MEASURING, "preparing"), 0.0)

    def add(self, name: str, seconds: float) -> None:
        """Claim seconds for a name."""
        self._seconds[name] += seconds

    @contextmanager
    def spend(self, name: str) -> Iterator[None]:
        """Claim the time of a block of code for a name, less what is claimed by other names meanwhile."""
        start, claimed = time.monotonic(), sum(self._seconds.values())
        try:
            yield
        finally:
            inner = sum(self._seconds.values()) - claimed
            self._seconds[name] += max(0.0, time.monotonic() - start - inner)

    def totals(self) -> dict[str, float]:
        """All names, with `harness` and `wall`."""
        wall = time.monotonic() - self._start
        return {**self._seconds, "harness": max(0.0, wall - sum(self._seconds.values())), "wall": wall}


def harness_share(totals: Mapping[str, float]) -> float:
    """Part of the wall time that is neither loading, warm-up, timed nor preparing a network for the first
    time.
    """
    return totals["harness"] / totals["wall"] if totals.get("wall") else 0.0
