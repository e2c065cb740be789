"""Is every framework at its best here? Loads a probe network in each one's real worker and looks, from outside.

What is found are facts (`Inspection`): instruction sets in the binaries and at the places where busy threads
were, threads that really ran, what an idle worker uses, the precision of the results. `findings` draws the
conclusions that a reader of a comparison must know.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from adapters.catalogue import adapter, installed_version
from adapters.protocol import Adapter, Prepared, Setting
from benchsuite.client import WorkerClient, WorkerFailed
from benchsuite.contestant import worker_cores
from benchsuite.device.local import LocalDevice, LocalProcess
from benchsuite.isa import ENCODINGS, CodeScan, scan_code, scan_file
from benchsuite.policy import Policy
from benchsuite.precision import Precision, classify, precision_network
from benchsuite.prepare import prepare
from benchsuite.threads import (
    CodeSamples,
    ThreadUse,
    code_made_at_run_time,
    executable_mappings,
    sample_code,
    watch,
    watch_idle,
)
from models.errors import BenchError
from models.materialize import materialize

Found = TypeVar("Found")

LOOK_SECONDS = 1.0
WARM_UP_RUNS = 5
MOST_RUNS = 5000
NOT_THE_FRAMEWORKS = ("numpy", "numpy.libs", "lib-dynload", "scipy", "ml_dtypes")
"""Folders of packages that come into a worker with every framework."""
LARGE_CODE_BYTES = 2**20
NO_CODE = CodeScan({}, 0)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Binary:
    """A file whose code came into the worker with the framework; `""` is code made at run time."""

    path: str
    scan: CodeScan


@dataclass(frozen=True, slots=True)
class Look:
    """One framework at one thread count: what its worker did and said. `refused` is why there is nothing."""

    threads: int
    refused: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    converter: str = ""
    placement: str = ""
    median_ns: int = 0
    use: ThreadUse | None = None
    idle: ThreadUse | None = None
    samples: CodeSamples = field(default_factory=CodeSamples)
    binaries: tuple[Binary, ...] = ()
    precision: Precision | None = None

    @property
    def in_binary(self) -> Mapping[str, int]:
        """Multiply-adds by instruction set, all binaries together, code made at run time left out."""
        counts: dict[str, int] = {}
        for binary in self.binaries:
            for isa, count in binary.scan.counts.items() if binary.path else ():
                counts[isa] = counts.get(isa, 0) + count
        return counts


@dataclass(frozen=True, slots=True)
class Inspection:
    """One framework: its row, its installed version (None: not installed) and a look a thread count."""

    row: Adapter
    version: str | None
    looks: tuple[Look, ...]
    tried: tuple[Mapping[str, Any], ...] = ()


def inspect(
    name: str,
    thread_counts: Sequence[int],
    *,
    cache: Path,
    policy: Policy,
    sweeps: Path,
    say: Say = lambda text: None,
) -> Inspection:
    """Inspect one framework on this machine; whatever it fails with is a fact of its looks."""
    row = adapter(name)
    version = installed_version(row)
    if version is None:
        return Inspection(row, None, ())
    looks = []
    for threads in thread_counts:
        say(f"{name} at {threads} threads")
        looks.append(_look_or_reason(row, threads, cache, policy, say))
    return Inspection(row, version, tuple(looks), sweep_rows(sweeps, name))


def sweep_rows(folder: Path, name: str) -> tuple[Mapping[str, Any], ...]:
    """Settings that were measured for a framework, from `<folder>/<name>.json`; none when there is no such
    file. Raises `BenchError` for one that cannot be read.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        return ()
    try:
        return tuple(json.loads(path.read_text(encoding="utf-8"))["rows"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"cannot be read: {error}", where=str(path), hint="run its sweep again") from error


def _binaries(process: int, machine: str) -> tuple[Binary, ...]:
    """What came in with the framework and has multiply-adds in it, most first; code made at run time last."""
    paths = {one.path for one in executable_mappings(process) if _is_frameworks(Path(one.path))}
    scans = [Binary(path, scan_file(Path(path)) or NO_CODE) for path in sorted(paths)]
    found = [one for one in scans if one.scan.counts or one.scan.code_bytes >= LARGE_CODE_BYTES]
    found.sort(key=lambda one: -sum(one.scan.counts.values()))
    made = scan_code(code_made_at_run_time(process), ENCODINGS.get(machine, ()))
    return (*found, Binary("", made)) if made.counts else tuple(found)


def _is_frameworks(path: Path) -> bool:
    """Not the interpreter's, not the system's, not a package that every framework uses."""
    interpreter = path.name.startswith(("python", "libpython")) or not path.name
    system = path.is_relative_to("/usr") or path.is_relative_to("/lib") or path.is_relative_to("/lib64")
    return not (interpreter or system or set(path.parts) & set(NOT_THE_FRAMEWORKS))


def _look_or_reason(row: Adapter, threads: int, cache: Path, policy: Policy, say: Say) -> Look:
    setting = Setting(threads, "fp32")
    reason = row.refuse(setting)
    if reason is not None:
        return Look(threads, refused=reason)
    device = LocalDevice()
    try:
        return _look(device, row, setting, cache, policy, say)
    except WorkerFailed as failure:
        return Look(threads, refused=f"{failure.outcome.status}: {failure.outcome.reason}")
    except BenchError as error:
        return Look(threads, refused=str(error))
    finally:
        device.close()


def _look(
    device: LocalDevice, row: Adapter, setting: Setting, cache: Path, policy: Policy, say: Say
) -> Look:
    model, inputs = precision_network(cache / "probe")
    path = materialize(model, cache)
    prepared = prepare(row, model, path, setting, cache=cache, policy=policy, device=device, say=say)
    with _Worker(device, row, prepared, setting, inputs, policy) as worker:
        worker.run(WARM_UP_RUNS)
        runs = worker.runs_for(LOOK_SECONDS)
        use = worker.during(runs, lambda is_over: watch(worker.pid, is_over))
        idle = watch_idle(worker.pid)
        encodings = ENCODINGS.get(worker.machine, ())
        samples = worker.during(runs, lambda is_over: sample_code(worker.pid, is_over, encodings))
        return Look(
            threads=setting.threads,
            facts=worker.facts,
            converter=prepared.converter,
            placement=worker.placement,
            median_ns=worker.median_ns,
            use=use,
            idle=idle,
            samples=samples,
            binaries=_binaries(worker.pid, worker.machine),
            precision=classify(worker.outputs()),
        )


class _Worker:
    """A worker with the probe loaded, and the thread that asks it to run while this one looks at it."""

    def __init__(
        self,
        device: LocalDevice,
        row: Adapter,
        prepared: Prepared,
        setting: Setting,
        inputs: Path,
        policy: Policy,
    ) -> None:
        self._device, self._policy = device, policy
        self._client = WorkerClient(device, row.environment)
        self.machine = str(device.facts()["architecture"])
        self.median_ns, self.placement = 0, ""
        self._load = {
            "do": "load",
            "framework": row.name,
            "path": str(prepared.path),
            "options": dict(prepared.options),
            "inputs": str(inputs),
            "cores": worker_cores(device, setting.threads, policy),
            **asdict(setting),
        }
        self.facts: Mapping[str, str] = {}

    def __enter__(self) -> "_Worker":
        try:
            reply = self._client.ask(self._load, timeout_seconds=self._policy.load_timeout_seconds)
        except BaseException:
            self._client.kill()
            raise
        self.facts = reply["facts"]
        return self

    def __exit__(self, *_: object) -> None:
        self._client.kill()

    @property
    def pid(self) -> int:
        """The process's number."""
        process = self._client.process
        assert isinstance(process, LocalProcess)
        return process.pid

    def run(self, runs: int) -> None:
        """Run, and note the median latency and the threads' placement."""
        limit = self._policy.run_timeout_seconds
        reply = self._client.ask({"do": "run", "iterations": runs, "rewarm": 0}, timeout_seconds=limit)
        self.median_ns, self.placement = int(np.median(reply["run_ns"])), reply["placement"]

    def runs_for(self, seconds: float) -> int:
        """Inferences that take about so long."""
        return max(1, min(MOST_RUNS, round(seconds * 1e9 / max(1, self.median_ns))))

    def during(self, runs: int, look: Callable[[Callable[[], bool]], Found]) -> Found:
        """What `look` sees while the worker runs; it is given a function that says when that is over."""
        failure: list[BaseException] = []
        over = threading.Event()

        def ask() -> None:
            try:
                self.run(runs)
            except BaseException as error:
                failure.append(error)
            finally:
                over.set()

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            found = look(over.is_set)
        finally:
            asking.join()
        if failure:
            raise failure[0]
        return found

    def outputs(self) -> dict[str, Any]:
        """The probe's outputs."""
        path = self._device.scratch("probe-outputs.npz")
        self._client.ask({"do": "outputs", "path": path}, timeout_seconds=self._policy.run_timeout_seconds)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
