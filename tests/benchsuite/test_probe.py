"""What a roofline needs is measured once a run, and its absence ends nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchsuite.ceiling import OLDER_SOURCE, Work, ceiling_of, source_of, work_of
from benchsuite.device.local import LocalDevice
from benchsuite.device.protocol import DeviceLost, DeviceRestarted, Facts, Process
from benchsuite.device.replay import Fault, Recording, ReplayDevice
from benchsuite.journal import Journal
from benchsuite.policy import Policy
from benchsuite.probe import ceiling_facts, network_facts
from benchsuite.run import execute
from models.model import Model
from models.zoo import pinned_model, zoo_row

QUICK = Policy(probe_seconds=0.01)


def test_this_machine_has_a_ceiling() -> None:
    device = LocalDevice()
    try:
        facts = ceiling_facts(device, (1,), QUICK)
    finally:
        device.close()
    ceiling = ceiling_of(facts, 1)
    assert ceiling is not None
    assert "ONNX Runtime" in source_of(facts)
    assert ceiling.flops_per_second > 1e9
    assert ceiling.bytes_per_second > 1e8
    assert ceiling_of(facts, 2) is None


@pytest.mark.parametrize("kind", ["hang", "crash", "garbage", "error"])
def test_a_probe_that_fails_says_why_and_ends_nothing(kind: str) -> None:
    device = ReplayDevice("replay:x", Recording({}, [1.0], faults=(Fault("*", kind, "probe"),)))
    facts = ceiling_facts(device, (1, 2), QUICK)
    assert list(facts) == ["ceiling.1t.missing", "ceiling.2t.missing"]
    assert all(facts.values())
    assert ceiling_of(facts, 1) is None


class Lost(ReplayDevice):
    """A device that is gone, or restarted, when it is asked for its ceiling."""

    def __init__(self, reason: DeviceLost) -> None:
        super().__init__("replay:x", Recording({}, [1.0]))
        self.reason, self.looks = reason, 0

    def spawn(self, module: str, environment: str) -> Process:
        process: Process = super().spawn(module, environment)

        def send(line: str) -> None:
            raise self.reason

        process.send = send  # type: ignore[method-assign]
        return process

    def facts(self) -> Facts:
        self.looks += 1
        return super().facts()


def test_a_device_that_is_gone_is_not_asked_again() -> None:
    device = Lost(DeviceLost("it did not come back"))
    assert ceiling_facts(device, (1, 2), QUICK) == {"ceiling.1t.missing": "it did not come back"}


def test_a_device_that_restarted_is_entered_anew() -> None:
    device = Lost(DeviceRestarted("it was restarted"))
    facts = ceiling_facts(device, (1, 2), QUICK)
    assert facts == {f"ceiling.{count}t.missing": "it was restarted" for count in (1, 2)}
    assert device.looks == 2


def test_what_was_measured_is_told() -> None:
    recording = Recording({}, [1.0], probe={"flops_per_second": 1.0, "bytes_per_second": 1.0, "source": "a"})
    assert source_of(ceiling_facts(ReplayDevice("replay:x", recording), (1,), QUICK)) == "a"
    assert source_of({}) == OLDER_SOURCE


def test_a_recording_without_a_probe_has_no_ceiling() -> None:
    assert ceiling_facts(ReplayDevice("replay:x", Recording({}, [1.0])), (1,), QUICK) == {}


def test_none_is_measured_when_none_is_wanted() -> None:
    device = ReplayDevice(
        "replay:x", Recording({}, [1.0], probe={"flops_per_second": 1.0, "bytes_per_second": 1.0})
    )
    assert ceiling_facts(device, (1,), replace(QUICK, probe_seconds=0.0)) == {}
    assert ceiling_facts(device, (1,), QUICK) == {
        "ceiling.1t.flops_per_second": 1,
        "ceiling.1t.bytes_per_second": 1,
    }


def test_a_network_is_counted_once(network: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = network_facts([network], tmp_path)
    assert work_of(facts, network.name) == Work(8 * 8 * 4 * 4 * 9, network.weight_byte_count, 4 * 8 * 8 * 4)
    monkeypatch.setattr("models.count.count_model", None)
    assert network_facts([network], tmp_path) == facts


def test_a_pinned_network_has_its_own_counts(tmp_path: Path) -> None:
    work = work_of(network_facts([pinned_model(zoo_row("yolov8n"))], tmp_path), "yolov8n")
    assert work is not None
    assert work.macs == pytest.approx(zoo_row("yolov8n").macs, rel=0.06)


def test_a_network_that_cannot_be_counted_is_left_out(network: Model, tmp_path: Path) -> None:
    assert network_facts([replace(network, graph=tmp_path / "no.onnx", digest="1" * 16)], tmp_path) == {}


def test_a_run_keeps_its_ceiling(make_job: Callable, replay: Callable, journal: Journal) -> None:
    device = replay()
    device.recording = replace(device.recording, probe={"flops_per_second": 2e11, "bytes_per_second": 2e10})
    execute(make_job(device, networks=2, probe=True))
    facts = journal.run().facts
    assert ceiling_of(facts, 1) is not None
    assert isinstance(work_of(facts, "net0"), Work)
    assert work_of(facts, "net0") == work_of(facts, "net1")
    execute(make_job(device))
    assert journal.run().facts == {}
