"""What a run consists of: frozen records that the runner makes, the journal keeps and the reports read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from adapters.external import NOT_CHECKED, OUTPUTS_FACT
from benchsuite.device.protocol import Facts, Telemetry


class Status(StrEnum):
    """How a cell ended. Only `ok` cells enter a table of speedups."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    OOM = "oom"
    WRONG = "wrong"


class RunStatus(StrEnum):
    """How a run stands: `running` is also what a killed run looks like; all but `complete` can be resumed."""

    RUNNING = "running"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, order=True)
class GroupKey:
    """Cells that are measured against each other: one network on one device at one thread count and
    precision.
    """

    model: str
    device: str
    threads: int
    precision: str


@dataclass(frozen=True, slots=True, order=True)
class CellKey:
    """Network × framework × device × threads × precision class."""

    group: GroupKey
    framework: str

    def __str__(self) -> str:
        group = self.group
        return f"{group.model}/{self.framework}/{group.device}/{group.threads}t/{group.precision}"


@dataclass(frozen=True, slots=True)
class Turn:
    """One framework's part of one block: raw nanoseconds of every timed inference and of every input copy.

    `position` is its place in the block's random order; `cpu_ns` is processor time of all the worker's
    threads during the turn, untimed inferences included.
    """

    position: int
    run_ns: tuple[int, ...]
    input_ns: tuple[int, ...]
    cpu_ns: int


@dataclass(frozen=True, slots=True)
class Block:
    """Every framework of a group once, in a seeded random order, with the device's state before and after."""

    number: int
    session: int
    turns: Mapping[str, Turn]
    before: Telemetry
    after: Telemetry


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a cell ended, and why. `error` is the relative L2 error of the worst output against the
    reference.
    """

    status: Status
    reason: str = ""
    log_tail: str = ""
    error: float | None = None


@dataclass(frozen=True, slots=True)
class Loading:
    """What it took to get a cell ready: conversion, load and warm-up times, memory, the session's own
    facts.

    `prepare_seconds` is what preparing took in this run, `convert_seconds` what the conversion took when it
    was made, which may have been for another run: it is kept.
    """

    prepare_seconds: float
    start_ns: int
    load_ns: int
    warm_up_ns: tuple[int, ...]
    iterations: int
    memory_loaded_bytes: int
    facts: Mapping[str, str]
    options: Mapping[str, str]
    convert_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CellRecord:
    """Everything known about one cell; `outcome` is None while it is still to be measured."""

    key: CellKey
    model_digest: str
    outcome: Outcome | None = None
    loading: Loading | None = None
    memory_peak_bytes: int | None = None
    restarts: int = 0
    notes: tuple[str, ...] = ()

    @property
    def unchecked(self) -> str:
        """Why a cell that is `ok` had its outputs not compared with the reference; "" for all others."""
        if self.outcome is None or self.outcome.status is not Status.OK or self.loading is None:
            return ""
        fact = self.loading.facts.get(OUTPUTS_FACT, "")
        return fact if fact.startswith(NOT_CHECKED) else ""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the user asked for, as it must be to resume or to repeat the run."""

    models: tuple[str, ...]
    frameworks: tuple[str, ...]
    device: str
    threads: tuple[int, ...]
    precision: str
    seed: int
    dimensions: Mapping[str, int] = field(default_factory=dict)
    policy: Mapping[str, float] = field(default_factory=dict)
    memory_limit_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One `bench run`, from its first start to its last resume."""

    number: int
    started_at: str
    status: RunStatus
    command: tuple[str, ...]
    options: RunOptions
    facts: Facts
    finished_at: str | None = None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """All blocks of one group with its cells, as the reports read them."""

    key: GroupKey
    cells: Mapping[str, CellRecord]
    blocks: tuple[Block, ...]
