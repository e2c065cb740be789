"""Every mistake a user can make: what went wrong, where, what to try; never a traceback."""

import ctypes
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from benchsuite.journal import Journal
from models.tiny import write_convolutions

# What a user types; what the message must contain. `place` and `files` make what is named here.
MISTAKES = {
    "unknown command": ("rnu", "no command 'rnu'", "did you mean run"),
    "unknown subcommand": ("models exprot", "exprot", "export"),
    "unknown option": ("run --modles swin", "--modles", "Did you mean '--models'", "`bench run --help`"),
    "surplus argument": ("run swin", "swin", "`bench run --help`"),
    "unknown network": ("run --models swni", "'swni'", "did you mean swin"),
    "unknown network among others": ("run --models swin,regnte", "'regnte'", "did you mean regnet"),
    "network far from any": ("run --models qqqq", "'qqqq'", "`bench models list`"),
    "no network": ("run --models=", "no network was named", "`all`"),
    "unknown framework": ("run --frameworks otr", "--frameworks", "'otr'", "did you mean ort"),
    "framework far from any": ("run --frameworks qqqq", "--frameworks", "one of ours, ort, ort-noopt"),
    "no framework": ("run --frameworks ,", "--frameworks", "no framework was named", "of ours, ort"),
    "unknown device": ("run --models tiny.onnx --device locla", "--device", "'locla'", "did you mean local"),
    "replay of nothing": ("run --models tiny.onnx --device replay:", "--device", "replay:FILE"),
    "argument of local": ("run --models tiny.onnx --device local:x", "--device", "did you mean local"),
    "recording missing": (
        "run --models tiny.onnx --device replay:no.json",
        "no.json",
        "No such file",
        "--record",
    ),
    "recording damaged": (
        "run --models tiny.onnx --device replay:notes.txt",
        "notes.txt",
        "not a recording",
        "--record",
    ),
    "recording of the future": (
        "run --models tiny.onnx --device replay:later.json",
        "later.json",
        "bench.recording/9",
        "--record",
    ),
    "unknown precision": ("run --precision fp23", "--precision", "'fp23'", "did you mean fp32"),
    "no threads": ("run --models tiny.onnx --threads 0", "--threads", "'0'", "such as 1 or 1,2"),
    "threads in words": ("run --models tiny.onnx --threads two", "--threads", "'two'", "such as 1"),
    "empty threads": ("run --models tiny.onnx --threads=", "--threads", "such as 1"),
    "foreign digits": ("run --models tiny.onnx --threads ²", "--threads", "such as 1"),
    "a billion threads": ("run --models tiny.onnx --threads 1000000000000", "--threads", "such as 1"),
    "seed in words": ("run --models tiny.onnx --seed one", "--seed", "'one'", "`bench run --help`"),
    "budget in words": ("run --models tiny.onnx --budget soon", "--budget", "'soon'", "20m"),
    "no budget": ("run --models tiny.onnx --budget 0", "--budget", "'0'", "20m"),
    "memory in words": ("run --models tiny.onnx --memory-limit lots", "--memory-limit", "'lots'", "6g"),
    "no memory": ("run --models tiny.onnx --memory-limit 0g", "--memory-limit", "'0g'", "6g"),
    "unknown limit": ("run --models tiny.onnx --set leest_blocks=3", "--set", "did you mean least_blocks"),
    "limit far from any": ("run --models tiny.onnx --set q=3", "--set", "'q'", "one of block_seconds"),
    "limit without value": ("run --models tiny.onnx --set least_blocks", "--set least_blocks=1"),
    "limit in words": ("run --models tiny.onnx --set least_blocks=few", "--set", "whole number", "=10"),
    "limit below zero": ("run --models tiny.onnx --set block_seconds=-1", "--set", "not a number from 0"),
    "limit not a number": ("run --models tiny.onnx --set block_seconds=nan", "--set", "not a number from 0"),
    "limit without end": ("run --models tiny.onnx --set block_seconds=inf", "--set", "=0.2"),
    "baseline elsewhere": (
        "run --models tiny.onnx --frameworks ort --baseline ort-noopt",
        "--baseline",
        "'ort-noopt'",
        "ort",
    ),
    "size without name": ("run --models free.onnx --dim 4", "--dim", "NAME=VALUE", "--dim 4=1"),
    "size in words": ("run --models free.onnx --dim batch=one", "--dim", "batch=one", "--dim batch=1"),
    "size zero": ("run --models free.onnx --dim batch=0", "--dim", "positive", "--dim batch=1"),
    "unknown dimension": (
        "run --models free.onnx --dim batch=1 --dim length=2 --dim lenght=3",
        "--dim lenght=3",
        "did you mean length",
    ),
    "dimension of none": ("run --models tiny.onnx --dim batch=1", "--dim batch=1", "leave --dim out"),
    "unbound dimensions": (
        "run --models free.onnx",
        "free.onnx",
        "'batch' (of input 'x')",
        "add --dim batch=1 --dim length=1",
    ),
    "file missing": ("run --models no.onnx", "no.onnx", "no such file", "path of an .onnx file"),
    "file empty": ("run --models empty.onnx", "empty.onnx", "the file is empty", "export it again"),
    "file not ONNX": (
        "run --models page.onnx",
        "page.onnx",
        "not an ONNX file",
        "export the network to ONNX",
    ),
    "file cut short": ("run --models cut.onnx", "cut.onnx", "cut short", "download or export it again"),
    "file of another kind": ("run --models notes.txt", "notes.txt", "end in .onnx"),
    "a folder": ("run --models folder.onnx", "folder.onnx", "is a folder", "path of an .onnx file"),
    "weights missing": ("run --models lost.onnx", "lost.onnx", "'lost.bin' is missing", "put lost.bin into"),
    "nothing to resume": ("run --resume", "journal.db", "no unfinished run", "leave out --resume"),
    "no journal yet": ("report", "journal.db", "no journal here yet", "`bench run`"),
    "no journal to list": ("runs", "journal.db", "no journal here yet", "`bench run`"),
    "journal is text": ("report --journal notes.txt", "notes.txt", "not a database", "--journal FILE"),
    "journal of someone else": ("runs --journal other.db", "other.db", "not a journal of bench", "--journal"),
    "journal is a folder": ("run --models tiny.onnx --journal folder.onnx", "--journal", "folder.onnx"),
    "journal below a file": (
        "run --models tiny.onnx --journal notes.txt/j.db",
        "notes.txt",
        "cannot be made",
        "--journal FILE",
    ),
    "cache is a file": ("run --models tiny.onnx --cache notes.txt", "--cache", "notes.txt", "is a file"),
    "cache below a file": (
        "run --models tiny.onnx --cache notes.txt/cache",
        "notes.txt",
        "not a folder",
        "remove that file",
        "--cache",
    ),
    "format of someone else": ("runs --format yaml", "--format", "'yaml'", "'json'"),
    "show nothing known": ("models show swni", "'swni'", "did you mean swin"),
    "export nothing known": ("models export swni", "'swni'", "did you mean swin"),
    "no comparisons": ("doctor --comparisons 0", "--comparisons", "0"),
    "no blocks": ("doctor --blocks 0", "--blocks", "0"),
    "fewer than no workers": ("doctor --idle-workers -1", "--idle-workers", "-1"),
    "doctor of two": ("doctor --models tiny.onnx,swin", "--models", "tiny, swin", "tiny"),
    "doctor of none": ("doctor --models=", "no network was named"),
    "doctor's unknown framework": ("doctor --framework otr", "'otr'", "did you mean ort"),
    "compare with no journal": ("compare 1 2", "journal.db", "no journal here yet", "`bench run`"),
    "compare with nothing known": ("compare one 2", "BEFORE", "'one'", "FILE:NUMBER"),
    "share in words": ("compare 1 2 --detectable much", "--detectable", "'much'", "such as 2%"),
    "share of all": ("compare 1 2 --detectable 100%", "--detectable", "'100%'", "such as 2%"),
    "breakdown of two": ("breakdown tiny.onnx,swin", "tiny, swin", "tiny"),
    "breakdown of none": ("breakdown swni", "'swni'", "did you mean swin"),
    "breakdown's unknown framework": ("breakdown tiny.onnx --frameworks otr", "'otr'", "did you mean ort"),
    "breakdown with many threads": ("breakdown tiny.onnx --threads 1,2", "--threads", "one thread count"),
    "breakdown of no run": ("breakdown tiny.onnx --run 3", "journal.db", "no journal here yet"),
    "night of nothing known": ("nightly --models swni", "'swni'", "did you mean swin"),
    "night's budget in words": ("nightly --models tiny.onnx --budget soon", "--budget", "20m"),
    "night's baseline elsewhere": ("nightly --models tiny.onnx --baseline mnn", "--baseline", "'mnn'"),
    "night relative to nobody": ("nightly --models tiny.onnx --relative-to mnn", "--relative-to", "'mnn'"),
    "export without journal": ("export 1 out.bench", "journal.db", "no journal here yet"),
    "export without file": ("export 1", "FILE", "`bench export --help`"),
    "verify nothing": ("verify no.bench", "no.bench", "cannot be read", "bench export"),
    "verify something else": ("verify notes.txt", "notes.txt", "refused", "not an intact archive"),
    "reproduce nothing": ("reproduce no.bench --cell a/b", "no.bench", "cannot be read"),
    "reproduce no cell": ("reproduce no.bench", "--cell", "`bench reproduce --help`"),
    "recorded nowhere": ("doctor --record no/where.json", "--record", "no folder no"),
}


@pytest.fixture
def files(place: Path, tiny: Path) -> None:
    """What the mistakes are made with."""
    whole = tiny.read_bytes()
    (place / "tiny.onnx").write_bytes(whole)
    (place / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    (place / "empty.onnx").touch()
    (place / "page.onnx").write_text("<html>404 not found</html>")
    (place / "notes.txt").write_text("just some notes, long enough to be looked at\n" * 50)
    (place / "later.json").write_text('{"schema": "bench.recording/9"}')
    (place / "folder.onnx").mkdir()
    (place / "free.onnx").write_bytes(add(["batch", "length"]).SerializeToString())
    (place / "lost.onnx").write_bytes(add([1, 4], location="lost.bin").SerializeToString())
    with sqlite3.connect(place / "other.db") as other:
        other.execute("CREATE TABLE songs (title TEXT)")
    other.close()


def add(shape: list[str | int], location: str = "") -> onnx.ModelProto:
    """y = x + weight, with the weight in another file if asked."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    if location:
        weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[4], data_location=1)
        weight.external_data.add(key="location", value=location)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    node = helper.make_node("Add", ["x", "weight"], ["y"])
    graph = helper.make_graph([node], "add", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.usefixtures("files")
def test_a_mistake_is_explained(mistake: str, bench: Callable) -> None:
    typed, *parts = MISTAKES[mistake]
    done = bench(*typed.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert "\n  try: " in done.err, done.err
    assert "Traceback" not in done.err
    assert [part for part in parts if part not in done.err] == [], done.err
    assert done.err.count("\n") <= 2, "what and where on one line, what to try on the next"


@pytest.mark.usefixtures("files")
def test_unknown_runs_and_baselines_of_a_report(bench: Callable, record: Callable) -> None:
    assert bench("run", "--models", "tiny.onnx", "--device", record(), "--quiet").code == 0
    for typed, *parts in (
        ("report 7", "journal.db", "there is no run 7", "one of 1"),
        ("report one", "'one'", "`bench report --help`"),
        ("report --baseline otr", "--baseline", "not in run 1", "did you mean ort"),
        ("report --baseline ort --against ort-noopt", "--against", "not to two", "leave one"),
        ("report --baseline otr --against best-peer", "--baseline", "did you mean ort"),
        ("report --against best-per", "--against", "'best-per'", "did you mean best-peer"),
        ("compare 1 2", "journal.db", "there is no run 2", "one of 1"),
        ("compare 1 1 --relative-to otr", "--relative-to", "'otr'", "did you mean ort"),
        ("breakdown swin --run 1", "--run", "did not measure swin", "bench runs"),
        ("export 2 x.bench", "journal.db", "there is no run 2"),
        ("export 1 no/x.bench", "no/x.bench", "cannot be written", "--force"),
        ("report --format md --out no/where.md", "no/where.md", "cannot be written", "--out"),
        ("run --resume", "no unfinished run", "leave out --resume"),
    ):
        done = bench(*typed.split())
        assert done.code == 2
        assert [part for part in parts if part not in done.err] == [], done.err


def test_an_empty_journal_has_no_run(bench: Callable, place: Path) -> None:
    Journal(place / "journal.db").close()
    done = bench("report")
    assert done.code == 2
    assert "there is no run in this journal" in done.err
    assert bench("runs").code == 0


def without_override() -> None:
    """Let the permissions of files hold for root too, as they do for everyone else."""
    drop_from_bounding_set, override_permissions = 24, 1
    ctypes.CDLL(None).prctl(drop_from_bounding_set, override_permissions, 0, 0, 0)


def small_files() -> None:
    """Nearly a full disk: no file can grow beyond 300 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


def limited(preparation: Callable[[], None], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchsuite.cli.main", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, preexec_fn=preparation, env=os.environ, timeout=60
    )


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("option", "parts"),
    [
        ("--cache", ("read-only", "Permission denied", "make it writable", "--cache DIR")),
        ("--journal", ("read-only/journal.db", "cannot be used", "--journal FILE")),
    ],
)
def test_a_read_only_place(option: str, parts: tuple[str, ...], place: Path) -> None:
    folder = place / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    chosen = {"--cache": folder / "cache", "--journal": folder / "journal.db"}[option]
    done = limited(without_override, "run", "--models", "tiny.onnx", option, str(chosen))
    assert (done.returncode, done.stdout) == (2, "")
    assert [part for part in parts if part not in done.stderr] == [], done.stderr


@pytest.mark.usefixtures("files")
def test_a_read_only_journal(bench: Callable, record: Callable, place: Path) -> None:
    device = record()
    bench("run", "--models", "tiny.onnx", "--device", device, "--quiet")
    (place / "journal.db").chmod(0o444)
    done = limited(without_override, "run", "--models", "tiny.onnx", "--device", device)
    assert done.returncode == 2
    assert "make the file writable, or choose another with --journal FILE" in done.stderr


@pytest.mark.usefixtures("files")
def test_a_full_disk_under_the_cache(
    bench: Callable, record: Callable, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    device = record()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, used=10**9, free=0))
        sizes = ("--dim", "batch=1", "--dim", "length=4")
        done = bench("run", "--models", "free.onnx", *sizes, "--device", device)
    assert done.code == 1
    assert "the disk is full" in done.err
    assert "0 MB are free" in done.err
    assert "--cache DIR" in done.err


def test_a_disk_that_fills_up_under_the_cache(place: Path) -> None:
    """A failure of the cells, with its reason in the table: the rest of a run could still succeed."""
    write_convolutions(place / "wide.onnx", channels=8, pixels=128, layers=1)  # inputs of 500 kB
    done = limited(small_files, "run", "--models", "wide.onnx")
    assert done.returncode == 1
    for text in (done.stdout, done.stderr):
        assert "File too large" in text
        assert "--cache DIR" in text
        assert "Traceback" not in text


@pytest.mark.usefixtures("files")
def test_a_disk_that_fills_up_under_the_journal(
    bench: Callable, record: Callable, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    """SQLite is told that the disk has no more pages than these: the same error as a full disk."""
    save_block = Journal.save_block

    def fill_up(journal: Journal, *arguments: Any) -> None:
        journal._db.execute("PRAGMA max_page_count = 64")
        save_block(journal, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "save_block", fill_up)
        many_samples = ("--set", "block_seconds=2")
        done = bench("run", "--models", "tiny.onnx", "--device", record(), "--quiet", *many_samples)
    assert done.code == 2
    assert "disk is full" in done.err
    assert "`bench run --resume`: all finished blocks are kept" in done.err
    with Journal(place / "journal.db") as book:
        (group,) = book.groups(1)
    assert 0 < len(group.blocks) < 10
    resumed = bench("run", "--resume", "--quiet")
    assert resumed.code == 0
