"""The profile database: how long two groups of operators took as one kernel and as two (DNNFusion section
4.3).

A JSON file that can be read, merged and sent. An entry holds for the operators, shapes, element types and
combination in its key, and only for the target, threads and compiler that it was measured with.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ourcompiler.errors import CompileError

SCHEMA = "ourcompiler.fusion-profile/1"
WRITE_HINT = "name a file in a folder that can be written"
HINT = "write it with `bench compile NET --profile-fusion FILE`"
MOST_BYTES = 1 << 28
MOST_COUNT, MOST_NS = 1 << 32, 1e18
"""What is more, infinite or not a number cannot have been measured."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What was measured: both groups as text (operators, attributes, types; names do not matter), their
    mapping types as `first > second`, and with what.
    """

    first: str
    second: str
    pair: str
    target: str
    threads: int
    compiler: str


@dataclass(frozen=True, slots=True)
class Timing:
    """Nanoseconds as one kernel and as two: medians of `runs` interleaved runs."""

    fused_ns: float
    separate_ns: float
    runs: int

    @property
    def pays(self) -> bool:
        """Whether one kernel is not slower."""
        return self.fused_ns <= self.separate_ns


@dataclass(frozen=True)
class Database:
    """Entries by key. `damaged` counts what a file held besides."""

    entries: Mapping[Key, Timing] = field(default_factory=dict)
    damaged: int = 0

    def relevant(self, target: str, threads: int, compiler: str) -> dict[Key, Timing]:
        """What can decide anything with this target, threads and compiler."""
        wanted = (target, threads, compiler)
        return {
            key: one for key, one in self.entries.items() if (key.target, key.threads, key.compiler) == wanted
        }

    def digest(self, target: str, threads: int, compiler: str) -> str:
        """A digest of what is relevant; empty when nothing is."""
        rows = sorted(f"{key} {one.pays}" for key, one in self.relevant(target, threads, compiler).items())
        return hashlib.sha256("\n".join(rows).encode()).hexdigest() if rows else ""

    def document(self) -> dict[str, Any]:
        """As JSON has it, in a fixed order."""
        rows = [{**asdict(key), **asdict(self.entries[key])} for key in sorted(self.entries)]
        return {"schema": SCHEMA, "entries": rows}


EMPTY = Database()


def merged(databases: Iterable[Database]) -> Database:
    """All entries. Of two with the same key the one with more runs is kept, then the one with the smaller
    numbers: the order of the databases does not matter.
    """
    found: dict[Key, Timing] = {}
    damaged = 0
    for database in databases:
        damaged += database.damaged
        for key, one in database.entries.items():
            before = found.get(key)
            if before is None or _rank(one) < _rank(before):
                found[key] = one
    return Database(found, damaged)


def _rank(one: Timing) -> tuple[float, ...]:
    return -one.runs, one.fused_ns, one.separate_ns


def read(path: Path, *, missing_is_empty: bool = False) -> Database:
    """The database in a file. Rows that are damaged are left out and counted; raises `CompileError` for a
    file that is no database at all.
    """
    if missing_is_empty and not path.exists():
        return EMPTY
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = document["schema"]
        rows = document["entries"]
        if schema != SCHEMA:
            raise ValueError(f"schema {schema!r} is not {SCHEMA!r}")
        if not isinstance(rows, list):
            raise ValueError("its entries are no list")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CompileError(
            f"this is no profile database: {error or type(error).__name__}", where=str(path), hint=HINT
        ) from error
    entries: dict[Key, Timing] = {}
    damaged = 0
    for row in rows:
        found = _entry(row)
        if found is None:
            damaged += 1
        elif found[0] not in entries or _rank(found[1]) < _rank(entries[found[0]]):
            entries[found[0]] = found[1]
    return Database(entries, damaged)


TEXTS = tuple(one.name for one in fields(Key) if one.name != "threads")


def _entry(row: Any) -> tuple[Key, Timing] | None:
    """A row, or None for one that is damaged."""
    if not isinstance(row, dict):
        return None
    texts: list[Any] = [row.get(name) for name in TEXTS]
    counts: list[Any] = [row.get(name) for name in ("threads", "runs")]
    numbers: list[Any] = [row.get(name) for name in ("fused_ns", "separate_ns")]
    if not all(isinstance(one, str) and one for one in texts):
        return None
    if not all(type(one) is int and 0 < one <= MOST_COUNT for one in counts):
        return None
    if not all(type(one) in (int, float) and 0 < one <= MOST_NS for one in numbers):
        return None
    named = dict(zip(TEXTS, texts, strict=True))
    timing = Timing(float(row["fused_ns"]), float(row["separate_ns"]), row["runs"])
    return Key(threads=row["threads"], **named), timing


def write(database: Database, path: Path) -> None:
    """Write the file as a whole: beside its place first, then moved there."""
    text = json.dumps(database.document(), indent=1, ensure_ascii=False) + "\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise CompileError(
            f"the database cannot be written: {error.strerror or error}", where=str(path), hint=WRITE_HINT
        ) from error
    finally:
        with suppress(OSError):  # of a folder that is none, for example
            beside.unlink(missing_ok=True)
