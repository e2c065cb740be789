"""`bench run --device PHONE` with frameworks that have layers: all cells ok, outputs as on this machine."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from adapters.catalogue import adapter
from adapters.environments import environments, is_made
from adapters.protocol import MAIN_ENVIRONMENT, Setting
from benchsuite import contestant
from benchsuite.cli.run import command
from benchsuite.device.adb.binary import Adb
from benchsuite.device.adb.process import PhoneProcess
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.device.runtime.provision import provision
from benchsuite.device.runtime.table import layers_of, wheel_version
from benchsuite.gate import relative_error
from benchsuite.journal import Journal
from benchsuite.record import CellRecord, RunStatus, Status
from models.errors import BenchError
from tests.phone.host import AdbHome
from tests.phone.networks import NETWORKS, write_every_kind
from tests.phone.phone import Phone

pytestmark = pytest.mark.slow

FRAMEWORKS = ("ours", "ort", "mnn", "tflite", "ncnn")
REFUSED = "tvm"
QUICK = ("least_blocks=1", "most_blocks=1", "warm_up_seconds=0", "block_seconds=0.01", "probe_seconds=0")
SAME_TO = 1e-5
"""Relative difference of a framework's outputs between two processors: other kernels, other sums."""
INEXACT = {("mnn", "upsampling_y"): 1e-4}
"""MNN's instance normalisation is 2e-5 away from ONNX Runtime's on either processor, not in the same way."""


def unready() -> dict[str, str]:
    """Frameworks whose converter's environment is not made, with the line that makes it."""
    conversions = {name: adapter(name).conversion(Setting(1, "fp32")) for name in FRAMEWORKS}
    needed = {name: one.environment for name, one in conversions.items() if one is not None}
    return {
        name: f"needs the environment {place}: bench frameworks install {name}"
        for name, place in needed.items()
        if place != MAIN_ENVIRONMENT and not is_made(environments()[place])
    }


@dataclass(frozen=True)
class Finished:
    """A finished run: its cells by network and framework, its outputs by framework (in order of networks)."""

    status: RunStatus
    cells: Mapping[tuple[str, str], CellRecord]
    outputs: Mapping[str, Mapping[str, np.ndarray]]


def bench_run(device: str, network: Path, frameworks: Sequence[str], folder: Path) -> Finished:
    """`bench run` as typed; the outputs are those that the gate was shown."""
    shown: list[Mapping[str, Any]] = []
    judge = contestant.compare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contestant, "compare", lambda *words: (shown.append(words[1]), judge(*words))[1])
        words = ["--models", str(network), "--frameworks", ",".join(frameworks), "--device", device]
        words += ["--journal", str(folder / "journal.db"), "--cache", str(folder / "cache"), "--quiet"]
        settings = [word for one in QUICK for word in ("--set", one)]
        done = CliRunner().invoke(command, [*words, *settings])
    assert done.exit_code == 0, (done.output, done.exception)
    with Journal(folder / "journal.db") as book:
        record = book.runs()[-1]
        groups = book.groups(record.number)
        cells = {(one.key.model, name): cell for one in groups for name, cell in one.cells.items()}
    judged = [name for name in frameworks if cells[network.stem, name].outcome.status is not Status.REFUSED]
    return Finished(record.status, cells, dict(zip(judged, shown, strict=True)))


@pytest.fixture(scope="module")
def ready(
    adb_home: AdbHome, module_phone: Phone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Phone]:
    """A phone that was provisioned, and the environment in which this process finds it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in adb_home.environment.items():
            patch.setenv(name, value)
        patch.setenv("BENCH_DEVICE_STATE", str(tmp_path_factory.mktemp("state")))
        try:
            # The trial leaves compiled code there: without it every start compiles numpy once more.
            provision(AdbServerLink(Adb(adb_home.binary, 36), module_phone.serial), FRAMEWORKS)
        except BenchError as error:
            if "network" in str(error):
                pytest.skip(f"the parts of the runtime cannot be fetched: {error.what}")
            raise
        yield module_phone


@pytest.fixture(scope="module")
def there_and_here(ready: Phone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Finished]:
    """The same run on the phone and on this machine."""
    folder = tmp_path_factory.mktemp("run")
    network = write_every_kind(folder / "kinds.onnx")
    frameworks = [name for name in FRAMEWORKS if name not in unready()]
    there = bench_run(ready.serial, network, [*frameworks, REFUSED], folder)
    return there, bench_run("local", network, frameworks, folder)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_on_the_phone_is_a_run(framework: str, there_and_here: tuple[Finished, Finished]) -> None:
    if framework in unready():
        pytest.skip(unready()[framework])
    there, here = there_and_here
    cell = there.cells["kinds", framework]
    assert there.status is RunStatus.COMPLETE
    assert cell.outcome is not None
    assert cell.outcome.status is Status.OK, cell.outcome
    assert cell.outcome.error is not None
    assert cell.loading is not None
    assert cell.memory_peak_bytes
    assert cell.restarts == 0
    if framework != "ours":  # what a resumed run is held to
        assert cell.loading.facts["version"] == wheel_version(
            adapter(framework).distribution, layers_of([framework])
        )
    assert set(there.outputs[framework]) == set(here.outputs[framework])
    for name, wanted in here.outputs[framework].items():
        limit = INEXACT.get((framework, name), SAME_TO)
        assert relative_error(wanted, there.outputs[framework][name]) < limit, name


def test_what_cannot_run_there_is_refused_and_the_run_goes_on(
    there_and_here: tuple[Finished, Finished],
) -> None:
    there, _ = there_and_here
    outcome = there.cells["kinds", REFUSED].outcome
    assert outcome is not None
    assert outcome.status is Status.REFUSED
    assert "compiled by TVM for this machine's processor" in outcome.reason


def test_a_python_worker_outlives_a_pulled_cable(
    ready: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pulled while the worker is asked to load, and again at each run; the very same worker goes on."""
    receive, pulled = PhoneProcess.receive, list[str]()

    def pull_then_receive(self: PhoneProcess, timeout_seconds: float) -> str | None:
        pulled.append(str(self._request["do"]))
        threading.Timer(0.3, ready.cable.cut).start()
        threading.Timer(2.0, ready.cable.plug).start()
        return receive(self, timeout_seconds)

    monkeypatch.setattr(PhoneProcess, "receive", pull_then_receive)
    network = NETWORKS["grouped"](tmp_path / "grouped.onnx")
    finished = bench_run(ready.serial, network, ["ort"], tmp_path)
    assert pulled[:2] == ["load", "run"]
    cell = finished.cells["grouped", "ort"]
    assert cell.outcome is not None
    assert (cell.outcome.status, cell.restarts) == (Status.OK, 0), cell.outcome
