"""Threads of another process, seen from outside: who computes, who spins, where they are."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchsuite.isa import ENCODINGS, X86
from benchsuite.ptrace import Tracer, TraceRefused
from benchsuite.threads import (
    code_made_at_run_time,
    executable_mappings,
    sample_code,
    thread_times_ns,
    watch,
    watch_idle,
)

BUSY = """
import hashlib, threading
data = bytes(2**20)
def work():
    while True: hashlib.sha256(data)
for _ in range({threads} - 1): threading.Thread(target=work, daemon=True).start()
print("ready", flush=True)
work()
"""
IDLE = """
import sys, threading, time
threading.Thread(target=lambda: time.sleep(60), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""
JIT = """
import ctypes, mmap
page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex(
    "b801000000 bf01000000 488d356d000000 ba06000000 0f05"  # write(1, "ready", 6): it says so from inside
    + "c4e275b8d0" * 20 + "eb9a"  # multiply-adds, and a jump to the first of them
) + b"ready\\n")
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""


@contextmanager
def program(text: str) -> Iterator[int]:
    """A Python program that has said `ready`; its process number."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", text], text=True, **pipes) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        try:
            yield child.pid
        finally:
            assert child.poll() is None, "it died while it was looked at"
            child.kill()


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


@pytest.mark.parametrize("threads", [1, 2])
def test_busy_threads_are_counted(threads: int) -> None:
    with program(BUSY.format(threads=threads)) as process:
        use = watch(process, after(0.5))
    assert len(use.busy) == threads
    assert use.busy_cores
    assert 0.02 < use.cores_used <= threads + 0.1


def test_an_idle_process_uses_nothing_and_a_spinning_one_does() -> None:
    with program(IDLE) as process:
        assert watch_idle(process, 0.3).cores_used < 0.02
        assert len(thread_times_ns(process)) == 2
    with program(BUSY.format(threads=1)) as process:
        assert watch_idle(process, 0.3).cores_used > 0.05


@pytest.mark.skipif("fma" not in Path("/proc/cpuinfo").read_text().split(), reason="needs x86 FMA")
def test_code_made_at_run_time_is_seen_where_it_runs() -> None:
    with program(JIT) as process:
        samples = sample_code(process, after(0.5), ENCODINGS["x86_64"])
        made = code_made_at_run_time(process)
        assert any(bytes.fromhex("c4e275b8d0") * 20 in piece.tobytes() for piece in made)
    if samples.refused:
        pytest.skip(samples.refused)
    assert samples.total > 5
    assert samples.share("AVX2 FMA") == 1.0
    assert samples.by_file[""] == samples.total


def test_other_code_is_none_of_the_instruction_sets() -> None:
    with program(BUSY.format(threads=1)) as process:
        samples = sample_code(process, after(0.3), X86)
        if samples.refused:
            pytest.skip(samples.refused)
    assert samples.share("") > 0.8


def look_and_fail(process: int) -> None:
    with Tracer(process) as tracer:
        assert all(tracer.instruction_pointer(thread) for thread in thread_times_ns(process))
        raise ZeroDivisionError


def test_everything_goes_on_after_being_looked_at() -> None:
    """Whatever happens inside the block, the process is let go and computes on."""
    with program(BUSY.format(threads=2)) as process:
        try:
            with pytest.raises(ZeroDivisionError):
                look_and_fail(process)
        except TraceRefused as refusal:
            pytest.skip(str(refusal))
        status = Path(f"/proc/{process}/status").read_text()
        assert "TracerPid:\t0\n" in status
        assert len(watch(process, after(0.3)).busy) == 2


def test_what_cannot_be_looked_at_is_unknown_and_no_failure() -> None:
    samples = sample_code(2**22 - 1, after(0.1), X86)
    assert samples.refused
    assert samples.total == 0


def test_mappings_name_their_files() -> None:
    with program(IDLE) as process:
        paths = {Path(one.path).name for one in executable_mappings(process) if one.path}
    assert any(name.startswith("libc") for name in paths)
