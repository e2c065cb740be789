"""Where IREE's time goes: dispatches recorded by its benchmark program, led back to ONNX nodes through the
locations that its compiler keeps.
"""

import json
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from adapters.interface import Interface
from adapters.iree_convert import IMPORTED_NAME, compile_flags, compiler
from adapters.iree_weights import SCOPE, parameter_index
from adapters.protocol import Inputs, Profile, ProfileEntry

WARM_UPS = 2
DATA = "host-execution,executable-metadata,queue-events"
SOURCE = (
    "IREE's HAL profile of its benchmark program, in a process of its own (copies and fills between "
    "dispatches are not in it; a dispatch that is called several times is told by the node of the call)"
)
EXECUTABLE = re.compile(r"flow\.executable private @(?P<name>\S+)")
CALL = re.compile(r"flow\.dispatch @(?P<executable>[^:\s]+)::@(?P<function>[^(\[\s]+)")
LOCATION = re.compile(r'"(?P<node>[^"]+)"')
LOCATION_START = "loc("
NOT_COMPUTED = re.compile(
    r"\^bb|func\.func|return|flow\.return|linalg\.yield|linalg\.fill|linalg\.index|tensor\.empty"
    r"|arith\.constant|\S*workgroup_count\S*|iree_tensor_ext\.dispatch\.tensor\.(load|store)"
)
"""Operations in a dispatch that compute nothing; a constant keeps the node that it was first made for, and a
block's argument the node that wrote it, whoever uses them.
"""

RESULTS = re.compile(r"^(%\S+(, )?)+ = ")
IMPLICIT_MARKS = ("_encode_", "_pack", "_unpack", "_unset_encoding")
"""In the names of dispatches that only bring data into tiles or out of them."""

ONLY_TRANSPOSES = re.compile(r"_dispatch_\d+_(transpose|slow_memcpy)_")


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One run of a compiled function; nanoseconds of the host's clock."""

    function: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Origins:
    """ONNX nodes by function: `bodies` of all that a function computes, `calls` of each call, in order."""

    bodies: Mapping[str, tuple[str, ...]]
    calls: Mapping[str, tuple[tuple[str, ...], ...]]

    def of(self, function: str, occurrence: int) -> tuple[str, ...]:
        """Nodes of the call number `occurrence`; a body shared by several calls is of the first one only."""
        calls = self.calls.get(function, ())
        called = calls[occurrence] if occurrence < len(calls) else ()
        body = self.bodies.get(function, ()) if len(calls) == 1 else ()
        return tuple(dict.fromkeys((*called, *body)))


def profile_program(
    path: Path,
    options: Mapping[str, str],
    interface: Interface,
    device: Sequence[str],
    inputs: Inputs,
    inferences: int,
) -> Profile:
    """Run the compiled program at `path` under IREE's profiler; raises `RuntimeError` with its last lines."""
    with tempfile.TemporaryDirectory(prefix="iree-profile-") as name:
        folder = Path(name)
        record = _record(path, interface, device, inputs, inferences + WARM_UPS, folder)
        lines = _call([_tool("iree-profile"), "dispatch", "--format=jsonl", "--dispatch_events", str(record)])
        flow = _call([compiler(), str(path.parent / IMPORTED_NAME), *_to_flow(options), "-o", "-"])
    runs = split_runs(read_dispatches(lines.splitlines()), inferences + WARM_UPS)
    return summarize(runs[WARM_UPS:], read_origins(flow.splitlines()))


def read_dispatches(lines: Iterable[str]) -> tuple[Dispatch, ...]:
    """The dispatches of `iree-profile dispatch --format=jsonl --dispatch_events`, in order of their start."""
    rows = (json.loads(line) for line in lines if line.startswith("{"))
    found = [
        Dispatch(row["key"], int(row["start_host_time_ns"]), int(row["end_host_time_ns"]))
        for row in rows
        if row["type"] == "host_dispatch_event"
    ]
    return tuple(sorted(found, key=lambda dispatch: dispatch.start_ns))


def split_runs(dispatches: Sequence[Dispatch], count: int) -> tuple[tuple[Dispatch, ...], ...]:
    """Cut the record into `count` inferences of equal length; raises `RuntimeError` if it cannot be."""
    length, rest = divmod(len(dispatches), count)
    if rest or not length:
        raise RuntimeError(f"IREE's profile has {len(dispatches)} dispatches for {count} inferences")
    return tuple(tuple(dispatches[index * length : (index + 1) * length]) for index in range(count))


def summarize(runs: Sequence[Sequence[Dispatch]], origins: Origins) -> Profile:
    """Medians over the inferences, dispatch by dispatch, in the order of the first of them."""
    spans = [_by_occurrence(run) for run in runs]
    entries = []
    for function, occurrence in spans[0]:
        durations = [run[function, occurrence] for run in spans if (function, occurrence) in run]
        nodes = origins.of(function, occurrence)
        entries.append(
            ProfileEntry(
                name=function if not occurrence else f"{function} #{occurrence + 1}",
                operator=_operator(function),
                duration_ns=int(median(durations)),
                nodes=nodes,
                layout=_layout(function),
            )
        )
    walls = [max(one.end_ns for one in run) - min(one.start_ns for one in run) for run in runs]
    return Profile(tuple(entries), int(median(walls)), SOURCE)


def read_origins(lines: Iterable[str]) -> Origins:
    """Read the compiler's flow dialect, printed with locations: names in them are names of ONNX nodes."""
    bodies: dict[str, dict[str, None]] = defaultdict(dict)
    calls: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    executable = ""
    for line in lines:
        opened, call = EXECUTABLE.search(line), CALL.search(line)
        if opened:
            executable = opened["name"]
        elif call:
            calls[call["function"]].append(_locations(line.rpartition(LOCATION_START)[2]))
        elif executable and _computes(line):
            bodies[executable].update(dict.fromkeys(_locations(line.rpartition(LOCATION_START)[2])))
        if line.startswith("  }"):
            executable = ""
    functions = {function: bodies[_executable_of(function)] for function in calls}
    return Origins(
        {function: tuple(nodes) for function, nodes in functions.items()},
        {function: tuple(found) for function, found in calls.items()},
    )


def _executable_of(function: str) -> str:
    """`net$async_dispatch_3_matmul_like_4x4` belongs to the executable `net$async_dispatch_3`."""
    head, mark, rest = function.partition("_dispatch_")
    return f"{head}{mark}{rest.partition('_')[0]}"


def _computes(line: str) -> bool:
    operation = RESULTS.sub("", line.strip())
    return LOCATION_START in line and not NOT_COMPUTED.match(operation)


def _locations(text: str) -> tuple[str, ...]:
    return tuple(found["node"] for found in LOCATION.finditer(text))


def _by_occurrence(run: Sequence[Dispatch]) -> dict[tuple[str, int], int]:
    seen: dict[str, int] = defaultdict(int)
    spans = {}
    for dispatch in run:
        spans[dispatch.function, seen[dispatch.function]] = dispatch.end_ns - dispatch.start_ns
        seen[dispatch.function] += 1
    return spans


def _operator(function: str) -> str:
    """The kind in a dispatch's name: `matmul_like` of `net$async_dispatch_3_matmul_like_4x4_f32`."""
    words = function.partition("_dispatch_")[2].split("_")[1:]
    kind = [word for word in words if word.isalpha()]
    return "_".join(kind) or function


def _layout(function: str) -> Literal["", "explicit", "implicit"]:
    if any(mark in function for mark in IMPLICIT_MARKS):
        return "implicit"
    return "explicit" if ONLY_TRANSPOSES.search(function) else ""


def _record(
    path: Path,
    interface: Interface,
    device: Sequence[str],
    inputs: Inputs,
    inferences: int,
    folder: Path,
) -> Path:
    import numpy as np
    from iree import runtime

    archive, record = folder / "weights.irpa", folder / "record.ireeprof"
    index: Any = parameter_index(runtime, path.parent)
    index.create_archive_file(str(archive))
    fed = []
    for number, port in enumerate(interface.inputs):
        file = folder / f"input-{number}.npy"
        np.save(file, port.to_native(inputs[port.name]))
        fed.append(f"--input=@{file}")
    _call(
        [
            *(_tool("iree-benchmark-module"), *device, f"--module={path}", f"--parameters={SCOPE}={archive}"),
            *(*fed, f"--benchmark_min_time={inferences}x"),
            *(f"--device_profiling_mode={DATA}", f"--device_profiling_output={record}"),
        ]
    )
    return record


def _to_flow(options: Mapping[str, str]) -> tuple[str, ...]:
    return (*compile_flags(options), "--compile-to=flow", "--mlir-print-debuginfo")


def _tool(name: str) -> str:
    """A program of the runtime's package."""
    import iree._runtime_libs as libraries

    return str(Path(str(libraries.__file__)).parent / name)


def _call(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name}: {done.stderr.strip()[-500:]}")
    return done.stdout
