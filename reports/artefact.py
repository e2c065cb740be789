"""One run as one file: every raw sample, the environment, and the tables that were made of them, with hashes.

A ZIP archive of text: `manifest.json` (schema, hashes), `run.json` (options, facts, command), `groups.jsonl`
(a line a network and setting: cells, blocks, samples in nanoseconds) and the tables. The same run gives the
same bytes. docs/artefact.md has the fields.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from benchsuite.journal_rows import telemetry_column
from benchsuite.profiled import to_document
from benchsuite.record import Block, CellRecord, GroupRecord
from reports.as_data import csv_text, json_text
from reports.as_latex import latex_document
from reports.as_markdown import markdown
from reports.cells import RunData
from reports.experiment import setup_text
from reports.latency import latency_table
from reports.speedup import choose_reference, speedup_table, speedups

SCHEMA = "bench.artefact/1"
MANIFEST, RUN, GROUPS = "manifest.json", "run.json", "groups.jsonl"
TABLES = ("tables/report.json", "tables/report.csv", "tables/report.md", "tables/report.tex")
PARTS = (RUN, GROUPS, *TABLES)
"""Every file beside the manifest."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date that ZIP knows: the date of packing says nothing, and would change the bytes."""


def artefact_bytes(data: RunData, reference: str, bench_version: str) -> bytes:
    """The archive of a run; `reference` is what the speedups of its tables are relative to."""
    parts = {RUN: _dump(_run(data)), GROUPS: "".join(_lines(data)), **tables_of(data, reference)}
    manifest = {
        "schema": SCHEMA,
        "bench_version": bench_version,
        "run": data.run.number,
        "reference": reference,
        "files": {
            name: {"sha256": digest(text.encode()), "bytes": len(text.encode())}
            for name, text in parts.items()
        },
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {MANIFEST: _dump(manifest), **parts}.items():
            archive.writestr(zipfile.ZipInfo(name, EPOCH), text.encode(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def tables_of(data: RunData, reference: str) -> dict[str, str]:
    """The tables of a run by their name in the archive."""
    result = speedups(data, choose_reference(data, None, reference))
    drawn = (speedup_table(data, result), latency_table(data))
    texts = (
        json_text(data, result),
        csv_text(data),
        "\n".join(map(markdown, drawn)),
        latex_document(drawn, setup_text(data)),
    )
    return dict(zip(TABLES, texts, strict=True))


def digest(content: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(content).hexdigest()


def _run(data: RunData) -> dict[str, Any]:
    run = data.run
    return {
        "number": run.number,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "status": run.status,
        "command": list(run.command),
        "options": asdict(run.options),
        "facts": dict(run.facts),
        "spent_seconds": [dict(spent) for spent in data.spent_seconds],
        "profiles": [
            {**asdict(key.group), "framework": key.framework, "profile": to_document(found)}
            for key, found in data.profiles.items()
        ],
    }


def _lines(data: RunData) -> Iterable[str]:
    for group in data.groups:
        yield _dump(_group(group.record), indent=None)


def _group(record: GroupRecord) -> dict[str, Any]:
    return {
        **asdict(record.key),
        "cells": {name: _cell(cell) for name, cell in record.cells.items()},
        "blocks": [_block(block) for block in record.blocks],
    }


def _cell(cell: CellRecord) -> dict[str, Any]:
    values = asdict(cell)
    del values["key"]
    return values


def _block(block: Block) -> dict[str, Any]:
    return {
        "number": block.number,
        "session": block.session,
        "before": json.loads(telemetry_column(block.before)),
        "after": json.loads(telemetry_column(block.after)),
        "turns": {
            name: {
                "position": turn.position,
                "run_ns": list(turn.run_ns),
                "input_ns": list(turn.input_ns),
                "cpu_ns": turn.cpu_ns,
            }
            for name, turn in block.turns.items()
        },
    }


def _dump(value: Mapping[str, Any], indent: int | None = 1) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=True, allow_nan=False) + "\n"
