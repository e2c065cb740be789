"""The program that measures what a device does at most: here, and as the test phone's answer to `probe`."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from benchsuite.ceiling import ceiling_of, source_of
from benchsuite.client import WorkerClient, WorkerFailed
from benchsuite.device.adb.binary import Adb
from benchsuite.device.adb.phone import AdbDevice
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.device.peak.build import built_peak, peak_words
from benchsuite.policy import Policy
from benchsuite.probe import ceiling_facts
from models.errors import BenchError
from tests.phone.host import AdbHome
from tests.phone.phone import Phone

TIMEOUT_S = 60
SECONDS = 0.03
QUICK = Policy(probe_seconds=SECONDS)
CORES = tuple(sorted(os.sched_getaffinity(0)))


@pytest.fixture(scope="module")
def program() -> str:
    machine = platform.machine()
    if machine not in ("x86_64", "aarch64"):
        pytest.skip(f"no peak for {machine}")
    if machine == "x86_64" and not {"avx2", "fma"} <= set(Path("/proc/cpuinfo").read_text().split()):
        pytest.skip("this processor has no AVX2 and FMA")
    return str(built_peak(machine))


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize("cores", [(), CORES[:1]])
def test_its_rates(program: str, cores: tuple[int, ...]) -> None:
    done = run(peak_words(program, 1, SECONDS, cores))
    assert (done.returncode, done.stderr) == (0, "")
    reply = json.loads(done.stdout)
    assert reply["ok"] is True
    assert reply["threads"] == 1
    assert reply["flops_per_second"] > 1e9
    both = reply["copied_bytes_per_second"], reply["read_bytes_per_second"]
    assert min(both) > 1e8
    assert reply["bytes_per_second"] == max(both)
    assert reply["source"] == "multiply-adds in registers, copies and reads in C"


def test_each_thread_has_the_core_that_was_given(program: str) -> None:
    if len(CORES) < 2:
        pytest.skip("one core only")
    wanted = sorted([CORES, CORES[:1], CORES[1:2]])  # whoever waits for the two threads is not confined
    found: list[tuple[int, ...]] = []
    with subprocess.Popen(peak_words(program, 2, TIMEOUT_S, CORES[:2]), stdout=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + TIMEOUT_S
        while found != wanted and time.monotonic() < deadline:
            tasks = [int(one.name) for one in Path(f"/proc/{child.pid}/task").iterdir()]
            found = sorted(tuple(sorted(os.sched_getaffinity(one))) for one in tasks)
            time.sleep(0.01)
        child.kill()
    assert found == wanted


def test_memory_that_is_short_gives_smaller_pieces_or_none(program: str) -> None:
    words = peak_words(program, 1, SECONDS, ())
    assert json.loads(run([*words, str(50 << 20)]).stdout)["piece_bytes"] == 25 << 20
    done = run([*words, str(31 << 20)])
    assert done.returncode == 1
    assert done.stderr == "peak: too little memory is free for pieces that no cache holds\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "THREADS SECONDS CORES"),
        ("1 1", "THREADS SECONDS CORES"),
        ("0 0.1 -", "threads from 1 to 256: 0"),
        ("257 0.1 -", "threads from 1 to 256: 257"),
        ("1.5 0.1 -", "threads from 1 to 256: 1.5"),
        ("1 0 -", "no seconds above 0, up to 3600: 0"),
        ("1 nan -", "no seconds above 0, up to 3600: nan"),
        ("1 x -", "no seconds above 0, up to 3600: x"),
        ("2 0.1 0", "not as many cores as threads: 0"),
        ("1 0.1 0,1", "not as many cores as threads: 0,1"),
        ("1 0.1 -1", "no list of cores: -1"),
        ("1 0.1 first", "no list of cores: first"),
        ("1 0.1 99999", "no list of cores: 99999"),
        ("1 0.1 - many", "no number of bytes: many"),
    ],
)
def test_wrong_words(program: str, words: str, complaint: str) -> None:
    done = run([program, *words.split()])
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


def test_a_core_that_is_not_there(program: str) -> None:
    done = run(peak_words(program, 1, SECONDS, (1023,)))
    assert done.returncode == 1
    assert done.stderr == "peak: thread 0, core 1023: Invalid argument\n"


def test_another_machine() -> None:
    with pytest.raises(BenchError, match=r"no peak for 'riscv64'\n  try: one of aarch64, x86_64"):
        built_peak("riscv64")


@pytest.fixture(scope="module")
def device(
    module_phone: Phone, adb_home: AdbHome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AdbDevice]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in adb_home.environment.items():
            patch.setenv(name, value)
        patch.setenv("BENCH_DEVICE_STATE", str(tmp_path_factory.mktemp("peak") / "state"))
        one = AdbDevice("test", AdbServerLink(Adb(adb_home.binary, 36), module_phone.serial))
        yield one
        one.close()


def test_a_phone_has_a_ceiling(device: AdbDevice, module_phone: Phone) -> None:
    assert os.path.getsize(built_peak("aarch64")) < 100_000
    facts = ceiling_facts(device, (1, 2), QUICK)
    assert source_of(facts) == "multiply-adds in registers, copies and reads in C"
    for count in (1, 2):
        ceiling = ceiling_of(facts, count)
        assert ceiling is not None, facts
        assert ceiling.flops_per_second > 1e6
        assert ceiling.bytes_per_second > 1e6
    assert not module_phone.processes()
    before = device.reach.calls
    ceiling_facts(device, (1,), QUICK)
    assert device.reach.calls - before <= 2 + 1, (
        "one that asks, one that ends it; a poll when this takes long"
    )


def test_a_cable_that_is_pulled_costs_waiting_only(device: AdbDevice, module_phone: Phone) -> None:
    outage_s = device.reach.outage_s
    cut, back = Timer(1.0, module_phone.cable.cut), Timer(3.0, module_phone.cable.plug)
    for one in (cut, back):
        one.start()
    facts = ceiling_facts(device, (1,), Policy(probe_seconds=1.0))
    for one in (cut, back):
        one.join()
    assert device.reach.outage_s > outage_s
    assert ceiling_of(facts, 1) is not None, facts


def test_why_a_phone_has_none_is_told(device: AdbDevice) -> None:
    facts = ceiling_facts(device, (500,), QUICK)
    assert facts == {
        "ceiling.500t.missing": "the worker ended with exit code 2 during `probe`:"
        " peak: no number of threads from 1 to 256: 500"
    }


def test_another_request_is_refused(device: AdbDevice) -> None:
    worker = WorkerClient(device)
    worker.ask({"do": "probe", "threads": 1, "seconds": SECONDS, "cores": ()}, timeout_seconds=TIMEOUT_S)
    with pytest.raises(WorkerFailed, match="cannot answer `memory`"):
        worker.ask({"do": "memory"}, timeout_seconds=TIMEOUT_S)
    worker.close()


def test_a_restart_leaves_it_out_and_holds_the_phone_still_anew(
    device: AdbDevice, module_phone: Phone, adb_home: AdbHome
) -> None:
    restart = Timer(2.0, module_phone.reboot)
    restart.start()
    facts = ceiling_facts(device, (1,), Policy(probe_seconds=5.0))
    restart.join()
    assert list(facts) == ["ceiling.1t.missing"]
    assert "was restarted" in str(facts["ceiling.1t.missing"])
    power = adb_home.shell(module_phone.serial, "dumpsys power | grep Fixed").stdout
    assert power.split() == ["mFixedPerformanceMode=true"]
