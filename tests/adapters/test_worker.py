"""The worker by itself: requests and replies, what it measures, and what it imports when."""

import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from adapters import worker
from adapters.protocol import Prepared, Setting
from adapters.worker import OUT_OF_MEMORY_TEXTS, Worker, answer, memory_facts
from models.tiny import write_convolutions

SHAPE = (1, 4, 8, 8)
MEBIBYTE = 2**20


class CountingSession:
    """A framework that counts, sleeps, and reuses its input buffer for its own values, as some do."""

    def __init__(self) -> None:
        self.fed = self.ran = 0
        self._buffer = np.zeros(1)

    def feed(self, inputs: Mapping[str, Any]) -> None:
        time.sleep(0.001)
        np.copyto(self._buffer, inputs["x"])
        self.fed += 1

    def run(self) -> None:
        time.sleep(0.004)
        self._buffer *= 2
        self.ran += 1

    def outputs(self) -> Mapping[str, Any]:
        return {"y": self._buffer}

    def describe(self) -> Mapping[str, str]:
        return {"version": "1"}


class CountingAdapter:
    """Loads a `CountingSession`, or raises what a test wants."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.session = CountingSession()
        self.settings: list[tuple[Prepared, Setting]] = []
        self._error = error

    def load(self, prepared: Prepared, setting: Setting) -> CountingSession:
        self.settings.append((prepared, setting))
        if self._error is not None:
            raise self._error
        return self.session


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "inputs.npz"
    np.savez(path, x=np.ones(1))
    return path


Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> CountingAdapter:
    found = CountingAdapter()
    monkeypatch.setattr(worker, "adapter", lambda name: found)
    return found


@pytest.fixture
def ask(counting: CountingAdapter, inputs: Path) -> Ask:
    """Ask a worker in this process that has loaded a counting session."""
    one = Worker()

    def ask_it(do: str, **parts: object) -> dict[str, Any]:
        reply = answer(one, json.dumps({"do": do, **parts}))
        assert reply is not None
        return reply

    load = {"framework": "counting", "path": "net", "inputs": str(inputs), "threads": 2, "precision": "fp32"}
    reply = ask_it("load", **load, options={"tuned": "no"})
    assert reply["ok"], reply
    assert reply["load_ns"] >= 0
    assert reply["facts"] == {"version": "1"}
    return ask_it


def test_loading_passes_the_setting_on(ask: Ask, counting: CountingAdapter) -> None:
    assert counting.settings == [(Prepared(Path("net"), options={"tuned": "no"}), Setting(2, "fp32"))]


def test_runs_and_input_copies_are_timed_apart(ask: Ask, counting: CountingAdapter) -> None:
    reply = ask("run", iterations=3, rewarm=2)
    assert (counting.session.fed, counting.session.ran) == (5, 5)
    assert (len(reply["run_ns"]), len(reply["input_ns"])) == (3, 3)
    assert min(reply["run_ns"]) >= 4_000_000
    assert min(reply["input_ns"]) >= 1_000_000
    assert min(reply["run_ns"]) > min(reply["input_ns"])
    assert reply["rewarm_ns"] >= 2 * 5_000_000
    assert reply["cpu_ns"] > 0


def test_inputs_are_copied_in_before_every_run(ask: Ask, tmp_path: Path) -> None:
    """This framework doubles its input in place: five runs without a fresh copy would give 32."""
    ask("run", iterations=5)
    assert ask("outputs", path=str(tmp_path / "outputs.npz"))["ok"]
    with np.load(tmp_path / "outputs.npz") as archive:
        assert archive["y"].tolist() == [2.0]


def test_nothing_is_run_without_being_asked(ask: Ask, counting: CountingAdapter) -> None:
    assert ask("run", iterations=0)["run_ns"] == []
    assert counting.session.ran == 0


def test_garbage_is_collected_before_the_caches_are_filled(
    ask: Ask, counting: CountingAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither inside the timed runs nor between them and the runs that warm the caches."""
    events: list[object] = []
    monkeypatch.setattr(counting.session, "run", lambda: events.append(gc.isenabled()))
    monkeypatch.setattr(gc, "collect", lambda: events.append("collect"))
    ask("run", iterations=2, rewarm=1)
    assert events == ["collect", False, False, False]
    assert gc.isenabled()


def test_garbage_is_collected_again_after_a_failure(
    ask: Ask, counting: CountingAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting.session, "run", lambda: 1 / 0)
    assert ask("run", iterations=1)["error"] == "ZeroDivisionError: division by zero"
    assert gc.isenabled()


def test_memory_is_read_from_the_kernel(ask: Ask) -> None:
    reply = ask("memory")
    assert 10 * MEBIBYTE < reply["memory_now_bytes"] <= reply["memory_peak_bytes"] < 64 * 2**30
    resident = psutil.Process().memory_info().rss
    assert memory_facts()["memory_now_bytes"] == pytest.approx(resident, rel=0.2)


FAILURES: dict[str, tuple[BaseException, str]] = {
    "error": (RuntimeError("no kernel"), "failed"),
    "memory": (MemoryError("8 GiB"), "oom"),
    "import": (ImportError("no module named framework"), "failed"),
    **{text: (RuntimeError(f"Error: {text.upper()} of 8 GiB"), "oom") for text in OUT_OF_MEMORY_TEXTS},
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_a_reply(
    name: str, monkeypatch: pytest.MonkeyPatch, inputs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    error, kind = FAILURES[name]
    monkeypatch.setattr(worker, "adapter", lambda name: CountingAdapter(error))
    request = {
        "do": "load",
        "framework": "x",
        "path": "",
        "inputs": str(inputs),
        "threads": 1,
        "precision": "",
    }
    assert answer(Worker(), json.dumps(request)) == {
        "ok": False,
        "kind": kind,
        "error": f"{type(error).__name__}: {error}",
    }
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("no json", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError"),
        ('{"do": "dance"}', "KeyError: 'dance'"),
        ('{"do": "run", "iterations": 1}', "RuntimeError: no network is loaded: send `load` first"),
        ('{"do": "outputs", "path": "x"}', "RuntimeError: no network is loaded"),
    ],
)
def test_a_bad_request_is_refused(line: str, error: str) -> None:
    reply = answer(Worker(), line)
    assert reply is not None
    assert (reply["ok"], reply["kind"]) == (False, "failed")
    assert reply["error"].startswith(error)


def test_quit_ends() -> None:
    assert answer(Worker(), '{"do": "quit"}') is None


# --- as a process ------------------------------------------------------------------------------------------


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-m", "adapters.worker"], text=True, **pipes) as child:
        yield child
        child.kill()


def converse(child: subprocess.Popen[str], **request: object) -> dict[str, Any]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(request) + "\n")
    child.stdin.flush()
    reply = json.loads(child.stdout.readline())
    assert isinstance(reply, dict)
    return reply


def modules_mapped(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")


@pytest.mark.parametrize("framework", ["ort", "ort-noopt"])
def test_a_network_from_load_to_quit(process: subprocess.Popen[str], tmp_path: Path, framework: str) -> None:
    """A real framework; it is in memory after `load` and not before."""
    write_convolutions(tmp_path / "net.onnx", channels=4, pixels=8, layers=1)
    values = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", x=values)
    assert converse(process, do="memory")["ok"]
    assert "onnxruntime" not in modules_mapped(process.pid)
    assert "numpy" not in modules_mapped(process.pid)
    loaded = converse(
        process,
        do="load",
        framework=framework,
        path=str(tmp_path / "net.onnx"),
        inputs=str(tmp_path / "inputs.npz"),
        threads=1,
        precision="fp32",
        options={},
    )
    assert loaded["ok"], loaded
    assert "onnxruntime" in modules_mapped(process.pid)
    assert loaded["facts"]["threads"] == "1"
    assert loaded["facts"]["providers"] == "CPUExecutionProvider"
    assert len(converse(process, do="run", iterations=4, rewarm=1)["run_ns"]) == 4
    assert converse(process, do="outputs", path=str(tmp_path / "y.npz"))["ok"]
    with np.load(tmp_path / "y.npz") as archive:
        assert archive["y"].shape == SHAPE
        assert archive["y"].min() == 0.0
        assert archive["y"].max() > 0.0
    rest, log = process.communicate('{"do": "quit"}\n', timeout=10)
    assert (process.returncode, rest, log) == (0, "", "")


def test_it_ends_with_its_input(process: subprocess.Popen[str]) -> None:
    assert process.communicate("", timeout=10)[0] == ""
    assert process.returncode == 0


def test_memory_is_bounded(process: subprocess.Popen[str], tmp_path: Path) -> None:
    """Inputs that do not fit are `oom`, and the bound is on this process only."""
    with (tmp_path / "inputs.npz").open("wb") as file:
        np.savez_compressed(file, x=np.zeros(64 * MEBIBYTE, np.float32))
    reply = converse(
        process,
        do="load",
        framework="ort",
        path="",
        inputs=str(tmp_path / "inputs.npz"),
        threads=1,
        precision="fp32",
        memory_limit_bytes=200 * MEBIBYTE,
    )
    assert (reply["ok"], reply["kind"]) == (False, "oom"), reply
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] != 200 * MEBIBYTE


PARENT = """
import subprocess, sys, time
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
child = subprocess.Popen([sys.executable, "-m", "adapters.worker"], text=True, bufsize=1, **pipes)
print('{"do": "memory"}', file=child.stdin)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """Also while it is busy and does not look at its input: the kernel sees to it."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(child.pid, 19)  # SIGSTOP: it cannot notice the end of its input
        parent.kill()
    gone, _ = psutil.wait_procs([child], timeout=5)
    assert gone == [child]
