"""Measure one group: prepare, load, interleaved blocks in seeded random order, gate, status of every cell."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from adapters.environments import make
from adapters.external import External, converter_of
from adapters.protocol import Adapter, Prepared
from benchsuite.client import WorkerFailed
from benchsuite.contestant import Contestant, Task
from benchsuite.context import Context
from benchsuite.device.protocol import DeviceLost
from benchsuite.plan import PlannedGroup
from benchsuite.prepare import prepare
from benchsuite.record import Block, CellRecord, Outcome, Status, Turn
from benchsuite.reference import Outputs, reference_outputs
from benchsuite.stats import Floats, block_medians, least_blocks
from benchsuite.steady import NANO, is_measured, widest_interval
from models.cache import is_complete, publish
from models.draw import draw_inputs
from models.errors import BenchError
from models.materialize import materialize
from models.model import Model

WEIGHT_COPIES = 2.5
"""Resident memory of a worker beside the weights' own size, before it is known: packed copies and
activations.
"""
WORKER_BASE_BYTES = 400 * 2**20
INPUTS_NAME = "inputs.npz"
LARGEST_ELEMENT_BYTES = 8


class GroupRunner:
    """Measures one group and leaves a status on each of its cells, or leaves it unfinished when time is
    up.
    """

    def __init__(self, context: Context, group: PlannedGroup, cells: tuple[CellRecord, ...]) -> None:
        self._context, self._group = context, group
        self._cells = {cell.key.framework: cell for cell in cells}
        self._blocks = list(context.journal.blocks(context.run, group.key))
        self._contestants: list[Contestant] = []
        self._in_turns = False
        self._started = context.clock()
        self._reference: Outputs | None = None
        self._paths: tuple[Path, Path]
        self._share_seconds: float | None = None

    def run(self, share_seconds: float | None = None) -> bool:
        """Measure, if possible within a share of the budget; returns False when the budget ended before the
        least that makes sense was measured.
        """
        self._share_seconds = share_seconds
        with self._workers():
            try:
                self._paths = self._network()
            except BenchError as error:
                self._fail_all(error)
                return True
            self._enter()
            finished = self._measure()
            if finished:
                self._conclude()
            return finished

    # --- before the first block ----------------------------------------------------------------------------

    def _network(self) -> tuple[Path, Path]:
        """The network and its inputs as files, made on first use."""
        context, model = self._context, self._group.model
        with context.accounts.spend("preparing"):
            context.progress.step(f"{model.name}: getting the network ready")
            path = materialize(model, context.cache)
            return path, inputs_file(model, context.seed, context.cache)

    def _enter(self) -> None:
        """Prepare, then load, every framework that has no status yet.

        All conversions come before the first load: they need the memory, and nothing is measured meanwhile.
        """
        open_cells = [(one, self._cells[one.name]) for one in self._group.adapters]
        waiting = [(one, cell) for one, cell in open_cells if cell.outcome is None]
        tasks = [(one, cell, self._task(one, cell)) for one, cell in waiting]
        for adapter, cell, task in tasks:
            if task is not None:
                self._load(Contestant(self._context, adapter, cell, task))

    def _task(self, adapter: Adapter, cell: CellRecord) -> Task | None:
        """Convert the network and bring it to the device; None, with the cell closed, when that fails."""
        context, setting = self._context, self._group.setting
        start = context.clock()
        try:
            with context.accounts.spend("preparing"):
                self._step(f"preparing {adapter.name}")
                prepared = self._prepare(adapter)
                remote = context.device.push(prepared.path, prepared.companions)
                remote_inputs = context.device.push(self._paths[1])
        except WorkerFailed as failure:
            self._close_cell(cell, failure.outcome)
        except DeviceLost:
            raise  # the next framework would fare no better: the run ends, and can be resumed
        except Exception as error:  # adapters raise what they like; a journal's trouble comes up again below
            self._close_cell(cell, failed(error))
        else:
            return Task(prepared, remote, remote_inputs, setting, context.clock() - start)
        return None

    def _prepare(self, adapter: Adapter) -> Prepared:
        context = self._context
        prepared = prepare(
            converter_of(adapter),
            self._group.model,
            self._paths[0],
            self._group.setting,
            cache=context.cache,
            policy=context.policy,
            device=context.device,
            say=self._step,
        )
        make(adapter.environment, context.progress.note)
        # Its command tells a program of one's own, not the options of whose converter it borrows.
        return replace(prepared, options={}) if isinstance(adapter, External) else prepared

    def _step(self, text: str) -> None:
        self._context.progress.step(f"{self._group.model.name}: {text}")

    def _load(self, contestant: Contestant) -> None:
        self._contestants.append(contestant)
        self._step(f"loading and warming up {contestant.name}")
        self._guarded(contestant, partial(self._start, contestant))

    def _start(self, contestant: Contestant) -> None:
        self._make_room(contestant)
        contestant.start()

    def _make_room(self, contestant: Contestant) -> None:
        """End other workers, those first that load again in the least time, until one more fits."""
        weights, known = self._group.model.weight_byte_count, contestant.memory_loaded_bytes
        needed = (max(known, weights) if known else int(weights * WEIGHT_COPIES)) + WORKER_BASE_BYTES
        others = [one for one in self._contestants if one.loaded and one is not contestant]
        for other in sorted(others, key=lambda one: one.load_ns):
            available = self._context.device.telemetry().memory_available_bytes
            if available is None or needed + self._mapped_bytes(others) <= available:
                return
            self._say_in_turns()
            self._guarded(other, partial(self._wind_up, other), may_restart=False)

    def _mapped_bytes(self, others: Sequence[Contestant]) -> int:
        """Weights that loaded workers read from a file that is mapped: known by being smaller than those.

        The kernel counts them as free, and would drop them for the next worker: every inference would then
        read them from the disk.
        """
        weights = self._group.model.weight_byte_count
        sizes = [one.memory_loaded_bytes for one in others if one.loaded]
        return sum(weights - one for one in sizes if 0 < one < weights)

    def _say_in_turns(self) -> None:
        if not self._in_turns:
            self._in_turns = True
            self._context.progress.note(
                f"{self._group.model.name}: not enough memory for all workers, loading in turns"
            )

    # --- blocks --------------------------------------------------------------------------------------------

    def _measure(self) -> bool:
        """Run blocks until there are enough; returns False when the budget ended before that."""
        while self._alive():
            # The gate needs outputs of a timed run, so a resumed group or a restarted worker runs once more.
            judgeable = all(one.judgeable for one in self._alive())
            if judgeable and (self._enough() or self._used_its_share()):
                return True
            if self._out_of_time():
                return judgeable and self._has_interval()
            self._block()
        return True

    def _block(self) -> None:
        context, key = self._context, self._group.key
        number = self._blocks[-1].number + 1 if self._blocks else 0
        order = [contestant for contestant in self._contestants if contestant.alive]
        random.Random(f"{context.seed}/{key}/{number}").shuffle(order)
        before = context.device.ready(context.policy, self._step)
        turns: dict[str, Turn] = {}
        for position, contestant in enumerate(order):
            turn = self._turn(contestant, position, last=contestant is order[-1])
            if turn is not None:
                turns[contestant.name] = turn
        if not turns:
            return
        block = Block(number, context.session, turns, before, context.device.telemetry())
        context.journal.save_block(context.run, key, block)
        self._blocks.append(block)
        self._report()

    def _turn(self, contestant: Contestant, position: int, *, last: bool) -> Turn | None:
        """One turn; a worker that dies in it is started anew as often as the policy allows."""
        turns: list[Turn] = []
        self._guarded(contestant, lambda: turns.append(self._take_turn(contestant, position, last=last)))
        return turns[0] if turns else None

    def _take_turn(self, contestant: Contestant, position: int, *, last: bool) -> Turn:
        if not contestant.loaded:
            self._start(contestant)
        return contestant.turn(position, last=last)

    def _guarded(
        self, contestant: Contestant, action: Callable[[], None], *, may_restart: bool = True
    ) -> None:
        """Do something with a worker; a failure becomes a restart for the next block, or the cell's
        status.
        """
        try:
            action()
        except WorkerFailed as failure:
            measured = any(contestant.name in block.turns for block in self._blocks)
            if may_restart and measured and contestant.cell.restarts < self._context.policy.restarts:
                contestant.restarted()
                self._context.progress.note(
                    f"{contestant.cell.key}: {failure.outcome.reason}; starting it once more"
                )
                return
            self._end(contestant, failure.outcome)
        except (BenchError, OSError) as error:
            self._end(contestant, failed(error))

    def _end(self, contestant: Contestant, outcome: Outcome) -> None:
        contestant.kill()
        contestant.conclude(outcome)
        values = self._medians_of(contestant.name)
        self._context.progress.cell_done(
            contestant.cell, float(np.median(values)) / NANO if len(values) else None
        )

    def _alive(self) -> list[Contestant]:
        return [contestant for contestant in self._contestants if contestant.alive]

    def _medians(self) -> dict[str, Floats]:
        """Block medians of the frameworks still measured, over the blocks that have all of them."""
        names = [contestant.name for contestant in self._alive()]
        paired = [block for block in self._blocks if all(name in block.turns for name in names)]
        return {name: block_medians([block.turns[name].run_ns for block in paired]) for name in names}

    def _enough(self) -> bool:
        return is_measured(self._medians(), self._context.clock() - self._started, self._context.policy)

    def _used_its_share(self) -> bool:
        elapsed = self._context.clock() - self._started
        spent = self._share_seconds is not None and elapsed >= self._share_seconds
        return spent and self._has_interval()

    def _has_interval(self) -> bool:
        """Whether what was measured is worth a row: blocks for an interval, or all that were asked for."""
        return len(self._blocks) >= min(least_blocks(), self._context.policy.least_blocks)

    def _out_of_time(self) -> bool:
        left = self._context.seconds_left()
        return left is not None and left <= 0

    def _report(self) -> None:
        medians = {name: values for name, values in self._medians().items() if len(values)}
        seconds = {name: float(np.median(values)) / NANO for name, values in medians.items()}
        width = widest_interval(medians) if len(self._blocks) >= least_blocks() and medians else None
        self._context.progress.block_done(len(self._blocks), self._context.policy.most_blocks, seconds, width)

    # --- after the last block ------------------------------------------------------------------------------

    def _conclude(self) -> None:
        """Judge the outputs of the last timed run, note the memory, give every cell its status.

        All workers end before the reference is computed: it needs as much memory as one of them.
        """
        self._context.progress.step(f"{self._group.model.name}: comparing outputs")
        for contestant in self._alive():
            if contestant.loaded:
                self._guarded(contestant, partial(self._wind_up, contestant), may_restart=False)
        for contestant in self._alive():
            self._guarded(contestant, partial(self._judge, contestant), may_restart=False)

    def _wind_up(self, contestant: Contestant) -> None:
        """Take from a worker what is needed after its end, and end it."""
        if contestant.judgeable:
            contestant.note_memory()
            contestant.fetch_outputs()
        contestant.stop()

    def _judge(self, contestant: Contestant) -> None:
        verdict = contestant.judge(self._reference_outputs)
        status = Status.OK if verdict.equal else Status.WRONG
        self._end(contestant, Outcome(status, verdict.reason, error=verdict.error))

    def _medians_of(self, name: str) -> Floats:
        return block_medians([block.turns[name].run_ns for block in self._blocks if name in block.turns])

    def _reference_outputs(self) -> Outputs:
        if self._reference is None:
            context = self._context
            with context.accounts.spend("preparing"):
                self._reference = reference_outputs(
                    self._group.model, *self._paths, cache=context.cache, policy=context.policy
                )
        return self._reference

    # --- every end -----------------------------------------------------------------------------------------

    def _fail_all(self, error: BenchError) -> None:
        for cell in self._cells.values():
            if cell.outcome is None:
                self._close_cell(cell, failed(error))

    def _close_cell(self, cell: CellRecord, outcome: Outcome) -> None:
        """Give a status to a cell that never had a worker."""
        closed = replace(cell, outcome=outcome)
        self._context.journal.save_cell(self._context.run, closed)
        self._context.progress.cell_done(closed, None)

    @contextmanager
    def _workers(self) -> Iterator[None]:
        """No worker outlives its group, however the group ends."""
        try:
            yield
            for contestant in self._contestants:
                contestant.stop()
        finally:
            for contestant in self._contestants:
                contestant.kill()


def failed(error: Exception) -> Outcome:
    """Status of a cell that an error on our side kept from being measured."""
    kind = "" if isinstance(error, BenchError) else f"{type(error).__name__}: "
    return Outcome(Status.FAILED, kind + " ".join(str(error).split()))


def inputs_file(model: Model, seed: int, cache: Path) -> Path:
    """The network's inputs as an npz file, drawn from the seed, made once; raises `ModelError` when the cache
    cannot be used.
    """
    folder = cache / "inputs" / f"{model.digest}-{seed}"

    def fill(partial: Path) -> None:
        np.savez(partial / INPUTS_NAME, allow_pickle=False, **draw_inputs(model, seed))

    if not is_complete(folder):
        publish(folder, sum(spec.element_count for spec in model.inputs) * LARGEST_ELEMENT_BYTES, fill)
    return folder / INPUTS_NAME
