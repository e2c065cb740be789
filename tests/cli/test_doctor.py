"""`bench doctor` on a recorded device: its verdict, its table, and the recording that it makes."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

QUICK = ("--device", "replay:device.json", "--comparisons", "50", "--set", "block_seconds=0.001")


@pytest.mark.parametrize(("spread", "code"), [(0.001, 0), (0.5, 0)])
def test_the_exit_code_is_the_verdict(spread: float, code: int, bench: Callable, record: Callable) -> None:
    draw = random.Random(0)
    record(noise=[draw.lognormvariate(0, spread) for _ in range(997)])
    done = bench("doctor", *QUICK, "--blocks", "8")
    assert done.code == code
    assert "ort against itself on probe-3x48x56, 8 blocks a comparison" in done.out


def test_facts_are_rows_and_thread_counts_columns(
    bench: Callable, record: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    record()
    monkeypatch.setenv("COLUMNS", "60")
    lines = bench("doctor", *QUICK, "--threads", "1,2,4").out.splitlines()
    rows = {words[0]: words[1:] for line in lines if (words := line.split())}
    assert rows["threads"] == ["1", "2", "4"]
    assert rows["comparisons"] == ["50"] * 3


def test_a_recording_can_be_replayed(bench: Callable, record: Callable, tiny: Path) -> None:
    record()
    assert bench("doctor", *QUICK, "--record", "noise.json").code == 0
    assert bench("run", "--models", str(tiny), "--device", "replay:noise.json", "--quiet").code == 0
