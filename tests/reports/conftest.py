"""A journal made by hand: fixed samples, every status, doubts; so that what a report says is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import benchsuite.journal
from benchsuite.device.protocol import Telemetry
from benchsuite.journal import Journal
from benchsuite.policy import Policy
from benchsuite.record import (
    Block,
    CellKey,
    CellRecord,
    GroupKey,
    Loading,
    Outcome,
    RunOptions,
    RunStatus,
    Status,
    Turn,
)
from reports.cells import RunData, read_run

PAST = "2026-11-22T10:00:00+00:00"
OK = Outcome(Status.OK, error=2e-7)
LOADING = Loading(0.25, 10_000_000, 40_000_000, (1, 1), 3, 2**26, {"version": "1.2"}, {"level": "all"})
WOBBLE = (0, 2, -1, 1, -2)  # per mille

# Milliseconds a framework takes and how its cell ended; a cell without milliseconds has no block.
Cells = Mapping[str, tuple[float | None, Outcome | None]]


def group_of_cells(book: Journal, run: int, key: GroupKey, cells: Cells, blocks: int) -> None:
    for number in range(blocks):
        turns = {
            name: Turn(position, samples(milliseconds, number + position), (900,) * 3, 10_000_000)
            for position, (name, (milliseconds, _)) in enumerate(cells.items())
            if milliseconds
        }
        states = (
            Telemetry(busy_seconds=0.0, total_seconds=1.0),
            Telemetry(busy_seconds=0.6 - 0.1 * (number % 2), total_seconds=2.0),
        )
        if turns:
            book.save_block(run, key, Block(number, 0, turns, *states))


def samples(milliseconds: float, phase: int) -> tuple[int, ...]:
    """Three samples whose median wobbles from block to block."""
    median = round(milliseconds * 1e6 * (1 + WOBBLE[phase % len(WOBBLE)] / 1000))
    return (median, median - 500, median + 700)


def planned(key: GroupKey, name: str, milliseconds: float | None, outcome: Outcome | None) -> CellRecord:
    notes = ("graph optimisation is off on purpose",) if name == "ort-noopt" else ()
    cell = CellRecord(CellKey(key, name), "0123456789abcdef", outcome, notes=notes)
    return replace(cell, loading=LOADING, memory_peak_bytes=200 * 2**20) if milliseconds else cell


WriteRun = Callable[..., RunData]


@pytest.fixture
def write_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteRun:
    """Write one run; returns it as a report reads it."""
    monkeypatch.setattr(benchsuite.journal, "_now", lambda: PAST)

    def write(
        groups: Mapping[tuple[str, int], Cells],
        frameworks: Sequence[str],
        *,
        few: Sequence[tuple[str, int]] = (),
        device: str = "local",
    ) -> RunData:
        models = tuple(dict.fromkeys(model for model, _ in groups))
        threads = tuple(dict.fromkeys(count for _, count in groups))
        options = RunOptions(models, tuple(frameworks), device, threads, "fp32", 0, policy=vars_of(Policy()))
        keys = {place: GroupKey(place[0], device, place[1], "fp32") for place in groups}
        with Journal(tmp_path / "journal.db") as book:
            cells = [
                planned(keys[place], name, *groups[place][name]) for place in groups for name in frameworks
            ]
            run = book.start_run(options, ("bench", "run"), {"processor": "abacus"}, tuple(cells))
            book.start_session(run, {})
            for cell in cells:
                book.save_cell(run, cell)
            for place, key in keys.items():
                group_of_cells(book, run, key, groups[place], 5 if place in few else 10)
            book.finish_run(run, RunStatus.COMPLETE)
            return read_run(book, run)

    return write


def vars_of(policy: Policy) -> dict[str, float]:
    return {name: getattr(policy, name) for name in policy.__slots__}


@pytest.fixture
def run(write_run: WriteRun) -> RunData:
    """Three networks, two thread counts, every way for a cell to end."""
    wrong = Outcome(Status.WRONG, "output 'y': relative L2 error 0.5 > 0.001", error=0.5)
    crashed = Outcome(Status.CRASHED, "SIGSEGV during `load`", "last words")
    refused = Outcome(Status.REFUSED, "no window attention")
    oom = Outcome(Status.OOM, "out of memory during `run`")
    timeout = Outcome(Status.TIMEOUT, "no answer to `load` within 600 s")
    groups: dict[tuple[str, int], Cells] = {
        ("swin", 1): {"ours": (50.0, OK), "ort": (98.1, OK), "ort-noopt": (131.0, OK)},
        ("swin", 2): {"ours": (26.0, OK), "ort": (51.5, OK), "ort-noopt": (70.0, OK)},
        ("resnext", 1): {"ours": (20.0, wrong), "ort": (40.0, OK), "ort-noopt": (39.0, OK)},
        ("resnext", 2): {"ours": (None, crashed), "ort": (1234.5, OK), "ort-noopt": (999.7, OK)},
        ("vit", 1): {"ours": (None, refused), "ort": (0.0456, OK), "ort-noopt": (0.0912, OK)},
        ("vit", 2): {"ours": (None, refused), "ort": (12.0, oom), "ort-noopt": (None, timeout)},
    }
    return write_run(groups, ("ours", "ort", "ort-noopt"), few=[("swin", 2)])
