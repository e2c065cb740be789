"""Searching for a network's kernels: each network in a process of its own."""

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.catalogue import adapter
from benchsuite.tune import tune
from models.errors import BenchError
from models.model import Model

TUNER = """
import pathlib, sys
network, *options = sys.argv[1:]
assert pathlib.Path(network).is_file(), network
with open({log!r}, "a") as log:
    print(*options, file=log)
sys.exit("it breaks" if {breaks} else 0)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture(params=[False, True], ids=["works", "breaks"])
def breaks(
    request: pytest.FixtureRequest, tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """A module `a_tuner` that a new process can import."""
    (tmp_path / "a_tuner.py").write_text(TUNER.format(log=str(log), breaks=request.param))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return bool(request.param)


def test_every_network_is_tuned_whatever_became_of_the_one_before(
    breaks: bool, log: Path, network: Model, tmp_path: Path
) -> None:
    row = replace(adapter("tvm-tuned"), tuner="a_tuner")
    said: list[str] = []
    failed = tune(row, [network, network], trials=3, minutes=0.5, cache=tmp_path, say=said.append)
    assert log.read_text().splitlines() == ["--trials 3 --minutes 0.5"] * 2
    assert said == [f"tuning {network.name} for tvm-tuned: at most 0.5 minutes"] * 2
    assert failed == ((f"{network.name}: its tuner ended with exit code 1",) * 2 if breaks else ())


def test_a_framework_without_a_tuner_says_which_have_one(network: Model, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="ort has no tuner") as caught:
        tune(adapter("ort"), [network], trials=1, minutes=1, cache=tmp_path, say=print)
    assert caught.value.hint == "one of: tvm-tuned"
