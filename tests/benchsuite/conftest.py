"""Whole runs on a replayed device, in no time, with a tiny network."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from adapters.catalogue import adapter
from benchsuite.device.local import LocalDevice
from benchsuite.device.protocol import Device, Process
from benchsuite.device.replay import Fault, Recording, ReplayDevice, ReplayProcess
from benchsuite.journal import Journal
from benchsuite.plan import plan
from benchsuite.policy import Policy
from benchsuite.progress import Quiet
from benchsuite.record import RunOptions
from benchsuite.run import Job
from models.model import Model
from models.onnx_file import read_user_model
from models.tiny import write_convolutions

POLICY = Policy(least_blocks=6, most_blocks=12, interval_width=0.0)
"""Always to the cap of twelve blocks, whatever the noise."""

MakeReplay = Callable[..., "WatchedReplay"]
MakeJob = Callable[..., Job]


class WatchedReplay(ReplayDevice):
    """A replayed device on which recorded time passes for `clock`; it knows how many workers live."""

    def __init__(self, recording: Recording) -> None:
        super().__init__("replay:test", recording)
        self.now = 0.0
        self.alive: set[int] = set()
        self.most_alive = 0
        self.requests: list[str] = []
        self.before_reply: Callable[[int], None] = lambda count: None

    def clock(self) -> float:
        return self.now

    def spawn(self, module: str, environment: str) -> Process:
        process = WatchedProcess(self)
        self.alive.add(id(process))
        self.most_alive = max(self.most_alive, len(self.alive))
        self.workers = [*getattr(self, "workers", []), process]
        return process


class WatchedProcess(ReplayProcess):
    """Counts requests, lets recorded time pass, and notes its end."""

    def __init__(self, device: WatchedReplay) -> None:
        super().__init__(device)
        self._watch = device

    def send(self, line: str) -> None:
        self._watch.requests.append(json.loads(line)["do"])
        super().send(line)

    def receive(self, timeout_seconds: float) -> str | None:
        self._watch.before_reply(len(self._watch.requests))
        line = super().receive(timeout_seconds)
        if line is not None and line.startswith("{"):
            reply = json.loads(line)
            spent_ns = sum(reply.get("run_ns", [])) + reply.get("rewarm_ns", 0) + reply.get("load_ns", 0)
            self._watch.now += spent_ns / 1e9
        return line

    def end(self, *, grace_seconds: float = 0.0):
        self._watch.alive.discard(id(self))
        return super().end(grace_seconds=grace_seconds)


FAULTY = Path(__file__).parent / "faulty"


class FaultyDevice(LocalDevice):
    """This machine, with workers that know the faulty frameworks; remembers their process ids."""

    def __init__(self) -> None:
        super().__init__()
        self.pids: list[int] = []

    def spawn(self, module: str, environment: str) -> Process:
        assert module == "adapters.worker"
        process = super().spawn("misdeeds", environment)
        self.pids.append(process._child.pid)
        return process


@pytest.fixture(scope="session")
def faulty_device() -> type[FaultyDevice]:
    return FaultyDevice


@pytest.fixture(scope="module")
def misdeeds() -> Iterator[object]:
    """The module of faulty frameworks, importable here and in the workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FAULTY)
        patch.setenv("PYTHONPATH", str(FAULTY), prepend=os.pathsep)
        import misdeeds

        yield misdeeds
        sys.modules.pop("misdeeds")


@pytest.fixture(scope="session")
def network_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution small enough that a real framework loads and runs it at once."""
    path = tmp_path_factory.mktemp("network") / "tiny.onnx"
    write_convolutions(path, channels=4, pixels=8, layers=1)
    return path


@pytest.fixture(scope="session")
def network(network_path: Path) -> Model:
    return read_user_model(network_path, {})


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    with Journal(tmp_path / "journal.db") as book:
        yield book


@pytest.fixture
def replay() -> MakeReplay:
    """Make a replayed device: 20 ms and 30 ms of latency, 5 % of noise, faults as given."""

    def make(*faults: Fault, noise: float = 0.05, memory_available_bytes: int | None = None) -> WatchedReplay:
        series = np.exp(noise * np.random.default_rng(0).standard_normal(5000))
        telemetry = (
            {} if memory_available_bytes is None else {"memory_available_bytes": memory_available_bytes}
        )
        latency_ns = {"ort": 20e6, "*": 30e6}
        return WatchedReplay(Recording({}, series.tolist(), latency_ns, telemetry, faults))

    return make


@pytest.fixture
def make_job(tmp_path: Path, network: Model, journal: Journal) -> MakeJob:
    """A job for a device: the tiny network, under as many names as asked, with two frameworks."""

    def make(
        device: Device,
        *,
        frameworks: Sequence[str] = ("ort", "ort-noopt"),
        networks: int = 1,
        threads: tuple[int, ...] = (1,),
        policy: Policy = POLICY,
        **parts: object,
    ) -> Job:
        models = [replace(network, name=f"net{index}") for index in range(networks)]
        options = RunOptions(
            models=tuple(model.name for model in models),
            frameworks=tuple(frameworks),
            device=device.name,
            threads=threads,
            precision="fp32",
            seed=0,
            policy=asdict(policy),
        )
        values = {
            "groups": plan(models, [adapter(name) for name in frameworks], device.name, threads, "fp32"),
            "options": options,
            "device": device,
            "journal": journal,
            "policy": policy,
            "cache": tmp_path / "cache",
            "progress": Quiet(),
            "command": ("bench", "run"),
            "facts": {},
            "clock": getattr(device, "clock", None),
            **parts,
        }
        return Job(**{name: value for name, value in values.items() if value is not None})

    return make
