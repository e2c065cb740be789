"""Faults that strike a real `bench run` on a test phone, and what must hold afterwards."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchsuite.gate import TOLERANCES
from benchsuite.journal import Journal, JournalError
from benchsuite.record import Block, GroupRecord, RunStatus, Status
from tests.phone.host import AdbHome, adb_binary
from tests.phone.networks import NETWORKS
from tests.phone.phone import Phone

USED = ("convolutions", "grouped")
BLOCKS = 3
SETTINGS = (
    "block_seconds=0.02",
    "warm_up_seconds=0.02",
    "probe_seconds=0",
    "settle_seconds=2",
)
DISK_BYTES = 48 << 20
PATIENCE_S = 300.0
LOOK_S = 0.05
FILLER = "filler"
INCOMPLETE = 4
FIRST_RUN = 1
KEPT = "every finished block is kept"

Samples = dict[tuple[str, int, str], tuple[int, ...]]
"""Timed nanoseconds by network, block, framework."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one fault: how the run ended, and what was lost, wrong or left over."""

    kind: str
    at_s: float
    lasted_s: float
    blocks_before: int
    ending: str
    all_s: float
    wrong: tuple[str, ...]


def cut(phone: Phone, lasts_s: float) -> None:
    """The cable is pulled, and plugged in again."""
    phone.cable.cut()
    time.sleep(lasts_s)
    phone.cable.plug()


def hang(phone: Phone, lasts_s: float) -> None:
    """Nothing moves and nobody is told."""
    phone.cable.hang()
    time.sleep(lasts_s)
    phone.cable.plug()


def kill_adbd(phone: Phone, lasts_s: float) -> None:
    """Android starts it again at once, and ends what it had started."""
    phone.kill_adbd()


def power(phone: Phone, lasts_s: float) -> None:
    """Power is lost, and comes back: another boot."""
    phone.off()
    time.sleep(lasts_s)
    phone.on()


def fill(phone: Phone, lasts_s: float) -> None:
    """Something else takes all the room, and gives it back."""
    place = phone.tmp / FILLER
    with suppress(OSError), place.open("wb", buffering=0) as file:
        while file.write(b"\1" * 65536) == 65536:
            pass
        while file.write(b"\1"):
            pass
    time.sleep(lasts_s)
    place.unlink()


FAULTS: Mapping[str, Callable[[Phone, float], None] | None] = {
    "cut": cut,
    "hang": hang,
    "adbd": kill_adbd,
    "power": power,
    "full": fill,
    "kill": None,
}
"""None: the host's own process is killed, the phone never learns of it."""


class Rig:
    """A phone, a server, a cache: everything that all faults share. Every run has a journal of its own."""

    def __init__(
        self,
        folder: Path,
        home: AdbHome | None = None,
        *,
        cache: Path | None = None,
        networks: Sequence[str] = USED,
        blocks: int = BLOCKS,
    ) -> None:
        self._folder, self._own = folder, home is None
        self._cache = cache or folder / "cache"
        self.home = home or AdbHome(folder / "adb", str(adb_binary()))
        self.phone = Phone(data_bytes=DISK_BYTES)
        self.phone.authorise(self.home.public_key)
        self.home.connect(self.phone.serial)
        self.networks, self._blocks, self._number = networks, blocks, 0
        self._files = ",".join(str(NETWORKS[name](folder / f"{name}.onnx")) for name in networks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the phone, and the server unless it is another's."""
        self.home.disconnect(self.phone.serial)
        self.phone.close()
        if self._own:
            self.home.close()

    def undisturbed_seconds(self) -> float:
        """How long a run takes when nothing happens; what must be compiled is compiled before."""
        for _ in range(2):
            start = time.monotonic()
            assert self.finish(self.start_new()) == 0, self.said
            seconds = time.monotonic() - start - self._seconds_to_first_call
        return seconds

    def strike(self, kind: str, at_s: float, lasts_s: float, blocks: int | None = None) -> Outcome:
        """One run with one fault, so long after its first call, or once so many blocks are in the journal;
        resumed when it ended incomplete.
        """
        shutil.rmtree(self.phone.tmp / "bench/files", ignore_errors=True)
        self.home.connect(self.phone.serial)  # the last fault may have struck after its run had ended
        start = time.monotonic()
        child = self.start_new()
        while child.poll() is None and time.monotonic() < start + self._seconds_to_first_call + at_s:
            if blocks is not None and len(self._samples()) >= blocks:
                break
            time.sleep(LOOK_S)
        before = self._samples()
        fault = FAULTS[kind]
        if fault is None:
            child.kill()
        else:
            fault(self.phone, lasts_s)
        ending, wrong = self._after(self.finish(child), kind)
        wrong += self._check(before)
        spent = time.monotonic() - start
        return Outcome(kind, at_s, lasts_s, len(before), ending, spent, tuple(wrong))

    def start_new(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a run with a journal of its own."""
        self._number += 1
        return self._start(*words)

    def finish(self, child: subprocess.Popen[bytes]) -> int:
        """Its exit code; one that does not end is ended, and that is its code."""
        try:
            return child.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    @property
    def said(self) -> str:
        """All that the last run said, resumed or not."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def groups(self) -> tuple[GroupRecord, ...]:
        """What the journal's first run holds; nothing before there is a run. When the fault struck after that
        was complete, `--resume` begins a second one.
        """
        if not self._journal.exists():
            return ()
        try:
            with Journal(self._journal) as book:
                return book.groups(FIRST_RUN)
        except JournalError:
            return ()

    # --- one run -------------------------------------------------------------------------------------------

    @property
    def _journal(self) -> Path:
        return self._folder / f"{self._number}.db"

    @property
    def _log(self) -> Path:
        return self._folder / f"{self._number}.log"

    @property
    def environment(self) -> dict[str, str]:
        """Of a `bench` that sees this phone, and keeps its own notes and locks."""
        state = {"BENCH_DEVICE_STATE": str(self._folder / "state")}
        return {**os.environ, **self.home.environment, **state}

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `bench run`; returns once it has made its first call to the phone, or has ended."""
        moved, start = self.phone.cable.moved_bytes, time.monotonic()
        counts = (f"least_blocks={self._blocks}", f"most_blocks={self._blocks}")
        settings = [word for one in (*SETTINGS, *counts) for word in ("--set", one)]
        asked = ["--models", self._files, "--frameworks", "ours", "--device", self.phone.serial, *settings]
        places = ["--journal", str(self._journal), "--cache", str(self._cache)]
        with self._log.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "benchsuite.cli.main", "run", *asked, *places, *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while child.poll() is None and self.phone.cable.moved_bytes == moved:
            time.sleep(0.01)
        self._seconds_to_first_call = time.monotonic() - start
        return child

    def _after(self, code: int, kind: str) -> tuple[str, list[str]]:
        """How it ended, and what is wrong with that; what may be resumed is resumed."""
        if code == 0:
            return "completed", []
        if code == -signal.SIGKILL:
            wrong = [] if FAULTS[kind] is None else [f"did not end in {PATIENCE_S:.0f} s"]
        elif code == INCOMPLETE and KEPT in self.said:
            wrong = []
        else:
            wrong = [f"exit code {code}: {' '.join(self.said.split())[-200:]}"]
        again = self.finish(self._start("--resume"))
        if again:
            wrong.append(f"resumed, exit code {again}: {' '.join(self.said.split())[-200:]}")
        return f"exit code {code}, then resumed", wrong

    # --- what must hold ------------------------------------------------------------------------------------

    def _samples(self) -> Samples:
        return {
            (group.key.model, block.number, name): turn.run_ns
            for group in self.groups
            for block in group.blocks
            for name, turn in block.turns.items()
        }

    def _check(self, before: Samples) -> list[str]:
        after = self._samples()
        lost = [key for key, run_ns in before.items() if after.get(key) != run_ns]
        wrong = [f"lost or changed: {key}" for key in lost]
        groups = self.groups
        if len(groups) != len(self.networks):
            wrong.append(f"{len(groups)} groups in the journal")
        for group in groups:
            wrong += [f"{group.key.model}: {what}" for what in unsound(group, self._blocks)]
        with Journal(self._journal) as book:
            wrong += [
                f"run {one.number} is {one.status}"
                for one in book.runs()
                if one.status is not RunStatus.COMPLETE
            ]
        return wrong + self._left_over()

    def _left_over(self) -> list[str]:
        """Processes, workers' folders and settings that the run did not clear away."""
        deadline = time.monotonic() + 5.0
        while (running := self.phone.processes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        wrong = [f"still running: {text[:100]}" for text in running.values()]
        folder = self.phone.tmp / "bench/workers"
        wrong += [f"left: workers/{one.name}" for one in (folder.iterdir() if folder.exists() else ())]
        notes = list((self._folder / "state").glob("*.json"))
        wrong += [f"not put back: {one.read_text(encoding='utf-8')[:100]}" for one in notes]
        return wrong


def unsound(group: GroupRecord, blocks: int) -> list[str]:
    """What is wrong with the numbers of a group that has ended."""
    numbers = [block.number for block in group.blocks]
    # A worker that had to be started anew runs one block more: its outputs are still to be judged.
    whole = numbers == list(range(len(numbers))) and len(numbers) >= blocks
    wrong = [] if whole else [f"blocks {numbers}"]
    for name, cell in group.cells.items():
        outcome, loading = cell.outcome, cell.loading
        if outcome is None or outcome.status is not Status.OK or loading is None:
            wrong.append(f"{name} is {outcome}")
            continue
        if outcome.error is None or not outcome.error <= TOLERANCES["fp32"]:
            wrong.append(f"{name}: outputs differ by {outcome.error}")
        wrong += [one for block in group.blocks for one in _unsound(block, name, loading.iterations)]
    return wrong


def _unsound(block: Block, name: str, iterations: int) -> list[str]:
    """A turn is whole, or it is not there: as many samples as were asked for, none of them nothing."""
    turn = block.turns.get(name)
    if turn is None:
        return [f"block {block.number} lacks {name}"]
    whole = len(turn.run_ns) == len(turn.input_ns) == iterations and min(turn.run_ns) > 0
    return [] if whole else [f"block {block.number} of {name} is not whole"]
