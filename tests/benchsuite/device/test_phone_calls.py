"""How many calls over the link it takes: each costs three processes on the phone."""

import json
import random
import shlex
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchsuite.device.adb import files
from benchsuite.device.adb.files import FILES, WORKERS, PhoneFiles
from benchsuite.device.adb.phone import AdbDevice
from benchsuite.device.adb.process import PhoneProcess
from benchsuite.device.adb.server import AdbServerLink
from tests.phone.host import AdbHome
from tests.phone.links import link_to
from tests.phone.phone import Phone

SIZE = 300_000


@pytest.fixture
def device(
    phone: Phone, adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[AdbDevice]:
    monkeypatch.setenv("BENCH_DEVICE_STATE", str(tmp_path / "state"))
    one = AdbDevice("test", link_to("server", phone, adb_home, monkeypatch), reattach_s=20.0)
    yield one
    one.close()


@pytest.fixture
def calls(device: AdbDevice, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes over the link from now on."""
    seen: list[str] = []
    inner = AdbServerLink._call

    def counted(link: AdbServerLink, words: Any, timeout_s: float) -> Any:
        seen.append(words[0])
        return inner(link, words, timeout_s)

    monkeypatch.setattr(AdbServerLink, "_call", counted)
    return seen


@pytest.fixture
def local(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A network, something beside it, and its inputs, which have the name of the network elsewhere."""
    found = tuple(tmp_path / one for one in ("network/net", "network/parts/weights", "inputs/net"))
    for number, one in enumerate(found):
        one.parent.mkdir(parents=True, exist_ok=True)
        one.write_bytes(random.Random(number).randbytes(SIZE))  # adb compresses what it can
    return found[0], found[1], found[2]


def same(phone: Phone, remote: str, path: Path) -> bool:
    place = phone.tmp / remote.removeprefix("/data/local/tmp/")
    folder = phone.tmp / "bench/files" / remote.removeprefix(f"{FILES}/").partition("/")[0]
    return place.read_bytes() == path.read_bytes() and (folder / "complete").exists()


def test_what_a_worker_needs_is_three_calls(
    phone: Phone, device: AdbDevice, calls: list[str], local: tuple[Path, Path, Path]
) -> None:
    network, inputs = device.push(local[0], [local[1]]), device.push(local[2])
    assert calls == [], "nobody needs them yet"
    device._files.bring([network, inputs])
    assert calls == ["shell", "push", "shell"]
    beside = network.removesuffix("/net") + "/parts/weights"
    assert all(same(phone, *one) for one in ((network, local[0]), (beside, local[1]), (inputs, local[2])))
    assert sorted(one.name for one in (phone.tmp / "bench/files").iterdir()) == sorted(
        one.split("/")[-2] for one in (network, inputs)
    )
    device._files.bring([network, inputs])
    assert len(calls) == 3, "known to be there"
    again = PhoneFiles(device.reach)
    again.bring([again.place(local[0], [local[1]]), again.place(local[2])])
    assert len(calls) == 4, "one look"


def test_only_what_is_missing_goes_over(
    phone: Phone, device: AdbDevice, calls: list[str], local: tuple[Path, Path, Path]
) -> None:
    device._files.bring([device.push(local[2])])
    before = phone.cable.moved_bytes
    network = device.push(local[0], [local[1]])
    again = PhoneFiles(device.reach)
    again.bring([again.place(local[0], [local[1]]), again.place(local[2])])
    assert same(phone, network, local[0])
    assert 2 * SIZE < phone.cable.moved_bytes - before < 2.8 * SIZE


def test_a_big_file_goes_by_itself(
    phone: Phone,
    device: AdbDevice,
    calls: list[str],
    local: tuple[Path, Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "BUNDLE_BYTES", 3 * SIZE)
    local[0].write_bytes(b"big" * SIZE)
    network, inputs = device.push(local[0], [local[1]]), device.push(local[2])
    device._files.bring([network, inputs])
    assert calls == ["shell", *["push", "shell"] * 2]
    assert same(phone, network, local[0])
    assert same(phone, inputs, local[2])


@pytest.mark.parametrize("after_bytes", [200, 400_000, 902_000])
def test_a_cable_cut_while_they_go_over(
    phone: Phone, device: AdbDevice, local: tuple[Path, Path, Path], after_bytes: int
) -> None:
    network, inputs = device.push(local[0], [local[1]]), device.push(local[2])
    phone.cable.cut_after(after_bytes)
    threading.Timer(3.0, phone.cable.plug).start()
    device._files.bring([network, inputs])
    assert same(phone, network, local[0])
    assert same(phone, inputs, local[2])


class Ready:
    """A program that answers its first request."""

    def begin(self, request: Mapping[str, Any]) -> tuple[str, str]:
        answer = "print -r -- '{\"ok\": true}' > reply-0; read -r p s < waiter; kill -USR1 $p"
        return "", f"eval {shlex.quote(f'sleep 1; {answer}')}"

    def line(self, request: Mapping[str, Any]) -> str:
        return str(request["do"])

    def reply(self, request: Mapping[str, Any], text: str) -> Mapping[str, Any]:
        return dict(json.loads(text))


@pytest.mark.parametrize("expected", [True, False])
def test_a_reply_brings_the_state_along(device: AdbDevice, calls: list[str], expected: bool) -> None:
    process = PhoneProcess(device.reach, f"{WORKERS}/ready", lambda request: Ready(), device._watch)
    process.send('{"do": "load"}')
    if expected:
        device.expect_telemetry()
    assert process.receive(60.0) == '{"ok": true}'
    asked = len(calls)
    state = device.telemetry()
    assert len(calls) == asked + (not expected)
    assert state.battery_percent is not None
    assert state.memory_available_bytes is not None
    device.reach.shell("true")
    assert device.telemetry() is not state, "something was done since"
    process.end()


def test_what_was_pulled_is_removed_by_the_next_call(
    phone: Phone, device: AdbDevice, calls: list[str], tmp_path: Path
) -> None:
    remote = device.scratch("it's; $(touch pwned)")
    device.reach.shell(f"echo outputs > {remote}")
    del calls[:]
    device.pull(remote, tmp_path / "back")
    assert (tmp_path / "back").read_text() == "outputs\n"
    place = phone.tmp / remote.removeprefix("/data/local/tmp/")
    assert calls == ["shell"]
    assert place.exists()
    assert device.reach.shell("exit 3").code == 3
    assert not place.exists()
    assert len(calls) == 2
