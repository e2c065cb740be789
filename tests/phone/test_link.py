"""What every link to a phone must do, over the adb server and over adb-shell."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchsuite.device.adb import network, server
from benchsuite.device.link import NETWORK, NO_ROOM, Link, LinkDown, LinkTimeout, PhoneFull, pull_whole
from models.errors import BenchError
from tests.phone.host import AdbHome
from tests.phone.links import KINDS, link_to
from tests.phone.phone import Phone

TMP = "/data/local/tmp"
LEAST_CPU_S = 1.0
NAMES = (
    "plain.bin",
    "it's; touch pwned",
    '"$(touch pwned)`touch pwned`',
    "a\nb\ttab && touch pwned #",
    "é日本 😀 ‮",
    "-rf",
    "comma,0644",
    "*?[a]{b,c}~\\x",
)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def link(kind: str, phone: Phone, adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch) -> Link:
    return link_to(kind, phone, adb_home, monkeypatch)


@pytest.fixture(scope="module", params=KINDS)
def steady(request: pytest.FixtureRequest, module_phone: Phone, adb_home: AdbHome) -> Iterator[Link]:
    """A link for tests that leave the phone and its cable as they were."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield link_to(request.param, module_phone, adb_home, monkeypatch)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo out; echo err >&2; exit 7", (7, "out\n", "err\n")),
        ("printf 'no newline'; printf 'nor here' >&2", (0, "no newline", "nor here")),
        ("printf '\\n\\nb\\n\\n'; printf '\\n\\nc\\n\\n' >&2; false", (1, "\n\nb\n\n", "\n\nc\n\n")),
        ("printf 'a\\\\nb /9 %%s'; echo 'x\\y /3' >&2", (0, "a\\nb /9 %s", "x\\y /3\n")),
        ("sh -c 'kill -9 $$'", (137, "", "")),
        ("cat; echo done", (0, "done\n", "")),
        ("printf '\\377\\001'; printf '\\376' >&2", (0, "\ufffd\x01", "\ufffd")),
        ("echo é日本; echo '😀' >&2", (0, "é日本\n", "😀\n")),
        ("", (0, "", "")),
    ],
)
def test_code_output_and_complaints(steady: Link, script: str, expected: tuple[int, str, str]) -> None:
    answer = steady.shell(script)
    assert (answer.code, answer.out, answer.err.replace("Killed \n", "")) == expected


def test_a_shell_that_is_killed(steady: Link) -> None:
    """Over the server a script runs in the shell that prints the last line: without it there is no answer."""
    if steady.serial.startswith(NETWORK):
        assert steady.shell("kill -9 $$").code == 137
        return
    with pytest.raises(LinkDown):
        steady.shell("echo out; kill -9 $$")


def test_a_syntax_error_is_an_answer(steady: Link) -> None:
    answer = steady.shell("if then; echo never")
    assert answer.code != 0
    assert answer.out == ""
    assert "syntax error" in answer.err


def test_much_of_both(steady: Link) -> None:
    answer = steady.shell("yes out | head -c 400000; yes err | head -c 150000 >&2; exit 3")
    assert (answer.code, answer.out, answer.err) == (3, "out\n" * 100_000, "err\n" * 37_500)


def test_what_is_in_the_background_lives_on(steady: Link) -> None:
    started = steady.shell("setsid nohup sleep 1000 > /dev/null 2>&1 < /dev/null & echo $!")
    number = int(started.out)
    assert steady.shell(f"kill -0 {number}; kill {number}").code == 0


@pytest.mark.parametrize("name", NAMES)
def test_names_are_only_names(steady: Link, module_phone: Phone, name: str, tmp_path: Path) -> None:
    local, back = tmp_path / name, tmp_path / f"back {name}"
    local.write_bytes(bytes(range(256)) * 40)
    folder = f"{TMP}/it's $(touch pwned); \"日本"
    quoted = "'" + folder.replace("'", "'\\''") + "'"
    steady.shell(f"mkdir {quoted}")
    steady.push(local, f"{folder}/{name}")
    steady.pull(f"{folder}/{name}", back)
    assert back.read_bytes() == local.read_bytes()
    assert [one.name for one in module_phone.tmp.iterdir()] == [folder.rpartition("/")[2]]
    (there,) = (module_phone.tmp / folder.rpartition("/")[2]).iterdir()
    assert there.name == name
    assert there.read_bytes() == local.read_bytes()
    steady.shell(f"rm -rf {quoted}")
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([name, f"back {name}"])
    assert "pwned" not in steady.shell("ls -A / /data/local").out


@pytest.mark.parametrize("size", [0, 1, 65_536, 9_000_000])
def test_files_arrive_whole(steady: Link, size: int, tmp_path: Path) -> None:
    file, back = tmp_path / "file", tmp_path / "back"
    file.write_bytes((b"\0FAIL\x08\0\0\0OKAY" + bytes(range(255)))[:size] * (size // 268 + 1))
    steady.push(file, f"{TMP}/file")
    steady.pull(f"{TMP}/file", back)
    assert back.read_bytes() == file.read_bytes()
    assert steady.shell(f"cd {TMP}; ls; rm file").out.split() == ["file"]


def test_a_script_goes_with_a_file(steady: Link, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"whole")
    steady.push(file, f"{TMP}/file", f"cp {TMP}/file {TMP}/then")
    assert steady.shell(f"cd {TMP}; cat then; rm file then").out == "whole"
    with pytest.raises(PhoneFull, match="the phone's storage is full"):
        steady.push(file, f"{TMP}/file", f"false || exit {NO_ROOM}")
    with pytest.raises(BenchError, match="in its place: complained"):
        steady.push(file, f"{TMP}/file", "echo complained >&2; exit 7")
    assert steady.shell(f"cd {TMP}; ls; rm file").out.split() == ["file"]


@pytest.mark.parametrize("size", [99_999, 100_000])
def test_a_small_file_needs_no_transfer(
    steady: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    file, back = tmp_path / "file", tmp_path / "back"
    file.write_bytes(_noise(size))
    steady.push(file, f"{TMP}/file")
    transfers = list[str]()

    def counted(one: Link, remote: str, local: Path, receive: Callable[[Path], None]) -> None:
        def noted(part: Path) -> None:
            transfers.append(remote)
            receive(part)

        pull_whole(one, remote, local, noted)

    for module in (network, server):
        monkeypatch.setattr(module, "pull_whole", counted)
    steady.pull(f"{TMP}/file", back)
    assert back.read_bytes() == file.read_bytes()
    assert len(transfers) == (size >= 100_000)
    steady.shell(f"rm {TMP}/file")


def test_what_is_not_there(steady: Link, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there is no such file on the phone"):
        steady.pull(f"{TMP}/nothing", tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


def test_what_may_not_be_written(steady: Link, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(BenchError, match=r"Read-only file system|Permission denied"):
        steady.push(file, "/system/file")
    assert steady.shell("echo on").out == "on\n"


def test_a_full_phone(
    kind: str,
    phones: Callable[..., Phone],
    adb_home: AdbHome,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    link = link_to(kind, phones(data_bytes=2 << 20), adb_home, monkeypatch)
    small, big = tmp_path / "small", tmp_path / "big"
    small.write_bytes(b"x" * 1000)
    big.write_bytes(b"y" * (5 << 20))
    link.push(small, f"{TMP}/file")
    start = time.monotonic()
    with pytest.raises(PhoneFull, match="the phone's storage is full"):
        link.push(big, f"{TMP}/file")
    assert time.monotonic() - start < 20
    assert link.shell(f"cd {TMP}; ls; wc -c < file").out.split() == ["file", "1000"]
    link.shell(f"cat /dev/zero > {TMP}/rest")
    full = link.shell("echo said; echo complained >&2; exit 5")
    assert (full.code, full.out, full.err) == (5, "said\n", "complained\n")


def test_a_cable_cut_in_a_command(phone: Phone, link: Link) -> None:
    link.shell("true")
    threading.Timer(1.0, phone.cable.cut).start()
    start, cpu = time.monotonic(), time.process_time()
    with pytest.raises(LinkDown):
        link.shell("echo begun; sleep 30", 60.0)
    assert time.monotonic() - start < 10
    assert time.process_time() - cpu < LEAST_CPU_S
    assert not link.reconnect()
    phone.cable.plug()
    assert link.reconnect()
    assert link.shell("echo on").out == "on\n"


@pytest.mark.parametrize("after_bytes", [1, 100_000, 3_000_000])
def test_a_cable_cut_in_a_push(phone: Phone, link: Link, tmp_path: Path, after_bytes: int) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"old")
    link.push(old, f"{TMP}/file")
    new.write_bytes(_noise(5_000_000))
    phone.cable.cut_after(after_bytes)
    with pytest.raises(LinkDown):
        link.push(new, f"{TMP}/file")
    phone.cable.plug()
    assert link.reconnect()
    assert link.shell(f"cat {TMP}/file").out == "old"
    link.push(new, f"{TMP}/file")
    assert (phone.tmp / "file").read_bytes() == new.read_bytes()


def test_a_cable_cut_in_a_pull(phone: Phone, link: Link, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(_noise(5_000_000))
    link.push(tmp_path / "file", f"{TMP}/file")
    phone.cable.cut_after(2_000_000)
    with pytest.raises(LinkDown):
        link.pull(f"{TMP}/file", tmp_path / "back")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_cable_that_hangs(phone: Phone, link: Link) -> None:
    link.shell("true")
    phone.cable.hang()
    start, cpu = time.monotonic(), time.process_time()
    with pytest.raises(LinkTimeout):
        link.shell("true", 2.0)
    took = time.monotonic() - start
    assert 2.0 <= took < 4.0
    assert time.process_time() - cpu < LEAST_CPU_S
    phone.cable.plug()
    assert link.reconnect()
    assert link.shell("echo now").out == "now\n"


def test_a_command_that_says_nothing_in_time(steady: Link) -> None:
    start = time.monotonic()
    with pytest.raises(LinkTimeout):
        steady.shell("sleep 20", 1.0)
    assert time.monotonic() - start < 3.0
    assert steady.shell("echo on").out == "on\n"


def test_a_command_that_never_stops_talking(steady: Link) -> None:
    start = time.monotonic()
    with pytest.raises(LinkTimeout):
        steady.shell("while true; do echo talk; sleep 0.1; done", 1.5)
    assert time.monotonic() - start < 4.0


def test_a_slow_cable(phone: Phone, link: Link, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(_noise(1_000_000))
    phone.cable.rate_bytes_s = 1_000_000
    link.push(tmp_path / "file", f"{TMP}/file")
    assert (phone.tmp / "file").read_bytes() == (tmp_path / "file").read_bytes()


def test_adbd_dies(phone: Phone, link: Link) -> None:
    link.shell("true")
    threading.Timer(1.0, phone.kill_adbd).start()
    with pytest.raises(LinkDown):
        link.shell("sleep 30", 60.0)
    end = time.monotonic() + 20
    while not link.reconnect():
        assert time.monotonic() < end
    assert link.shell("echo again").out == "again\n"


def _noise(count: int) -> bytes:
    """Bytes that do not compress, the same each time."""
    return random.Random(7).randbytes(count)
