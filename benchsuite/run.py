"""A whole run: plan, start or resume, group by group inside the budget, and how it ended."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout

from adapters.catalogue import adapter
from benchsuite.accounts import Accounts
from benchsuite.context import Context
from benchsuite.device.protocol import Device, DeviceLost, DeviceRestarted, Facts
from benchsuite.device.replay import RECORDED_VERSION
from benchsuite.device.scratch import scratch_folder
from benchsuite.group import GroupRunner
from benchsuite.journal import Journal
from benchsuite.plan import PlannedGroup
from benchsuite.policy import Policy
from benchsuite.probe import ceiling_facts, network_facts
from benchsuite.progress import Progress
from benchsuite.record import CellRecord, GroupKey, RunOptions, RunRecord, RunStatus
from models.cache import explained
from models.errors import BenchError

GUESSED_MACS_PER_SECOND = 3e10
GUESSED_SECONDS_PER_LOAD = 4.0
MOST_DEVICE_RESTARTS = 5


@dataclass(frozen=True, slots=True)
class Job:
    """Everything needed to measure: what, where, how long. `resume` is the number of a run to go on with,
    `probe` asks for the facts of a roofline.
    """

    groups: tuple[PlannedGroup, ...]
    options: RunOptions
    device: Device
    journal: Journal
    policy: Policy
    cache: Path
    progress: Progress
    command: tuple[str, ...]
    facts: Facts
    budget_seconds: float | None = None
    resume: int | None = None
    probe: bool = False
    clock: Callable[[], float] = time.monotonic


def execute(job: Job) -> tuple[int, RunStatus]:
    """Measure everything that the job names and that is not measured yet; returns the run's number and how it
    stands.

    Every finished block is in the journal whatever happens. Raises `BenchError` when another run measures on
    the same device, or when a resumed run no longer fits what is installed.
    """
    with _device_lock(job), _terminate_like_interrupt(), scratch_folder() as scratch:
        run = _start(job)
        session = job.journal.start_session(run, job.facts)
        context = _context(job, run, session, scratch)
        status = RunStatus.INTERRUPTED
        try:
            status = _run_groups(job, context)
        except KeyboardInterrupt:
            job.progress.note("interrupted: every finished block is kept")
        except DeviceLost as lost:
            job.progress.trouble(str(lost))
            status = RunStatus.INCOMPLETE
        finally:
            job.journal.save_spent(run, session, context.accounts.totals())
            job.journal.finish_run(run, status)
    return run, status


def resumable(journal: Journal, options: RunOptions | None) -> RunRecord | None:
    """The last unfinished run, or the last unfinished one with these options; None when there is none."""
    unfinished = [run for run in journal.runs() if run.status is not RunStatus.COMPLETE]
    fitting = [run for run in unfinished if options is None or run.options == options]
    return fitting[-1] if fitting else None


def _start(job: Job) -> int:
    if job.resume is None:
        cells = tuple(cell for group in job.groups for cell in group.cells)
        return job.journal.start_run(job.options, job.command, _all_facts(job), cells)
    _check_same_networks(job)
    _check_same_versions(job)
    return job.resume


def _all_facts(job: Job) -> Facts:
    """The job's own facts and, if asked for, what a roofline needs: measured while nobody else measures."""
    if not job.probe:
        return job.facts
    job.progress.step("measuring what the device can do at most")
    models = list({group.model.name: group.model for group in job.groups}.values())
    ceilings = ceiling_facts(job.device, job.options.threads, job.policy)
    return {**job.facts, **ceilings, **network_facts(models, job.cache)}


def _check_same_networks(job: Job) -> None:
    """A resumed run must measure the same networks: their digests are compared, whatever their names say."""
    assert job.resume is not None
    known = {cell.key.group.model: cell.model_digest for cell in job.journal.cells(job.resume)}
    for group in job.groups:
        if known.get(group.model.name) != group.model.digest:
            raise BenchError(
                f"run {job.resume} measured another version of {group.model.name!r}",
                where=str(job.journal.path),
                hint="start a new run: leave out --resume",
            )


def _check_same_versions(job: Job) -> None:
    """A cell under way must go on with the framework's version that it began with."""
    assert job.resume is not None
    for cell in job.journal.cells(job.resume):
        began = cell.loading.facts.get("version") if cell.loading and cell.outcome is None else None
        if began in (None, RECORDED_VERSION):
            continue
        row = adapter(cell.key.framework)
        now = job.device.version_of(row)
        if now is None:
            raise BenchError(
                f"run {job.resume} measures {cell.key.framework} {began}, which is not there now",
                where=job.device.name,
                hint=job.device.why_not(row) or "install it again, or start a new run: leave out --resume",
            )
        if began != now:
            raise BenchError(
                f"run {job.resume} measures {cell.key.framework} {began}, but {now} is installed",
                where=str(job.journal.path),
                hint="install that version again, or start a new run: leave out --resume",
            )


def _context(job: Job, run: int, session: int, scratch: Path) -> Context:
    return Context(
        device=job.device,
        journal=job.journal,
        run=run,
        session=session,
        seed=job.options.seed,
        policy=job.policy,
        cache=job.cache,
        scratch=scratch,
        progress=job.progress,
        memory_limit_bytes=job.options.memory_limit_bytes,
        deadline=None if job.budget_seconds is None else job.clock() + job.budget_seconds,
        clock=job.clock,
    )


def _run_groups(job: Job, context: Context) -> RunStatus:
    """Every group that has a cell without a status; each gets an equal share of what is left of the
    budget.
    """
    open_cells = _open_cells(context)
    waiting = [group for group in job.groups if group.key in open_cells]
    for index, group in enumerate(waiting):
        left = context.seconds_left()
        if left is not None and left <= 0:
            return RunStatus.INCOMPLETE
        job.progress.group_started(group.key, index + 1, len(waiting))
        job.progress.time_left(seconds_left(waiting[index:], job.policy, left))
        finished, context = _run_group(job, context, group, share_seconds(left, len(waiting) - index))
        job.journal.save_spent(context.run, context.session, context.accounts.totals())
        if not finished:
            return RunStatus.INCOMPLETE
    return RunStatus.COMPLETE


def _run_group(job: Job, context: Context, group: PlannedGroup, share: float | None) -> tuple[bool, Context]:
    """One group; when the device restarts in the middle, it goes on from the journal in a new session."""
    for _ in range(MOST_DEVICE_RESTARTS):
        cells = _open_cells(context).get(group.key)
        try:
            return cells is None or GroupRunner(context, group, cells).run(share), context
        except DeviceRestarted as restart:
            job.progress.note(f"{restart}; going on with what is measured")
            job.journal.save_spent(context.run, context.session, context.accounts.totals())
            session = job.journal.start_session(context.run, {**job.facts, **job.device.facts()})
            context = replace(context, session=session, accounts=Accounts())
    raise DeviceLost(
        f"the device restarted {MOST_DEVICE_RESTARTS} times while {group.model.name} was measured"
    )


def _open_cells(context: Context) -> Mapping[GroupKey, tuple[CellRecord, ...]]:
    """Cells of every group that still has one without a status; those with a status keep it."""
    groups: dict[GroupKey, tuple[CellRecord, ...]] = {}
    for cell in context.journal.cells(context.run):
        groups[cell.key.group] = (*groups.get(cell.key.group, ()), cell)
    return {key: cells for key, cells in groups.items() if any(cell.outcome is None for cell in cells)}


def share_seconds(left: float | None, groups: int) -> float | None:
    """A group's fair share of the budget: what an early group leaves over goes to the later ones."""
    return None if left is None else left / groups


def seconds_left(groups: Sequence[PlannedGroup], policy: Policy, budget_left: float | None) -> float:
    """Rough estimate for the user, from multiply-accumulates: at least the least blocks of every
    framework.
    """
    total = sum(_guess_seconds(group, policy) for group in groups)
    return total if budget_left is None else min(total, budget_left)


def _guess_seconds(group: PlannedGroup, policy: Policy) -> float:
    macs = group.model.row.macs if group.model.row else 1e9
    latency = macs / (GUESSED_MACS_PER_SECOND * group.key.threads)
    # Half way between a quiet machine, which stops at the least blocks, and a noisy one.
    turn = max(policy.block_seconds, latency)
    blocks = len(group.adapters) * turn * (policy.least_blocks + policy.most_blocks) / 2
    blocks = min(blocks, max(policy.group_seconds, len(group.adapters) * turn * policy.least_blocks))
    return len(group.adapters) * (GUESSED_SECONDS_PER_LOAD + 2 * latency) + blocks


@contextmanager
def _device_lock(job: Job) -> Iterator[None]:
    """One run a device at a time: two would measure each other. The lock goes with the process, however it
    ends.
    """
    name = "".join(letter if letter.isalnum() else "-" for letter in job.device.name)
    path = job.cache / "locks" / f"{name}.lock"
    with explained(path.parent, 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise BenchError(
            "another bench is measuring on this device",
            where=job.device.name,
            hint="wait for it to end: two runs at once would disturb each other",
        ) from None


@contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """Let SIGTERM (a CI's time limit, a shutdown) end the run as cleanly as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous: Callable[[int, FrameType | None], object] | int | None
    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever runs us there handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
