"""A whole run on the test phone: `ours`, a cut cable, a power loss, heat; nothing changed or running
afterwards.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchsuite.device.adb.binary import Adb
from benchsuite.device.adb.hold import release, state_file, written_down
from benchsuite.device.adb.phone import AdbDevice
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.device.protocol import DeviceRestarted
from benchsuite.policy import Policy
from tests.phone.host import AdbHome
from tests.phone.links import KINDS, link_to
from tests.phone.phone import Phone


@pytest.fixture(params=KINDS)
def device(
    request: pytest.FixtureRequest,
    phone: Phone,
    adb_home: AdbHome,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[AdbDevice]:
    monkeypatch.setenv("BENCH_DEVICE_STATE", str(tmp_path / "state"))
    adb_home.connect(phone.serial)
    link = link_to(request.param, phone, adb_home, monkeypatch)
    one = AdbDevice("test", link, reattach_s=20.0)
    yield one
    one.close()


def test_a_call_waits_for_the_cable(phone: Phone, device: AdbDevice) -> None:
    phone.cable.cut()
    threading.Timer(2.0, phone.cable.plug).start()
    assert device.reach.shell("echo back").out == "back\n"
    assert device.reach.outage_s >= 1.0


def test_a_restart_is_told_apart_from_a_cut(phone: Phone, device: AdbDevice) -> None:
    phone.reboot()
    with pytest.raises(DeviceRestarted, match="was restarted"):
        device.reach.shell("true")
    assert device.reach.shell("echo on").out == "on\n"


def test_what_was_changed_is_put_back(phone: Phone, adb_home: AdbHome, device: AdbDevice) -> None:
    look = "settings get system screen_brightness; cmd connectivity airplane-mode; dumpsys power | grep Fixed"
    held = adb_home.shell(phone.serial, look).stdout
    assert held.split() == ["0", "disabled", "mFixedPerformanceMode=true"]
    assert [one.name for one in written_down(state_file(phone.serial))]
    device.close()
    assert adb_home.shell(phone.serial, look).stdout.split() == [
        "null",
        "disabled",
        "mFixedPerformanceMode=false",
    ]
    assert not state_file(phone.serial).exists()


def test_a_killed_host_leaves_its_notes(phone: Phone, adb_home: AdbHome, device: AdbDevice) -> None:
    back = release(AdbServerLink(Adb(adb_home.binary, 36), phone.serial).shell, state_file(phone.serial))
    assert [one.name for one in back][-1] == "setting stay_on_while_plugged_in=7"


def test_heat_is_waited_for_then_marked(phone: Phone, device: AdbDevice) -> None:
    phone.conditions.heat(skin=45.0, status=2)
    said: list[str] = []
    start = time.monotonic()
    state = device.ready(Policy(settle_seconds=6.0), said.append)
    assert time.monotonic() - start >= 6.0
    assert state.unfit == "thermal status moderate, skin 45.0 °C > 35"
    assert said
    phone.conditions.heat(skin=30.0, status=0)
    assert device.ready(Policy(settle_seconds=2.0), said.append).unfit is None


def test_names_are_only_names(device: AdbDevice, tmp_path: Path) -> None:
    file = tmp_path / "we'ird; $(touch x)\n\"é日本.bin"
    file.write_bytes(bytes(range(256)) * 100)
    remote = device.push(file)
    device.pull(remote, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
