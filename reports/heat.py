"""The heatmap of networks × frameworks: one word a cell, and how green or orange it is."""

from collections.abc import Mapping
from math import log2
from typing import Any

from reports.cells import Group, RunData
from reports.speedup import SpeedupRow, Speedups, interval_text, milliseconds

FULL_COLOUR = 1.0
"""At twice (or half) the speed a cell has its full colour."""
STRONGEST_PERCENT = 60


def heatmap(data: RunData, result: Speedups, threads: int, ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """A row a network; a cell has `text`, `kind` (faster, slower, none, wrong, base), `heat` and `title`."""
    found = {(row.model, row.framework): row for row in result.rows if row.threads == threads}
    return [
        {
            "model": group.key.model,
            "id": ids[group.key.model],
            "cells": [_cell(group, name, found.get((group.key.model, name))) for name in data.frameworks],
        }
        for group in data.groups
        if group.key.threads == threads
    ]


def mean_texts(data: RunData, result: Speedups, threads: int) -> list[dict[str, str]]:
    """Geometric means in the order of the columns, with how many networks each goes over."""
    means = {mean.framework: mean for mean in result.means if mean.threads == threads}
    texts = []
    for name in data.frameworks:
        mean = means.get(name)
        interval = mean.interval if mean else None
        if mean is None or interval is None:
            texts.append({"text": "" if mean is None else "–", "title": ""})
            continue
        left_out = f"; leaves out {', '.join(mean.missing)}" if mean.missing else ""
        title = f"{interval_text(interval)} over {mean.count} networks{left_out}"
        texts.append({"text": f"{interval.estimate:.2f}× (n = {mean.count})", "title": title})
    return texts


def _cell(group: Group, name: str, row: SpeedupRow | None) -> dict[str, Any]:
    cell = group.cells[name]
    latency = f"{milliseconds(cell.latency.estimate)} ms" if cell.latency else ""
    if cell.record.unchecked:
        return {
            "text": latency,
            "kind": "base",
            "heat": 0,
            "title": f"{name}: outputs {cell.record.unchecked}",
        }
    if not cell.counts:
        kind = "wrong" if cell.latency else "none"
        return {"text": cell.status, "kind": kind, "heat": 0, "title": f"{cell.reason} {latency}".strip()}
    if row is None or row.speedup is None:
        return {"text": latency, "kind": "base", "heat": 0, "title": f"{name}: {latency}"}
    speedup = row.speedup
    share = min(1.0, abs(log2(speedup.estimate)) / FULL_COLOUR)
    return {
        "text": f"{speedup.estimate:.2f}×",
        "kind": "faster" if speedup.estimate >= 1 else "slower",
        "heat": round(STRONGEST_PERCENT * share),
        "title": f"{name}: {latency}, {interval_text(speedup)} over {row.baseline}",
    }
