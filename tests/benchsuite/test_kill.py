"""SIGKILL of a real `bench run` at many points, then --resume: nothing lost, nothing twice, nobody left."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchsuite.journal import Journal, JournalError
from benchsuite.record import Block, RunStatus, Status
from models.tiny import write_convolutions

BLOCKS = 120  # seconds of measuring: a kill at any moment must not come after the end
KILLS = 8
LONGEST_WAIT_SECONDS = 30.0
LIMITS = {
    "block_seconds": 0.01,
    "warm_up_seconds": 0.02,
    "least_blocks": BLOCKS,
    "most_blocks": BLOCKS,
}


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """`bench run` of a network of about a millisecond, with a journal and a cache of its own."""
    network = tmp_path / "probe.onnx"
    write_convolutions(network, channels=16, pixels=28, layers=2)
    limits = [part for name, value in LIMITS.items() for part in ("--set", f"{name}={value}")]
    places = ["--journal", str(tmp_path / "journal.db"), "--cache", str(tmp_path / "cache"), "--quiet"]
    return [
        sys.executable,
        "-m",
        "benchsuite.cli.main",
        "run",
        "--models",
        str(network),
        "--frameworks",
        "ort,ort-noopt",
        *limits,
        *places,
    ]


def blocks_in(journal_path: Path) -> tuple[Block, ...]:
    """All committed blocks; none while there is no journal or no run yet."""
    try:
        with Journal(journal_path, must_exist=True) as journal:
            groups = [group for run in journal.runs() for group in journal.groups(run.number)]
    except JournalError:
        return ()
    assert len(groups) <= 1, "a resumed run is the same run"
    return groups[0].blocks if groups else ()


def wait_for_blocks(process: subprocess.Popen[bytes], journal_path: Path, count: int) -> None:
    start = time.monotonic()
    while len(blocks_in(journal_path)) < count and process.poll() is None:
        assert time.monotonic() - start < LONGEST_WAIT_SECONDS
        time.sleep(0.02)


def kill(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """End the harness without a warning; returns the workers that it had."""
    try:
        workers = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        workers = []
    process.kill()
    assert process.wait() == -signal.SIGKILL
    return workers


def test_a_killed_run_is_resumed(command: list[str], tmp_path: Path) -> None:
    journal_path = tmp_path / "journal.db"
    chance = random.Random(2)
    kept: tuple[Block, ...] = ()
    seen_workers = 0
    for number in range(KILLS):
        resume = ["--resume"] if kept else []
        process = subprocess.Popen([*command, *resume], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if number % 3 == 2:
            time.sleep(chance.uniform(0.3, 2.0))  # anywhere: starting, loading, warming up
        else:
            wait_for_blocks(process, journal_path, len(kept) + chance.randint(1, 2))
            time.sleep(chance.uniform(0.0, 0.03))  # anywhere in a block
        workers = kill(process)
        _, alive = psutil.wait_procs(workers, timeout=5)
        assert alive == []
        seen_workers += len(workers)
        blocks = blocks_in(journal_path)
        assert blocks[: len(kept)] == kept
        kept = blocks
    assert seen_workers >= KILLS
    assert 0 < len(kept) < BLOCKS
    check_end(command, journal_path, kept)


def check_end(command: list[str], journal_path: Path, kept: tuple[Block, ...]) -> None:
    """The last resume measures what is missing, prints the table, and is a success."""
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "probe" in done.stdout
    blocks = blocks_in(journal_path)
    assert blocks[: len(kept)] == kept
    assert [block.number for block in blocks] == list(range(BLOCKS))
    with Journal(journal_path) as journal:
        run = journal.run(1)
        assert run.status is RunStatus.COMPLETE
        outcomes = [cell.outcome for cell in journal.cells(1)]
    assert [outcome.status if outcome else None for outcome in outcomes] == [Status.OK, Status.OK]
