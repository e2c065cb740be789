"""`bench devices`, `bench devices probe` and `bench devices restore` as a user types them."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from benchsuite.cli.devices import command
from benchsuite.cli.devices_phone import _drawn
from benchsuite.device.adb.facts import Found
from models.errors import BenchError
from tests.cli.test_json import CHECKERS
from tests.phone.host import AdbHome
from tests.phone.phone import Phone


@pytest.fixture(autouse=True)
def _private_server(adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in adb_home.environment.items():
        monkeypatch.setenv(name, value)


def test_an_attached_phone_is_listed(phone: Phone, adb_home: AdbHome) -> None:
    adb_home.connect(phone.serial)
    shown = CliRunner().invoke(command, [], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert phone.serial in shown.output
    assert "SM-G991B" in shown.output
    said = json.loads(CliRunner().invoke(command, ["--format", "json"]).stdout)
    CHECKERS["bench.devices/1"].check(said)
    assert {"serial": phone.serial, "state": "device", "advice": ""} in said["phones"]


def test_a_phone_that_has_not_said_yes(phones: Callable[..., Phone], adb_home: AdbHome) -> None:
    stranger = phones(authorised=False)
    adb_home.connect(stranger.serial)
    shown = CliRunner().invoke(command, [])
    assert f"{stranger.serial} is unauthorized: " in shown.output
    refused = CliRunner().invoke(command, ["probe", stranger.serial])
    assert isinstance(refused.exception, BenchError)
    assert "unauthorized" in str(refused.exception)


def test_every_fact_is_there_or_says_why_not(phone: Phone, adb_home: AdbHome) -> None:
    adb_home.connect(phone.serial)
    shown = CliRunner().invoke(command, ["probe", phone.serial])
    assert shown.exit_code == 0, shown.output
    assert "ro.product.model: SM-G991B" in shown.output
    said = json.loads(CliRunner().invoke(command, ["probe", phone.serial, "--format", "json"]).stdout)
    checker = CHECKERS["bench.probe/1"]
    checker.check(said)
    assert set(checker.fields) == checker.seen
    assert all(set(one) in ({"value"}, {"missing"}) and all(one.values()) for one in said["facts"].values())


def test_nothing_to_put_back(phone: Phone, adb_home: AdbHome) -> None:
    adb_home.connect(phone.serial)
    done = CliRunner().invoke(command, ["restore", phone.serial, "--clean"])
    assert done.exit_code == 0, done.output
    assert done.output == f"{phone.serial}: 0 changes put back, 0 left-over workers ended\n"


@pytest.mark.parametrize("verb", ["probe", "restore"])
def test_a_phone_that_is_not_there(adb_home: AdbHome, verb: str) -> None:
    done = CliRunner().invoke(command, [verb, "nowhere:1"])
    assert isinstance(done.exception, BenchError)
    assert "nowhere:1" in str(done.exception)


def test_a_fact_is_drawn_below_its_name_and_orders_a_terminal_nothing() -> None:
    assert _drawn("kernel", Found("5.4")) == "  kernel: 5.4"
    assert _drawn("zones", Found("a=1\n\x1b[2Jb=2")) == "  zones:\n    a=1\n    \\x1b[2Jb=2"
    assert _drawn("counters", Found(None, "no simpleperf")) == "  counters: missing (no simpleperf)"
