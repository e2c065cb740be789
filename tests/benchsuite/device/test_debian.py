"""Packages of Debian: pins are read, apt is kept in its folder, what is wrong is said."""

from pathlib import Path

import pytest

from benchsuite.device import debian
from benchsuite.device.debian import Pin, Pins, fetch, read_pins, unpack, usual_mirror, write_configuration
from models.errors import BenchError

PIN = Pin("thing", "arm64", "1.0-1", "0" * 64)


def test_pins_of_both_machines(tmp_path: Path) -> None:
    (tmp_path / "pins.toml").write_text(
        'date = "20260102"\n[amd64]\na = ["1", "x"]\n[arm64]\n"b+" = ["2:3", "y"]\n', encoding="utf-8"
    )
    pins = read_pins(tmp_path / "pins.toml")
    assert pins == Pins("20260102", (Pin("a", "amd64", "1", "x"), Pin("b+", "arm64", "2:3", "y")))
    assert pins.pins[1].spec == "b+:arm64=2:3"


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        ("deb http://mirror.example/debian bookworm main\n", "http://mirror.example/debian"),
        (
            "# deb http://old.example/debian x\nURIs: https://new.example/pub/debian\n",
            "https://new.example/pub/debian",
        ),
        ("URIs: http://archive.ubuntu.com/ubuntu\n", debian.USUAL_MIRROR),
        ("deb http://security.debian.org/debian-security x main\n", debian.USUAL_MIRROR),
    ],
)
def test_the_mirror_is_the_system_s(text: str, mirror: str, tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(text, encoding="utf-8")
    assert usual_mirror([tmp_path]) == mirror
    assert usual_mirror([tmp_path / "sources.list", tmp_path / "missing"]) == mirror


def test_every_place_of_apt_s_is_inside(tmp_path: Path) -> None:
    text = write_configuration(tmp_path, "http://mirror.example/debian").read_text(encoding="utf-8")
    places = [line.split('"')[1] for line in text.splitlines() if line.startswith("Dir")]
    assert len(places) >= 9
    assert all(place.startswith(str(tmp_path)) or place == "/dev/null" for place in places)


@pytest.fixture
def no_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs called apt-get and dpkg-deb that fail as without a network."""
    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text('#!/bin/sh\necho "E: Could not resolve the host" >&2\nexit 100\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("BENCH_DEBIAN", str(tmp_path / "cache"))


@pytest.mark.usefixtures("no_apt")
def test_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(
        BenchError, match="apt-get failed: E: Could not resolve the host\n  try: is there a network"
    ):
        fetch(Pins("20260102", (PIN,)))
    assert not list((tmp_path / "cache").glob("*.deb"))
    with pytest.raises(BenchError, match="dpkg-deb failed"):
        unpack([tmp_path / "x.deb"], tmp_path)


@pytest.mark.usefixtures("no_apt")
def test_what_is_in_the_cache_needs_no_network(tmp_path: Path) -> None:
    place = tmp_path / "cache" / f"thing-{PIN.sha256}.deb"
    place.parent.mkdir()
    place.touch()
    assert fetch(Pins("20260102", (PIN,))) == {"thing": place}


def test_a_package_of_another_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = '#!/bin/sh\n[ "$2" = update ] || echo other > thing_1.0-1_arm64.deb\n'
    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("BENCH_DEBIAN", str(tmp_path / "cache"))
    with pytest.raises(BenchError, match=r"thing:arm64=1.0-1: the package has sha256 [0-9a-f]{64}, not 0000"):
        fetch(Pins("20260102", (PIN,)))
    assert not list((tmp_path / "cache").glob("*.deb"))


def test_without_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("BENCH_DEBIAN", str(tmp_path / "cache"))
    with pytest.raises(BenchError, match="apt-get is missing"):
        fetch(Pins("20260102", (PIN,)))
