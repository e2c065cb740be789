"""The journal: one SQLite file that keeps every raw sample, committed after every block."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from benchsuite.device.protocol import Facts
from benchsuite.journal_rows import (
    CELL_COLUMNS,
    KEY_COLUMNS,
    RUN_COLUMNS,
    cell_record,
    dump,
    group_columns,
    loading_column,
    outcome_columns,
    pack,
    run_record,
    telemetry,
    telemetry_column,
    unpack,
)
from benchsuite.record import (
    Block,
    CellKey,
    CellRecord,
    GroupKey,
    GroupRecord,
    RunOptions,
    RunRecord,
    RunStatus,
    Turn,
)
from models.errors import BenchError

SCHEMA_VERSION = 1
LOCK_TIMEOUT_S = 30.0
APPLICATION_ID = 0x62656E63  # "benc": tells our journal from any other SQLite file

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class JournalError(BenchError):
    """The journal cannot be read or written."""


def _reporting(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Turn SQLite's errors (disk full, read-only, locked, damaged) into ours, with the file and what to
    try.
    """

    @wraps(method)
    def wrapped(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        try:
            return method(*arguments, **options)
        except sqlite3.Error as error:
            journal = arguments[0]
            assert isinstance(journal, Journal)
            raise _explained(error, journal.path) from error

    return wrapped


def _explained(error: sqlite3.Error, path: Path) -> JournalError:
    text = str(error)
    hints = {
        "full": "free some disk space, then continue with `bench run --resume`: all finished blocks are kept",
        "readonly": "make the file writable, or choose another with --journal FILE",
        "unable to open": "check the folder and its permissions, or choose another with --journal FILE",
        "locked": "another bench is writing to it: wait for it, or choose another with --journal FILE",
        "not a database": "this is not a journal of bench: choose another file with --journal FILE",
        "malformed": "the file is damaged: restore a copy, or choose another with --journal FILE",
    }
    hint = next(
        (hint for word, hint in hints.items() if word in text), "choose another file with --journal FILE"
    )
    return JournalError(f"the journal cannot be used: {text}", where=str(path), hint=hint)


class Journal:
    """All runs on one file. One writer at a time; readers never block it (write-ahead log)."""

    def __init__(self, path: Path, *, must_exist: bool = False) -> None:
        self.path = path
        self._open(must_exist)

    @_reporting
    def _open(self, must_exist: bool) -> None:
        if must_exist and not self.path.is_file():
            raise JournalError(
                "there is no journal here yet", where=str(self.path), hint="measure first: `bench run`"
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise JournalError(
                f"the journal's folder cannot be made: {error.strerror}",
                where=str(self.path.parent),
                hint="choose another place with --journal FILE",
            ) from error
        self._db = sqlite3.connect(self.path, isolation_level=None, timeout=LOCK_TIMEOUT_S)
        self._db.execute("PRAGMA foreign_keys = ON")
        self._check_version()

    def _check_version(self) -> None:
        # Tables first: another process may be creating them, and the marks appear together with them.
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if not tables:
            self._create()
        elif application != APPLICATION_ID:
            raise JournalError(
                "this SQLite file is not a journal of bench",
                where=str(self.path),
                hint="choose another file with --journal FILE",
            )
        elif version != SCHEMA_VERSION:
            raise JournalError(
                f"the journal has schema version {version}, this bench knows {SCHEMA_VERSION}",
                where=str(self.path),
                hint="use the bench that wrote it, or choose another file with --journal FILE",
            )

    def _create(self) -> None:
        self._write_ahead()
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
        tables = f"{_schema('schema.sql')} {_schema('schema_profile.sql')}; {_schema('schema_note.sql')};"
        self._db.executescript(f"BEGIN IMMEDIATE; {tables} {marks} COMMIT;")

    def _write_ahead(self) -> None:
        # SQLite does not wait for its timeout when two connections change the mode at once: it says "locked"
        # to one of them immediately, because waiting could be for ever. The other one soon ends: ask again.
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # A full disk makes SQLite roll back by itself; a second rollback would hide the cause.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    # --- writing -------------------------------------------------------------------------------------------

    @_reporting
    def start_run(
        self, options: RunOptions, command: tuple[str, ...], facts: Facts, cells: tuple[CellRecord, ...]
    ) -> int:
        """Write a new run with all its cells still to be measured; returns its number."""
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO run (started_at, status, command, options, facts) VALUES (?, ?, ?, ?, ?)",
                (_now(), RunStatus.RUNNING, dump(command), dump(asdict(options)), dump(facts)),
            )
            number = int(cursor.lastrowid or 0)
            self._db.executemany(
                f"INSERT INTO cell (run, {CELL_COLUMNS}) VALUES ({_marks(15)})",
                [(number, *_cell_columns(cell)) for cell in cells],
            )
        return number

    @_reporting
    def start_session(self, run: int, facts: Facts) -> int:
        """Note one more start of a run; returns the session's number, from 0."""
        with self._transaction():
            (number,) = self._db.execute("SELECT count(*) FROM session WHERE run = ?", (run,)).fetchone()
            self._db.execute(
                "INSERT INTO session (run, number, started_at, facts) VALUES (?, ?, ?, ?)",
                (run, number, _now(), dump(facts)),
            )
            self._db.execute(
                "UPDATE run SET status = ?, finished_at = NULL WHERE number = ?", (RunStatus.RUNNING, run)
            )
        return int(number)

    @_reporting
    def save_spent(self, run: int, session: int, spent_seconds: Mapping[str, float]) -> None:
        """Write where a session's wall time went so far."""
        rounded = {name: round(value, 3) for name, value in spent_seconds.items()}
        self._db.execute(
            "UPDATE session SET spent = ? WHERE run = ? AND number = ?", (dump(rounded), run, session)
        )

    @_reporting
    def finish_run(self, run: int, status: RunStatus) -> None:
        """Write how the run stands."""
        self._db.execute("UPDATE run SET status = ?, finished_at = ? WHERE number = ?", (status, _now(), run))

    @_reporting
    def save_cell(self, run: int, cell: CellRecord) -> None:
        """Write what is known about a cell now."""
        self._db.execute(
            "UPDATE cell SET status = ?, reason = ?, log_tail = ?, error = ?, loading = ?,"
            " memory_peak_bytes = ?, restarts = ?, notes = ?"
            f" WHERE run = ? AND ({KEY_COLUMNS}, framework) = ({_marks(5)})",
            (*_cell_columns(cell)[6:], run, *group_columns(cell.key.group), cell.key.framework),
        )

    @_reporting
    def save_block(self, run: int, key: GroupKey, block: Block) -> None:
        """Write a whole block or nothing; a block of that number that exists already is an error of ours."""
        with self._transaction():
            states = (telemetry_column(block.before), telemetry_column(block.after))
            cursor = self._db.execute(
                f"INSERT INTO block (run, {KEY_COLUMNS}, number, session, before, after)"
                f" VALUES ({_marks(9)})",
                (run, *group_columns(key), block.number, block.session, *states),
            )
            cells = self._cell_ids(run, key)
            self._db.executemany(
                f"INSERT INTO turn (block, cell, position, run_ns, input_ns, cpu_ns) VALUES ({_marks(6)})",
                [(cursor.lastrowid, cells[name], *_turn_columns(turn)) for name, turn in block.turns.items()],
            )

    @_reporting
    def save_profile(self, run: int, key: CellKey, document: Mapping[str, object]) -> None:
        """Keep a profile of a cell (plain JSON values) in place of an earlier one."""
        with self._transaction():
            self._db.execute(_schema("schema_profile.sql"))
            self._db.execute(
                f"INSERT OR REPLACE INTO profile (run, {KEY_COLUMNS}, framework, document)"
                f" VALUES ({_marks(7)})",
                (run, *group_columns(key.group), key.framework, dump(document)),
            )

    @_reporting
    def save_note(self, kind: str, about: str, document: Mapping[str, object]) -> None:
        """Keep a note (plain JSON values) in place of an earlier one of that kind about the same."""
        with self._transaction():
            self._db.execute(_schema("schema_note.sql"))
            self._db.execute(
                "INSERT OR REPLACE INTO note (kind, about, document) VALUES (?, ?, ?)",
                (kind, about, dump(document)),
            )

    # --- reading -------------------------------------------------------------------------------------------

    @_reporting
    def runs(self) -> tuple[RunRecord, ...]:
        """All runs, oldest first."""
        rows = self._db.execute(f"SELECT {RUN_COLUMNS} FROM run ORDER BY number")
        return tuple(run_record(row) for row in rows)

    def run(self, number: int | None = None) -> RunRecord:
        """One run by its number, the last one by default; raises `JournalError` when there is none."""
        runs = {run.number: run for run in self.runs()}
        if not runs:
            raise JournalError(
                "there is no run in this journal", where=str(self.path), hint="measure first: `bench run`"
            )
        wanted = max(runs) if number is None else number
        if wanted not in runs:
            raise JournalError(
                f"there is no run {wanted}",
                where=str(self.path),
                hint=f"one of {', '.join(map(str, runs))} (`bench runs`)",
            )
        return runs[wanted]

    @_reporting
    def spent_seconds(self, run: int) -> tuple[dict[str, float], ...]:
        """Where the wall time of each session of a run went."""
        rows = self._db.execute("SELECT spent FROM session WHERE run = ? ORDER BY number", (run,))
        return tuple(json.loads(spent) for (spent,) in rows)

    @_reporting
    def cells(self, run: int) -> tuple[CellRecord, ...]:
        """All cells of a run, in the order in which they were planned."""
        rows = self._db.execute(f"SELECT {CELL_COLUMNS} FROM cell WHERE run = ? ORDER BY id", (run,))
        return tuple(cell_record(row) for row in rows)

    @_reporting
    def blocks(self, run: int, key: GroupKey) -> tuple[Block, ...]:
        """All blocks of one group in order, with every raw sample."""
        names = {number: name for name, number in self._cell_ids(run, key).items()}
        place = f"WHERE run = ? AND ({KEY_COLUMNS}) = ({_marks(4)})"
        values = (run, *group_columns(key))
        rows = self._db.execute(
            f"SELECT id, number, session, before, after FROM block {place} ORDER BY number", values
        ).fetchall()
        # Turns come second: a block that a writer adds in between is not among the rows, and no row lacks
        # turns.
        turns: dict[int, dict[str, Turn]] = {}
        for block, cell, position, run_ns, input_ns, cpu_ns in self._db.execute(
            "SELECT block, cell, position, run_ns, input_ns, cpu_ns"
            f" FROM block JOIN turn ON turn.block = block.id {place} ORDER BY block, position",
            values,
        ):
            turn = Turn(position, unpack(run_ns), unpack(input_ns), cpu_ns)
            turns.setdefault(block, {})[names[cell]] = turn
        return tuple(
            Block(number, session, turns.get(block, {}), telemetry(before), telemetry(after))
            for block, number, session, before, after in rows
        )

    @_reporting
    def groups(self, run: int) -> tuple[GroupRecord, ...]:
        """All groups of a run with their cells and blocks, in the order in which they were planned."""
        groups: dict[GroupKey, dict[str, CellRecord]] = {}
        for cell in self.cells(run):
            groups.setdefault(cell.key.group, {})[cell.key.framework] = cell
        return tuple(GroupRecord(key, cells, self.blocks(run, key)) for key, cells in groups.items())

    @_reporting
    def profiles(self, run: int) -> tuple[tuple[CellKey, dict[str, Any]], ...]:
        """Every kept profile of a run with its cell; none in a journal of an older bench."""
        if not self._has_table("profile"):
            return ()
        rows = self._db.execute(
            f"SELECT {KEY_COLUMNS}, framework, document FROM profile WHERE run = ? ORDER BY rowid", (run,)
        )
        return tuple(
            (CellKey(GroupKey(*columns), framework), json.loads(document))
            for *columns, framework, document in rows
        )

    @_reporting
    def samples(self, run: int) -> dict[CellKey, list[tuple[int, ...]]]:
        """Timed nanoseconds of every block of every `ok` cell, without reading anything else of the run."""
        rows = self._db.execute(
            "SELECT cell, run_ns FROM block JOIN turn ON turn.block = block.id WHERE run = ?"
            " ORDER BY block.id",
            (run,),
        )
        found: dict[int, list[tuple[int, ...]]] = {}
        for cell, run_ns in rows:
            found.setdefault(cell, []).append(unpack(run_ns))
        good = self._db.execute(
            f"SELECT id, {KEY_COLUMNS}, framework FROM cell WHERE run = ? AND status = 'ok' ORDER BY id",
            (run,),
        )
        return {
            CellKey(GroupKey(*columns), framework): found[number]
            for number, *columns, framework in good
            if number in found
        }

    @_reporting
    def notes(self, kind: str) -> dict[str, dict[str, Any]]:
        """Every note of a kind by what it is about; none in a journal of an older bench."""
        if not self._has_table("note"):
            return {}
        rows = self._db.execute("SELECT about, document FROM note WHERE kind = ? ORDER BY about", (kind,))
        return {about: json.loads(document) for about, document in rows}

    def _has_table(self, name: str) -> bool:
        query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?"
        return bool(self._db.execute(query, (name,)).fetchone()[0])

    def _cell_ids(self, run: int, key: GroupKey) -> dict[str, int]:
        rows = self._db.execute(
            f"SELECT framework, id FROM cell WHERE run = ? AND ({KEY_COLUMNS}) = ({_marks(4)})",
            (run, *group_columns(key)),
        )
        return dict(rows.fetchall())


def _schema(name: str) -> str:
    return files("benchsuite").joinpath(name).read_text(encoding="utf-8")


def _cell_columns(cell: CellRecord) -> tuple[object, ...]:
    """To `CELL_COLUMNS`; the first six never change."""
    return (
        *group_columns(cell.key.group),
        cell.key.framework,
        cell.model_digest,
        *outcome_columns(cell.outcome),
        loading_column(cell.loading),
        cell.memory_peak_bytes,
        cell.restarts,
        dump(cell.notes),
    )


def _turn_columns(turn: Turn) -> tuple[object, ...]:
    return (turn.position, pack(turn.run_ns), pack(turn.input_ns), turn.cpu_ns)


def _marks(count: int) -> str:
    """Placeholders of an SQL statement."""
    return ", ".join("?" * count)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
