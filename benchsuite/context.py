"""What one run carries around: device, journal, limits, accounts; and the clock, so that tests can own it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchsuite.accounts import Accounts
from benchsuite.device.protocol import Device
from benchsuite.journal import Journal
from benchsuite.policy import Policy
from benchsuite.progress import Progress


@dataclass(frozen=True, slots=True)
class Context:
    """The surroundings of a run; the runner is handed this and a plan. `scratch` is a folder for its time
    only.
    """

    device: Device
    journal: Journal
    run: int
    session: int
    seed: int
    policy: Policy
    cache: Path
    scratch: Path
    progress: Progress
    memory_limit_bytes: int | None = None
    deadline: float | None = None
    clock: Callable[[], float] = time.monotonic
    accounts: Accounts = field(default_factory=Accounts)

    def seconds_left(self) -> float | None:
        """Seconds until the budget ends, None without a budget."""
        return None if self.deadline is None else self.deadline - self.clock()
