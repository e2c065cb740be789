"""What a search found out about products: how one of a shape is cut on a chip, as a text file.

`bench compile NET --tune TIME --tilings FILE` writes it, `bench tilings merge` makes one of many, and those
in `ourcompiler/tuned/` are used on the chips that they name (ADR 31).
"""

import json
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from ourcompiler.errors import CompileError

SCHEMA = "ourcompiler.tilings/1"
TEMPLATE = "gemm/1"
"""The template that tilings are for. Its number is raised when another tile would be the best one: entries
for an earlier one are ignored then.
"""
HINT = "write it with `bench compile NET --tune 5m --tilings FILE`"
SHIPPED = "tuned"
MOST_BYTES = 1 << 24
LARGEST_COUNT = 1 << 40
MOST_VECTORS, MOST_ROWS = 8, 32
LEAST_CACHE_BYTES = 1 << 12


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A product: how many there are, rows, columns, how long each sum is (`3x3x64`: taps and channels of a
    convolution), whether the left side is read in place or packed, whether the right side is known when
    compiling.
    """

    batch: int
    rows: int
    columns: int
    depth: str
    left: str
    right: str

    def __str__(self) -> str:
        return (
            f"{self.batch} × {self.rows} × {self.columns}, depth {self.depth}, left {self.left},"
            f" right {self.right}"
        )


LEFTS, RIGHTS = ("direct", "packed"), ("known", "made")


@dataclass(frozen=True, slots=True, order=True)
class Tiling:
    """How a product is cut.

    Attributes:
        tile_rows: rows of a tile, whose results stay in registers.
        tile_vectors: its vectors of columns.
        panel_bytes: a panel of the right side that is larger has its depth cut into parts of at most this.
        cache_bytes: the cache that a block of rows is to stay in, by half.
        fetches: whether tiles ask for the next panel of the right side ahead.
    """

    tile_rows: int
    tile_vectors: int
    panel_bytes: int
    cache_bytes: int
    fetches: bool

    def __str__(self) -> str:
        ahead = ", fetched ahead" if self.fetches else ""
        return (
            f"{self.tile_rows} × {self.tile_vectors}, panels up to {self.panel_bytes >> 10} KiB,"
            f" blocks for {self.cache_bytes >> 10} KiB{ahead}"
        )

    def why_not(self, problem: Problem, registers: int) -> str:
        """Why a target with so many vector registers cannot do it; empty when it can."""
        held = self.tile_rows * self.tile_vectors + self.tile_vectors + 1
        if held > registers:
            return f"a tile of {self.tile_rows} × {self.tile_vectors} takes {held} of {registers} registers"
        if self.tile_rows > MOST_ROWS or self.tile_vectors > MOST_VECTORS:
            return f"no tile has more than {MOST_ROWS} rows or {MOST_VECTORS} vectors"
        if min(self.cache_bytes, self.panel_bytes) < LEAST_CACHE_BYTES:
            return f"a cache of {min(self.cache_bytes, self.panel_bytes)} bytes holds no block"
        if self.fetches and problem.right == "made":
            return "a right side that is made at run time is not fetched ahead"
        return ""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What an entry holds for."""

    chip: str
    target: str
    template: str
    problem: Problem


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A tiling, its time ÷ that of the usual one (median of `runs` interleaved rounds)."""

    tiling: Tiling
    ratio: float
    runs: int


Entries = Mapping[Key, Found]


@dataclass(frozen=True)
class Tilings:
    """What code is made with: tilings of one chip and target, all of which fit it, in a fixed order."""

    rows: tuple[tuple[Problem, Tiling], ...] = ()
    ignored: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def _by_problem(self) -> Mapping[Problem, Tiling]:
        return dict(self.rows)

    def get(self, problem: Problem) -> Tiling | None:
        """What to do with this product; None: as usual."""
        return self._by_problem.get(problem) if self.rows else None


USUAL = Tilings()


def select(entries: Entries, chip: str, target: str, registers: int) -> Tilings:
    """The entries for a chip and a target; those that cannot be used there are left out with the reason. An
    entry that is no faster than the usual way says that a search has been there, and changes nothing.
    """
    rows, ignored = [], []
    for key, found in sorted(entries.items()):
        if (key.chip, key.target) != (chip, target):
            continue
        reason = found.tiling.why_not(key.problem, registers)
        if key.template != TEMPLATE:
            reason = f"it is for template {key.template}, and this is {TEMPLATE}"
        if reason:
            ignored.append(f"{key.problem}: {reason}")
        elif found.ratio < 1:
            rows.append((key.problem, found.tiling))
    return Tilings(tuple(rows), tuple(ignored))


def merged(several: Iterable[Entries]) -> dict[Key, Found]:
    """All entries. Of two about the same product the one of more runs is kept, then the smaller one: the
    order of the files does not matter.
    """
    result: dict[Key, Found] = {}
    for entries in several:
        for key, found in entries.items():
            before = result.get(key)
            if before is None or _rank(found) < _rank(before):
                result[key] = found
    return result


def _rank(found: Found) -> tuple[Any, ...]:
    return -found.runs, found.ratio, found.tiling


def shipped() -> dict[Key, Found]:
    """All entries that come with the compiler."""
    folder = files("ourcompiler").joinpath(SHIPPED)
    names = sorted(one.name for one in folder.iterdir() if one.name.endswith(".toml"))
    return merged(parse(folder.joinpath(name).read_text(encoding="utf-8"), name) for name in names)


def read(path: Path, *, missing_is_empty: bool = False) -> dict[Key, Found]:
    """The entries of a file; raises `CompileError` for one that is missing or damaged, with the row."""
    if missing_is_empty and not path.exists():
        return {}
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CompileError(f"it is larger than {MOST_BYTES} bytes", where=str(path), hint=HINT)
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CompileError(f"the tilings cannot be read: {error}", where=str(path), hint=HINT) from error
    return parse(text, str(path))


def parse(text: str, where: str) -> dict[Key, Found]:
    """The entries of a file's text; raises `CompileError`."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CompileError(f"this is no file of tilings: {error}", where=where, hint=HINT) from error
    if document.get("schema") != SCHEMA:
        what = f"schema {document.get('schema')!r} is not {SCHEMA!r}"
        raise CompileError(what, where=where, hint=HINT)
    rows = document.get("entries", [])
    if not isinstance(rows, list) or set(document) - {"schema", "entries"}:
        raise CompileError("it has more than a schema and a list of entries", where=where, hint=HINT)
    found: dict[Key, Found] = {}
    for number, row in enumerate(rows):
        key, one = _entry(row, f"{where}: entry {number}")
        if key in found:
            raise CompileError(f"two entries for {key.problem}", where=where, hint="leave one of them out")
        found[key] = one
    return found


TEXTS = ("chip", "target", "template", "depth", "left", "right")
COUNTS = ("batch", "rows", "columns", "tile_rows", "tile_vectors", "panel_bytes", "cache_bytes", "runs")
NAMES = {*TEXTS, *COUNTS, "fetches", "ratio"}


def _entry(row: Any, where: str) -> tuple[Key, Found]:
    if not isinstance(row, dict) or set(row) != NAMES:
        odd = ", ".join(sorted(NAMES ^ set(row))) if isinstance(row, dict) else repr(row)
        raise CompileError(f"missing or unexpected: {odd}", where=where, hint=HINT)
    for name in NAMES:
        if not _is_good(name, row[name]):
            raise CompileError(f"{name} = {row[name]!r} makes no sense", where=where, hint=HINT)
    problem = Problem(**{one.name: row[one.name] for one in fields(Problem)})
    tiling = Tiling(**{one.name: row[one.name] for one in fields(Tiling)})
    key = Key(row["chip"], row["target"], row["template"], problem)
    return key, Found(tiling, float(row["ratio"]), row["runs"])


def _is_good(name: str, value: Any) -> bool:
    if name == "depth":
        return isinstance(value, str) and all(part.isdecimal() and part > "0" for part in value.split("x"))
    if name in ("left", "right"):
        return value in (LEFTS if name == "left" else RIGHTS)
    if name in TEXTS:
        return isinstance(value, str) and bool(value)
    if name == "fetches":
        return isinstance(value, bool)
    if name == "ratio":
        return type(value) in (int, float) and 0 < value < LARGEST_COUNT
    return type(value) is int and 1 <= value <= LARGEST_COUNT


def text_of(entries: Entries) -> str:
    """The text of a file, one line an entry, in a fixed order; `parse` gives the entries back."""
    lines = [f'schema = "{SCHEMA}"', "entries = ["]
    for key, found in sorted(entries.items()):
        row = {"chip": key.chip, "target": key.target, "template": key.template, **asdict(key.problem)}
        row |= {**asdict(found.tiling), "ratio": round(found.ratio, 4), "runs": found.runs}
        lines.append("  {" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in row.items()) + "},")
    return "\n".join([*lines, "]"]) + "\n"


def write(entries: Entries, path: Path) -> None:
    """Write the file as a whole: beside its place first, then moved there. Raises `CompileError`."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text_of(entries), encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        raise CompileError(f"the tilings cannot be written: {error}", where=str(path)) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def depth_text(depth: Sequence[int]) -> str:
    """The depth of a problem as its key has it."""
    return "x".join(map(str, depth))
