"""A phone on the network by `tcp:HOST:PORT`: no adb program, its own keys, and a whole run."""

import importlib.util
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchsuite.cli.devices import command
from benchsuite.device.adb import network
from benchsuite.device.adb.choose import open_link
from benchsuite.device.adb.hold import state_file
from benchsuite.device.adb.keys import make_key, signers
from benchsuite.device.adb.network import NetworkLink
from benchsuite.device.adb.phone import lock_phone
from models.errors import BenchError
from tests.phone.host import AdbHome
from tests.phone.links import use_private_keys
from tests.phone.networks import NETWORKS
from tests.phone.phone import Phone

ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_adb(adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The keys of `adb_home`, and an adb that would fail if anybody called it."""
    use_private_keys(adb_home, monkeypatch)
    monkeypatch.setenv("ADB", "/nonexistent/adb")
    return


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without keys."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ADB_VENDOR_KEYS", raising=False)
    return tmp_path


def test_every_fact_without_an_adb(phone: Phone, no_adb: None) -> None:
    serial = f"tcp:{phone.serial}"
    done = CliRunner().invoke(command, ["probe", serial, "--format", "json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["serial"] == serial
    assert said["facts"]["ro.product.model"] == {"value": "SM-G991B"}
    back = CliRunner().invoke(command, ["restore", serial, "--clean"])
    assert back.output == f"{serial}: 0 changes put back, 0 left-over workers ended\n"


def test_a_run_of_ours(phone: Phone, no_adb: None, tmp_path: Path) -> None:
    net = NETWORKS["convolutions"](tmp_path / "it's; $(touch pwned) é.onnx")
    small = [f"--set={one}" for one in ("least_blocks=2", "most_blocks=2", "block_seconds=0.01")]
    words = ["run", "--models", str(net), "--frameworks", "ours", "--device", f"tcp:{phone.serial}", *small]
    done = subprocess.run(
        [sys.executable, "-m", "benchsuite.cli.main", *words],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BENCH_JOURNAL": str(tmp_path / "journal.db"),
            "BENCH_CACHE": str(tmp_path / "cache"),
            "BENCH_DEVICE_STATE": str(tmp_path / "state"),
            "COLUMNS": "200",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ours" in done.stdout
    assert not phone.processes()
    assert not list(tmp_path.glob("**/pwned"))
    assert not (tmp_path / "state").exists() or not list((tmp_path / "state").iterdir())


def test_a_phone_that_has_not_said_yes(
    phones: Callable[..., Phone], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = phones(authorised=False)
    monkeypatch.setattr(network, "CONNECT_TIMEOUT_S", 2.0)
    with pytest.raises(BenchError, match=r"the phone is unauthorized\n  try: unlock the phone and accept"):
        open_link(f"tcp:{stranger.serial}")
    stranger.authorise(home / ".android/adbkey.pub")
    assert open_link(f"tcp:{stranger.serial}").shell("echo yes").out == "yes\n"
    assert not NetworkLink("tcp:127.0.0.1:9").reconnect()


def test_revoked_in_between(phone: Phone, no_adb: None, monkeypatch: pytest.MonkeyPatch) -> None:
    link = NetworkLink(f"tcp:{phone.serial}")
    link.check()
    phone.forget_keys()
    phone.cable.cut()
    phone.cable.plug()
    monkeypatch.setattr(network, "CONNECT_TIMEOUT_S", 2.0)
    assert not link.reconnect()
    with pytest.raises(network.Unauthorized, match="unlock the phone and accept"):
        link.shell("true")


def test_a_vendor_s_key(
    phones: Callable[..., Phone], home: Path, adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = phones()
    vendor = home / "vendor"
    vendor.mkdir()
    (vendor / "lab.adb_key").write_bytes((adb_home.folder / ".android/adbkey").read_bytes())
    monkeypatch.setenv("ADB_VENDOR_KEYS", str(vendor))
    assert open_link(f"tcp:{phone.serial}").shell("echo known").out == "known\n"


def test_keys_are_made_once_and_for_one_user(home: Path) -> None:
    place = home / ".android/adbkey"
    assert len(signers()) == 1
    first = place.read_bytes()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    make_key(place)
    assert (len(signers()), place.read_bytes()) == (1, first)
    assert sorted(one.name for one in place.parent.iterdir()) == ["adbkey", "adbkey.pub"]


def test_a_damaged_key(home: Path) -> None:
    make_key(home / ".android/adbkey")
    (home / ".android/adbkey").write_text("no key")
    with pytest.raises(BenchError, match=r"this is no key of adb: .*\n  try: move it away") as error:
        signers()
    assert str(home / ".android/adbkey") in str(error.value)


@pytest.mark.parametrize(
    "name", ["tcp:", "tcp::5555", "tcp:host:port", "tcp:host:0", "tcp:[::1]x", "tcp:h:70000"]
)
def test_names_of_no_phone(name: str) -> None:
    with pytest.raises(BenchError, match=r"names no phone on the network\n  try: such as tcp:192"):
        NetworkLink(name)


def test_a_host_that_nobody_knows() -> None:
    with pytest.raises(BenchError, match=r"nobody knows the host 'nowhere\.invalid'"):
        NetworkLink("tcp:nowhere.invalid")


def test_nobody_listens(home: Path) -> None:
    with pytest.raises(
        BenchError, match=r"the phone does not answer: .*Connection refused\n  try: .*adb tcpip"
    ):
        open_link("tcp:127.0.0.1:9")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(network, "find_spec", lambda name: None if name == "adb_shell" else found(name))
    with pytest.raises(BenchError, match=r"needs the package adb-shell\n  try: `pip install"):
        NetworkLink("tcp:127.0.0.1:9")


def test_one_phone_one_lock_whichever_way() -> None:
    assert state_file("tcp:10.0.0.7:5555") == state_file("10.0.0.7:5555")
    lock = lock_phone("tcp:127.0.0.1:65533")
    try:
        with pytest.raises(BenchError, match="another bench is using this phone"):
            lock_phone("127.0.0.1:65533")
    finally:
        lock.release()
