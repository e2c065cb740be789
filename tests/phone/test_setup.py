"""Setting the test phone up: where it cannot be, one line says why, and nothing is left."""

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.phone import setup
from tests.phone.root import AUTHENTICATION_KEPT, AUTHENTICATION_OFF, with_authentication
from tests.phone.setup import Unavailable, make, parts, why_not

AROUND = tuple(
    word.to_bytes(4, "little") for word in (0xD503201F, 0x10000000, 0xF9400108, 0, 0x94000000, 0x90000000)
)


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    why_not.cache_clear()
    yield
    why_not.cache_clear()


def test_an_older_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "6.1.0-50-amd64")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(
        Unavailable, match=r"^the test phone needs Linux 6\.7 \(.*\), this is 6\.1\.0-50-amd64$"
    ):
        make()


def test_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(Unavailable, match=r"needs Linux on x86-64, this is linux on riscv64$"):
        parts()


def test_what_the_kernel_forbids_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "release", lambda: "6.18.0")
    said = subprocess.CompletedProcess(
        [], 0, '{"ok": false, "error": "unshare: Operation not permitted"}\n', ""
    )
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    assert why_not() == "the test phone may not be started here: unshare: Operation not permitted"


def test_not_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(setup, "why_not", lambda: "")
    monkeypatch.setenv("BENCH_TEST_PHONE", str(tmp_path))
    with pytest.raises(Unavailable, match=r"^the test phone is not set up: python -m tests\.phone\.setup$"):
        parts()


def test_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text('#!/bin/sh\necho "E: Could not resolve the host" >&2\nexit 100\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(setup, "why_not", lambda: "")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for variable in ("BENCH_TEST_PHONE", "BENCH_DEBIAN"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    with pytest.raises(Unavailable) as caught:
        make()
    assert "could not be set up: " in str(caught.value)
    assert "Could not resolve the host" in str(caught.value)
    assert "\n" not in str(caught.value)
    left = [one.name for one in (tmp_path / "BENCH_TEST_PHONE").iterdir() if one.name != "lock"]
    assert left == []


def test_the_command_never_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(sys, "argv", ["setup"])
    setup.main()
    assert capsys.readouterr().out.endswith("on riscv64: its tests will be skipped\n")


def test_authentication_is_put_back_in_one_known_place() -> None:
    code = b"".join([*AROUND[:3], AUTHENTICATION_OFF, *AROUND[4:]])
    padded = b"\0" * 16 + code + b"\0" * 16
    assert with_authentication(padded) == padded.replace(AUTHENTICATION_OFF, AUTHENTICATION_KEPT)
    for other in (b"\0" * 64, padded + padded, padded.replace(AROUND[2], AROUND[0])):
        with pytest.raises(ValueError, match="places that switch authentication off, not 1"):
            with_authentication(other)
