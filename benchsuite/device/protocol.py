"""What the harness asks of a place to measure: this machine, a phone, a recording."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.protocol import Adapter
from benchsuite.policy import Policy

Fact = str | int | float | bool | None
Facts = Mapping[str, Fact]


@dataclass(frozen=True, slots=True)
class Telemetry:
    """State of a device at one moment; None where the device does not tell.

    `busy_seconds`, `total_seconds` and `steal_seconds` are sums over all cores since boot. Phones tell more:
    `resident_mhz` is the mean clock of the fastest core since the state before, `clock_limit_share` the
    lowest allowed clock ÷ the highest possible one, `thermal_status` Android's (0: none). `unfit` says why
    the device was measured although it was not fit to be, after the longest wait.
    """

    clock_mhz: float | None = None
    temperature_celsius: float | None = None
    load_average: float | None = None
    busy_seconds: float | None = None
    total_seconds: float | None = None
    steal_seconds: float | None = None
    memory_available_bytes: int | None = None
    resident_mhz: float | None = None
    thermal_status: int | None = None
    thermal_overridden: bool | None = None
    skin_celsius: float | None = None
    battery_percent: int | None = None
    battery_celsius: float | None = None
    clock_limit_share: float | None = None
    unfit: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended: exit code (negative: the signal), the last lines it wrote to stderr, and the
    verdict of the machine's memory killer where it can be known.
    """

    exit_code: int | None
    log_tail: str
    killed_for_memory: bool = False


class Silence(Exception):  # noqa: N818  (an event of the protocol, not a failure of ours)
    """No line came within the time allowed."""


class DeviceLost(Exception):  # noqa: N818  (ends a run that can be resumed; it is not a cell's failure)
    """The device is gone, or cannot go on: every finished block is kept. The text says what to do."""


class DeviceRestarted(DeviceLost):
    """The device is there again and lost what was loaded: the group can go on from the journal."""


class Process(Protocol):
    """A worker somewhere, spoken to by lines."""

    def send(self, line: str) -> None:
        """Write one line; a process that is gone is noticed at the next `receive`."""

    def receive(self, timeout_seconds: float) -> str | None:
        """Return the next line without its newline, None at the end of output; raises `Silence` on a
        timeout.
        """

    def end(self, *, grace_seconds: float = 0.0) -> Ending:
        """Wait up to the grace for a voluntary end, then kill the process and its children; safe to call
        twice.
        """


class Device(Protocol):
    """A place to measure. A new kind of device is one file with these members."""

    @property
    def name(self) -> str:
        """How results name this device, such as `local`."""

    def facts(self) -> Facts:
        """What a reader of the numbers must know about this device."""

    def push(self, path: Path, companions: Sequence[Path] = ()) -> str:
        """Make a file readable there for every worker that is asked to load it, with the files that it needs
        beside it; returns its path there. Idempotent.
        """

    def pull(self, remote: str, path: Path) -> None:
        """Bring one file back."""

    def scratch(self, name: str) -> str:
        """Path there of a file that a worker may write during this run."""

    def cores(self) -> tuple[int, ...]:
        """Numbers of the cores that a worker may use, the fastest first; empty leaves it to the scheduler."""

    def spawn(self, module: str, environment: str) -> Process:
        """Start `python -m module` there, in that environment, with lines on stdin and stdout."""

    def telemetry(self) -> Telemetry:
        """State at this moment; must cost little: it is asked before and after every block."""

    def expect_telemetry(self) -> None:
        """Say that the state will be asked for after the next reply of a worker, and before anything else: a
        device that is far away can bring both at once.
        """

    def ready(self, policy: Policy, say: Callable[[str], None]) -> Telemetry:
        """Wait until the device is fit to be measured, as long as the policy allows; returns its state
        then.
        """

    @property
    def target(self) -> str:
        """The compiler's target for code that runs there: `host`, or a row of `chips.toml`."""

    def why_not(self, framework: Adapter) -> str | None:
        """Why a framework cannot run there, with what to do; None when it can."""

    def version_of(self, framework: Adapter) -> str | None:
        """The version of a framework that would run there now; None when it is not known."""

    def close(self) -> None:
        """Remove what was left there for this run."""
