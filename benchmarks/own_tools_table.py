"""The frameworks' own benchmark tools: how each is started, and where it says what it measured."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from own_tools_build import build_mnn, build_onnxruntime

from adapters.protocol import Prepared
from models.errors import BenchError

TOOL_TIMEOUT_SECONDS = 600
TAIL_LINES = 6
ROOT = Path(__file__).parent.parent
SECONDS = re.compile(r"\d+\.\d{9}")
OPENVINO_TYPES = {"float32": "f32", "int64": "i64", "int32": "i32", "bool": "bool"}


class Statistic(StrEnum):
    """What a tool reports of its samples."""

    MEDIAN = "median"
    MEAN = "mean"

    def of(self, samples: Sequence[float]) -> float:
        """The statistic, in the samples' unit."""
        return float(np.median(samples) if self is Statistic.MEDIAN else np.mean(samples))


@dataclass(frozen=True, slots=True)
class Sources:
    """Checkouts of sources that the user named; None for none."""

    onnxruntime: Path | None = None
    mnn: Path | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured on both sides; `inputs` is the npz file, `folder` is for files of the tool."""

    prepared: Prepared
    inputs: Path
    threads: int
    cores: tuple[int, ...]
    warm_up: int
    runs: int
    folder: Path
    sources: Sources


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: `start` makes its command line, `read` its statistic (milliseconds) from its output."""

    framework: str
    title: str
    statistic: Statistic
    start: Callable[[Job], list[str]]
    read: Callable[[str, Job], float]


def time_tool(tool: Tool, job: Job) -> float:
    """Run the tool once on the job's cores; raises `BenchError` with its last lines."""
    command = tool.start(job)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=TOOL_TIMEOUT_SECONDS,
        env=_environment(job.folder),
        preexec_fn=lambda: os.sched_setaffinity(0, job.cores) if job.cores else None,
    )
    output = done.stdout + done.stderr
    try:
        if done.returncode:
            raise ValueError(f"exit code {done.returncode}")
        return tool.read(output, job)
    except (ValueError, KeyError, OSError, AttributeError, IndexError, TypeError) as error:
        tail = "\n  ".join(output.strip().splitlines()[-TAIL_LINES:])
        raise BenchError(f"cannot be read: {error}; its last lines:\n  {tail}", where=tool.title) from error


def _environment(folder: Path) -> dict[str, str]:
    """The user's environment, with an empty module in place of the one that reports to OpenVINO's makers."""
    stub = folder / "stub"
    (stub / "openvino_telemetry").mkdir(parents=True, exist_ok=True)
    (stub / "openvino_telemetry" / "__init__.py").touch()
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(stub), str(ROOT)))}


def raw_inputs(job: Job) -> dict[str, Path]:
    """The inputs as files of bytes, by name."""
    return {name: path.with_suffix(".bin") for name, path in npy_inputs(job).items()}


def npy_inputs(job: Job) -> dict[str, Path]:
    """The inputs as npy files, by name; the same bytes lie beside them as `.bin`."""
    folder = job.folder / job.inputs.parent.name
    folder.mkdir(exist_ok=True)
    paths = {}
    with np.load(job.inputs, allow_pickle=False) as archive:
        for number, name in enumerate(archive.files):
            paths[name] = folder / f"{number}.npy"
            if not paths[name].exists():
                np.save(paths[name], archive[name])
                archive[name].tofile(paths[name].with_suffix(".bin"))
    return paths


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _start_openvino(job: Job) -> list[str]:
    command = [_script("benchmark_app"), "-m", str(job.prepared.path), "-d", "CPU", "-api", "sync"]
    command += ["-hint", "none", "-nstreams", "1", "-nthreads", str(job.threads), "-infer_precision", "f32"]
    paths = npy_inputs(job)
    types = {name: OPENVINO_TYPES[np.load(path, mmap_mode="r").dtype.name] for name, path in paths.items()}
    command += ["-iop", ", ".join(f"{name}:{kind}" for name, kind in types.items())]
    inputs = ",".join(f"{name}:{path}" for name, path in paths.items())
    return [*command, "-niter", str(job.runs), "-i", inputs]


def _read_openvino(output: str, job: Job) -> float:
    found = re.search(r"Median:\s+([\d.]+) ms", output)
    assert found is not None, "no median"
    return float(found[1])


def _start_litert(job: Job) -> list[str]:
    command = [_script("litert-benchmark"), "--model", str(job.prepared.path)]
    command += ["--num_threads", str(job.threads), "--warmup_runs", str(job.warm_up)]
    return [*command, "--num_runs", str(job.runs), "--result_json", str(job.folder / "litert.json")]


def _read_litert(output: str, job: Job) -> float:
    found: Mapping[str, Mapping[str, float]] = json.loads((job.folder / "litert.json").read_text())
    return float(found["latency"]["median_ms"])


def _start_onnxruntime(job: Job) -> list[str]:
    program = build_onnxruntime(job.sources.onnxruntime, job.folder)
    command = [str(program), str(job.prepared.path), str(job.threads), str(job.warm_up), str(job.runs)]
    return [*command, *(str(word) for pair in raw_inputs(job).items() for word in pair)]


def _start_mnn(job: Job) -> list[str]:
    library = build_mnn(job.sources.mnn, job.folder)
    return _program("own_tools_mnn.py", str(library), str(job.prepared.path), *_counts(job))


def _start_tvm(job: Job) -> list[str]:
    options = json.dumps(dict(job.prepared.options))
    return _program("own_tools_tvm.py", str(job.prepared.path), options, *_counts(job))


def _counts(job: Job) -> tuple[str, ...]:
    return (str(job.threads), str(job.warm_up), str(job.runs), str(job.inputs))


def _program(name: str, *words: str) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name(name)), *words]


def _read_samples(output: str, job: Job) -> float:
    """Programs that print one time (seconds) a line, between lines of words."""
    samples = [1000 * float(line) for line in output.splitlines() if SECONDS.fullmatch(line.strip())]
    if len(samples) != job.runs:
        raise ValueError(f"{len(samples)} times instead of {job.runs}")
    return Statistic.MEDIAN.of(samples)


TOOLS = {
    "ort": Tool("ort", "onnxruntime_perf_test", Statistic.MEDIAN, _start_onnxruntime, _read_samples),
    "openvino": Tool("openvino", "benchmark_app", Statistic.MEDIAN, _start_openvino, _read_openvino),
    "mnn": Tool("mnn", "MNN benchmark", Statistic.MEDIAN, _start_mnn, _read_samples),
    "tvm": Tool("tvm", "time_evaluator", Statistic.MEDIAN, _start_tvm, _read_samples),
    "tflite": Tool("tflite", "litert-benchmark", Statistic.MEDIAN, _start_litert, _read_litert),
}
