"""Does bench measure what a framework's own benchmark tool measures? Both in turns, on the same file.

    python benchmarks/own_tools.py --models quick --tools openvino,tflite --threads 1,2 --rounds 12

Every round starts both anew (a fresh process has its own luck with memory), on the same cores, with the same
threads, warm-up and number of timed runs, in random order, and takes the statistic that the tool reports.
ONNX Runtime's and MNN's tools are not in their wheels: `--onnxruntime-source DIR` and `--mnn-source DIR` name
checkouts of their sources, from which they are built against the very library that bench measures.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from own_tools_table import TOOLS, Job, Sources, Tool, time_tool
from platformdirs import user_cache_path
from rich.console import Console

from adapters.catalogue import adapter
from adapters.protocol import Prepared, Setting
from benchsuite.contestant import worker_cores
from benchsuite.device.host import host_facts
from benchsuite.device.local import LocalDevice
from benchsuite.group import inputs_file
from benchsuite.loaded import loaded
from benchsuite.policy import Policy
from benchsuite.prepare import prepare
from benchsuite.stats import Floats, Interval, least_blocks, speedup
from models.catalogue import resolve
from models.errors import BenchError
from models.materialize import materialize
from models.model import Model
from reports.as_markdown import markdown
from reports.as_rich import draw_rich
from reports.table import Style, Table, TableCell, cells

BAR = 0.03
TURN_SECONDS = 2.0
LEAST_RUNS, MOST_RUNS = 10, 2000
POLICY = Policy(warm_up_seconds=0.3)
COLUMNS = cells(
    "network", "tool", "threads", "statistic", "bench ms", "tool ms", "bench ÷ tool", "within 3 %"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One network in one framework: milliseconds of every round on both sides, or why there are none."""

    model: str
    tool: Tool
    threads: int
    ours_ms: Floats
    tool_ms: Floats
    failure: str = ""

    def ratio(self) -> Interval:
        """Our time ÷ the tool's, with its interval."""
        return speedup(self.ours_ms, self.tool_ms)


def main() -> None:
    """Measure every network and thread count with every tool; print a table, or write it to `--report`."""
    asked = _arguments().parse_args()
    models = resolve(asked.models)
    sources = Sources(asked.onnxruntime_source, asked.mnn_source)
    rows = []
    with closing(LocalDevice()) as device, tempfile.TemporaryDirectory() as folder:
        for name in asked.tools.split(","):
            for model in models:
                for threads in map(int, asked.threads.split(",")):
                    row = measure(device, TOOLS[name], model, threads, asked, sources, Path(folder))
                    rows.append(row)
                    print(_progress(row), file=sys.stderr, flush=True)
    table = _table(rows, " ".join(["python", *sys.argv]))
    if asked.report is None:
        draw_rich(table, Console())
    else:
        asked.report.write_text(markdown(table), encoding="utf-8")


def measure(
    device: LocalDevice,
    tool: Tool,
    model: Model,
    threads: int,
    asked: argparse.Namespace,
    sources: Sources,
    folder: Path,
) -> Row:
    """Both sides in turns; what fails is written into the row."""
    setting, row = Setting(threads, "fp32"), adapter(tool.framework)
    ours, theirs = list[float](), list[float]()
    try:
        path = materialize(model, asked.cache)
        prepared = prepare(row, model, path, setting, cache=asked.cache, policy=POLICY, device=device)
        inputs = inputs_file(model, 0, asked.cache)
        job = _job(device, tool, model, prepared, inputs, setting, asked, folder, sources)
        order = random.Random(0)
        for number in range(asked.rounds):
            for side in order.sample((0, 1), 2):
                if side:
                    theirs.append(time_tool(tool, job))
                else:
                    ours.append(_time_ours(device, tool, model, setting, asked.cache, job))
            print(f"{model.name}: round {number + 1} of {asked.rounds}", end="\r", file=sys.stderr)
    except BenchError as error:
        return Row(model.name, tool, threads, np.empty(0), np.empty(0), str(error))
    return Row(model.name, tool, threads, np.asarray(ours), np.asarray(theirs))


def _job(
    device: LocalDevice,
    tool: Tool,
    model: Model,
    prepared: Prepared,
    inputs: Path,
    setting: Setting,
    asked: argparse.Namespace,
    folder: Path,
    sources: Sources,
) -> Job:
    """What both sides do: as many runs as fit into a turn."""
    with loaded(device, adapter(tool.framework), model, setting, policy=POLICY, cache=asked.cache) as held:
        typical_ns = float(np.median(held.warm_up_ns))
    runs = max(LEAST_RUNS, min(MOST_RUNS, round(asked.turn_seconds * 1e9 / typical_ns)))
    cores = worker_cores(device, setting.threads, POLICY)
    warm_up = max(2, round(POLICY.warm_up_seconds * 1e9 / typical_ns))
    return Job(prepared, inputs, setting.threads, cores, warm_up, runs, folder, sources)


def _time_ours(
    device: LocalDevice, tool: Tool, model: Model, setting: Setting, cache: Path, job: Job
) -> float:
    """The tool's statistic of our own samples, milliseconds."""
    with loaded(device, adapter(tool.framework), model, setting, policy=POLICY, cache=cache) as held:
        samples = held.ask(do="run", iterations=job.runs, rewarm=job.warm_up)["run_ns"]
    return tool.statistic.of(samples) / 1e6


def _progress(row: Row) -> str:
    if row.failure:
        return f"{row.model} {row.tool.framework} {row.threads}: {row.failure}"
    ratio = row.ratio()
    shown = f"{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
    return f"{row.model} {row.tool.framework} {row.threads} threads: {shown}"


def _table(rows: Sequence[Row], command: str) -> Table:
    facts = host_facts()
    remarks = (
        f"{facts['processor']} ({facts['isa']}), {facts['usable_cores']} cores, {date.today()}",
        f"`{command}`",
    )
    title = "bench beside the frameworks' own benchmark tools"
    drawn = tuple(_drawn(row) for row in rows)
    return Table(title, COLUMNS, drawn, remarks=remarks, text_columns=2, key_columns=2)


def _drawn(row: Row) -> tuple[TableCell, ...]:
    start = cells(row.model, row.tool.title, str(row.threads), row.tool.statistic.value)
    if row.failure:
        reason = TableCell(row.failure.splitlines()[0], Style.MISSING)
        return (*start, *(TableCell("–", Style.MISSING),) * 3, reason)
    ratio = row.ratio()
    return (
        *start,
        TableCell(f"{np.median(row.ours_ms):.3f}"),
        TableCell(f"{np.median(row.tool_ms):.3f}"),
        TableCell(f"{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"),
        TableCell("yes" if abs(ratio.estimate - 1) <= BAR else "no"),
    )


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default="quick")
    parser.add_argument("--tools", default=",".join(TOOLS), help=f"of {', '.join(TOOLS)}")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=max(12, least_blocks()))
    parser.add_argument("--turn-seconds", type=float, default=TURN_SECONDS)
    parser.add_argument("--cache", type=Path, default=user_cache_path("bench"))
    parser.add_argument("--onnxruntime-source", type=Path)
    parser.add_argument("--mnn-source", type=Path)
    parser.add_argument("--report", type=Path, help="write Markdown to this file")
    return parser


if __name__ == "__main__":
    main()
