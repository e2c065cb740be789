"""Whole runs on a replayed device: every fault has its status, and one bad cell never ends a run."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchsuite.device.replay import Fault
from benchsuite.journal import Journal
from benchsuite.policy import Policy
from benchsuite.progress import Quiet
from benchsuite.record import CellRecord, GroupRecord, Outcome, RunStatus, Status
from benchsuite.run import Job, execute, resumable, seconds_left, share_seconds
from benchsuite.stats import least_blocks
from models.errors import BenchError

MakeReplay = Callable[..., object]
MakeJob = Callable[..., Job]

STATUS_OF_FAULT = {
    "crash": Status.CRASHED,
    "hang": Status.TIMEOUT,
    "garbage": Status.FAILED,
    "oom": Status.OOM,
    "error": Status.FAILED,
    "nan": Status.WRONG,
    "differ": Status.WRONG,
}
JUDGED = {"nan", "differ"}
PLANTED = [
    (kind, do)
    for kind, do in itertools.product(STATUS_OF_FAULT, ("load", "run", "outputs", "memory"))
    if (kind not in JUDGED or do == "outputs")
]


def outcomes(group: GroupRecord) -> dict[str, Outcome]:
    found = {name: cell.outcome for name, cell in group.cells.items()}
    assert None not in found.values()
    return {name: outcome for name, outcome in found.items() if outcome}


def statuses(group: GroupRecord) -> dict[str, Status]:
    return {name: outcome.status for name, outcome in outcomes(group).items()}


def one_group(journal: Journal, number: int = 1) -> GroupRecord:
    (group,) = journal.groups(number)
    return group


GOOD = {"ort": Status.OK, "ort-noopt": Status.OK}


def test_a_clean_run(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    device = replay()
    assert execute(make_job(device)) == (1, RunStatus.COMPLETE)
    group = one_group(journal)
    assert statuses(group) == GOOD
    assert [block.number for block in group.blocks] == list(range(12))
    assert all(set(block.turns) == {"ort", "ort-noopt"} for block in group.blocks)
    assert all(len(block.turns["ort"].run_ns) == 10 for block in group.blocks)
    assert {block.turns["ort"].position for block in group.blocks} == {0, 1}
    assert group.cells["ort"].memory_peak_bytes == 100_000_000
    assert outcomes(group)["ort"].error == 0.0
    assert device.alive == set()
    assert device.most_alive == 2
    (spent,) = journal.spent_seconds(1)
    assert spent["timed"] > 12 * 2 * 0.2 * 0.9
    assert journal.run(1).status is RunStatus.COMPLETE
    assert journal.run(1).finished_at is not None


@pytest.mark.parametrize(("kind", "do"), PLANTED)
def test_every_fault_has_its_status(
    make_job: MakeJob, replay: MakeReplay, journal: Journal, kind: str, do: str
) -> None:
    """The other framework and the next network are measured as if nothing had happened."""
    device = replay(Fault("ort", kind, do))
    assert execute(make_job(device, networks=2)) == (1, RunStatus.COMPLETE)
    groups = journal.groups(1)
    assert len(groups) == 2
    for group in groups:
        assert statuses(group) == {"ort": STATUS_OF_FAULT[kind], "ort-noopt": Status.OK}
        assert outcomes(group)["ort"].reason
        assert len(group.blocks) == 12
    assert device.alive == set()


def test_when_everything_fails_the_run_still_ends(
    make_job: MakeJob, replay: MakeReplay, journal: Journal
) -> None:
    device = replay(Fault("*", "crash", "load"))
    assert execute(make_job(device, networks=3))[1] is RunStatus.COMPLETE
    assert [set(statuses(group).values()) for group in journal.groups(1)] == [{Status.CRASHED}] * 3
    assert all(not group.blocks for group in journal.groups(1))


FIRST_TIMED_RUN = 3
"""Of a worker of `ort`: the first run, then a quarter second of runs twice, then the timed ones."""


@pytest.mark.parametrize("kind", ["crash", "hang", "garbage", "oom", "error"])
def test_a_worker_that_dies_between_blocks_is_started_once_more(
    make_job: MakeJob, replay: MakeReplay, journal: Journal, kind: str
) -> None:
    device = replay(Fault("ort", kind, at=FIRST_TIMED_RUN + 3, times=1))
    execute(make_job(device))
    group = one_group(journal)
    assert statuses(group) == GOOD
    assert group.cells["ort"].restarts == 1
    assert device.spawned == {"ort": 2, "ort-noopt": 1}
    without = [block.number for block in group.blocks if "ort" not in block.turns]
    assert len(without) == 1
    assert sum("ort" in block.turns for block in group.blocks) == 12


def test_a_worker_that_dies_again_is_given_up(
    make_job: MakeJob, replay: MakeReplay, journal: Journal
) -> None:
    device = replay(Fault("ort", "crash", at=FIRST_TIMED_RUN + 3, times=2))
    execute(make_job(device))
    group = one_group(journal)
    assert statuses(group) == {"ort": Status.CRASHED, "ort-noopt": Status.OK}
    assert group.cells["ort"].restarts == 1
    assert len(group.blocks) == 12


def test_restarts_are_the_policys(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    device = replay(Fault("ort", "crash", at=FIRST_TIMED_RUN + 3, times=3))
    execute(make_job(device, policy=Policy(least_blocks=6, most_blocks=12, restarts=3)))
    group = one_group(journal)
    assert statuses(group) == GOOD
    assert group.cells["ort"].restarts == 3


def test_a_worker_that_never_ran_is_not_restarted(
    make_job: MakeJob, replay: MakeReplay, journal: Journal
) -> None:
    device = replay(Fault("ort", "crash", at=FIRST_TIMED_RUN, times=1))
    execute(make_job(device))
    assert statuses(one_group(journal))["ort"] is Status.CRASHED
    assert device.spawned["ort"] == 1


@pytest.mark.parametrize("block", range(1, 12))
def test_a_restarted_worker_is_judged_by_a_run_of_its_own(
    make_job: MakeJob, replay: MakeReplay, journal: Journal, block: int
) -> None:
    """Whichever block the worker dies in, also in the one after which the group's time is up."""
    device = replay(Fault("ort", "crash", at=FIRST_TIMED_RUN + block, times=1))
    policy = Policy(least_blocks=3, most_blocks=1000, group_seconds=4.0, interval_width=0.0)
    assert execute(make_job(device, policy=policy))[1] is RunStatus.COMPLETE
    group = one_group(journal)
    assert statuses(group) == GOOD
    assert "ort" in group.blocks[-1].turns
    assert device.requests.count("outputs") == 2


def test_memory_too_short_for_all_workers_loads_them_in_turns(
    make_job: MakeJob, replay: MakeReplay, journal: Journal
) -> None:
    device = replay(memory_available_bytes=100 * 2**20)
    execute(make_job(device))
    group = one_group(journal)
    assert statuses(group) == GOOD
    assert device.most_alive == 1
    assert len(group.blocks) == 12
    # Once to warm up and once a turn, but for turns that follow one of its own at the end of a block.
    assert device.spawned == {"ort": 11, "ort-noopt": 10}
    assert group.cells["ort"].restarts == 0


@pytest.mark.parametrize(("kind", "do"), PLANTED)
def test_faults_of_workers_that_load_in_turns(
    make_job: MakeJob, replay: MakeReplay, journal: Journal, kind: str, do: str
) -> None:
    device = replay(Fault("ort", kind, do), memory_available_bytes=100 * 2**20)
    assert execute(make_job(device))[1] is RunStatus.COMPLETE
    assert statuses(one_group(journal)) == {"ort": STATUS_OF_FAULT[kind], "ort-noopt": Status.OK}
    assert device.most_alive == 1


def test_enough_memory_keeps_all_workers(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    device = replay(memory_available_bytes=4 * 2**30)
    execute(make_job(device))
    assert device.spawned == {"ort": 1, "ort-noopt": 1}


@pytest.mark.parametrize(("weights", "alive"), [(190_000_000, 1), (85_000_000, 2)])
def test_weights_that_a_loaded_worker_maps_are_not_free(
    make_job: MakeJob, replay: MakeReplay, weights: int, alive: int
) -> None:
    """A worker that is smaller than its weights reads them from a file, which memory that is short drops."""
    device = replay(memory_available_bytes=700_000_000)
    job = make_job(device)
    groups = [replace(one, model=replace(one.model, weight_byte_count=weights)) for one in job.groups]
    execute(replace(job, groups=groups))
    assert device.most_alive == alive


def test_the_last_turn_of_a_block_brings_the_state_along(
    make_job: MakeJob, replay: MakeReplay, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = replay()
    monkeypatch.setattr(device, "expect_telemetry", lambda: device.requests.append("expect"))
    execute(make_job(device))
    blocks = len(one_group(journal).blocks)
    assert "".join(one[0] for one in device.requests).count("rer" * blocks) == 1
    assert device.requests.count("expect") == blocks


def test_a_steady_group_ends_early(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    execute(make_job(replay(noise=0.0), policy=Policy()))
    assert len(one_group(journal).blocks) == Policy().least_blocks


def test_refused_cells_are_not_measured(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    job = make_job(replay())
    (group,) = job.groups
    refused = replace(group.cells[0], outcome=Outcome(Status.REFUSED, "no such precision"))
    group = replace(group, cells=(refused, group.cells[1]))
    assert execute(replace(job, groups=(group,)))[1] is RunStatus.COMPLETE
    found = one_group(journal)
    assert outcomes(found)["ort"] == Outcome(Status.REFUSED, "no such precision")
    assert all(set(block.turns) == {"ort-noopt"} for block in found.blocks)


# --- budget ------------------------------------------------------------------------------------------------


def test_every_group_gets_its_share(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    device = replay()
    policy = Policy(least_blocks=10, most_blocks=1000, interval_width=0.0)
    assert execute(make_job(device, networks=4, policy=policy, budget_seconds=40.0))[1] is RunStatus.COMPLETE
    counts = [len(group.blocks) for group in journal.groups(1)]
    assert 35 <= device.now <= 45
    assert max(counts) - min(counts) <= 2


def test_what_an_early_group_leaves_goes_to_the_later_ones(
    make_job: MakeJob, replay: MakeReplay, journal: Journal
) -> None:
    device = replay(Fault("*", "crash", "load", times=1))
    policy = Policy(least_blocks=10, most_blocks=1000, interval_width=0.0)
    execute(make_job(device, networks=3, policy=policy, budget_seconds=30.0))
    counts = [len(group.blocks) for group in journal.groups(1)]
    assert counts[0] == 0
    assert 28 <= device.now <= 34


def test_a_budget_that_ends_first_leaves_the_run_incomplete(
    make_job: MakeJob, replay: MakeReplay, journal: Journal
) -> None:
    device = replay()
    number, status = execute(make_job(device, networks=3, budget_seconds=2.5))
    assert status is RunStatus.INCOMPLETE
    assert journal.run(number).status is RunStatus.INCOMPLETE
    assert device.alive == set()
    measured = journal.groups(number)
    assert all(cell.outcome is None for cell in measured[2].cells.values())
    kept = [group.blocks for group in measured]
    assert execute(make_job(device, networks=3, resume=number)) == (number, RunStatus.COMPLETE)
    for before, group in zip(kept, journal.groups(number), strict=True):
        assert group.blocks[: len(before)] == before
        assert statuses(group) == GOOD


def test_no_budget_left_measures_nothing(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    device = replay()
    assert execute(make_job(device, budget_seconds=0.0))[1] is RunStatus.INCOMPLETE
    assert device.requests == []


def test_shares_and_guesses(make_job: MakeJob, replay: MakeReplay) -> None:
    assert share_seconds(None, 3) is None
    assert share_seconds(30.0, 3) == 10.0
    job = make_job(replay(), networks=2)
    guess = seconds_left(job.groups, job.policy, None)
    assert guess == pytest.approx(2 * seconds_left(job.groups[:1], job.policy, None))
    assert seconds_left(job.groups, job.policy, 1.0) == 1.0


# --- who may run -------------------------------------------------------------------------------------------


class AsksAgain(Quiet):
    """Starts a second run from inside the first."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.error: BenchError | None = None

    def block_done(self, *event: object) -> None:
        try:
            execute(self._job)
        except BenchError as error:
            self.error = error


def test_one_run_a_device_at_a_time(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    job = make_job(replay())
    progress = AsksAgain(job)
    assert execute(replace(job, progress=progress))[1] is RunStatus.COMPLETE
    assert progress.error is not None
    assert progress.error.what == "another bench is measuring on this device"
    assert execute(job)[1] is RunStatus.COMPLETE


def test_a_cache_that_is_a_file_is_explained(make_job: MakeJob, replay: MakeReplay, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match="the cache is not a folder"):
        execute(make_job(replay(), cache=tmp_path / "file"))


def test_a_changed_network_cannot_be_resumed(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    job = make_job(replay(), budget_seconds=0.0)
    number, _ = execute(job)
    (group,) = job.groups
    other = replace(group, model=replace(group.model, digest="another"))
    with pytest.raises(BenchError, match="measured another version of 'net0'"):
        execute(replace(job, groups=(other,), resume=number))


def test_only_unfinished_runs_can_be_resumed(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    assert resumable(journal, None) is None
    first = make_job(replay(), budget_seconds=0.0)
    second = make_job(replay(), budget_seconds=0.0, threads=(2,))
    execute(first)
    execute(second)
    execute(make_job(replay()))
    assert [run.status for run in journal.runs()] == [
        RunStatus.INCOMPLETE,
        RunStatus.INCOMPLETE,
        RunStatus.COMPLETE,
    ]
    found = [resumable(journal, options) for options in (None, first.options, second.options)]
    assert [run.number if run else None for run in found] == [2, 1, 2]


def test_an_unusable_network_fails_its_cells_only(
    make_job: MakeJob, replay: MakeReplay, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def materialize(model: object, cache: Path) -> Path:
        raise BenchError("the disk is full", where="cache", hint="free some space")

    monkeypatch.setattr("benchsuite.group.materialize", materialize)
    assert execute(make_job(replay()))[1] is RunStatus.COMPLETE
    assert outcomes(one_group(journal))["ort"] == Outcome(
        Status.FAILED, "cache: the disk is full try: free some space"
    )


class Remembers(Quiet):
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, float | None]] = []
        self.widths: list[float | None] = []
        self.groups: list[tuple[str, int, int]] = []

    def group_started(self, key, number: int, count: int) -> None:
        self.groups.append((key.model, number, count))

    def block_done(self, done: int, most: int, seconds: object, width: float | None) -> None:
        self.widths.append(width)

    def cell_done(self, cell: CellRecord, seconds: float | None) -> None:
        self.cells.append((cell.key.framework, seconds))


def test_progress_is_reported(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    progress = Remembers()
    execute(make_job(replay(noise=0.0), networks=2, progress=progress))
    assert progress.groups == [("net0", 1, 2), ("net1", 2, 2)]
    assert progress.cells == [("ort", 0.02), ("ort-noopt", 0.03)] * 2
    few = [None] * (least_blocks() - 1)
    enough = progress.widths[len(few) : len(progress.widths) // 2]
    assert progress.widths == [*few, *enough] * 2
    assert enough
    assert set(enough) == {0.0}, "without noise the interval has no width"
