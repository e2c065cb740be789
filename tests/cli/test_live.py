"""Progress for people: what is said, and that text from frameworks and files cannot disturb a terminal."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from benchsuite.cli.live import Plain, Terminal, time_text
from benchsuite.device.protocol import DeviceLost
from benchsuite.progress import Progress
from benchsuite.record import CellKey, CellRecord, GroupKey, Outcome, Status

KEY = GroupKey("[red]net", "local", 2, "fp32")
FAILED = Outcome(Status.FAILED, "first\nsecond \x1b[2J\x07 [bold]third[/]")


def tell_all(progress: Progress) -> None:
    """Every event once."""
    progress.group_started(KEY, 1, 2)
    progress.step("loading [x]")
    progress.time_left(600)
    for done in range(1, 11):
        progress.block_done(done, 40, {"ort": 0.0981, "ort-noopt": 0.131}, 0.008)
    progress.cell_done(CellRecord(CellKey(KEY, "ort"), "0", FAILED), 0.0981)
    progress.cell_done(CellRecord(CellKey(KEY, "tvm"), "0"), None)
    progress.note("a \x1b[31mnote")
    progress.close()


def test_plain_lines() -> None:
    out = io.StringIO()
    tell_all(Plain(Console(file=out, width=40, highlight=False)))
    assert out.getvalue().splitlines() == [
        "[1/2] [red]net, 2 threads",
        "  about 10 min left",
        "  10 blocks  ort 98.1 ms  ort-noopt 131 ms  ±0.8%",
        "  [red]net/ort/local/2t/fp32 failed 98.1 ms: first second �[2J� [bold]third[/]",
        "  [red]net/tvm/local/2t/fp32 not measured",
        "  note: a �[31mnote",
    ]


def test_terminal_lines() -> None:
    out = io.StringIO()
    tell_all(Terminal(Console(file=out, width=120, force_terminal=True, highlight=False)))
    text = out.getvalue()
    assert "[red]net/ort/local/2t/fp32 failed 98.1 ms: first second �[2J� [bold]third[/]" in text
    assert "\x1b[2J" not in text
    assert "\x07" not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "about 10 s left"), (44, "about 40 s left"), (90, "about 2 min left"), (3600, "about 60 min left")],
)
def test_time_left(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_a_lost_phone_is_said_to_the_quiet_too(
    bench: Callable, record: Callable, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(self: object, share: float | None) -> bool:
        raise DeviceLost("R5CR30TEST1 did not come back within 600 s: plug it in, then `bench run --resume`")

    monkeypatch.setattr("benchsuite.group.GroupRunner.run", lose)
    done = bench("run", "--models", str(tiny), "--device", record(), "--quiet")
    assert done.code == 4
    assert done.err == "R5CR30TEST1 did not come back within 600 s: plug it in, then `bench run --resume`\n"
    loud = bench("run", "--models", str(tiny), "--device", record())
    assert "note: R5CR30TEST1 did not come back" in loud.err
