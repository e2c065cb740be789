"""Both links to a test phone, for tests of what every link must do."""

import os
from pathlib import Path

import pytest

from benchsuite.device.adb.binary import Adb
from benchsuite.device.adb.network import NetworkLink
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.device.link import NETWORK, Link
from tests.phone.host import AdbHome
from tests.phone.phone import Phone

KINDS = ("server", "network")


def use_private_keys(adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """Server and keys of `adb_home` for this process; caches stay where they are."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
    monkeypatch.setenv("HOME", str(adb_home.folder))
    monkeypatch.delenv("ADB_VENDOR_KEYS", raising=False)
    for name, value in adb_home.environment.items():
        monkeypatch.setenv(name, value)


def link_to(kind: str, phone: Phone, adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch) -> Link:
    """A link of that kind to a phone that knows the keys of `adb_home`."""
    use_private_keys(adb_home, monkeypatch)
    if kind == "network":
        return NetworkLink(f"{NETWORK}{phone.serial}")
    adb_home.connect(phone.serial)
    return AdbServerLink(Adb(adb_home.binary, 36), phone.serial)
