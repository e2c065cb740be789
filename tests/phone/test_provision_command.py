"""`bench devices provision` as a user types it."""

import json

import pytest
from click.testing import CliRunner

from benchsuite.cli.devices_provision import command
from benchsuite.device.runtime.provision import PLACE
from models.errors import BenchError
from tests.cli.test_json import CHECKERS
from tests.phone.host import AdbHome
from tests.phone.phone import Phone


@pytest.fixture(autouse=True)
def _private_server(adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in adb_home.environment.items():
        monkeypatch.setenv(name, value)


def test_there_and_back(phone: Phone, adb_home: AdbHome) -> None:
    adb_home.connect(phone.serial)
    done = CliRunner().invoke(
        command, [phone.serial, "--frameworks", "ours", "--no-trial", "--format", "json"]
    )
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    checker = CHECKERS["bench.provision/1"]
    checker.check(said)
    assert set(checker.fields) == checker.seen
    assert [one.rpartition("/")[2].partition("-")[0] for one in said["layers"]] == ["base", "numpy", "code"]
    assert "processor" in said["refused"]["tvm"]
    assert sorted(adb_home.shell(phone.serial, f"ls -d {PLACE}/*").stdout.split()) == sorted(said["layers"])
    done = CliRunner().invoke(command, [phone.serial, "--remove"])
    assert done.stdout == f"{phone.serial}: the runtime is removed\n"
    assert adb_home.shell(phone.serial, f"ls -d {PLACE}").returncode == 1


def test_a_phone_that_is_not_there(adb_home: AdbHome) -> None:
    done = CliRunner().invoke(command, ["nowhere:1"])
    assert isinstance(done.exception, BenchError)


def test_a_framework_that_cannot_run_there(phone: Phone, adb_home: AdbHome) -> None:
    adb_home.connect(phone.serial)
    done = CliRunner().invoke(command, [phone.serial, "--frameworks", "ours,iree"])
    assert isinstance(done.exception, BenchError)
    assert "iree does not run on a phone: networks are compiled by IREE" in str(done.exception)
