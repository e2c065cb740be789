"""A recording: written, read, refused when damaged, and replayed in the order of time."""

import json
from pathlib import Path

import pytest

from benchsuite.device.catalogue import KINDS, open_device
from benchsuite.device.local import LocalDevice
from benchsuite.device.protocol import Silence, Telemetry
from benchsuite.device.replay import Fault, Recording, ReplayDevice, read_recording, write_recording
from models.errors import BenchError

RECORDING = Recording(
    facts={"processor": "a phone"},
    noise=[1.0, 1.5, 2.0, 4.0],
    latency_ns={"*": 1000.0, "fast": 100.0},
    telemetry={"clock_mhz": 2000.0},
)
LOAD = {"do": "load", "framework": "slow"}
DAMAGED = {
    "no JSON": "{",
    "another schema": json.dumps({"schema": "bench.recording/2"}),
    "not an object": "[1, 2]",
    "no noise": json.dumps({"schema": "bench.recording/1", "facts": {}, "latency_ns": {}}),
    "noise of words": json.dumps(
        {"schema": "bench.recording/1", "facts": {}, "noise": ["loud"], "latency_ns": {}}
    ),
    "unknown fault": json.dumps(
        {"schema": "bench.recording/1", "facts": {}, "noise": [1], "latency_ns": {}, "faults": [{"x": 1}]}
    ),
    "binary": "\0\1\2",
}


def talk(device: ReplayDevice, *requests: dict[str, object]) -> list[dict[str, object]]:
    """The replies of one worker."""
    process = device.spawn("adapters.worker", "main")
    replies = []
    for request in requests:
        process.send(json.dumps(request))
        replies.append(json.loads(process.receive(1.0) or "null"))
    return replies


def test_a_recording_is_read_back(tmp_path: Path) -> None:
    write_recording(tmp_path / "phone.json", RECORDING)
    assert read_recording(tmp_path / "phone.json") == RECORDING


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_recording_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    path.write_text(DAMAGED[name], encoding="utf-8")
    with pytest.raises(BenchError, match="this is not a recording of a device") as caught:
        read_recording(path)
    assert caught.value.where == str(path)


def test_a_missing_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="No such file"):
        read_recording(tmp_path / "phone.json")


def test_faults_may_stand_in_the_file(tmp_path: Path) -> None:
    write_recording(tmp_path / "phone.json", RECORDING)
    values = json.loads((tmp_path / "phone.json").read_text(encoding="utf-8"))
    values["faults"] = [{"framework": "slow", "kind": "hang"}]
    (tmp_path / "phone.json").write_text(json.dumps(values), encoding="utf-8")
    assert read_recording(tmp_path / "phone.json").faults == (Fault("slow", "hang"),)


def test_noise_is_replayed_in_order_from_the_seeds_place() -> None:
    device = ReplayDevice("replay:x", RECORDING, seed=1)
    start = RECORDING.noise.index(device.next_noise(1)[0])
    following = device.next_noise(7)
    assert following == [RECORDING.noise[(start + 1 + index) % 4] for index in range(7)]
    starts = {ReplayDevice("x", RECORDING, seed=seed).next_noise(1)[0] for seed in range(20)}
    assert starts == set(RECORDING.noise)


def test_workers_share_the_noise_as_they_share_the_machine() -> None:
    device = ReplayDevice("replay:x", RECORDING, seed=0)
    run = {"do": "run", "iterations": 2}
    (_, slow), (_, fast) = (talk(device, {**LOAD, "framework": name}, run) for name in ("slow", "fast"))
    seen = [value / 1000 for value in slow["run_ns"]] + [value / 100 for value in fast["run_ns"]]
    assert sorted(seen) == sorted(RECORDING.noise)


def test_it_tells_what_was_recorded() -> None:
    device = ReplayDevice("replay:x", RECORDING)
    assert device.name == "replay:x"
    assert device.facts() == {"processor": "a phone"}
    assert device.telemetry() == Telemetry(clock_mhz=2000.0)
    device.close()


def test_a_fault_strikes_where_and_as_often_as_planted() -> None:
    fault = Fault("slow", "error", do="run", at=1, times=2)
    device = ReplayDevice("replay:x", Recording({}, [1.0], faults=(fault,)))
    run = {"do": "run", "iterations": 1}
    verdicts = [[reply["ok"] for reply in talk(device, LOAD, run, run, run)] for _ in range(3)]
    assert verdicts == [[True, True, False, True]] * 2 + [[True] * 4]
    assert all(reply["ok"] for reply in talk(device, {**LOAD, "framework": "other"}, run, run))


def test_two_faults_at_one_place_follow_each_other() -> None:
    faults = (Fault("slow", "error", at=0, times=1), Fault("slow", "garbage", at=0, times=2))
    device = ReplayDevice("replay:x", Recording({}, [1.0], faults=faults))
    for expected in ('{"ok": false', "Segmentation fault", '{"ok": true'):
        process = device.spawn("adapters.worker", "main")
        for request in (LOAD, {"do": "run", "iterations": 1}):
            process.send(json.dumps(request))
        process.receive(1.0)
        assert (process.receive(1.0) or "").startswith(expected)


def test_a_hang_costs_no_time_and_a_crash_ends_the_output() -> None:
    device = ReplayDevice("x", Recording({}, [1.0], faults=(Fault("*", "hang"), Fault("*", "crash", "load"))))
    process = device.spawn("adapters.worker", "main")
    process.send(json.dumps(LOAD))
    assert process.receive(1e9) is None
    assert process.end().exit_code == -11
    other = ReplayDevice("x", Recording({}, [1.0], faults=(Fault("*", "hang"),))).spawn(
        "adapters.worker", "main"
    )
    for request in (LOAD, {"do": "run", "iterations": 1}):
        other.send(json.dumps(request))
    assert other.receive(1e9) is not None
    with pytest.raises(Silence):
        other.receive(1e9)


# --- the catalogue of devices ------------------------------------------------------------------------------


def test_every_kind_can_be_opened(tmp_path: Path) -> None:
    write_recording(tmp_path / "phone.json", RECORDING)
    for kind in KINDS:
        if kind.startswith(("SERIAL", "tcp:")):
            continue  # a phone: tests/phone
        name = kind.replace("FILE", str(tmp_path / "phone.json"))
        device = open_device(name)
        assert device.name == name
        device.close()


def test_local_is_this_machine() -> None:
    device = open_device("local")
    assert isinstance(device, LocalDevice)
    device.close()


@pytest.mark.parametrize("name", ["loc", "", "replay", "replay:", "local:x", "phone:x"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(BenchError) as caught:
        open_device(name)
    assert caught.value.what == f"unknown device {name!r}"
    assert caught.value.hint
