"""The sampler: what it tells of a tree of files, when it ends, and that it does so on the phone."""

import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchsuite.device.adb.binary import Adb
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.device.sampler.build import built_sampler
from models.errors import BenchError
from tests.phone.chips import S21, chip_files
from tests.phone.host import AdbHome
from tests.phone.phone import Phone

TIMEOUT_S = 20
Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def program() -> str:
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip(f"no sampler for {platform.machine()}")
    return str(built_sampler(platform.machine()))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files of a phone."""
    for name, text in chip_files(S21).items():
        place = tmp_path / "root" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="ascii")
    proc = tmp_path / "root/proc"
    proc.mkdir()
    (proc / "loadavg").write_text("1.25 0.5 0.25 1/2 3\n", encoding="ascii")
    (proc / "meminfo").write_text("MemTotal: 8 kB\nMemAvailable:   4096 kB\n", encoding="ascii")
    return tmp_path / "root"


def run(*words: str, given: str | None = None) -> Lines:
    """Its lines, every one of which must be JSON."""
    done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_what_it_tells(program: str, tree: Path) -> None:
    first, sample, last = run(program, "-n", "1", "-r", str(tree))
    assert first["zones"] == ["BIG", "MIDDLE", "LITTLE", "G3D", "ISP", "NPU", "ac"]
    assert first["cores"] == ["0 1 2 3", "4 5 6", "7"]
    assert first["fastest_khz"] == [2210000, 2808000, 2912000]
    assert first["residency"][2] == [[650000, 1000], [1820000, 1000], [2912000, 1000]]
    assert sample["temperatures"][:3] == [35000, 34000, 33000]
    assert sample["clocks_khz"] == [400000, 533000, 650000]
    assert sample["limits_khz"] == [2210000, 2808000, 2912000]
    assert (sample["load"], sample["available_kb"]) == (1.25, 4096)
    assert (last["end"], last["samples"]) == ("samples", 1)
    assert last["residency"] == first["residency"]


def test_what_cannot_be_read_is_null(program: str, tree: Path) -> None:
    (tree / "sys/class/thermal/thermal_zone1/temp").write_text("not a number\n", encoding="ascii")
    (tree / "sys/class/thermal/thermal_zone2/temp").unlink()
    (tree / "sys/class/thermal/thermal_zone3/temp").write_text("9" * 40, encoding="ascii")
    (tree / "sys/class/thermal/thermal_zone4/temp").write_text("-99900\n", encoding="ascii")
    policy = tree / "sys/devices/system/cpu/cpufreq/policy4"
    (policy / "scaling_cur_freq").unlink()
    (policy / "stats/time_in_state").unlink()
    (tree / "proc/meminfo").unlink()
    first, sample, last = run(program, "-n", "1", "-r", str(tree))
    assert sample["temperatures"][:5] == [35000, None, None, None, -99900]
    assert sample["clocks_khz"] == [400000, None, 650000]
    assert first["residency"][1] is None
    assert last["residency"][1] is None
    assert sample["available_kb"] is None


def test_names_are_escaped_and_bounded(program: str, tree: Path) -> None:
    zone = tree / "sys/class/thermal"
    names = [b'quo"te\\', b"tab\there \x01", "gr\u00fcn".encode(), b"x" * 5000, b""]
    for number, name in enumerate(names):
        (zone / f"thermal_zone{number}/type").write_bytes(name + b"\nsecond line")
    first, *_ = run(program, "-n", "1", "-r", str(tree))
    assert first["zones"][:2] == ['quo"te\\', "tab\there \x01"]
    assert first["zones"][2].encode("latin-1") == "gr\u00fcn".encode()
    assert first["zones"][3] == "x" * 127
    assert first["zones"][4] == ""


def test_too_many_of_everything(program: str, tree: Path) -> None:
    for number in range(200):
        zone = tree / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(exist_ok=True)
        (zone / "temp").write_text("30000\n", encoding="ascii")
    states = "".join(f"{number} 1\n" for number in range(1, 1000))
    policy = tree / "sys/devices/system/cpu/cpufreq/policy0"
    (policy / "stats/time_in_state").write_text(states, encoding="ascii")
    first, sample, _ = run(program, "-n", "1", "-r", str(tree))
    assert len(first["zones"]) == len(sample["temperatures"]) == 128
    assert len(first["residency"][0]) == 64


def test_a_machine_without_any_of_it(program: str, tmp_path: Path) -> None:
    first, sample, last = run(program, "-n", "1", "-r", str(tmp_path))
    assert first["zones"] == first["cores"] == sample["temperatures"] == last["residency"] == []
    assert sample["load"] is None


def test_it_keeps_its_period(program: str) -> None:
    _, *samples, _ = run(program, "-i", "50", "-n", "6")
    times = [one["t_ns"] for one in samples]
    assert 0.24e9 <= times[-1] - times[0] < 5e9


def test_it_ends_with_its_input(program: str) -> None:
    *_, last = run(program, "-e", "-i", "60000", given="")
    assert last["end"] == "input ended"


@pytest.fixture
def running(program: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [program, "-i", "20", *words]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def last_of(child: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = child.communicate(timeout=TIMEOUT_S)
    last: dict[str, Any] = json.loads(said.splitlines()[-1])
    return last


def test_it_ends_by_a_stop_file(running: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    child = running("-s", str(tmp_path / "stop"))
    time.sleep(0.2)
    assert child.poll() is None
    (tmp_path / "stop").touch()
    assert last_of(child)["end"] == "stop file"


def test_it_ends_with_the_process_that_it_watches(running: Callable[..., subprocess.Popen[str]]) -> None:
    with subprocess.Popen(["sleep", "0.3"]) as watched:
        child = running("-p", str(watched.pid))
        assert child.stdout is not None
        child.stdout.readline()
        sample = json.loads(child.stdout.readline())
        assert sample["peak_kb"] >= sample["resident_kb"] > 0
        watched.wait()
    assert last_of(child)["end"] == "process gone"


def test_it_ends_by_a_signal_and_tells_so(running: Callable[..., subprocess.Popen[str]]) -> None:
    child = running()
    time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    assert last_of(child)["end"] == "signal"


def test_it_ends_when_nobody_reads(running: Callable[..., subprocess.Popen[str]]) -> None:
    child = running()
    assert child.stdout is not None
    child.stdout.close()
    assert child.wait(TIMEOUT_S) == 1


@pytest.mark.parametrize("words", [("-i", "0"), ("-n", "many"), ("-x",)])
def test_wrong_options(program: str, words: tuple[str, ...]) -> None:
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 2
    assert "sampler" in done.stderr


def test_another_machine() -> None:
    with pytest.raises(BenchError, match=r"no sampler for 'riscv64'\n  try: one of aarch64, x86_64"):
        built_sampler("riscv64")


def test_on_the_phone(phone: Phone, adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in adb_home.environment.items():
        monkeypatch.setenv(name, value)
    adb_home.connect(phone.serial)
    link = AdbServerLink(Adb(adb_home.binary, 36), phone.serial)
    program = built_sampler("aarch64")
    assert os.path.getsize(program) < 100_000
    link.push(program, "/data/local/tmp/sampler")
    phone.conditions.heat(cpu=72.5)
    phone.conditions.deny("sys/class/thermal/thermal_zone1/temp")
    start = (
        "chmod 755 sampler; setsid nohup ./sampler -i 50 -s stop > samples 2>&1 < /dev/null & echo started"
    )
    assert link.shell(f"cd /data/local/tmp; {start}").out == "started\n"
    time.sleep(1)
    phone.conditions.clock(7, limit_khz=1820000, run_ticks=40)
    time.sleep(1)
    script = 'touch stop; while [ -n "$(pidof sampler)" ]; do sleep 0.1; done; cat samples'
    said = link.shell(f"cd /data/local/tmp; {script}").out
    first, *samples, last = [json.loads(line) for line in said.splitlines()]
    assert first["zones"][0] == "BIG"
    assert samples[0]["temperatures"][:2] == [72500, None]
    assert samples[0]["limits_khz"][2] == 2912000
    assert samples[-1]["limits_khz"][2] == 1820000
    assert last["end"] == "stop file"
    assert last["residency"][2][0][1] - first["residency"][2][0][1] == 40
    assert not phone.processes()
