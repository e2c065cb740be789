"""Every kind of device by what the user types after `--device`."""

from collections.abc import Callable
from pathlib import Path

from benchsuite.device.adb.choose import open_phone
from benchsuite.device.local import LocalDevice
from benchsuite.device.protocol import Device
from benchsuite.device.replay import ReplayDevice, read_recording
from models.errors import BenchError
from models.suggest import nearest

KINDS: dict[str, str] = {
    "local": "this machine",
    "SERIAL or s21 …": "a phone over ADB: its serial (`adb devices`), or a name of devices.toml that fits"
    " one",
    "tcp:HOST:PORT": "a phone on the network, without an adb program (adb-shell, docs/phones.md)",
    "replay:FILE": "a recorded device with its noise: tries gates, resume and statistics without hardware",
}


def open_device(name: str) -> Device:
    """Return the device of that name, ready to use; raises `BenchError` for an unknown name or a bad
    recording.
    """
    kind, _, argument = name.partition(":")
    openers: dict[str, Callable[[], Device]] = {
        "local": LocalDevice,
        "replay": lambda: ReplayDevice(name, read_recording(Path(argument))),
    }
    if kind not in openers:
        phone = open_phone(name)
        if phone is not None:
            return phone
    if kind not in openers or (kind == "replay") != bool(argument):
        raise BenchError(
            f"unknown device {name!r}",
            where="--device",
            hint=nearest(name, KINDS, otherwise=f"one of {', '.join(KINDS)} (`bench devices`)"),
        )
    return openers[kind]()
