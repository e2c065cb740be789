"""A program of the user's own as a framework: what it is given, how its words are made, how it is read.

It times itself and is believed: a note says so. It is started anew for every turn, or, where its row says
`speaks = "lines"`, stays and answers. The worker of this machine
is `adapters/external_worker.py`; on a phone the same is done by `benchsuite/device/adb/external.py`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from adapters.framework import Framework
from adapters.protocol import Adapter, Conversion, Converted, Crashed, Prepared, Session, Setting, Unsupported
from adapters.runners import TIMES, Program, existing_files, filled, placeholders_in

DIGEST_DIGITS = 12
LAST_WORDS = 600
LEAST_WARM_UP = 1
SIGNAL_BASE = 128
OWN_CLOCK = "a program of the user's own, timed by its own clock"
ANEW = "it is started anew for every turn"
ONE_AVERAGE = "it tells one average of its runs, so a block is one sample"
OUTPUTS_FACT = "outputs"
NOT_CHECKED = "not checked"


class NoTimesError(RuntimeError):
    """The program ended well and said nothing that its row's `times` finds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class External(Framework):
    """`base` is the framework whose converter makes its file."""

    program: Program
    base: Adapter

    @property
    def fingerprint(self) -> str:
        """A digest of its files and its row: what a version is elsewhere. Raises `BenchError`."""
        whole = hashlib.sha256()
        for file in existing_files(self.program):
            whole.update(hashlib.sha256(file.read_bytes()).digest())
        row = self.program
        times = row.times.pattern if row.times is not None else ""
        whole.update(repr((row.command, times, sorted(row.environment.items()))).encode())
        return f"sha256 {whole.hexdigest()[:DIGEST_DIGITS]}"

    def conversion(self, setting: Setting) -> Conversion | None:
        """As its base."""
        return self.base.conversion(setting)

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        """As its base."""
        return self.base.convert(source, folder, setting)

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        """Raises `Unsupported`: a program has a worker of its own."""
        raise Unsupported(f"{self.name} is a program of its own: it can be measured by `bench run` only")


def as_framework(program: Program, base: Adapter) -> External:
    """The row as a framework."""
    anew = (ANEW,) if program.times is not None else ()
    notes = (OWN_CLOCK, *anew, *((ONE_AVERAGE,) if program.tells_average else ()), *program.notes)
    return External(
        name=program.name,
        title=program.title,
        distribution="",
        notes=notes,
        precisions=program.precisions,
        program=program,
        base=base,
    )


def converter_of(framework: Adapter) -> Adapter:
    """Who converts for a framework: itself, but for a program of one's own."""
    return framework.base if isinstance(framework, External) else framework


@dataclass(frozen=True)
class Given:
    """What one cell's program is given: places as it sees them. `outputs` are where it is to write."""

    program: Program
    files: str
    model: str
    setting: Setting
    cores: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @cached_property
    def fixed(self) -> Mapping[str, str]:
        """Placeholders that are the same for every start."""
        numbered = {f"input:{number}": path for number, path in enumerate(self.inputs)}
        numbered |= {f"output:{number}": path for number, path in enumerate(self.outputs)}
        return {
            "files": self.files,
            "model": self.model,
            "threads": str(self.setting.threads),
            "cores": ",".join(map(str, self.cores)),
            **numbered,
        }

    def command(self, runs: str, warmup: str) -> list[str]:
        """The words of a start with so many timed and untimed runs."""
        values = {**self.fixed, "runs": runs, "warmup": warmup}
        every = {"input": self.inputs, "output": self.outputs}
        words: list[str] = []
        for word in self.program.command:
            repeated = [name for name in every if name in placeholders_in(word)]
            for name in repeated:
                words += [filled(word, {**values, name: one}) for one in every[name]]
            if not repeated:
                words.append(filled(word, values))
        return words

    def version(self) -> list[str]:
        """The words that ask for the version; empty where it cannot be asked."""
        return [filled(word, self.fixed) for word in self.program.version]

    def environment(self) -> dict[str, str]:
        """The variables that it is started with."""
        return {name: filled(value, self.fixed) for name, value in self.program.environment.items()}

    def facts(self, fingerprint: str, told_version: str, placement: str) -> dict[str, str]:
        """What a reader must know about the numbers."""
        return {
            "version": fingerprint,
            **({"build": told_version} if told_version else {}),
            "precision": self.setting.precision,
            "threads": str(self.setting.threads),
            "command": " ".join(self.program.command),
            "made from": self.program.made_from,
            "clock": ONE_AVERAGE if self.program.tells_average else "its own, every run",
            OUTPUTS_FACT: why_unchecked(self.program) or "checked",
            "placement": placement,
        }


def why_unchecked(program: Program) -> str:
    """Why outputs cannot be compared; "" when they can."""
    needed = "output" if program.times is not None else "input"
    return "" if needed in program.placeholders() else f"{NOT_CHECKED}: its command has no {{{needed}}}"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a start ended: exit code (negative: the signal), what it said, its whole time, processor time."""

    code: int
    said: str
    wall_ns: int
    cpu_ns: int


def run_reply(program: Program, ended: Ended, runs: int, placement: str) -> dict[str, Any]:
    """The worker's reply to `run`; raises `Crashed`, and `NoTimesError`."""
    times = times_ns(program, ended, runs)
    counted = runs if program.tells_average else len(times)
    timed = sum(times) // len(times) * counted
    return {
        "run_ns": list(times),
        "input_ns": [0] * len(times),
        "cpu_ns": ended.cpu_ns,
        "rewarm_ns": max(0, ended.wall_ns - timed),
        "placement": placement,
    }


def load_reply(program: Program, ended: Ended, facts: Mapping[str, str]) -> dict[str, Any]:
    """The worker's reply to `load`, after a first start with one run: all but the run is loading. What stays
    warm between starts is nothing, so no more warming up is asked for.
    """
    (first, *_) = times_ns(program, ended, 1)
    return {
        "load_ns": max(0, ended.wall_ns - first),
        "facts": dict(facts),
        "memory_now_bytes": 0,
        "warm_up_ns": [first],
    }


def times_ns(program: Program, ended: Ended, runs: int) -> tuple[int, ...]:
    """Nanoseconds of each run, or the one average; of more than were asked for the last. Raises `Crashed`
    when the program did not end well, `NoTimesError` when nothing in what it said is a time.
    """
    assert program.times is not None
    words = " | ".join(ended.said[-LAST_WORDS:].split("\n")).strip(" |") or "nothing"
    if ended.code:
        how = f"signal {-ended.code}" if ended.code < 0 else f"exit code {ended.code}"
        raise Crashed(f"{program.name} ended with {how}; its last words: {words}")
    scale = TIMES[program.group]
    try:
        found = [float(one[program.group]) * scale for one in program.times.finditer(ended.said)]
    except (TypeError, ValueError) as error:
        raise NoTimesError(f"`times` found what is no number: {error}; its last words: {words}") from error
    if not found:
        raise NoTimesError(f"`times` found nothing in what {program.name} said; its last words: {words}")
    if not all(0 < one < float("inf") for one in found):
        raise NoTimesError(f"`times` found a time that is not positive; its last words: {words}")
    kept = found[-1:] if program.tells_average else found[-runs:]
    return tuple(max(1, round(one)) for one in kept)


def line_of(request: Mapping[str, Any]) -> str:
    """The request as a program that stays reads it; raises `Unsupported` for one that it cannot know."""
    doing = request["do"]
    if doing == "run":
        return f"run {request['iterations']} {request.get('rewarm', 0)}"
    if doing == "outputs":
        return f"outputs {request['path']}"
    if doing in ("memory", "quit"):
        return str(doing)
    raise Unsupported(f"a program of its own cannot answer `{doing}`")


def answer_of(request: Mapping[str, Any], line: str, placement: str) -> dict[str, Any]:
    """The worker's reply from the line that a program answered, without `ok`; raises `RuntimeError` for its
    own failure, and for what is no answer.
    """
    try:
        said = json.loads(line)
        if not said["ok"]:
            raise RuntimeError(str(said.get("error", "the program gave no reason")))
        return _READERS[request["do"]](said, request, placement)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RuntimeError(f"the program answered `{request['do']}` with {line[:200]!r}") from error


def _loaded(said: Mapping[str, Any], request: Mapping[str, Any], placement: str) -> dict[str, Any]:
    return {"load_ns": int(said["load_ns"]), "memory_now_bytes": int(said.get("memory_now_bytes", 0))}


def _ran(said: Mapping[str, Any], request: Mapping[str, Any], placement: str) -> dict[str, Any]:
    times = [int(one) for one in said["run_ns"]]
    if len(times) != request["iterations"] or min(times, default=0) <= 0:
        raise ValueError(times)
    return {
        "run_ns": times,
        "input_ns": [0] * len(times),
        "cpu_ns": int(said.get("cpu_ns", 0)),
        "rewarm_ns": int(said.get("rewarm_ns", 0)),
        "placement": placement,
    }


def _told_memory(said: Mapping[str, Any], request: Mapping[str, Any], placement: str) -> dict[str, Any]:
    names = ("memory_peak_bytes", "memory_now_bytes")
    return {name: int(said.get(name, 0)) for name in names}


_READERS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], str], dict[str, Any]]] = {
    "load": _loaded,
    "run": _ran,
    "outputs": lambda said, request, placement: {},
    "memory": _told_memory,
}
