"""This machine as a device: lines, limits, endings, files, and what it tells about itself."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchsuite.device.host import host_facts, host_telemetry, kernel_memory_kills, package_version
from benchsuite.device.local import LOG_TAIL_BYTES, LocalDevice, LocalProcess
from benchsuite.device.protocol import Silence


@pytest.fixture
def device() -> Iterator[LocalDevice]:
    device = LocalDevice()
    yield device
    device.close()


def start(device: LocalDevice, script: str) -> LocalProcess:
    return LocalProcess(["/bin/sh", "-c", script], Path(device.scratch("x")).parent)


def test_lines_are_exchanged(device: LocalDevice) -> None:
    process = start(device, 'while read line; do echo "got $line"; done')
    for text in ("one", "zwei ü", ""):
        process.send(text)
        assert process.receive(5.0) == f"got {text}"
    assert process.end(grace_seconds=5.0).exit_code == 0
    assert process.receive(5.0) is None


def test_silence_is_noticed_in_time(device: LocalDevice) -> None:
    process = start(device, "sleep 60")
    begin = time.monotonic()
    with pytest.raises(Silence):
        process.receive(0.05)
    assert 0.05 <= time.monotonic() - begin < 5
    assert process.end().exit_code is None  # it did not end by itself


def test_lines_that_are_no_text_are_passed_on(device: LocalDevice) -> None:
    process = start(device, r"printf '\377\n'; printf 'no newline'")
    assert process.receive(5.0) == "\ufffd"
    assert process.receive(5.0) == "no newline"
    assert process.receive(5.0) is None
    process.end()


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -SEGV $$", -11), ("kill -9 $$", -9)])
def test_the_way_it_ended(device: LocalDevice, script: str, code: int) -> None:
    process = start(device, f"echo last words >&2; {script}")
    assert process.receive(5.0) is None
    ending = process.end(grace_seconds=5.0)
    assert (ending.exit_code, ending.log_tail, ending.killed_for_memory) == (code, "last words", False)
    assert process.end() is ending


def test_a_kill_that_the_kernel_counts_is_for_memory(
    device: LocalDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(device, "kill -9 $$")
    monkeypatch.setattr("benchsuite.device.local.kernel_memory_kills", lambda: kernel_memory_kills() + 1)
    assert process.receive(5.0) is None
    assert process.end(grace_seconds=5.0).killed_for_memory


def test_only_the_end_of_a_long_log_is_kept(device: LocalDevice) -> None:
    process = start(device, "seq 100000 >&2")
    assert process.receive(20.0) is None
    tail = process.end(grace_seconds=5.0).log_tail
    assert tail.endswith("99999\n100000")
    assert LOG_TAIL_BYTES - 10 < len(tail) <= LOG_TAIL_BYTES


def test_writing_to_a_dead_process_is_no_error(device: LocalDevice) -> None:
    process = start(device, "exit 0")
    assert process.receive(5.0) is None
    for _ in range(3):
        process.send("x" * 100_000)
    process.end()
    process.send("after the end")


def test_children_are_killed_too(device: LocalDevice) -> None:
    process = start(device, "sleep 60 & echo $!; sleep 60")
    line = process.receive(5.0)
    assert line is not None
    child = psutil.Process(int(line))
    process.end()
    gone, _ = psutil.wait_procs([child], timeout=5)
    assert gone or child.status() == psutil.STATUS_ZOMBIE


def test_ctrl_c_reaches_the_harness_only(device: LocalDevice) -> None:
    """The terminal sends SIGINT to its foreground group: the worker is in a group and session of its own."""
    process = start(device, "sleep 60")
    assert os.getpgid(process._child.pid) != os.getpgid(0)
    assert os.getsid(process._child.pid) != os.getsid(0)
    process.end()


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS", "OMP_WAIT_POLICY"])
def test_the_setting_alone_decides_about_threads(
    device: LocalDevice, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "7")
    monkeypatch.setenv("HARMLESS", "kept")
    process = start(device, f'echo "[${name}] $HARMLESS"')
    assert process.receive(5.0) == "[] kept"
    process.end()


def test_the_scratch_folder_lives_as_long_as_the_device(tmp_path: Path) -> None:
    device = LocalDevice()
    folder = Path(device.scratch("x")).parent
    assert Path(device.scratch("../../etc/passwd")) == folder / "passwd"
    Path(device.scratch("file")).write_text("text", encoding="utf-8")
    device.pull(device.scratch("file"), tmp_path / "here")
    assert (tmp_path / "here").read_text(encoding="utf-8") == "text"
    device.close()
    assert not folder.exists()


def test_pushing_gives_a_path_that_holds_from_anywhere(
    device: LocalDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.onnx").touch()
    monkeypatch.chdir(tmp_path)
    assert device.push(Path("net.onnx")) == str((tmp_path / "net.onnx").resolve())


def test_the_machine_tells_who_it_is() -> None:
    facts = host_facts()
    assert facts["usable_cores"] == len(os.sched_getaffinity(0))
    assert facts["memory_bytes"] == psutil.virtual_memory().total
    assert facts["processor"]
    assert facts["kernel"] == os.uname().release
    assert isinstance(facts["hypervisor"], bool)
    assert facts["package_numpy"]
    assert all(value is None or isinstance(value, str | int | float | bool) for value in facts.values())


def test_telemetry_moves_on() -> None:
    before = host_telemetry()
    sum(range(3_000_000))
    time.sleep(0.05)
    after = host_telemetry()
    assert before.total_seconds is not None
    assert after.total_seconds is not None
    assert after.total_seconds > before.total_seconds
    assert after.busy_seconds >= before.busy_seconds
    assert 0 < after.memory_available_bytes < psutil.virtual_memory().total


def test_a_machine_without_these_files_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container or another kernel: None, never a guess, and no error."""
    monkeypatch.setattr("benchsuite.device.host._read", lambda path: "")
    facts = host_facts()
    assert facts["governor"] is None
    assert facts["boost"] is None
    assert host_telemetry().clock_mhz is None
    assert kernel_memory_kills() == 0


def test_a_missing_package_has_no_version() -> None:
    assert package_version("no-such-distribution") is None
