"""The same numbers for programs: CSV of the cells, JSON with a versioned schema."""

import csv
import json
import math
from dataclasses import asdict
from typing import Any

from benchsuite.stats import Interval
from reports.cells import RunData, cell_frame
from reports.speedup import Speedups

SCHEMA = "bench.report/1"


def csv_text(data: RunData) -> str:
    """One line a cell with a header line; text fields that hold a formula sign are quoted for
    spreadsheets.
    """
    frame = cell_frame(data)
    for column in ("model", "framework", "reason", "doubts"):
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
        "rows": [
            {
                "model": row.model,
                "threads": row.threads,
                "framework": row.framework,
                "peer": row.baseline,
                "speedup": row.speedup.estimate if row.speedup else None,
                "interval": _ends(row.speedup),
            }
            for row in result.rows
        ],
        "means": [
            {
                "framework": mean.framework,
                "threads": mean.threads,
                "speedup": mean.interval.estimate if mean.interval else None,
                "interval": _ends(mean.interval),
                "count": mean.count,
                "missing": list(mean.missing),
            }
            for mean in result.means
        ],
        "cells": [_without_nan(row) for row in cell_frame(data).to_dict("records")],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _ends(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval else None


def _without_nan(row: dict[Any, Any]) -> dict[str, Any]:
    """Pandas fills gaps with NaN, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()
    }


def _harmless(text: str) -> str:
    """A leading = + - @ would be run as a formula by a spreadsheet: names and reasons come from files."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text
