"""A night: which one it is compared with, trouble on top, and never a mean over fewer networks in silence."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchsuite.cli.nightly import look
from benchsuite.journal import Journal
from benchsuite.nights import accept, keep_verdict
from benchsuite.record import Outcome, RunStatus, Status
from reports.night import Night, banners, exit_code, summary

pytest.importorskip("ruptures", reason="the extra `reports` is not installed")
CRASHED = Outcome(Status.CRASHED, "SIGSEGV during `run`")
NIGHTLY = ("bench", "nightly")


@pytest.fixture
def night(write_run: Callable, good: Outcome, tmp_path: Path) -> Callable[..., Night]:
    """Write one more night and look at it; `ours` takes so many ms on swin and vit (None: it crashed)."""

    def make(
        swin: float | None = 50.0,
        vit: float | None = 20.0,
        *,
        status: RunStatus = RunStatus.COMPLETE,
        **how: object,
    ) -> Night:
        groups = {
            (name, 1): {
                "ours": (value, good) if value else (None, CRASHED if status is RunStatus.COMPLETE else None),
                "ort": (100.0, good),
            }
            for name, value in (("swin", swin), ("vit", vit))
        }
        data = write_run(groups, ("ours", "ort"), command=NIGHTLY, status=status)
        with Journal(tmp_path / "journal.db") as book:
            found = look(book, data.run.number, None, how.get("since"), None, None)  # type: ignore[arg-type]
            keep_verdict(book, data.run.number, found.regressions)
            return found

    return make


def test_the_first_night_is_compared_with_nothing(night: Callable) -> None:
    first = night()
    assert (first.comparison, exit_code(first), banners(first)) == (None, 0, ())
    assert summary(first).startswith("# Night of 2026-11-22, run 1: good\n")
    assert "compared with nothing" in summary(first)


def test_a_regression_is_on_top_and_in_the_exit_code(night: Callable) -> None:
    night()
    second = night(swin=60.0)
    assert exit_code(second) == 1
    (text,) = banners(second)
    assert text == (
        "1 regression: swin/ours/local/1t/fp32 slower +20.0%"
        " (if this is how fast it is from now on: `bench accept 2`)"
    )
    text = summary(second)
    assert text.startswith("# Night of 2026-11-22, run 2: trouble\n\n- **1 regression: swin/ours")
    assert "compared with run 1" in text


def test_failures_are_on_top_and_the_mean_says_what_it_leaves_out(night: Callable) -> None:
    night()
    second = night(vit=None)
    assert exit_code(second) == 1
    assert banners(second)[0] == "1 cell failed: vit/ours/local/1t/fp32 crashed (SIGSEGV during `run`)"
    text = summary(second)
    assert text.index("1 cell failed") < text.index("geometric mean")
    assert "n = 1" in text
    assert "the mean leaves out vit" in text


def test_the_last_good_night_is_not_the_last_one(night: Callable) -> None:
    night(swin=50.0)
    night(swin=60.0, vit=None)
    night(swin=55.0, status=RunStatus.INCOMPLETE)
    fourth = night(swin=50.1)
    assert fourth.comparison is not None
    assert fourth.comparison.before.run.number == 1
    assert exit_code(fourth) == 0
    chosen = night(swin=50.0, since=2)
    assert chosen.comparison is not None
    assert chosen.comparison.before.run.number == 2


def test_a_night_cut_short_says_how_much_is_missing(night: Callable) -> None:
    night()
    second = night(vit=None, status=RunStatus.INCOMPLETE)
    assert exit_code(second) == 4
    (text,) = banners(second)
    assert text == "not whole (incomplete): 1 cell of 1 network was not measured: vit"


def test_networks_that_are_gone_are_named(
    write_run: Callable, night: Callable, good: Outcome, tmp_path: Path
) -> None:
    night()
    data = write_run(
        {("swin", 1): {"ours": (50.0, good), "ort": (100.0, good)}}, ("ours", "ort"), command=NIGHTLY
    )
    with Journal(tmp_path / "journal.db") as book:
        found = look(book, data.run.number, None, None, None, None)
    assert banners(found)[0].startswith("2 cells of the good night are not there: vit/ours")
    assert exit_code(found) == 0, "they may have been taken out on purpose"
    assert summary(found).startswith("# Night of 2026-11-22, run 2: good, but cells are gone\n\n- **2 cells")


def test_interrupted_and_empty_nights(night: Callable, write_run: Callable, tmp_path: Path) -> None:
    assert exit_code(night(status=RunStatus.INTERRUPTED)) == 130
    refused = Outcome(Status.REFUSED, "not installed")
    data = write_run({("swin", 1): {"ours": (None, refused)}}, ("ours",), command=NIGHTLY)
    with Journal(tmp_path / "journal.db") as book:
        empty = look(book, data.run.number, None, None, None, None)
    assert exit_code(empty) == 3
    assert "nothing was measured" in summary(empty)


def reference(night: Night) -> int | None:
    return night.comparison.before.run.number if night.comparison else None


def test_a_regression_is_told_until_it_is_gone(night: Callable) -> None:
    """A night that became slower is not what the next one is compared with."""
    night(swin=50.0)
    assert [exit_code(night(swin=60.0)) for _ in range(3)] == [1, 1, 1]
    mended = night(swin=50.1)
    assert (reference(mended), exit_code(mended)) == (1, 0)
    assert "since then: run 2, 3, 4" in summary(mended)
    assert reference(night(swin=50.0)) == 5


def test_a_level_is_accepted_by_hand(night: Callable, tmp_path: Path) -> None:
    night(swin=50.0)
    night(swin=60.0)
    night(swin=60.1)
    with Journal(tmp_path / "journal.db") as book:
        accept(book, 3, "the *safe* kernel")
    after = night(swin=60.0)
    assert (reference(after), exit_code(after)) == (3, 0)
    assert "compared with run 3 of 2026-11-22 (accepted on " in summary(after)
    assert r": the \*safe\* kernel)" in summary(after)


def test_an_accepted_night_stands_though_a_cell_of_it_failed(night: Callable, tmp_path: Path) -> None:
    night(swin=50.0)
    night(swin=60.0, vit=None)
    with Journal(tmp_path / "journal.db") as book:
        accept(book, 2, "")
    after = night(swin=60.0, vit=None)
    assert reference(after) == 2
    assert exit_code(after) == 1, "a failure is never good"
    assert banners(after) == ("1 cell failed: vit/ours/local/1t/fp32 crashed (SIGSEGV during `run`)",)


def test_a_night_of_fewer_networks_does_not_hide_the_others(
    night: Callable, write_run: Callable, good: Outcome
) -> None:
    """A night of one network in between is good, but the whole night is compared with a whole one."""
    night()
    write_run({("swin", 1): {"ours": (50.0, good), "ort": (100.0, good)}}, ("ours", "ort"), command=NIGHTLY)
    whole = night(vit=30.0)
    assert (reference(whole), exit_code(whole)) == (1, 1)


def test_a_slower_night_measured_again_by_another_yardstick(night: Callable) -> None:
    """The last look counts: what `--since` a slower night finds unchanged is a good night."""
    night(swin=50.0)
    night(swin=60.0)
    assert exit_code(night(swin=60.0, since=2)) == 0
    assert reference(night(swin=60.0)) == 3


def test_changes_of_the_history_are_in_the_summary(night: Callable) -> None:
    for value in (50.0, 50.1, 50.2, 49.9, 60.0, 60.1, 60.2):
        last = night(swin=value)
    assert [(point.run, round(point.ratio, 2)) for point in last.points] == [(5, 1.2)]
    assert "history of 7 runs: swin/ours/local/1t/fp32 +20." in summary(last)
    assert exit_code(last) == 1, "nobody accepted it"


def test_night(night: Callable, golden: Callable) -> None:
    night()
    golden("night.md", summary(night(swin=60.0, vit=None)))
