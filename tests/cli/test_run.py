"""The main job end to end: table, journal, every format of the report; and what stays on the terminal."""

import csv
import io
import os
import pty
import re
import select
import signal
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from benchsuite.journal import Journal
from benchsuite.stats import Interval
from reports.speedup import interval_text, milliseconds

HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


def test_a_real_run_end_to_end(program: Callable, bench: Callable, tiny: Path, place: Path) -> None:
    limits = ("least_blocks=8", "most_blocks=10", "block_seconds=0.005", "warm_up_seconds=0.02")
    settings = [word for limit in limits for word in ("--set", limit)]
    done = program("run", "--models", str(tiny), "--frameworks", "ort,ort-noopt", *settings)
    assert done.code == 0
    assert "speedup over ort-noopt on local, fp32" in done.out
    assert "[1/1] tiny, 1 thread" in done.err
    assert re.search(r"tiny/ort/local/1t/fp32 ok [\d.]+ ms", done.err)
    assert "\x1b" not in done.out + done.err, "plain lines when it is not a terminal"
    with Journal(place / "journal.db") as book:
        (group,) = book.groups(1)
        assert 8 <= len(group.blocks) <= 10
        assert all(len(turn.run_ns) > 1 for block in group.blocks for turn in block.turns.values())
        assert book.run().command[:2] == ("bench", "run")
    assert_formats_agree(bench)


def assert_formats_agree(bench: Callable) -> None:
    """The numbers of the JSON are the numbers of every other format."""
    document = bench("report", "--format", "json").document
    texts = {form: bench("report", "--format", form) for form in ("rich", "md", "csv")}
    assert {done.code for done in texts.values()} == {0}
    lines = list(csv.DictReader(io.StringIO(texts["csv"].out)))
    for cell, line in zip(document["cells"], lines, strict=True):
        for name in ("model", "framework", "status", "threads", "blocks", "samples", "repeat"):
            assert line[name] == str(cell[name])
        for name in ("latency_ms", "latency_low_ms", "latency_high_ms", "load_ms", "memory_peak_mib"):
            assert float(line[name]) == cell[name]
        expected = [cell["model"], cell["framework"], str(cell["threads"]), milliseconds(cell["latency_ms"])]
        for form in ("rich", "md"):
            assert expected in [words[:4] for words in rows(texts[form].out)], form
    for row in document["rows"]:
        low, high = row["interval"]
        text = interval_text(Interval(low, row["speedup"], high))
        assert text in texts["rich"].out
        assert f"**{text}**" in texts["md"].out or f"| {text} |" in texts["md"].out
        both = {cell["framework"]: cell["latency_ms"] for cell in document["cells"]}
        assert row["speedup"] == pytest.approx(both[row["peer"]] / both[row["framework"]])


def rows(text: str) -> list[list[str]]:
    """Words of every line, without footnote marks and emphasis."""
    bare = re.sub(r"<sup>[\d,]*</sup>|[⁰¹²³⁴⁵⁶⁷⁸⁹˒*|]", " ", text)
    return [line.split() for line in bare.splitlines()]


def test_quiet_means_only_the_table(program: Callable, record: Callable, tiny: Path) -> None:
    done = program("run", "--models", str(tiny), "--device", record(), "--quiet")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Run 1: speedup over ort-noopt on replay:device.json, fp32\n")


def test_report_writes_files(bench: Callable, record: Callable, tiny: Path, place: Path) -> None:
    bench("run", "--models", str(tiny), "--device", record(), "--quiet")
    for form in ("rich", "md", "csv", "json"):
        done = bench("report", "1", "--format", form, "--out", "report")
        assert (done.code, done.out, done.err) == (0, "", "")
        written = (place / "report").read_text(encoding="utf-8")
        assert "tiny" in written
        assert "\x1b" not in written


def test_another_baseline(bench: Callable, record: Callable, tiny: Path) -> None:
    done = bench("run", "--models", str(tiny), "--device", record(), "--baseline", "ORT", "--quiet")
    assert "speedup over ort on" in done.out
    assert "0.50× [" in done.out
    turned = bench("report", "--baseline", "ort-noopt", "--format", "json").document
    assert (turned["baseline"], turned["rows"][0]["peer"]) == ("ort-noopt", "ort-noopt")
    assert turned["rows"][0]["speedup"] == pytest.approx(2, rel=0.05)


def test_one_framework_has_latencies_and_no_speedups(bench: Callable, record: Callable, tiny: Path) -> None:
    done = bench("run", "--models", str(tiny), "--device", record(), "--frameworks", "ort", "--quiet")
    assert done.code == 0
    assert "×" not in done.out
    assert bench("report", "--format", "json").document["rows"] == []


def test_the_repeat_command_repeats(bench: Callable, record: Callable, tiny: Path, place: Path) -> None:
    asked = ("--seed", "3", "--threads", "2", "--set", "least_blocks=4", "--memory-limit", "1g")
    bench("run", "--models", str(tiny), "--device", record(), "--quiet", *asked)
    (command,) = {cell["repeat"] for cell in bench("report", "--format", "json").document["cells"]}
    assert bench(*command.split()[1:]).code == 0
    with Journal(place / "journal.db") as book:
        first, second = book.runs()
    assert first.options == second.options


def on_a_terminal(start: Callable, *typed: str, kind: str, stop_after: bytes = b"") -> tuple[int, bytes]:
    """Run a command on a terminal; SIGINT once it has written `stop_after`. Returns exit code and output."""
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    ends = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    seen = b""
    try:
        with start(*typed, **ends, text=False, env={**os.environ, "TERM": kind}) as process:
            while process.poll() is None or select.select([ours], [], [], 0)[0]:
                if select.select([ours], [], [], 0.1)[0]:
                    seen += os.read(ours, 65536)
                if stop_after and stop_after in seen:
                    process.send_signal(signal.SIGINT)
                    stop_after = b""
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)
    return process.returncode, seen


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_terminal_is_left_as_it_was(interrupted: bool, started: Callable, tiny: Path) -> None:
    most = f"most_blocks={2000 if interrupted else 30}"
    limits = ("block_seconds=0.005", "warm_up_seconds=0.02", "interval_width=0", most)
    settings = [word for limit in limits for word in ("--set", limit)]
    typed = ("run", "--models", str(tiny), *settings)
    stop_after = b"blocks" if interrupted else b""
    code, seen = on_a_terminal(started, *typed, kind="xterm-256color", stop_after=stop_after)
    assert code == (130 if interrupted else 0)
    assert b"tiny 1t" in seen, "there was a live display"
    assert seen.count(HIDE_CURSOR) == seen.count(SHOW_CURSOR) == 1
    assert b"speedup over ort-noopt" in seen.split(SHOW_CURSOR)[-1], "the table comes after the display"


def test_no_live_display_on_a_dumb_terminal(started: Callable, record: Callable, tiny: Path) -> None:
    code, seen = on_a_terminal(started, "run", "--models", str(tiny), "--device", record(), kind="dumb")
    assert code == 0
    assert b"\x1b" not in seen
    assert b"[1/1] tiny, 1 thread" in seen
