"""The A/A test beside idle workers: they are stopped while it is alone, and awake at the end."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from benchsuite import neighbours
from benchsuite.device.local import LocalDevice
from benchsuite.doctor import Trial
from benchsuite.neighbours import Beside, run_beside
from benchsuite.policy import Policy
from models.errors import BenchError
from models.onnx_file import read_user_model
from models.tiny import write_convolutions

QUICK = Policy(warm_up_seconds=0.02, warm_up_limit_seconds=0.1, block_seconds=0.001)


@pytest.fixture
def device() -> Iterator[LocalDevice]:
    with closing(LocalDevice()) as place:
        yield place


def state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def test_neighbours_sleep_when_it_is_alone(
    device: LocalDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.onnx"
    write_convolutions(path, channels=4, pixels=8, layers=1)
    seen: list[tuple[bool, set[str]]] = []
    let = neighbours._let

    def watched(processes: list[int], awake: bool) -> None:
        let(processes, awake)
        seen.append((awake, {state(process) for process in processes}))

    monkeypatch.setattr(neighbours, "_let", watched)
    found = run_beside(
        device,
        read_user_model(path, {}),
        "ort",
        1,
        neighbours=["ort-noopt"],
        policy=QUICK,
        cache=tmp_path / "cache",
        blocks=3,
        comparisons=4,
    )
    assert found.neighbours == ("ort-noopt",)
    assert len(found.alone.first) == len(found.beside.second) == 12
    assert [awake for awake, _ in seen].count(False) == 4
    assert all((states == {"T"}) == (not awake) for awake, states in seen)
    assert seen[-1][0], "they are let go at the end"


def test_no_neighbour_is_an_error(device: LocalDevice, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_convolutions(path, channels=4, pixels=8, layers=1)
    with pytest.raises(BenchError, match="no neighbour"):
        run_beside(
            device,
            read_user_model(path, {}),
            "ort",
            1,
            neighbours=[],
            policy=QUICK,
            cache=tmp_path / "cache",
            blocks=3,
            comparisons=1,
        )


def trial(latency_ns: float) -> Trial:
    medians = latency_ns * np.random.default_rng(0).lognormal(0, 0.001, 200)
    return Trial(medians, medians, (), 0.0)


def test_a_slowdown_is_seen() -> None:
    same = Beside(trial(1e6), trial(1e6), 20, ("mnn",)).slowdown(0.99)
    slower = Beside(trial(1e6), trial(1.05e6), 20, ("mnn",)).slowdown(0.99)
    assert not same.excludes(1.0)
    assert slower.low > 1.04
