"""`bench devices`, `bench devices probe` and `bench devices restore` as a user types them."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchsuite.cli import devices_rows
from benchsuite.cli.devices import command
from benchsuite.cli.devices_phone import _drawn
from benchsuite.device.adb.facts import Found
from models.errors import BenchError
from tests.cli.test_json import CHECKERS
from tests.phone.host import AdbHome
from tests.phone.links import use_private_keys
from tests.phone.phone import Phone


@pytest.fixture(autouse=True)
def _private_server(adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch) -> None:
    use_private_keys(adb_home, monkeypatch)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write a table of phones on the network: name and serial of each."""
    path = tmp_path / "devices.toml"
    monkeypatch.setenv("BENCH_DEVICES", str(path))

    def write(**serials: str) -> None:
        rows = (f"[{name}]\ntitle = 'x'\naddress = 'tcp:{one}'\n" for name, one in serials.items())
        path.write_text("".join(rows))

    return write


@pytest.fixture
def mute() -> Iterator[str]:
    """An address where somebody takes the connection, and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


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


def test_phones_on_the_network_are_listed(
    phones: Callable[..., Phone], table: Callable[..., None], mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that answers, one that has not said yes, one where nobody listens, one that says nothing."""
    monkeypatch.setattr(devices_rows, "ANSWER_S", 8.0)
    there, stranger = phones(), phones(authorised=False)
    table(there=there.serial, stranger=stranger.serial, nobody="127.0.0.1:9", mute=mute)
    start = time.monotonic()
    said = json.loads(CliRunner().invoke(command, ["--format", "json"]).stdout)
    assert time.monotonic() - start < devices_rows.ANSWER_S + devices_rows.FACTS_S
    CHECKERS["bench.devices/1"].check(said)
    found = {one["serial"].removeprefix("tcp:"): one for one in said["phones"]}
    assert (found[there.serial]["state"], found[there.serial]["advice"]) == ("device", "")
    assert found[stranger.serial]["state"] == "unauthorized"
    assert "unlock the phone" in found[stranger.serial]["advice"]
    assert found["127.0.0.1:9"]["state"] == found[mute]["state"] == "no answer"
    assert "Connection refused; is it on" in found["127.0.0.1:9"]["advice"]
    assert "adb tcpip 5555" in found[mute]["advice"]
    shown = CliRunner().invoke(command, [], env={"COLUMNS": "220"})
    assert shown.exit_code == 0, shown.output
    assert "tcp:127.0.0.1:9 is no answer: " not in shown.output
    assert "tcp:127.0.0.1:9, no answer: " in shown.output
    row = next(line for line in shown.output.splitlines() if f"tcp:{there.serial}" in line)
    assert "SM-G991B" in row
    assert "there" in row
    for verb in ("probe", "restore"):
        done = CliRunner().invoke(command, [verb, "there"])
        assert done.exit_code == 0, done.output


def test_a_name_that_nobody_looks_up_in_time(
    table: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver has no limit of its own: the list does not wait for it."""
    over = threading.Event()

    def look_up(*words: object, **named: object) -> None:
        over.wait(60.0)
        raise OSError("no such host")

    table(far="far.example")
    monkeypatch.setattr(devices_rows, "ANSWER_S", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    start = time.monotonic()
    (row,) = (one for one in devices_rows.rows()[0] if one.phone.serial == "tcp:far.example")
    spent = time.monotonic() - start
    over.set()
    assert spent < 30.0
    assert row.phone.state == "no answer"
    for one in threading.enumerate():
        if isinstance(one, devices_rows._Asked):
            one.join()


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
