"""The journal: everything written is read back, nothing is written twice, and every trouble is explained."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchsuite.device.protocol import Telemetry
from benchsuite.journal import SCHEMA_VERSION, Journal, JournalError
from benchsuite.record import (
    Block,
    CellKey,
    CellRecord,
    GroupKey,
    Loading,
    Outcome,
    RunOptions,
    RunStatus,
    Status,
    Turn,
)

KEY = GroupKey("net", "local", 1, "fp32")
OPTIONS = RunOptions(("net",), ("ours", "theirs"), "local", (1,), "fp32", 0)

texts = st.text(max_size=20) | st.sampled_from(["caf\udce9.onnx", "\ud800", "nul \0 inside"])
names = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=10)
counts = st.integers(min_value=0, max_value=2**62)
floats = st.floats(min_value=-1e300, max_value=1e300)
samples = st.lists(counts, max_size=5).map(tuple)
facts = st.dictionaries(names, st.none() | st.booleans() | counts | floats | names, max_size=4)
strings = st.dictionaries(names, names, max_size=3)
keys = st.builds(GroupKey, names, names, st.integers(1, 64), names)
turns = st.builds(Turn, st.just(0), samples, samples, counts)
telemetry = st.builds(
    Telemetry,
    *[st.none() | counts.map(float)] * 6,
    st.none() | counts,
    st.none() | counts.map(float),
    st.none() | st.integers(0, 9),
    st.none() | st.booleans(),
    st.none() | counts.map(float),
    st.none() | st.integers(0, 100),
    *[st.none() | counts.map(float)] * 2,
    st.none() | texts,
)
loadings = st.builds(
    Loading,
    counts.map(float),
    counts,
    counts,
    samples,
    st.integers(1, 9),
    counts,
    strings,
    strings,
    st.none() | floats,
)
options = st.builds(
    RunOptions,
    st.lists(names, max_size=3).map(tuple),
    st.lists(names, max_size=3).map(tuple),
    names,
    st.lists(st.integers(1, 64), max_size=3).map(tuple),
    names,
    counts,
    st.dictionaries(names, st.integers(1, 64), max_size=2),
    st.dictionaries(names, floats, max_size=2),
    st.none() | counts,
)
outcomes = st.builds(Outcome, st.sampled_from(Status), names, names, st.none() | floats)
once = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)


def cell(name: str = "ours", key: GroupKey = KEY) -> CellRecord:
    return CellRecord(CellKey(key, name), "digest")


def block(number: int = 0, *names: str, session: int = 0) -> Block:
    found = {name: Turn(place, (1, 2), (3, 4), 5) for place, name in enumerate(names or ("ours", "theirs"))}
    return Block(number, session, found, Telemetry(), Telemetry())


@pytest.fixture
def run(journal: Journal) -> int:
    """A run of one group with two cells."""
    number = journal.start_run(OPTIONS, ("bench",), {}, (cell("ours"), cell("theirs")))
    journal.start_session(number, {})
    return number


# --- round trips -------------------------------------------------------------------------------------------


@once
@given(options=options, command=st.lists(texts, max_size=3).map(tuple), facts=facts)
def test_a_run_is_read_back(
    journal: Journal, options: RunOptions, command: tuple[str, ...], facts: dict[str, object]
) -> None:
    number = journal.start_run(options, command, facts, ())
    found = journal.run(number)
    assert (found.options, found.command, found.facts) == (options, command, facts)
    assert (found.status, found.finished_at) == (RunStatus.RUNNING, None)
    journal.finish_run(number, RunStatus.INCOMPLETE)
    assert journal.run().status is RunStatus.INCOMPLETE
    assert journal.run().finished_at is not None
    journal.start_session(number, {})
    assert (journal.run().status, journal.run().finished_at) == (RunStatus.RUNNING, None)


@once
@given(
    key=keys,
    outcome=st.none() | outcomes,
    loading=st.none() | loadings,
    memory=st.none() | counts,
    notes=st.lists(texts, max_size=3).map(tuple),
)
def test_a_cell_is_read_back(
    journal: Journal,
    key: GroupKey,
    outcome: Outcome | None,
    loading: Loading | None,
    memory: int | None,
    notes: tuple[str, ...],
) -> None:
    planned = replace(cell(key=key), notes=notes)
    number = journal.start_run(OPTIONS, (), {}, (planned,))
    assert journal.cells(number) == (planned,)
    known = replace(planned, outcome=outcome, loading=loading, memory_peak_bytes=memory, restarts=2)
    journal.save_cell(number, known)
    assert journal.cells(number) == (known,)


@once
@given(ours=turns, theirs=st.none() | turns, before=telemetry, after=telemetry)
def test_a_block_is_read_back(
    journal: Journal, ours: Turn, theirs: Turn | None, before: Telemetry, after: Telemetry
) -> None:
    number = journal.start_run(OPTIONS, (), {}, (cell("ours"), cell("theirs")))
    found = {"ours": ours} if theirs is None else {"ours": ours, "theirs": replace(theirs, position=1)}
    written = (Block(0, 0, found, before, after), Block(1, 3, found, after, before))
    for one in written:
        journal.save_block(number, KEY, one)
    assert journal.blocks(number, KEY) == written
    (group,) = journal.groups(number)
    assert (group.key, list(group.cells), group.blocks) == (KEY, ["ours", "theirs"], written)


@once
@given(reason=texts, tail=texts)
def test_text_that_is_no_valid_unicode_is_kept_readable(
    journal: Journal, run: int, reason: str, tail: str
) -> None:
    """A framework's message may hold anything, such as half of a surrogate pair from a file's name."""
    journal.save_cell(run, replace(cell(), outcome=Outcome(Status.FAILED, reason, tail)))
    found = journal.cells(run)[0].outcome
    assert found is not None
    readable = [text.encode("utf-8", "replace").decode() for text in (reason, tail)]
    assert [found.reason, found.log_tail] == readable


def test_every_field_of_a_record_is_covered() -> None:
    """`st.builds` fills fields by position: a new field must be added to the strategies above."""
    assert [len(fields(kind)) for kind in (GroupKey, Turn, Telemetry, Loading, RunOptions, Outcome)] == [
        4,
        4,
        15,
        9,
        9,
        4,
    ]


def test_sessions_are_counted_and_their_time_kept(journal: Journal) -> None:
    number = journal.start_run(OPTIONS, (), {}, ())
    assert [journal.start_session(number, {}) for _ in range(3)] == [0, 1, 2]
    journal.save_spent(number, 1, {"timed": 1.23456, "harness": 0.5})
    assert journal.spent_seconds(number) == ({}, {"timed": 1.235, "harness": 0.5}, {})


def test_everything_is_there_after_opening_again(journal: Journal, run: int) -> None:
    journal.save_block(run, KEY, block(0))
    with Journal(journal.path, must_exist=True) as again:
        assert again.groups(run) == journal.groups(run)
        assert again.runs() == journal.runs()


# --- nothing twice, nothing half ---------------------------------------------------------------------------


def test_a_block_cannot_be_written_twice(journal: Journal, run: int) -> None:
    journal.save_block(run, KEY, block(0))
    with pytest.raises(JournalError, match="UNIQUE"):
        journal.save_block(run, KEY, block(0, "ours"))
    assert journal.blocks(run, KEY) == (block(0),)


def test_a_cell_cannot_be_planned_twice(journal: Journal) -> None:
    with pytest.raises(JournalError, match="UNIQUE"):
        journal.start_run(OPTIONS, (), {}, (cell(), cell()))
    assert journal.runs() == ()


def test_a_block_is_written_whole_or_not_at_all(journal: Journal, run: int) -> None:
    """An unknown framework in the middle: neither the block nor the turns before it remain."""
    with pytest.raises(KeyError):
        journal.save_block(run, KEY, block(0, "ours", "unheard-of"))
    assert journal.blocks(run, KEY) == ()
    journal.save_block(run, KEY, block(0))
    assert journal.blocks(run, KEY) == (block(0),)


def test_an_interrupt_inside_a_transaction_rolls_it_back(journal: Journal, run: int) -> None:
    with pytest.raises(KeyboardInterrupt), journal._transaction():  # noqa: PT012  (the middle of it)
        journal._db.execute("UPDATE run SET status = 'complete'")
        raise KeyboardInterrupt
    assert journal.run(run).status is RunStatus.RUNNING
    journal.save_block(run, KEY, block(0))


def test_a_killed_process_leaves_whole_blocks(tmp_path: Path) -> None:
    """The process ends without closing, in the middle of a transaction."""
    path = tmp_path / "journal.db"
    program = f"""
import os
from pathlib import Path
from benchsuite.device.protocol import Telemetry
from benchsuite.journal import Journal
from benchsuite.record import *
key = {KEY!r}
journal = Journal(Path({str(path)!r}))
run = journal.start_run({OPTIONS!r}, (), {{}}, (CellRecord(CellKey(key, "ours"), "digest"),))
for number in range(3):
    turns = {{"ours": Turn(0, (1,), (2,), 3)}}
    journal.save_block(run, key, Block(number, 0, turns, Telemetry(), Telemetry()))
journal._db.execute("BEGIN IMMEDIATE")
journal._db.execute("DELETE FROM turn")
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    with Journal(path) as journal:
        assert [len(one.turns) for one in journal.blocks(1, KEY)] == [1, 1, 1]


# --- many at once ------------------------------------------------------------------------------------------


def test_readers_and_a_writer_do_not_disturb_each_other(journal: Journal, run: int) -> None:
    """Another connection reads all the time: it sees whole blocks only, and never fewer than before."""
    seen: list[int] = []
    failures: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        try:
            with Journal(journal.path, must_exist=True) as reader:
                while not done.is_set() or not seen:
                    blocks = reader.blocks(run, KEY)
                    assert all(len(one.turns) == 2 for one in blocks)
                    seen.append(len(blocks))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(60):
        journal.save_block(run, KEY, block(number))
    done.set()
    thread.join()
    assert failures == []
    assert seen == sorted(seen)


def test_a_new_journal_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    """`bench run` twice at the same moment, or `bench report` while the first run creates its journal."""
    for attempt in range(5):
        path = tmp_path / f"{attempt}.db"
        start = threading.Barrier(8)

        def open_and_write(path: Path = path, start: threading.Barrier = start) -> None:
            start.wait()
            with Journal(path) as journal:
                journal.start_run(OPTIONS, (), {}, (cell(),))

        with ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(open_and_write) for _ in range(8)]:
                future.result()
        with Journal(path) as journal:
            assert [run.number for run in journal.runs()] == list(range(1, 9))


def test_a_new_journal_waits_for_another_that_is_creating_it(tmp_path: Path) -> None:
    """SQLite's own timeout does not cover the change to write-ahead mode."""
    other = sqlite3.connect(tmp_path / "1.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    leaving = threading.Timer(0.3, other.execute, ["COMMIT"])
    leaving.start()
    with Journal(tmp_path / "1.db") as journal:
        assert journal.start_run(OPTIONS, (), {}, (cell(),)) == 1
    leaving.join()
    other.close()


def test_a_writer_waits_for_another_and_then_says_so(
    journal: Journal, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(journal.path) as other:
        other._db.execute("PRAGMA busy_timeout = 20")
        journal._db.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked") as caught:
            other.save_block(run, KEY, block(0))
        assert caught.value.hint.startswith("another bench is writing to it")
        journal._db.execute("ROLLBACK")
        other.save_block(run, KEY, block(0))


# --- trouble -----------------------------------------------------------------------------------------------


def foreign(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE recipe (name TEXT)")
    database.close()


def newer(path: Path) -> None:
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()


def damaged(path: Path) -> None:
    with Journal(path) as journal:
        number = journal.start_run(OPTIONS, (), {}, (cell("ours"), cell("theirs")))
        for count in range(200):
            journal.save_block(number, KEY, block(count))
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xa5" * len(data[4096:])
    path.write_bytes(data)


TROUBLE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "foreign": (
        foreign,
        "this SQLite file is not a journal of bench",
        "choose another file with --journal FILE",
    ),
    "newer": (
        newer,
        f"the journal has schema version {SCHEMA_VERSION + 1}, this bench knows {SCHEMA_VERSION}",
        "use the bench that wrote it",
    ),
    "text": (
        lambda path: path.write_text("network,latency\n" * 500),
        "the journal cannot be used: file is not a database",
        "this is not a journal of bench: choose another file with --journal FILE",
    ),
    "damaged": (
        damaged,
        "the journal cannot be used: database disk image is malformed",
        "the file is damaged: restore a copy",
    ),
    "folder": (
        Path.mkdir,
        "the journal cannot be used: unable to open database file",
        "check the folder and its permissions",
    ),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_is_explained(tmp_path: Path, name: str) -> None:
    make, what, hint = TROUBLE[name]
    path = tmp_path / "journal.db"
    make(path)
    with pytest.raises(JournalError) as caught:
        Journal(path).groups(1)
    assert caught.value.what == what
    assert caught.value.where == str(path)
    assert caught.value.hint.startswith(hint)


def test_a_journal_that_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with pytest.raises(JournalError, match="there is no journal here yet"):
        Journal(path, must_exist=True)
    assert not path.exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="the journal's folder cannot be made") as caught:
        Journal(tmp_path / "file" / "journal.db")
    assert caught.value.where == str(tmp_path / "file")


def test_folders_are_made(tmp_path: Path) -> None:
    with Journal(tmp_path / "some" / "folder" / "journal.db") as journal:
        assert journal.runs() == ()


def write_many(journal: Journal, run: int) -> None:
    """More than the pages in hand can hold."""
    for number in range(1, 100):
        journal.save_block(run, KEY, block(number))


@pytest.mark.parametrize(
    ("pragma", "word", "hint"),
    [
        ("query_only = ON", "readonly", "make the file writable"),
        ("max_page_count = 1", "full", "free some disk space, then continue with `bench run --resume`"),
    ],
)
def test_a_journal_that_cannot_be_written(
    journal: Journal, run: int, pragma: str, word: str, hint: str
) -> None:
    """What SQLite reports for a read-only file and a full disk; what was written before can be read."""
    journal.save_block(run, KEY, block(0))
    journal._db.execute(f"PRAGMA {pragma}")
    with pytest.raises(JournalError, match=word) as caught:
        write_many(journal, run)
    assert caught.value.hint.startswith(hint)
    assert journal.blocks(run, KEY)[0] == block(0)
    assert all(len(one.turns) == 2 for one in journal.blocks(run, KEY))


def test_there_is_no_such_run(journal: Journal) -> None:
    with pytest.raises(JournalError, match="there is no run in this journal"):
        journal.run()
    for _ in range(2):
        journal.start_run(OPTIONS, (), {}, ())
    with pytest.raises(JournalError, match="there is no run 7") as caught:
        journal.run(7)
    assert caught.value.hint == "one of 1, 2 (`bench runs`)"


def test_profiles_are_kept_and_replaced(journal: Journal) -> None:
    run = journal.start_run(OPTIONS, (), {}, ())
    key = CellKey(KEY, "ours")
    journal.save_profile(run, key, {"total_ns": 1})
    journal.save_profile(run, CellKey(KEY, "theirs"), {"total_ns": 2})
    journal.save_profile(run, key, {"total_ns": 3})
    assert dict(journal.profiles(run)) == {key: {"total_ns": 3}, CellKey(KEY, "theirs"): {"total_ns": 2}}
    assert journal.profiles(run + 1) == ()


def test_a_journal_of_an_older_bench_has_no_profiles_until_it_gets_one(journal: Journal) -> None:
    journal._db.execute("DROP TABLE profile")
    run = journal.start_run(OPTIONS, (), {}, ())
    assert journal.profiles(run) == ()
    journal.save_profile(run, CellKey(KEY, "ours"), {"total_ns": 1})
    assert len(journal.profiles(run)) == 1


def test_samples_are_those_of_good_cells(journal: Journal, run: int) -> None:
    for number in range(3):
        journal.save_block(run, KEY, block(number))
    assert journal.samples(run) == {}, "no cell is ok yet"
    for cell in journal.cells(run):
        status = Status.OK if cell.key.framework == "ours" else Status.WRONG
        journal.save_cell(run, replace(cell, outcome=Outcome(status)))
    expected = [one.turns["ours"].run_ns for one in journal.blocks(run, KEY)]
    assert journal.samples(run) == {CellKey(KEY, "ours"): expected}
