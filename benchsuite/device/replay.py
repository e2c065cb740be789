"""A recorded device: real noise, no hardware; faults can be planted. Tries everything but the silicon."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchsuite.device.frameworks import OnThisMachine
from benchsuite.device.protocol import Ending, Facts, Process, Silence, Telemetry
from models.errors import BenchError

SCHEMA = "bench.recording/1"
RECORDED_VERSION = "recorded"
"""What a replayed worker says of its framework."""
SEGFAULT = -11
KILLED = -9


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong: `kind` is crash, hang, garbage, oom, error, nan or differ; `framework` "*"
    is every one.

    It strikes at request number `at` of its kind `do` (load, run, outputs), counted from 0 for each worker of
    that framework; with `times` it strikes only in the first so many workers.
    """

    framework: str
    kind: str
    do: str = "run"
    at: int = 0
    times: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Recording:
    """What was recorded: facts, and the noise as one long series of latency ÷ median, in the order of time.

    `latency_ns` gives each framework's true latency ("*": any other framework); `fault`s are planted by
    tests; `probe` is what the device could do at most, as a worker replies to `probe`.
    """

    facts: Mapping[str, Any]
    noise: Sequence[float]
    latency_ns: Mapping[str, float] = field(default_factory=lambda: {"*": 1e6})
    telemetry: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    probe: Mapping[str, Any] = field(default_factory=dict)


def read_recording(path: Path) -> Recording:
    """Read a recording; raises `BenchError` when it is missing, damaged or of another schema."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("schema") != SCHEMA:
            raise ValueError(f"schema is {values.get('schema')!r}, expected {SCHEMA!r}")
        return Recording(
            facts=values["facts"],
            noise=[float(value) for value in values["noise"]] or [1.0],
            latency_ns={name: float(value) for name, value in values["latency_ns"].items()},
            telemetry=values.get("telemetry", {}),
            probe=values.get("probe", {}),
            faults=tuple(Fault(**fault) for fault in values.get("faults", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(
            f"this is not a recording of a device: {error}",
            where=str(path),
            hint="record one with `bench doctor --record FILE`",
        ) from error


def write_recording(path: Path, recording: Recording) -> None:
    """Write a recording as one JSON file."""
    values = {
        "schema": SCHEMA,
        "facts": dict(recording.facts),
        "telemetry": dict(recording.telemetry),
        "latency_ns": dict(recording.latency_ns),
        "noise": [round(value, 4) for value in recording.noise],
    }
    path.write_text(json.dumps(values) + "\n", encoding="utf-8")


class ReplayDevice(OnThisMachine):
    """Workers that answer from the recording, on the recording's own time: nothing waits.

    The noise is consumed in order by whichever worker runs, so frameworks that follow each other see
    neighbouring noise, as on the recorded device. `seed` chooses where in the recording the replay begins.
    """

    def __init__(self, name: str, recording: Recording, *, seed: int = 0) -> None:
        self._name, self.recording = name, recording
        self._cursor = random.Random(seed).randrange(len(recording.noise))
        self.spawned: dict[str, int] = {}

    @property
    def name(self) -> str:
        """`replay:FILE`, as the user typed it."""
        return self._name

    def facts(self) -> Facts:
        """The recorded device's facts."""
        return self.recording.facts

    def push(self, path: Path, companions: Sequence[Path] = ()) -> str:
        """Nothing is read there."""
        return str(path)

    def pull(self, remote: str, path: Path) -> None:
        """Replayed workers give verdicts, not files; raises FileNotFoundError."""
        raise FileNotFoundError(remote)

    def scratch(self, name: str) -> str:
        """Nothing is written there."""
        return name

    def cores(self) -> tuple[int, ...]:
        """Nothing is placed."""
        return ()

    def spawn(self, module: str, environment: str) -> Process:
        """A worker that answers the requests of `adapters.worker` from the recording."""
        return ReplayProcess(self)

    def expect_telemetry(self) -> None:
        """Nothing to be saved."""

    def telemetry(self) -> Telemetry:
        """The recorded state."""
        return Telemetry(**self.recording.telemetry)

    def close(self) -> None:
        """Nothing to remove."""

    def next_noise(self, count: int) -> list[float]:
        """The next `count` values of the recorded series, which begins anew at its end."""
        noise, start = self.recording.noise, self._cursor
        self._cursor = (start + count) % len(noise)
        return [noise[(start + index) % len(noise)] for index in range(count)]


class ReplayProcess:
    """One replayed worker."""

    def __init__(self, device: ReplayDevice) -> None:
        self._device = device
        self._framework = ""
        self._incarnation = 0
        self._asked: dict[str, int] = {}
        self._replies: list[str | None] = []
        self._exit_code: int | None = 0

    def send(self, line: str) -> None:
        """Answer at once; the reply waits for `receive`."""
        request = json.loads(line)
        action = request["do"]
        if action == "quit" or self._exit_code:
            self._replies.append(None)
            return
        if action == "load":
            self._framework = request["framework"]
            self._incarnation = self._device.spawned.get(self._framework, 0)
            self._device.spawned[self._framework] = self._incarnation + 1
        count = self._asked.get(action, 0)
        self._asked[action] = count + 1
        fault = self._fault(action, count)
        reply = {"ok": True, **getattr(self, f"_{action}")(request)}
        self._reply(fault.kind if fault else "", reply)

    def receive(self, timeout_seconds: float) -> str | None:
        """The waiting reply; raises `Silence` at once when there is none: a replayed hang costs no time."""
        if not self._replies:
            raise Silence
        return self._replies.pop(0)

    def end(self, *, grace_seconds: float = 0.0) -> Ending:
        """How the worker ended."""
        return Ending(exit_code=self._exit_code, log_tail="", killed_for_memory=self._exit_code == KILLED)

    def _fault(self, action: str, count: int) -> Fault | None:
        for fault in self._device.recording.faults:
            struck = fault.framework in {"*", self._framework} and self._incarnation < fault.times
            if struck and fault.do == action and fault.at == count:
                return fault
        return None

    def _reply(self, fault: str, reply: dict[str, Any]) -> None:
        """Queue the reply, as the fault would have it."""
        lines: dict[str, list[str | None]] = {
            "": [json.dumps(reply)],
            "hang": [],
            "crash": [None],
            "oom": [None],
            "garbage": ["Segmentation fault (core dumped)"],
            "error": [json.dumps({"ok": False, "kind": "failed", "error": "RuntimeError: planted"})],
            "nan": [
                json.dumps(
                    {**reply, "recorded_error": None, "recorded_reason": "output 'y' has 1 of 10 values NaN"}
                )
            ],
            "differ": [
                json.dumps(
                    {**reply, "recorded_error": 0.5, "recorded_reason": "relative L2 error 0.5 > 0.001"}
                )
            ],
        }
        self._exit_code = {"crash": SEGFAULT, "oom": KILLED}.get(fault, self._exit_code)
        self._replies += lines[fault]

    def _load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"load_ns": 10_000_000, "facts": {"version": RECORDED_VERSION}, **self._memory(request)}

    def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        latencies = self._device.recording.latency_ns
        latency = latencies.get(self._framework, latencies.get("*", 1e6))
        rewarm = sum(self._device.next_noise(int(request.get("rewarm", 0)))) * latency
        run_ns = [round(noise * latency) for noise in self._device.next_noise(int(request["iterations"]))]
        return {
            "run_ns": run_ns,
            "input_ns": [0] * len(run_ns),
            "cpu_ns": sum(run_ns),
            "rewarm_ns": round(rewarm),
            "placement": "recorded",
        }

    def _outputs(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"recorded_error": 0.0}

    def _probe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"flops_per_second": 0.0, "bytes_per_second": 0.0, **self._device.recording.probe}

    def _memory(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {"memory_peak_bytes": 100_000_000, "memory_now_bytes": 90_000_000}
