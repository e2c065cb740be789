"""Does an artefact's table follow from its raw samples? Recompute every table and compare."""

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from math import isclose
from typing import Any

from benchsuite.record import Status
from reports.artefact import tables_of
from reports.artefact_read import Artefact
from reports.table import Table, TableCell, cells

NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
RELATIVE_TOLERANCE = 1e-9
"""Another version of NumPy may round the last digit otherwise."""
SHOWN = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """One table: whether its numbers follow from the samples, and where they do not."""

    table: str
    matches: bool
    what: str


def verify(artefact: Artefact, bench_version: str) -> tuple[Finding, ...]:
    """Recompute every table from the raw samples and compare it with that in the archive; `bench_version` is
    this bench's own.
    """
    made = tables_of(artefact.data, artefact.reference)
    words = _words(artefact)
    same = artefact.bench_version == bench_version
    return tuple(_finding(name, artefact.tables[name], made[name], words, same) for name in made)


def verify_table(findings: tuple[Finding, ...], title: str) -> Table:
    """One row a table."""
    rows: tuple[tuple[TableCell, ...], ...] = tuple(
        cells(one.table, "matches" if one.matches else "DOES NOT MATCH", one.what) for one in findings
    )
    return Table(title, cells("table", "recomputed", "what"), rows, text_columns=3)


def _words(artefact: Artefact) -> re.Pattern[str]:
    """What must be the same in a drawn table, and in the same order: numbers, names, statuses."""
    data = artefact.data
    names = {*data.run.options.frameworks, *(group.key.model for group in data.groups), *map(str, Status)}
    return re.compile("|".join([*map(re.escape, sorted(names, key=len, reverse=True)), NUMBER]))


def _finding(name: str, kept: str, made: str, words: re.Pattern[str], same_bench: bool) -> Finding:
    if kept == made:
        return Finding(name, True, "the same bytes")
    if name.endswith(".json"):
        difference = next(_differences(json.loads(kept), json.loads(made), ""), "")
    elif name.endswith(".csv"):
        difference = next(_differences(_lines(kept), _lines(made), "line "), "")
    else:
        difference = _word_difference(kept, made, words, same_bench)
    if difference:
        return Finding(name, False, difference)
    return Finding(name, True, "the same numbers and names, drawn by another version of bench")


def _lines(text: str) -> list[dict[str, Any]]:
    """Lines of CSV by column, numbers as such."""
    return [
        {name: _value(value) for name, value in line.items() if name}
        for line in csv.DictReader(io.StringIO(text, newline=""))
    ]


def _value(text: str) -> float | str:
    try:
        return float(text)
    except (TypeError, ValueError):
        return text


def _differences(kept: Any, made: Any, path: str) -> Iterator[str]:
    """Where the kept document says something else; fields that only a younger bench writes do not count."""
    if isinstance(kept, dict) and isinstance(made, dict):
        for name, value in kept.items():
            yield from _differences(value, made.get(name), f"{path}.{name}")
    elif isinstance(kept, list) and isinstance(made, list) and len(kept) == len(made):
        for index, (one, other) in enumerate(zip(kept, made, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif not _alike(kept, made):
        yield f"{path.lstrip('.')} is {_short(kept)} in the archive, the samples give {_short(made)}"


def _alike(kept: Any, made: Any) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (kept, made))
    return isclose(kept, made, rel_tol=RELATIVE_TOLERANCE) if numbers else bool(kept == made)


def _word_difference(kept: str, made: str, words: re.Pattern[str], same_bench: bool) -> str:
    """The first line with other numbers or names; empty when all are the same. Another version of bench may
    have drawn fewer columns: then all that it drew must be there, in its order.
    """
    known, found = words.findall(kept), words.findall(made)
    rest = iter(found)
    if known == found or (not same_bench and all(word in rest for word in known)):
        return ""
    for number, (one, other) in enumerate(zip_longest(kept.splitlines(), made.splitlines(), fillvalue=""), 1):
        if words.findall(one) != words.findall(other):
            return f"line {number} is {_short(one)} in the archive, the samples give {_short(other)}"
    return "its numbers are in another order than those of the samples"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
