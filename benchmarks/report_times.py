"""How long reports take to draw, as a user waits for them: a large run in every format, and a year of nights.

    python benchmarks/report_times.py

18 networks × 6 frameworks × 2 thread counts with 100 blocks each; 365 nights of 18 networks × 4 frameworks.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np

import benchsuite.journal
from benchsuite.device.protocol import Telemetry
from benchsuite.journal import Journal
from benchsuite.policy import Policy
from benchsuite.record import (
    Block,
    CellKey,
    CellRecord,
    GroupKey,
    Loading,
    Outcome,
    RunOptions,
    RunStatus,
    Status,
    Turn,
)
from models.zoo import zoo_rows

FRAMEWORKS = ("ours", "tflite", "mnn", "tvm", "openvino", "ort")
FACTS = {
    "processor": "made up",
    **{f"ceiling.{threads}t.flops_per_second": 10**11 * threads for threads in (1, 2)},
    **{f"ceiling.{threads}t.bytes_per_second": 2 * 10**10 for threads in (1, 2)},
}
START = datetime(2026, 1, 1, 1, 30, tzinfo=UTC)
LIMITS = {"rich": 2.0, "html": 5.0, "nights": 10.0}
MOST_PAGE_BYTES = 3_000_000
ROUNDS = 3


def main() -> None:
    """Make the journals, draw them, print seconds beside their limits; exit code 1 when one is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=365)
    parser.add_argument("--folder", type=Path, help="Keep the journals and pages here.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = asked.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(0 if all([*large_run(folder), history(folder, asked.nights)]) else 1)


def large_run(folder: Path) -> list[bool]:
    """18 networks × 6 frameworks × 2 thread counts with 100 blocks each, in every format."""
    journal = folder / "large.db"
    if not journal.exists():
        write_night(journal, 0, (1, 2), blocks=100, iterations=5, command=("bench", "run"))
    fine = []
    for form in ("rich", "md", "csv", "json", "latex", "html"):
        out = folder / f"large.{form}"
        seconds = [
            timed("report", "--journal", str(journal), "--format", form, "--out", str(out))
            for _ in range(ROUNDS)
        ]
        fine.append(said(f"large run, {form}", median(seconds), LIMITS.get(form)))
        print(
            f"  {out.stat().st_size / 1e6:.2f} MB; all rounds: {', '.join(f'{one:.2f}' for one in seconds)} s"
        )
    size = (folder / "large.html").stat().st_size
    print(f"page of the large run: {size / 1e6:.2f} MB, limit {MOST_PAGE_BYTES / 1e6:.0f} MB")
    return [*fine, size <= MOST_PAGE_BYTES]


def history(folder: Path, nights: int) -> bool:
    """A page with the history of so many nights of 18 networks × 4 frameworks, ten blocks each."""
    journal = folder / f"nights-{nights}.db"
    if not journal.exists():
        for night in range(nights):
            write_night(
                journal, night, (2,), blocks=10, iterations=3, command=("bench", "nightly"), frameworks=4
            )
    seconds = timed(
        "report", "--journal", str(journal), "--format", "html", "--out", str(folder / "nights.html")
    )
    return said(f"page with {nights} nights", seconds, LIMITS["nights"])


def timed(*typed: str) -> float:
    """Wall seconds of one command, as a process of its own."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "benchsuite.cli.main", *typed], check=True)
    return time.monotonic() - start


def said(what: str, seconds: float, limit: float | None) -> bool:
    """Print a figure beside its limit; returns whether it is kept."""
    bound = f", limit {limit:.0f} s" if limit else ""
    print(f"{what:24} {seconds:6.2f} s{bound}")
    return limit is None or seconds <= limit


def write_night(
    journal: Path,
    night: int,
    threads: tuple[int, ...],
    *,
    blocks: int,
    iterations: int,
    command: tuple[str, ...],
    frameworks: int = len(FRAMEWORKS),
) -> None:
    """Add one run of made-up samples: 2 % of noise, and from night 200 on MNN is 5 % slower."""
    benchsuite.journal._now = lambda: (START + timedelta(days=night)).isoformat()
    names, models = FRAMEWORKS[-frameworks:], [row.name for row in zoo_rows()]
    options = RunOptions(tuple(models), names, "local", threads, "fp32", 0, policy=asdict(Policy()))
    keys = [GroupKey(model, "local", count, "fp32") for model in models for count in threads]
    cells = [made_cell(key, name) for key in keys for name in names]
    random = np.random.default_rng(night)
    with Journal(journal) as book:
        book._db.execute("PRAGMA synchronous = OFF")  # nobody pulls this cable
        run = book.start_run(options, command, FACTS, tuple(cells))
        book.start_session(run, {})
        for cell in cells:
            book.save_cell(run, cell)
        for key in keys:
            for number in range(blocks):
                book.save_block(run, key, made_block(key, names, number, iterations, random, night))
        book.finish_run(run, RunStatus.COMPLETE)


def made_cell(key: GroupKey, name: str) -> CellRecord:
    """A cell that went well."""
    facts = {"version": "1.0", "threads": str(key.threads)}
    loading = Loading(1.0, 10**7, 10**8, (10**7,) * 5, 5, 2**28, facts, {"converter": "none"})
    return CellRecord(CellKey(key, name), "0" * 16, Outcome(Status.OK, error=1e-6), loading, 2**29)


def made_block(
    key: GroupKey,
    names: tuple[str, ...],
    number: int,
    iterations: int,
    random: np.random.Generator,
    night: int,
) -> Block:
    """Samples around a latency that belongs to the network and the framework."""
    base = 2e7 + 3e6 * len(key.model) / key.threads
    turns = {}
    for position, name in enumerate(names):
        slower = 1.05 if night >= 200 and name == "mnn" else 1.0
        typical = base * (1 + 0.2 * position) * slower
        samples = typical * np.exp(0.02 * random.standard_normal(iterations))
        turns[name] = Turn(
            position, tuple(int(one) for one in samples), (1000,) * iterations, int(samples.sum())
        )
    now = Telemetry(clock_mhz=3000.0, load_average=1.0, busy_seconds=1.0 * number, total_seconds=2.0 * number)
    return Block(number, 0, turns, now, now)


if __name__ == "__main__":
    main()
