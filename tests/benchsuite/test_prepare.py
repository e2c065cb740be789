"""Conversion: once for a content, in a process of its own, telling what goes on; failures leave nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.ort import ORT
from adapters.protocol import Conversion, Prepared, Setting
from benchsuite import prepare as module
from benchsuite.client import WorkerFailed
from benchsuite.device.local import LocalDevice
from benchsuite.policy import Policy
from benchsuite.prepare import prepare
from benchsuite.record import Status
from models.errors import BenchError
from models.model import Model

FP32 = Setting(1, "fp32")
Make = Callable[..., Prepared]


@pytest.fixture
def make(
    misdeeds: object, faulty_device: type[LocalDevice], network: Model, network_path: Path, tmp_path: Path
) -> Make:
    """Prepare the tiny network for a faulty framework; `conversion` changes how it says it converts."""

    def run(
        name: str,
        conversion: Conversion | None = None,
        model: Model = network,
        setting: Setting = FP32,
        **how: object,
    ) -> Prepared:
        adapter = misdeeds.ADAPTERS[name]
        if conversion is not None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(adapter), "conversion", lambda self, setting: conversion)
                return run(name, None, model, setting, **how)
        device = faulty_device()
        try:
            return prepare(
                adapter, model, network_path, setting, cache=tmp_path, policy=Policy(), device=device, **how
            )
        finally:
            device.close()
            run.processes += len(device.pids)

    run.processes = 0
    return run


def test_it_is_converted_once(make: Make, network_path: Path) -> None:
    first, second = make("converter-good"), make("converter-good")
    assert first == second
    assert make.processes == 1
    assert first.path.read_bytes() == network_path.read_bytes()
    assert first.options == {"converted_for": "fp32"}
    assert first.converter.startswith("a faulty converter (onnx ")


GOOD = Conversion("a faulty converter", ("onnx",))


@pytest.mark.parametrize(
    "other",
    [
        {"conversion": replace(GOOD, distributions=("numpy",))},
        {"conversion": replace(GOOD, options={"level": "3"})},
        {"conversion": replace(GOOD, files=(Path(__file__),))},
        {"conversion": replace(GOOD, tool="another one")},
        {"setting": Setting(1, "bf16")},
        {"name": "converter-leaves-nothing"},
    ],
    ids=["package", "option", "own file", "tool", "precision", "framework"],
)
def test_what_decides_the_result_is_in_the_key(make: Make, other: dict) -> None:
    make("converter-good", GOOD)
    name = other.pop("name", "converter-good")
    try:
        make(name, **{"conversion": GOOD, **other})
    except WorkerFailed:
        assert name != "converter-good"
    assert make.processes == 2


def test_another_network_is_converted_anew(make: Make, network: Model) -> None:
    make("converter-good")
    make("converter-good", model=replace(network, digest="0" * 16))
    assert make.processes == 2


@pytest.mark.parametrize(("per_threads", "processes"), [(False, 1), (True, 2)])
def test_threads_count_where_they_change_the_result(make: Make, per_threads: bool, processes: int) -> None:
    conversion = replace(GOOD, per_threads=per_threads)
    for threads in (1, 2):
        make("converter-good", conversion, setting=Setting(threads, "fp32"))
    assert make.processes == processes


def test_a_failure_leaves_nothing_and_is_tried_again(make: Make, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(WorkerFailed) as caught:
            make("converter-raises")
        assert caught.value.outcome.status is Status.FAILED
        assert "a line of the framework's own log" in caught.value.outcome.log_tail
    assert make.processes == 2
    assert [path for path in (tmp_path / "converted").iterdir() if path.is_dir()] == []


def test_a_missing_converter_is_a_refusal_with_the_line_that_gets_it(make: Make) -> None:
    with pytest.raises(WorkerFailed) as caught:
        make("converter-good", replace(GOOD, distributions=("no-such-converter",)))
    assert caught.value.outcome.status is Status.REFUSED
    assert "`pip install no-such-converter`" in caught.value.outcome.reason


def test_an_unknown_environment_is_an_error(make: Make) -> None:
    with pytest.raises(BenchError, match="no environment is called 'mars'"):
        make("converter-good", replace(GOOD, environment="mars"))


def test_it_says_what_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_EVERY_SECONDS", 0.05)
    said: list[str] = []
    make("converter-good", say=said.append)
    assert said[0] == "converting for converter-good with a faulty converter"
    assert said[1].startswith("converting for converter-good with a faulty converter, ")


def test_a_framework_that_reads_onnx_gets_the_file_itself(
    network: Model, network_path: Path, tmp_path: Path
) -> None:
    prepared = prepare(ORT, network, network_path, FP32, cache=tmp_path, policy=Policy())
    assert prepared == Prepared(network_path, (), ORT.options)
    assert list(tmp_path.iterdir()) == []
