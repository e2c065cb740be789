"""Every documented exit code, really produced; and what is kept when a run is ended from outside."""

import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import benchsuite.device.frameworks
from benchsuite.cli.main import EXIT_CODES
from benchsuite.journal import Journal
from benchsuite.record import RunStatus, Status

# Planted fault of one framework: the status of its cell. None of them may end the run of the other.
FAULTS = {
    "crash": Status.CRASHED,
    "oom": Status.OOM,
    "hang": Status.TIMEOUT,
    "garbage": Status.FAILED,
    "error": Status.FAILED,
    "nan": Status.WRONG,
    "differ": Status.WRONG,
}
LIMITS = (
    "warm_up_seconds=0.05",
    "least_blocks=60",
    "most_blocks=60",
    "block_seconds=0.005",
    "rewarm_seconds=0.001",
)
SIXTY_BLOCKS = tuple(word for limit in LIMITS for word in ("--set", limit))


def statuses(journal: Path) -> dict[str, Status | None]:
    with Journal(journal) as book:
        cells = book.cells(book.run().number)
    return {cell.key.framework: cell.outcome.status if cell.outcome else None for cell in cells}


def test_all_exit_codes_are_documented(bench: Callable) -> None:
    text = bench("--help").out
    assert [code for code in ("0 ", "1 ", "2 ", "3 ", "4 ", "130 ") if f" {code}" not in text] == []
    assert " ".join(EXIT_CODES.strip("\b\n").split()) in " ".join(text.split())


def test_0_all_cells_ok(bench: Callable, record: Callable, tiny: Path, place: Path) -> None:
    done = bench("run", "--models", str(tiny), "--device", record())
    assert done.code == 0
    assert set(statuses(place / "journal.db").values()) == {Status.OK}
    assert "2.00× [" in done.out
    assert bench("report").code == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_1_a_cell_is_not_ok(fault: str, bench: Callable, record: Callable, tiny: Path, place: Path) -> None:
    when = "outputs" if fault in {"nan", "differ"} else "run"
    device = record({"framework": "ort", "kind": fault, "do": when})
    done = bench("run", "--models", str(tiny), "--device", device)
    assert done.code == 1
    assert statuses(place / "journal.db") == {"ort": FAULTS[fault], "ort-noopt": Status.OK}
    assert f"{FAULTS[fault]}: " in done.out, "the footnote has the reason"
    assert ("~~1.01~~" in done.out or "~~1~~" in done.out) == (FAULTS[fault] is Status.WRONG)
    assert "×" not in done.out.split("geometric mean")[0].split("─\n")[-1], "no speedup from such a cell"
    assert bench("report").code == 0, "the other framework has a number"


def test_2_wrong_usage(bench: Callable) -> None:
    assert bench("run", "--threads", "none").code == 2


def test_3_nothing_was_measured(
    bench: Callable, record: Callable, tiny: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchsuite.device.frameworks, "installed_version", lambda adapter: None)
    done = bench("run", "--models", str(tiny), "--device", record())
    assert done.code == 3
    assert set(statuses(place / "journal.db").values()) == {Status.REFUSED}
    assert "not installed: `bench frameworks install ort`" in done.out
    for form in ("rich", "md", "csv", "json"):
        assert bench("report", "--format", form).code == 3


def test_4_the_budget_ended_first(bench: Callable, record: Callable, tiny: Path, place: Path) -> None:
    done = bench("run", "--models", str(tiny), "--device", record(), "--budget", "0.001s")
    assert done.code == 4
    assert "bench run --resume" in done.err
    assert set(statuses(place / "journal.db").values()) == {None}
    resumed = bench("run", "--resume")
    assert resumed.code == 0
    assert set(statuses(place / "journal.db").values()) == {Status.OK}
    assert bench("run", "--resume").code == 2, "nothing is left to resume"


def test_resume_with_options_goes_on_or_begins(
    bench: Callable, record: Callable, tiny: Path, place: Path
) -> None:
    asked = ("--models", str(tiny), "--device", record(), "--frameworks", "ort")
    assert bench("run", *asked, "--budget", "0.001s").code == 4
    other = bench("run", "--resume", *asked, "--seed", "7")
    assert other.code == 0
    assert "no unfinished run has these options: starting a new one" in other.err
    assert bench("run", "--resume", *asked).code == 0
    with Journal(place / "journal.db") as book:
        assert [run.status for run in book.runs()] == [RunStatus.COMPLETE] * 2


def wait_for(stream: object, pattern: str) -> None:
    """Read lines until one fits."""
    for line in stream:  # type: ignore[attr-defined]
        if re.search(pattern, line):
            return
    raise AssertionError(f"no line fits {pattern!r}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_130_interrupted(
    number: signal.Signals,
    started: Callable[..., subprocess.Popen[str]],
    bench: Callable,
    tiny: Path,
    place: Path,
) -> None:
    with started("run", "--models", str(tiny), *SIXTY_BLOCKS) as run:
        wait_for(run.stderr, "10 blocks")
        run.send_signal(number)
        out, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "every finished block is kept" in err
    assert "this run is interrupted: go on with `bench run --resume --journal " in err
    assert "unfinished: the run ended before" in out
    assert "Traceback" not in err
    with Journal(place / "journal.db") as book:
        (before,) = book.groups(1)
        assert book.run().status is RunStatus.INTERRUPTED
    assert 10 <= len(before.blocks) < 60

    if number == signal.SIGTERM:
        return  # the journal stands as after SIGINT: one of the two is resumed
    assert bench("run", "--resume", "--quiet").code == 0
    with Journal(place / "journal.db") as book:
        (after,) = book.groups(1)
        assert len(book.runs()) == 1
    assert after.blocks[: len(before.blocks)] == before.blocks
    assert [block.number for block in after.blocks] == list(range(60))
    assert {block.session for block in after.blocks} == {0, 1}
