"""Is every framework at its best here? Loads a probe network in each one's real worker and looks at it.

What is found are facts (`Inspection`): instruction sets in the binaries and at the places where busy threads
were, threads that really ran, what an idle worker uses, the precision of the results. `findings` draws the
conclusions that a reader of a comparison must know.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from adapters.catalogue import SWEEPS, adapter, installed_version
from adapters.protocol import Adapter, Setting
from benchsuite.device.frameworks import why_not_here
from benchsuite.device.local import LocalDevice, LocalProcess
from benchsuite.isa import ENCODINGS, CodeScan, scan_code, scan_file
from benchsuite.loaded import Loaded, loaded
from benchsuite.policy import Policy
from benchsuite.precision import Precision, classify, precision_network
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

Found = TypeVar("Found")

LOOK_SECONDS = 1.0
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
    sweeps: Path = SWEEPS,
    say: Say = lambda text: None,
) -> Inspection:
    """Inspect one framework on this machine; whatever it fails with is a fact of its looks."""
    row = adapter(name)
    reason = why_not_here(row)
    if reason is not None:
        return Inspection(row, None, tuple(Look(threads, refused=reason) for threads in thread_counts))
    looks = []
    for threads in thread_counts:
        say(f"{name} at {threads} threads")
        looks.append(_look_or_reason(row, Setting(threads, "fp32"), cache, policy, say))
    return Inspection(row, installed_version(row), tuple(looks), sweep_rows(sweeps, name))


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


def _look_or_reason(row: Adapter, setting: Setting, cache: Path, policy: Policy, say: Say) -> Look:
    model, inputs = precision_network(cache / "probe")
    with closing(LocalDevice()) as device:
        try:
            with loaded(
                device, row, model, setting, policy=policy, cache=cache, inputs=inputs, say=say
            ) as held:
                return _look(held, device, setting)
        except BenchError as error:
            return Look(setting.threads, refused=error.what)


def _look(held: Loaded, device: LocalDevice, setting: Setting) -> Look:
    process = held.worker.process
    assert isinstance(process, LocalProcess)
    machine = str(device.facts()["architecture"])
    encodings = ENCODINGS.get(machine, ())
    runs = max(1, min(MOST_RUNS, round(LOOK_SECONDS * 1e9 / max(1, min(held.warm_up_ns)))))
    reply, use = _during(held, runs, lambda is_over: watch(process.pid, is_over))
    idle = watch_idle(process.pid)
    outputs = _outputs(held, device.scratch("probe-outputs.npz"))
    _, samples = _during(held, runs, lambda is_over: sample_code(process.pid, is_over, encodings))
    return Look(
        threads=setting.threads,
        facts=held.facts,
        converter=held.converter,
        placement=reply["placement"],
        median_ns=int(np.median(reply["run_ns"])),
        use=use,
        idle=idle,
        samples=samples,
        binaries=_binaries(process.pid, machine),
        precision=classify(outputs),
    )


def _during(
    held: Loaded, runs: int, look: Callable[[Callable[[], bool]], Found]
) -> tuple[dict[str, Any], Found]:
    """The worker's reply to `runs` inferences, and what `look` saw meanwhile; `look` is given a function that
    says when they are over. Another thread waits for the reply: ptrace wants its calls from one thread.
    """
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(held.ask, do="run", iterations=runs, rewarm=0)
        found = look(reply.done)
        return reply.result(), found


def _outputs(held: Loaded, path: str) -> dict[str, Any]:
    held.ask(do="outputs", path=path)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
