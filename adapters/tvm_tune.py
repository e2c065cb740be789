"""Tune a network's kernels with TVM's MetaSchedule: `python -m adapters.tvm_tune NETWORK.onnx --trials N`.

The kernels that take longest come first; each is finished and written down before the next, so that a killed
session goes on where it was. A trial is built and timed in this very process: nothing is left behind.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from adapters.tvm_compile import unscheduled
from adapters.tvm_database import Record, folder_of, from_record, kernel_key, read, write
from adapters.tvm_machine import VectorUnit, cpu_name, tuning_target, vector_unit
from adapters.tvm_math import use_vector_math
from adapters.tvm_schedule import scheduled

Say = Callable[[str], None]
OPTIONS = {"fast-math": "1"}
TRIALS_AT_ONCE = 16
POPULATION, GENERATIONS = 128, 3
"""A quarter of MetaSchedule's own, which spends ten times as long on its guesses as on measuring them."""
LEAST_SHARE = 0.01
"""Kernels with a smaller part of the network's time are left to the rule."""
LEAST_GAIN = 0.03
COMPARISONS = 3
REPEATS = 5
REPEAT_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Task:
    """A kernel, how often the network calls it, and how long it takes with our rule's schedule."""

    name: str
    function: Any
    calls: int
    rule_ns: int


def tune(source: Path, digest: str, database_folder: Path, trials: int, seconds: float, say: Say) -> Path:
    """Tune the kernels of an ONNX file within `trials` a kernel and `seconds` in all; the database is the
    result: `<digest>.json` in the folder, extended when it is there.
    """
    use_vector_math()
    deadline = time.monotonic() + seconds
    path = database_folder / f"{digest}.json"
    records = read(path)
    target = tuning_target(OPTIONS)
    unit = vector_unit(target, OPTIONS)
    tasks = _tasks(unscheduled(source, target, unit).module, target, unit)
    total = sum(task.calls * task.rule_ns for task in tasks)
    for task in sorted(tasks, key=lambda task: -task.calls * task.rule_ns):
        share, key = task.calls * task.rule_ns / total, kernel_key(task.function)
        done = key in records and records[key].trials >= trials
        left = deadline - time.monotonic()
        if share < LEAST_SHARE or left <= 0:
            break
        if done:
            continue
        records[key] = _tuned(task, key, target, trials, left)
        write(path, records.values())
        say(_told(records[key], share))
    return path


def _told(record: Record, share: float) -> str:
    found = f"{record.tuned_ns / 1000:.0f} us" if record.trace is not None else "none faster"
    return f"{record.name}: {share:.0%} of the time, rule {record.rule_ns / 1000:.0f} us, tuned {found}"


def _tasks(module: Any, target: Any, unit: VectorUnit) -> list[Task]:
    from tvm.s_tir import meta_schedule

    found = meta_schedule.relax_integration.extract_tasks(module, target)
    tasks = []
    for row in found:
        function = row.dispatched[0]["main"]
        rule_ns = _time_ns(scheduled(function, unit), target)
        tasks.append(Task(row.task_name, function, int(row.weight), rule_ns))
    return tasks


def _tuned(task: Task, key: str, target: Any, trials: int, seconds: float) -> Record:
    """Search, then time the best against the rule's schedule once more, side by side."""
    from tvm import ir

    best = _search(task, target, trials, seconds)
    if best is None:
        return Record(key, task.name, task.rule_ns, task.rule_ns, trials)
    trace = str(ir.save_json(best.as_json()))
    record = Record(key, task.name, task.rule_ns, task.rule_ns, trials, trace)
    ours = scheduled(task.function, vector_unit(target, OPTIONS))
    tuned = from_record(task.function, record)
    rule_ns, tuned_ns = _compared_ns(ours, tuned, target)
    if tuned_ns > (1 - LEAST_GAIN) * rule_ns:
        return Record(key, task.name, rule_ns, rule_ns, trials)
    return Record(key, task.name, rule_ns, tuned_ns, trials, trace)


def _compared_ns(ours: Any, tuned: Any, target: Any) -> tuple[int, int]:
    """The times of two schedules, taken in turns."""
    pairs = [(_time_ns(ours, target), _time_ns(tuned, target)) for _ in range(COMPARISONS)]
    rule_ns, tuned_ns = (int(median(times)) for times in zip(*pairs, strict=True))
    return rule_ns, tuned_ns


def _search(task: Task, target: Any, trials: int, seconds: float) -> Any | None:
    """The trace of the fastest trial of MetaSchedule, or None when every one failed."""
    import tvm
    from tvm.s_tir import meta_schedule

    builder, runner = _in_this_process(target, time.monotonic() + seconds)
    module = tvm.IRModule({"main": task.function.with_attr("global_symbol", "main")})
    with tempfile.TemporaryDirectory(prefix="tvm-tune-") as folder:
        context = meta_schedule.TuneContext(
            mod=module,
            target=target,
            space_generator="post-order-apply",
            search_strategy=meta_schedule.search_strategy.EvolutionarySearch(
                population_size=POPULATION, genetic_num_iters=GENERATIONS
            ),
            task_name=task.name,
            num_threads=1,
        )
        database = meta_schedule.tune_tasks(
            tasks=[context],
            task_weights=[1.0],
            work_dir=folder,
            max_trials_global=trials,
            num_trials_per_iter=TRIALS_AT_ONCE,
            builder=builder,
            runner=runner,
            database="memory",
            measure_callbacks=[  # not RemoveBuildArtifact: it removes the folder of a file, and there is none
                meta_schedule.measure_callback.AddToDatabase(),
                meta_schedule.measure_callback.UpdateCostModel(),
            ],
        )
        found = database.query_tuning_record(module, target, "main")
    return None if found is None else found.trace


def _in_this_process(target: Any, deadline: float) -> tuple[Any, Any]:
    """A builder and a runner without processes of their own; after the deadline every trial fails."""
    built: dict[str, Any] = {}

    def build(module: Any) -> str:
        if time.monotonic() > deadline:
            raise TimeoutError("no time left")
        key = str(len(built))
        built[key] = _compiled(module["main"], target), module["main"]
        return key

    def run(key: str) -> list[float]:
        seconds = _run_ns(*built[key]) / 1e9
        built[key] = None  # its place stays, since keys are counted
        return [seconds]

    return _builder(build), _runner(run)


def _builder(build: Callable[[Any], str]) -> Any:
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule import builder

    @derived_object
    class Builder(builder.PyBuilder):  # type: ignore[misc]
        def build(self, build_inputs: Any) -> Any:
            return [builder.BuilderResult(*_or_fault(build, row.mod)) for row in build_inputs]

    return Builder()


def _runner(run: Callable[[str], list[float]]) -> Any:
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule import runner

    @derived_object
    class Future(runner.PyRunnerFuture):  # type: ignore[misc]
        def __init__(self, result: Any) -> None:
            self._result = result

        def done(self) -> bool:
            return True

        def result(self) -> Any:
            return self._result

    @derived_object
    class Runner(runner.PyRunner):  # type: ignore[misc]
        def run(self, runner_inputs: Any) -> Any:
            results = [_or_fault(run, row.artifact_path) for row in runner_inputs]
            return [Future(runner.RunnerResult(*result)) for result in results]

    return Runner()


def _or_fault(action: Callable[[Any], Any], operand: Any) -> tuple[Any, str | None]:
    """What the action gives and None, or None and why it failed: a failed trial is a result."""
    try:
        return action(operand), None
    except Exception as fault:
        return None, f"{type(fault).__name__}: {fault}"[:500]


def _time_ns(function: Any, target: Any) -> int:
    return _run_ns(_compiled(function, target), function)


def _compiled(function: Any, target: Any) -> Any:
    import tvm

    return tvm.compile(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}), target=target)[
        "main"
    ]


def _run_ns(compiled: Any, function: Any) -> int:
    """The least time of a call over a few repeats, on operands of ones."""
    import tvm
    from tvm.s_tir.meta_schedule.arg_info import ArgInfo

    operands = [
        tvm.runtime.tensor(np.ones([int(size) for size in row.shape], str(row.dtype)))
        for row in ArgInfo.from_prim_func(function)
    ]
    start = time.perf_counter()
    compiled(*operands)
    first = time.perf_counter() - start
    times = [first]
    for _ in range(REPEATS if first < 1.0 else 0):
        count = max(1, int(REPEAT_SECONDS / max(first, 1e-7)))
        count = min(count, 1000)
        start = time.perf_counter()
        for _ in range(count):
            compiled(*operands)
        times.append((time.perf_counter() - start) / count)
    return int(min(times) * 1e9)


def main(arguments: Mapping[str, Any] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m adapters.tvm_tune", description=__doc__)
    parser.add_argument("network", type=Path, help="an ONNX file with its weights")
    parser.add_argument("--trials", type=int, default=64, help="trials a kernel")
    parser.add_argument("--minutes", type=float, default=10.0, help="time in all")
    parser.add_argument("--into", type=Path, default=folder_of(cpu_name()), help="folder of the databases")
    given = parser.parse_args()
    from models.onnx_file import read_user_model

    digest = read_user_model(given.network, {}).digest
    print(tune(given.network, digest, given.into, given.trials, 60 * given.minutes, print))


if __name__ == "__main__":
    main()
