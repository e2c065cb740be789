"""Databases of tuned kernels: written in one step, found again by a kernel's structure, used where they are
faster; a network without one is refused.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters import tvm as tvm_adapter
from adapters import tvm_tune
from adapters.ort import ORT_NOOPT
from adapters.protocol import Prepared, Setting, Unsupported
from adapters.tvm import TVM, TVM_TUNED
from adapters.tvm_database import Record, all_records, folder_of, read, write
from adapters.tvm_machine import cpu_name
from models.tiny import write_convolutions

pytest.importorskip("tvm", reason="pip install .[tvm]")
ONE = Setting(1, "fp32")
VALUES = np.random.default_rng(0).standard_normal((1, 8, 12, 12)).astype(np.float32)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    write_convolutions(path, channels=8, pixels=12, layers=2)
    return path


@pytest.fixture
def databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "databases"
    monkeypatch.setattr(tvm_adapter, "files_of", lambda cpu: tuple(sorted((root / cpu).glob("*.json"))))
    return folder_of(cpu_name(), root)


def transposed_first(task: Any, target: Any, trials: int, seconds: float) -> Any:
    """In the place of a search: a schedule that TVM takes for every kernel, told from ours by its trace."""
    from tvm import s_tir

    schedule = s_tir.Schedule(task.function)
    block = schedule.get_child_blocks(schedule.get_sblock("root"))[-1]
    schedule.fuse(*schedule.get_loops(block))
    return schedule.trace


def tune(network: Path, folder: Path, *, seconds: float = 100.0) -> tuple[Path, list[str]]:
    said: list[str] = []
    return tvm_tune.tune(network, "digest", folder, 1, seconds, said.append), said


def test_a_database_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = [Record("a", "conv", 10, 7, 32, "[1]"), Record("b", "add", 5, 5, 32)]
    write(tmp_path / "new" / "one.json", rows)
    assert list(read(tmp_path / "new" / "one.json").values()) == rows
    assert read(tmp_path / "none.json") == {}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["one.json"]


def test_of_two_records_for_a_kernel_the_faster_counts(tmp_path: Path) -> None:
    slow, fast = Record("a", "conv", 10, 9, 32, "[1]"), Record("a", "conv", 10, 7, 8, "[2]")
    for name, record in (("1", fast), ("2", slow)):
        write(tmp_path / f"{name}.json", [record])
    assert all_records(sorted(tmp_path.glob("*.json"))) == {"a": fast}


def test_a_network_without_a_database_is_refused_with_the_command(network: Path, databases: Path) -> None:
    with pytest.raises(Unsupported, match="bench frameworks tune tvm-tuned"):
        TVM_TUNED.convert(network, network.parent, ONE)


@pytest.mark.parametrize(("gain", "is_used"), [(0.5, True), (1.0, False)])
def test_a_schedule_is_used_where_it_beat_ours(
    gain: float, is_used: bool, network: Path, databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(ours: Any, tuned: Any, target: Any) -> tuple[int, int]:
        return 1000, int(1000 * gain)

    monkeypatch.setattr(tvm_tune, "_search", transposed_first)
    monkeypatch.setattr(tvm_tune, "_time_ns", lambda function, target: 1000)
    monkeypatch.setattr(tvm_tune, "_compared_ns", compared)
    path, said = tune(network, databases)
    assert len(said) == len(read(path)) > 0
    assert all((record.trace is not None) == is_used for record in read(path).values())
    converted = TVM_TUNED.convert(network, network.parent, ONE)
    used = len(said) if is_used else 0
    assert converted.options["tuned"] == f"{used} kernels of {len(said)} that were tried"
    session = TVM_TUNED.load(Prepared(network.parent / converted.file, options=converted.options), ONE)
    reference = ORT_NOOPT.load(Prepared(network), ONE)
    for one in (session, reference):
        one.feed({"x": VALUES})
        one.run()
    np.testing.assert_allclose(session.outputs()["y"], reference.outputs()["y"], rtol=1e-4, atol=1e-5)


def test_a_session_goes_on_where_it_was(
    network: Path, databases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tvm_tune, "_search", lambda *_: None)
    assert tune(network, databases, seconds=0.0)[1] == []
    first = tune(network, databases)[1]
    assert first
    assert tune(network, databases)[1] == []


def one_trial(network: Path, seconds_left: float) -> tuple[Any, Any]:
    """What building, and running what was built, gives MetaSchedule for the network's first kernel."""
    from tvm import IRModule
    from tvm.s_tir.meta_schedule.arg_info import ArgInfo
    from tvm.s_tir.meta_schedule.builder import BuilderInput
    from tvm.s_tir.meta_schedule.runner import RunnerInput

    target = tvm_tune.tuning_target(tvm_tune.OPTIONS)
    unit = tvm_tune.vector_unit(target, tvm_tune.OPTIONS)
    module = tvm_tune.unscheduled(network, target, unit).module
    kernel = tvm_tune._tasks(module, target, unit)[0].function
    builder, runner = tvm_tune._in_this_process(target, time.monotonic() + seconds_left)
    built = builder.build([BuilderInput(IRModule({"main": kernel}), target)])[0]
    if built.artifact_path is None:
        return built, None
    place = RunnerInput(built.artifact_path, "llvm", ArgInfo.from_prim_func(kernel))
    return built, runner.run([place])[0].result()


def test_a_trial_is_built_and_timed(network: Path) -> None:
    built, timed = one_trial(network, 60.0)
    assert built.error_msg is None
    assert timed.error_msg is None
    assert 0 < float(timed.run_secs[0]) < 1


def test_after_its_time_every_trial_fails(network: Path) -> None:
    built, timed = one_trial(network, -1.0)
    assert timed is None
    assert "no time left" in built.error_msg


def test_only_the_tuned_one_says_it_is_tuned() -> None:
    assert (TVM.tuned, TVM_TUNED.tuned) == (False, True)
    assert TVM_TUNED.options == replace(TVM).options
