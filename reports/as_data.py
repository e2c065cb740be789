"""The same numbers for programs: CSV of the cells, JSON with a versioned schema."""

import csv
import json
from dataclasses import asdict

from benchsuite.stats import Interval
from reports.cells import Cell, RunData, cell_frame, cell_rows
from reports.speedup import Mean, SpeedupRow, Speedups

SCHEMA = "bench.report/1"
TEXTS = ("model", "framework", "device", "reason", "framework_version", "doubts")
"""Columns whose text comes from files and frameworks."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_text(data: RunData) -> str:
    """One line a cell with a header line; a text that a spreadsheet would run as a formula gets a quote."""
    frame = cell_frame(data)
    for column in TEXTS:
        frame[column] = frame[column].map(_harmless)
    return frame.to_csv(index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")


def json_text(data: RunData, result: Speedups) -> str:
    """Run, cells, speedup rows and means; see docs/json.md for the schema."""
    run = data.run
    document = {
        "schema": SCHEMA,
        "run": {
            "number": run.number,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "status": run.status,
            "command": list(run.command),
            "options": asdict(run.options),
            "facts": dict(run.facts),
            "spent_seconds": [dict(spent) for spent in data.spent_seconds],
        },
        "baseline": result.baseline,
        "rows": [_json_row(row) for row in result.rows],
        "means": [_json_mean(mean) for mean in result.means],
        "cells": [_json_cell(cell, row) for cell, row in cell_rows(data)],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _json_row(row: SpeedupRow) -> dict[str, object]:
    return {
        "model": row.model,
        "threads": row.threads,
        "framework": row.framework,
        "peer": row.baseline,
        "speedup": row.speedup.estimate if row.speedup else None,
        "interval": _ends(row.speedup),
    }


def _json_mean(mean: Mean) -> dict[str, object]:
    return {
        "framework": mean.framework,
        "threads": mean.threads,
        "speedup": mean.interval.estimate if mean.interval else None,
        "interval": _ends(mean.interval),
        "count": mean.count,
        "missing": list(mean.missing),
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval and interval.is_known else None


def _json_cell(cell: Cell, row: dict[str, object]) -> dict[str, object]:
    """What CSV shows, and what does not fit into a line of it."""
    record, loading = cell.record, cell.record.loading
    return {
        **row,
        "doubts": [asdict(doubt) for doubt in cell.doubts],
        "notes": list(record.notes),
        "log_tail": record.outcome.log_tail if record.outcome else "",
        "options": dict(loading.options) if loading else None,
        "framework_facts": dict(loading.facts) if loading else None,
    }


def _harmless(text: object) -> object:
    return f"'{text}" if isinstance(text, str) and text.startswith(FORMULA_STARTS) else text
