"""Every network through the compiler: right or not, kernels, seconds, memory.

    python benchmarks/compiled.py [--models all] [--targets avx512,avx2] [--threads 1,2] [--out FILE.md]
    python benchmarks/compiled.py --models resnext,swin,yolov8n --targets aarch64-static --threads 1  # qemu

Each network is compiled in a process of its own, objects from scratch, and again with everything in the
cache. "Beyond imports" is the compiler's peak memory less what Python, NumPy and onnx take. Errors are
relative to ONNX Runtime with its optimisation off (L2 over all results).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_cache_path

from models.catalogue import resolve
from models.draw import draw_inputs
from models.materialize import materialize
from ourcompiler.explain import PAPER_KERNELS
from ourcompiler.stored import Package

COLUMNS = (
    "network",
    "kernels",
    "SmartMem",
    "cold s",
    "warm s",
    "peak MB",
    "beyond imports ÷ weights",
    "weights MB",
    "arena MB",
    "error",
)


def main() -> None:
    """Compile, run and compare; print a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default="all")
    parser.add_argument("--targets", default="host")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one_network(asked.one, asked.targets.split(","), asked.threads.split(","))))
        return
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    print("\n".join(lines), flush=True)
    for model in resolve(asked.models, {}):
        command = [sys.executable, __file__, "--one", model.name, "--targets", asked.targets]
        with tempfile.TemporaryDirectory() as objects:
            done = subprocess.run(
                [*command, "--threads", asked.threads],
                env={**os.environ, "BENCH_OBJECTS": objects},
                capture_output=True,
                text=True,
                check=False,
            )
        shown = (
            row(json.loads(done.stdout))
            if done.returncode == 0
            else f"| {model.name} | {done.stderr[-200:]} |"
        )
        lines.append(shown)
        print(shown, flush=True)
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def row(facts: dict[str, Any]) -> str:
    """One line of the table; the error of every target and thread count."""
    errors = ", ".join(f"{key} {value:.1e}" for key, value in facts["errors"].items())
    numbers = [f"{facts[key]:.1f}" for key in ("cold_s", "warm_s")]
    sizes = [f"{facts[key] / 1e6:.0f}" for key in ("peak_bytes", "weights_bytes", "arena_bytes")]
    sizes.insert(1, f"{(facts['peak_bytes'] - facts['imports_bytes']) / facts['weights_bytes']:.2f}")
    paper = str(PAPER_KERNELS.get(facts["network"], ""))
    return f"| {' | '.join([facts['network'], str(facts['kernels']), paper, *numbers, *sizes, errors])} |"


def one_network(name: str, targets: list[str], threads: list[str]) -> dict[str, Any]:
    """Compile and run one network; the facts of a line."""
    import onnx  # noqa: F401  (what the compiler imports counts as imports)

    from ourcompiler.compile import compile_network, program_of
    from ourcompiler.onnx_in.load import load
    from ourcompiler.pipeline import optimize
    from ourcompiler.runtime.session import Session
    from ourcompiler.targets import target

    (model,) = resolve(name, {})
    path = materialize(model, user_cache_path("bench"))
    facts: dict[str, Any] = {"network": name, "errors": {}, "imports_bytes": peak_bytes()}
    with tempfile.TemporaryDirectory(dir=user_cache_path("bench")) as folder:
        started = time.perf_counter()
        compile_network(path, Path(folder) / "package", target_name=targets[0])
        facts["cold_s"] = time.perf_counter() - started
        facts["peak_bytes"] = peak_bytes()
        inputs = draw_inputs(model, 0)
        wanted = reference(path, inputs)
        for target_name in targets:
            started = time.perf_counter()
            package = compile_network(path, Path(folder) / "package", target_name=target_name)
            facts.setdefault("warm_s", time.perf_counter() - started)
            for count in threads:
                if target(target_name).is_static:
                    found = run_program(package, inputs, count)
                else:
                    with Session(package, threads=int(count)) as session:
                        found = session.run(inputs)
                facts["errors"][f"{package.target}/{count}t"] = error(found, wanted)
    program = program_of(optimize(load(path)), target(targets[0]))
    facts["kernels"] = len(program.steps)
    facts["weights_bytes"], facts["arena_bytes"] = program.weights_bytes, program.arena_bytes
    return facts


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run_program(package: Package, inputs: dict[str, np.ndarray], threads: str) -> dict[str, np.ndarray]:
    """The results of a package for 64-bit ARM, emulated by qemu where this machine is another."""
    import platform

    emulator = [] if platform.machine() == "aarch64" else ["qemu-aarch64-static"]
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "inputs", Path(folder) / "outputs"
        given.write_bytes(
            b"".join(np.ascontiguousarray(inputs[name]).tobytes() for name, _ in package.inputs)
        )
        files = [package.folder / "weights.bin", given, made]
        program = package.folder / "model"
        subprocess.run([*emulator, str(program), *map(str, files), threads], check=True, capture_output=True)
        data, found, start = made.read_bytes(), {}, 0
        for name, one in package.outputs:
            part = data[start : start + one.byte_count]
            found[name] = np.frombuffer(part, one.dtype.numpy).reshape(one.shape)
            start += one.byte_count
    return found


def reference(path: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """ONNX Runtime's results without its optimisation."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(None, dict(inputs)), strict=True))


def error(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    """The largest relative L2 error of a result."""
    worst = 0.0
    for name, right in wanted.items():
        wide = right.astype(np.float64)
        apart = float(np.linalg.norm(found[name].astype(np.float64) - wide))
        worst = max(worst, apart / max(float(np.linalg.norm(wide)), 1e-30))
    return worst


if __name__ == "__main__":
    main()
