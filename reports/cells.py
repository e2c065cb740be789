"""One run from the journal as a table of cells: all arithmetic on samples ends here, the drawing comes
after.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchsuite.device.protocol import Facts
from benchsuite.doubts import Doubt, doubts_of
from benchsuite.journal import Journal
from benchsuite.policy import Policy
from benchsuite.profiled import Profiled, from_document
from benchsuite.record import CellKey, CellRecord, GroupKey, GroupRecord, RunOptions, RunRecord, Status
from benchsuite.stats import Floats, Interval, block_medians, median_interval
from reports.roofline import position

if TYPE_CHECKING:
    import pandas as pd

MILLISECOND = 1e6
MEBIBYTE = 2**20
PLACES = frozenset({"--journal", "--cache", "--out"})


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell as a report sees it; latencies in milliseconds, memory in MiB."""

    record: CellRecord
    latency: Interval | None
    blocks: int
    samples: int
    doubts: tuple[Doubt, ...]

    @property
    def counts(self) -> bool:
        """Whether its number may enter a speedup: measured, and its outputs were seen to agree with the
        reference.
        """
        return (
            self.latency is not None
            and self.record.outcome is not None
            and self.record.outcome.status is Status.OK
            and not self.record.unchecked
        )

    @property
    def status(self) -> str:
        """Its status; `unfinished` or `not measured` when the run ended before it had one."""
        if self.record.outcome:
            return self.record.outcome.status.value
        return "unfinished" if self.blocks else "not measured"

    @property
    def reason(self) -> str:
        """Why it is not `ok`; empty when it is."""
        return self.record.outcome.reason if self.record.outcome else "the run ended before that"


@dataclass(frozen=True, slots=True)
class Group:
    """One network in one setting: its cells by framework, and the block medians (ns) of each, in the order of
    the blocks, NaN for a block that a framework did not take part in.
    """

    key: GroupKey
    cells: Mapping[str, Cell]
    record: GroupRecord
    medians: Mapping[str, Floats]

    def paired(self, one: str, other: str) -> tuple[Floats, Floats]:
        """Block medians (ns) of two frameworks over the blocks that have both."""
        first, second = self.medians[one], self.medians[other]
        both = ~(np.isnan(first) | np.isnan(second))
        return first[both], second[both]


@dataclass(frozen=True, slots=True)
class RunData:
    """A run as the reports see it."""

    run: RunRecord
    groups: tuple[Group, ...]
    spent_seconds: tuple[Mapping[str, float], ...]
    profiles: Mapping[CellKey, Profiled] = field(default_factory=dict)

    @property
    def frameworks(self) -> tuple[str, ...]:
        """Frameworks in the order in which the user named them."""
        return self.run.options.frameworks

    @property
    def measured_cells(self) -> int:
        """How many cells count."""
        return sum(cell.counts for group in self.groups for cell in group.cells.values())


def read_run(journal: Journal, number: int | None = None) -> RunData:
    """Read a run, the last one by default; raises `JournalError` when there is none."""
    run = journal.run(number)
    profiles = {key: from_document(document) for key, document in journal.profiles(run.number)}
    return run_data(run, journal.groups(run.number), journal.spent_seconds(run.number), profiles)


def run_data(
    run: RunRecord,
    records: Sequence[GroupRecord],
    spent_seconds: Sequence[Mapping[str, float]],
    profiles: Mapping[CellKey, Profiled],
) -> RunData:
    """A run from its records, wherever they were kept."""
    return RunData(run, tuple(map(_group, records)), tuple(spent_seconds), profiles)


def _group(record: GroupRecord) -> Group:
    medians = {name: _medians(record, name) for name in record.cells}
    cells = {name: _cell(record, name, medians[name]) for name in record.cells}
    return Group(record.key, cells, record, medians)


def _medians(record: GroupRecord, framework: str) -> Floats:
    medians = np.full(len(record.blocks), np.nan)
    there = [index for index, block in enumerate(record.blocks) if framework in block.turns]
    if there:
        medians[there] = block_medians([record.blocks[index].turns[framework].run_ns for index in there])
    return medians


def _cell(record: GroupRecord, framework: str, medians: Floats) -> Cell:
    known = medians[~np.isnan(medians)]
    turns = (block.turns.get(framework) for block in record.blocks)
    return Cell(
        record=record.cells[framework],
        latency=_milliseconds(median_interval(known)) if len(known) else None,
        blocks=len(known),
        samples=sum(len(turn.run_ns) for turn in turns if turn),
        doubts=doubts_of(record, framework),
    )


def _milliseconds(interval: Interval) -> Interval:
    return Interval(*(value / MILLISECOND for value in (interval.low, interval.estimate, interval.high)))


def cell_frame(data: RunData) -> "pd.DataFrame":
    """All cells of a run, one row each: what CSV and JSON show."""
    import pandas as pd  # half a second and 40 MB that a run without CSV need not pay

    return pd.DataFrame([row for _, row in cell_rows(data)])


def cell_rows(data: RunData) -> Iterator[tuple[Cell, dict[str, object]]]:
    """Every cell with its row of plain values: None where nothing was measured."""
    # Groups come network by network, in the order in which the networks were asked for.
    typed = dict(
        zip(dict.fromkeys(group.key.model for group in data.groups), data.run.options.models, strict=True)
    )
    for group in data.groups:
        command = repeat_command(data.run.options, typed[group.key.model], group.key)
        for cell in group.cells.values():
            yield cell, _row(cell, data.run.facts) | {"repeat": command}


def repeat_command(options: RunOptions, model: str, key: GroupKey) -> str:
    """The command that measures one group again: a cell means little without its rivals."""
    changed = {name: value for name, value in options.policy.items() if value != getattr(Policy(), name)}
    words = ["bench", "run", "--models", model, "--frameworks", ",".join(options.frameworks)]
    words += ["--device", key.device, "--threads", str(key.threads), "--precision", key.precision]
    words += ["--seed", str(options.seed)]
    dimensions = options.dimensions if model.endswith(".onnx") else {}
    words += [word for name, size in dimensions.items() for word in ("--dim", f"{name}={size}")]
    words += [word for name, value in changed.items() for word in ("--set", f"{name}={value}")]
    if options.memory_limit_bytes is not None:
        words += ["--memory-limit", str(options.memory_limit_bytes)]
    return shlex.join(words)


def typed_command(run: RunRecord) -> str:
    """What was typed, without the places of files on one machine: another one has its own."""
    words = [Path(run.command[0]).name, *run.command[1:]]
    kept = [
        word
        for before, word in pairwise(["", *words])
        if before not in PLACES and word.partition("=")[0] not in PLACES
    ]
    return shlex.join(kept)


def _row(cell: Cell, facts: Facts) -> dict[str, object]:
    record, loading, latency = cell.record, cell.record.loading, cell.latency
    key = record.key
    place = position(facts, key.group, latency.estimate if latency else None)
    return {
        "model": key.group.model,
        "framework": key.framework,
        "device": key.group.device,
        "threads": key.group.threads,
        "precision": key.group.precision,
        "status": cell.status,
        "reason": cell.reason,
        "latency_ms": latency.estimate if latency else None,
        "latency_low_ms": latency.low if latency and latency.is_known else None,
        "latency_high_ms": latency.high if latency and latency.is_known else None,
        "blocks": cell.blocks,
        "samples": cell.samples,
        "relative_l2_error": record.outcome.error if record.outcome else None,
        "load_ms": loading.load_ns / MILLISECOND if loading else None,
        "prepare_seconds": loading.prepare_seconds if loading else None,
        "convert_seconds": loading.convert_seconds if loading else None,
        "memory_peak_mib": record.memory_peak_bytes / MEBIBYTE if record.memory_peak_bytes else None,
        "memory_loaded_mib": loading.memory_loaded_bytes / MEBIBYTE if loading else None,
        "gmacs_per_second": place.gmacs_per_second if place else None,
        "roofline_share": place.share if place else None,
        "roofline_bound": place.bound if place else "",
        "framework_version": loading.facts.get("version") if loading else None,
        "model_digest": record.model_digest,
        "doubts": "; ".join(str(doubt) for doubt in cell.doubts),
    }


def part_of(data: RunData, group: Group, frameworks: Sequence[str], device: str) -> RunData:
    """Some cells of one group as if their device had this name: to set beside those of another device."""
    key = replace(group.key, device=device)
    cells = {name: replace(group.record.cells[name], key=CellKey(key, name)) for name in frameworks}
    return run_data(data.run, [GroupRecord(key, cells, group.record.blocks)], data.spent_seconds, {})
