"""The command line as a user has it: in this process where that is enough, as a program where it is not."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchsuite.cli.main import main
from models.tiny import write_convolutions

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "benchsuite.cli.main")


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Its stdout as JSON."""
        return json.loads(self.out)


Bench = Callable[..., Done]
Record = Callable[..., str]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two small convolutions."""
    path = tmp_path_factory.mktemp("networks") / "tiny.onnx"
    write_convolutions(path, channels=8, pixels=16, layers=2)
    return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a journal and a cache of its own."""
    monkeypatch.setenv("BENCH_JOURNAL", str(tmp_path / "journal.db"))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BENCH_FRAMEWORKS", "ort,ort-noopt")  # these need nothing else
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def bench(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Run a command in this process."""

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        code: Any = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        captured = capsys.readouterr()
        return Done(int(code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def program(place: Path) -> Bench:
    """Run a command as a process of its own."""

    def run(*arguments: str, **changes: str) -> Done:
        done = subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, **changes},
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def started(place: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a command as a process of its own, which Ctrl-C ends even where these tests run in the background
    and were told to ignore it.
    """

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen([*COMMAND, *arguments], **(pipes | options))
        finally:
            signal.signal(signal.SIGINT, before)

    return start


@pytest.fixture
def record(place: Path) -> Record:
    """Write a recorded device with planted faults; returns what to type after --device."""

    def write(
        *faults: Mapping[str, object], noise: Sequence[float] = (1.0, 1.01, 0.99, 1.02, 1.0, 0.98, 1.0)
    ) -> str:
        values = {
            "schema": "bench.recording/1",
            "facts": {"processor": "recorded"},
            "noise": list(noise),
            "latency_ns": {"ort": 1e6, "*": 2e6},
            "faults": faults,
        }
        (place / "device.json").write_text(json.dumps(values))
        return "replay:device.json"

    return write
