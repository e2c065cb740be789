"""Records to columns of the journal and back; the SQL that uses them is in `journal.py`."""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from benchsuite.device.protocol import Telemetry
from benchsuite.record import (
    CellKey,
    CellRecord,
    GroupKey,
    Loading,
    Outcome,
    RunOptions,
    RunRecord,
    RunStatus,
    Status,
)

RUN_COLUMNS = "number, started_at, status, command, options, facts, finished_at"
KEY_COLUMNS = "model, device, threads, precision"
CELL_COLUMNS = (
    f"{KEY_COLUMNS}, framework, model_digest, status, reason, log_tail, error, loading,"
    " memory_peak_bytes, restarts, notes"
)


def run_record(row: tuple[Any, ...]) -> RunRecord:
    """From `RUN_COLUMNS`."""
    number, started, status, command, options, facts, finished = row
    return RunRecord(
        number=number,
        started_at=started,
        status=RunStatus(status),
        command=tuple(json.loads(command)),
        options=_options(json.loads(options)),
        facts=json.loads(facts),
        finished_at=finished,
    )


def cell_record(row: tuple[Any, ...]) -> CellRecord:
    """From `CELL_COLUMNS`."""
    model, device, threads, precision, framework, digest, status, reason, tail, error, *rest = row
    loading, peak, restarts, notes = rest
    return CellRecord(
        key=CellKey(GroupKey(model, device, threads, precision), framework),
        model_digest=digest,
        outcome=Outcome(Status(status), reason, tail, error) if status else None,
        loading=_loading(json.loads(loading)) if loading else None,
        memory_peak_bytes=peak,
        restarts=restarts,
        notes=tuple(json.loads(notes)),
    )


def group_columns(key: GroupKey) -> tuple[str, str, int, str]:
    """To `KEY_COLUMNS`."""
    return (key.model, key.device, key.threads, key.precision)


def outcome_columns(outcome: Outcome | None) -> tuple[str | None, str, str, float | None]:
    """To status, reason, log_tail, error."""
    if outcome is None:
        return (None, "", "", None)
    # A framework's message may quote a file's name that is no valid Unicode; SQLite takes no such text.
    reason, tail = (text.encode("utf-8", "replace").decode() for text in (outcome.reason, outcome.log_tail))
    return (outcome.status, reason, tail, outcome.error)


def loading_column(loading: Loading | None) -> str | None:
    """To JSON."""
    return dump(asdict(loading)) if loading else None


def telemetry_column(telemetry: Telemetry) -> str:
    """To JSON, without what the device did not tell."""
    return dump({name: value for name, value in asdict(telemetry).items() if value is not None})


def telemetry(column: str) -> Telemetry:
    """From JSON."""
    return Telemetry(**json.loads(column))


def pack(values: tuple[int, ...]) -> bytes:
    """Nanoseconds to a little-endian int64 blob."""
    return np.asarray(values, dtype="<i8").tobytes()


def unpack(blob: bytes) -> tuple[int, ...]:
    """A blob to nanoseconds."""
    return struct.unpack(f"<{len(blob) // 8}q", blob)


def dump(value: object) -> str:
    """To JSON that people can read in a database browser; escaped where that would be no valid Unicode."""
    readable = json.dumps(value, ensure_ascii=False)
    try:
        readable.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return readable


def _loading(values: Mapping[str, Any]) -> Loading:
    return Loading(**{**values, "warm_up_ns": tuple(values["warm_up_ns"])})


def _options(values: Mapping[str, Any]) -> RunOptions:
    lists: dict[str, Any] = {name: tuple(values[name]) for name in ("models", "frameworks", "threads")}
    return RunOptions(**{**values, **lists})
