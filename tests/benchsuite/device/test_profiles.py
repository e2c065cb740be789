"""Names of phones: bench's own rows, and those of the user's file."""

from pathlib import Path

import pytest

from benchsuite.cli.devices_rows import rows
from benchsuite.device.adb.choose import open_phone
from benchsuite.device.adb.profiles import profiles
from models.errors import BenchError
from tests.phone.host import AdbHome
from tests.phone.links import use_private_keys
from tests.phone.phone import Phone

OWN = """
[mine]
title = "The one on my desk"
match = { "ro.product.model" = ["SM-G991?"], "ro.serialno" = ["R5CR30*"] }

[s21]
title = "Another name for it"
match = { "ro.product.device" = ["nothing"] }
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "devices.toml"
    monkeypatch.setenv("BENCH_DEVICES", str(path))
    return path


def test_an_own_file_adds_and_overrides(own: Path) -> None:
    own.write_text(OWN)
    found = profiles()
    assert found["mine"].fits({"ro.product.model": "SM-G991B", "ro.serialno": "R5CR30TEST1"})
    assert not found["mine"].fits({"ro.product.model": "SM-G991B", "ro.serialno": "other"})
    assert not found["mine"].fits({"ro.product.model": "SM-G991B"})
    assert found["s21"].title == "Another name for it"
    assert len(found) > 2, "the other rows of bench stay"


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_DEVICES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert "mine" not in profiles()
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench/devices.toml").write_text(OWN)
    assert profiles()["mine"].title == "The one on my desk"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[mine", r"the table of phones cannot be read: Expected"),
        ("mine = 3", r"\[mine\]: a row has `title`, and `match` or `address`, and nothing else"),
        ("[mine]\ntitle = 'x'", r"\[mine\]: a row has `title`, and `match`"),
        ("[mine]\ntitle = 'x'\nmatch = {}\n", r"\[mine\]: `match` is a table of lists of texts, not empty"),
        ("[mine]\ntitle = 'x'\nmatch = { a = 'b' }\n", r"\[mine\]: `match` is a table of lists"),
        ("[mine]\ntitle = 'x'\nmatch = { a = [1] }\n", r"\[mine\]: `match` is a table of lists"),
        (
            "[mine]\ntitle = 'x'\nmatch = { a = ['b'] }\nextra = 1",
            r"\[mine\]: a row has `title`, and `match`",
        ),
        ("[mine]\ntitle = 'x'\naddress = 3", r"\[mine\]: `address` is tcp:HOST:PORT"),
        ("[mine]\ntitle = 'x'\naddress = '10.0.0.7:5555'", r"\[mine\]: `address` is tcp:HOST:PORT"),
        ("[mine]\ntitle = 'x'\naddress = 'tcp:host:0'", r"\[mine\]: `address` is tcp:HOST:PORT"),
        (
            "[mine]\ntitle = 'x'\naddress = 'tcp:h'\nmatch = { a = ['b'] }",
            r"\[mine\]: a row has `title`, and",
        ),
    ],
)
def test_a_broken_file(own: Path, text: str, said: str) -> None:
    own.write_text(text)
    with pytest.raises(BenchError, match=said) as error:
        profiles()
    assert str(own) in str(error.value)
    assert "such as [mine]" in str(error.value)


def test_bytes_that_are_no_text(own: Path) -> None:
    own.write_bytes(b"\xff\xfe")
    with pytest.raises(BenchError, match="the table of phones cannot be read"):
        profiles()


def test_a_named_file_that_is_not_there(own: Path) -> None:
    with pytest.raises(BenchError, match=r"there is no such file\n  try: BENCH_DEVICES names it"):
        profiles()


def test_a_phone_goes_by_its_own_name(
    phone: Phone, adb_home: AdbHome, own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_private_keys(adb_home, monkeypatch)
    monkeypatch.setenv("BENCH_DEVICE_STATE", str(tmp_path / "state"))
    own.write_text(OWN)
    adb_home.connect(phone.serial)
    fits = {one.phone.serial: one.values[-1] for one in rows()[0]}
    assert fits[phone.serial] == "s21-exynos, mine"
    device = open_phone("mine")
    assert device is not None
    assert (device.name, device.reach.serial) == ("mine", phone.serial)
    device.close()
    with pytest.raises(BenchError, match=r"no attached phone is s21 \(Another name for it\)"):
        open_phone("s21")


def test_a_phone_on_the_network_goes_by_its_name(
    phone: Phone, adb_home: AdbHome, own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_private_keys(adb_home, monkeypatch)
    monkeypatch.setenv("ADB", "/nonexistent/adb")
    monkeypatch.setenv("BENCH_DEVICE_STATE", str(tmp_path / "state"))
    own.write_text(f"[mine]\ntitle = 'x'\naddress = 'tcp:{phone.serial}'\n")
    device = open_phone("mine")
    assert device is not None
    assert (device.name, device.reach.serial) == ("mine", f"tcp:{phone.serial}")
    device.close()


@pytest.mark.parametrize("name", ["$(touch pwned)", "a'b;c", "x\ny", "é日本", "-s", "tcp:$(touch pwned)"])
def test_device_names_are_only_names(
    adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    use_private_keys(adb_home, monkeypatch)
    monkeypatch.chdir(tmp_path)
    if name.startswith("tcp:"):
        with pytest.raises(BenchError, match="nobody knows the host"):
            open_phone(name)
    else:
        assert open_phone(name) is None
    assert not (tmp_path / "pwned").exists()
