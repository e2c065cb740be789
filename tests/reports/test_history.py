"""Change points: found where there are some, and not where there is only noise."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from benchsuite.journal import Journal
from benchsuite.record import CellKey, GroupKey, Outcome, Status
from reports.as_markdown import markdown
from reports.history import Series, change_points, history_table, levels, read_history, runs_like

pytest.importorskip("ruptures", reason="the extra `reports` is not installed")
KEY = CellKey(GroupKey("swin", "local", 1, "fp32"), "ours")
START = datetime(2026, 1, 1, tzinfo=UTC)


def series(values: np.ndarray, key: CellKey = KEY) -> Series:
    days = [(START + timedelta(days=day)).isoformat() for day in range(len(values))]
    return Series(key, tuple(range(1, len(values) + 1)), tuple(days), tuple(map(float, values)))


def noise(count: int, seed: int, share: float = 0.01) -> np.ndarray:
    return np.exp(share * np.random.default_rng(seed).standard_normal(count))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("jump", [0.9, 1.05, 1.2])
def test_a_change_is_found_on_its_day(jump: float, seed: int) -> None:
    values = 50 * noise(60, seed)
    values[40:] *= jump
    (point,) = change_points([series(values)])
    assert abs(point.run - 41) <= 1
    assert point.ratio == pytest.approx(jump, rel=0.02)
    assert point.runs_before + point.runs_after == 60


def test_noise_is_no_change() -> None:
    false = [point for seed in range(100) for point in change_points([series(50 * noise(90, seed, 0.02))])]
    assert len(false) <= 5


def test_a_single_bad_night_is_no_change() -> None:
    values = 50 * noise(40, 1)
    values[20] *= 2
    assert change_points([series(values)]) == ()


def test_equal_values_and_short_series_have_none() -> None:
    assert change_points([series(np.full(50, 7.0)), series(np.array([1.0, 2.0, 3.0]))]) == ()


def test_the_latest_comes_first() -> None:
    early, late = (np.where(np.arange(30) < at, 10.0, 12.0) for at in (10, 20))
    other = CellKey(KEY.group, "ort")
    points = change_points([series(early), series(late, other)])
    assert [(point.key.framework, point.run) for point in points] == [("ort", 21), ("ours", 11)]
    text = markdown(history_table(points, [series(early), series(late, other)]))
    assert "Changes over 30 runs: 2" in text
    assert "| swin | ort | 1 | 2026-01-21 | 21 | +20.0% | 20 | 10 |" in text


def test_levels_go_over_runs_that_have_every_cell() -> None:
    other = CellKey(GroupKey("vit", "local", 1, "fp32"), "ours")
    whole, part = series(np.array([10.0, 20.0, 40.0])), series(np.array([5.0, 5.0]), other)
    (line,) = levels([whole, part]).values()
    assert [round(level, 3) for _, level in line] == [1.0, round(2**0.5, 3)]


def test_history_is_read_from_the_journal(write_run: Callable, good: Outcome, tmp_path: Path) -> None:
    crashed = Outcome(Status.CRASHED, "boom")
    write_run({("swin", 1): {"ours": (10.0, good), "ort": (20.0, crashed)}}, ("ours", "ort"))
    write_run({("swin", 1): {"ours": (11.0, good), "ort": (20.0, good)}}, ("ours", "ort"))
    write_run({("swin", 1): {"ours": (12.0, good)}}, ("ours",), command=("bench", "nightly"))
    write_run({("swin", 1): {"ours": (12.0, good)}}, ("ours",), device="replay:x")
    write_run({("swin", 1): {"ours": (13.0, good)}}, ("ours",))
    with Journal(tmp_path / "journal.db") as book:
        runs = book.runs()
        like = runs_like(runs, runs[-1])
        found = read_history(book, like)
    assert [run.number for run in like] == [1, 2]
    assert {one.key.framework: one.runs for one in found} == {"ours": (1, 2), "ort": (2,)}
    assert found[0].milliseconds == pytest.approx((10.0, 11.0), rel=2e-3)
