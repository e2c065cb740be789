"""An interrupted run goes on as if nothing had happened, wherever the interrupt struck."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchsuite.device.replay import Fault
from benchsuite.journal import Journal, JournalError
from benchsuite.policy import Policy
from benchsuite.record import Block, GroupRecord, RunStatus, Status
from benchsuite.run import Job, execute, resumable
from models.errors import BenchError

MakeReplay = Callable[..., object]
MakeJob = Callable[..., Job]

SHORT = Policy(least_blocks=4, most_blocks=4, interval_width=0.0)
NETWORKS = 2


def order(block: Block) -> list[str]:
    return sorted(block.turns, key=lambda name: block.turns[name].position)


def interrupt_at(strike: int, count: int) -> None:
    """For `before_reply`: Ctrl-C while waiting for the reply to that request."""
    if count == strike:
        raise KeyboardInterrupt


def check_complete(groups: tuple[GroupRecord, ...], uninterrupted: tuple[GroupRecord, ...]) -> None:
    """Numbers without a gap, no block twice, and the order inside blocks that the seed gives."""
    for group, whole in zip(groups, uninterrupted, strict=True):
        assert [block.number for block in group.blocks] == list(range(len(group.blocks)))
        paired = [block for block in group.blocks if len(block.turns) == 2]
        assert len(paired) >= len(whole.blocks)
        shared = zip(paired, whole.blocks, strict=False)
        assert all(order(block) == order(other) for block, other in shared)
        outcomes = [cell.outcome for cell in group.cells.values()]
        assert [outcome.status if outcome else None for outcome in outcomes] == [Status.OK] * 2


@pytest.fixture
def uninterrupted(
    make_job: MakeJob, replay: MakeReplay, tmp_path: Path
) -> tuple[tuple[GroupRecord, ...], int]:
    """The groups of a run that nobody disturbed, and how many requests it took."""
    device = replay()
    with Journal(tmp_path / "uninterrupted.db") as journal:
        execute(make_job(device, networks=NETWORKS, policy=SHORT, journal=journal))
        return journal.groups(1), len(device.requests)


def test_an_interrupt_at_any_request_loses_no_block(
    make_job: MakeJob, replay: MakeReplay, tmp_path: Path, uninterrupted: tuple[tuple[GroupRecord, ...], int]
) -> None:
    """Ctrl-C while waiting for every single reply of a run: loading, warm-up, turns, outputs, memory."""
    whole, requests = uninterrupted
    assert requests > 2 * NETWORKS * 8
    for strike in range(1, requests + 1):
        with Journal(tmp_path / f"{strike}.db") as journal:
            interrupt_and_resume(make_job, replay, journal, strike, whole)


def interrupt_and_resume(
    make_job: MakeJob, replay: MakeReplay, journal: Journal, strike: int, whole: tuple[GroupRecord, ...]
) -> None:
    device = replay()
    device.before_reply = partial(interrupt_at, strike)
    job = make_job(device, networks=NETWORKS, policy=SHORT, journal=journal)
    number, status = execute(job)
    if (
        status is RunStatus.COMPLETE
    ):  # the last request is the farewell of the last worker: nobody waits for it
        return
    assert status is RunStatus.INTERRUPTED
    assert journal.run(number).status is RunStatus.INTERRUPTED
    assert device.alive == set()
    kept = [group.blocks for group in journal.groups(number)]
    found = resumable(journal, job.options)
    assert found is not None
    again = make_job(replay(), networks=NETWORKS, policy=SHORT, journal=journal, resume=found.number)
    assert execute(again) == (number, RunStatus.COMPLETE)
    groups = journal.groups(number)
    assert [group.blocks[: len(blocks)] for group, blocks in zip(groups, kept, strict=True)] == kept
    check_complete(groups, whole)
    assert {block.session for group in groups for block in group.blocks} <= {0, 1}
    assert len(journal.spent_seconds(number)) == 2


def test_many_interrupts_in_a_row(
    make_job: MakeJob,
    replay: MakeReplay,
    journal: Journal,
    uninterrupted: tuple[tuple[GroupRecord, ...], int],
) -> None:
    """A run that is interrupted again and again gets there: every session keeps its blocks."""
    number: int | None = None
    for sessions in range(10):
        device = replay()
        device.before_reply = partial(interrupt_at, 9 + sessions)
        number, status = execute(make_job(device, networks=NETWORKS, policy=SHORT, resume=number))
        if status is RunStatus.COMPLETE:
            break
        assert status is RunStatus.INTERRUPTED
    groups = journal.groups(number)
    assert sessions > 3
    check_complete(groups, uninterrupted[0])


def test_a_resumed_cell_keeps_its_blocks_alike(
    make_job: MakeJob, replay: MakeReplay, journal: Journal
) -> None:
    """The number of inferences in a block stays what it was, even if the machine is slower now."""

    device = replay()
    device.before_reply = partial(interrupt_at, 15)
    number, _ = execute(make_job(device))
    slower = replay()
    slower.recording = replace(slower.recording, latency_ns={"*": 55e6})
    execute(make_job(slower, resume=number))
    (group,) = journal.groups(number)
    for name in group.cells:
        assert len({len(block.turns[name].run_ns) for block in group.blocks}) == 1
    assert {block.session for block in group.blocks} == {0, 1}


def test_cells_with_a_status_are_left_alone(make_job: MakeJob, replay: MakeReplay, journal: Journal) -> None:
    """A framework that crashed before the interrupt is not tried again."""

    device = replay(Fault("ort", "crash", "load"))
    device.before_reply = partial(interrupt_at, 25)
    number, status = execute(make_job(device, networks=2))
    assert status is RunStatus.INTERRUPTED
    healthy = replay()
    execute(make_job(healthy, networks=2, resume=number))
    first = journal.groups(number)[0]
    crashed = first.cells["ort"].outcome
    assert crashed is not None
    assert crashed.status is Status.CRASHED
    assert all(set(block.turns) == {"ort-noopt"} for block in first.blocks)


def test_a_full_disk_keeps_every_finished_block(
    make_job: MakeJob, replay: MakeReplay, journal: Journal
) -> None:
    """The journal cannot grow any more in the middle: the error says so, and --resume goes on later."""
    device = replay()
    database = journal._db

    def fill_the_disk(count: int) -> None:
        if count == 15:
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            database.execute(f"PRAGMA max_page_count = {pages}")

    device.before_reply = fill_the_disk
    with pytest.raises(JournalError) as caught:
        execute(make_job(device, policy=replace(SHORT, most_blocks=60)))
    assert "full" in caught.value.what
    assert "--resume" in caught.value.hint
    assert device.alive == set()
    kept = journal.groups(1)[0].blocks
    assert [block.number for block in kept] == list(range(len(kept)))
    assert len(kept) > 0
    database.execute("PRAGMA max_page_count = 1000000")
    assert (
        execute(make_job(replay(), policy=replace(SHORT, most_blocks=60), resume=1))[1] is RunStatus.COMPLETE
    )
    blocks = journal.groups(1)[0].blocks
    assert blocks[: len(kept)] == kept
    assert len(blocks) == 60


def interrupted(make_job: MakeJob, replay: MakeReplay) -> int:
    """The number of a run that was interrupted in its blocks."""
    device = replay()
    device.before_reply = partial(interrupt_at, 20)
    number, status = execute(make_job(device))
    assert status is RunStatus.INTERRUPTED
    return number


def test_another_version_of_a_framework_is_no_resume(
    make_job: MakeJob, replay: MakeReplay, journal: Journal
) -> None:
    number = interrupted(make_job, replay)
    cell = next(cell for cell in journal.cells(number) if cell.loading is not None)
    assert cell.loading is not None
    journal.save_cell(number, replace(cell, loading=replace(cell.loading, facts={"version": "0.0.1"})))
    with pytest.raises(BenchError, match=r"measures ort.* 0\.0\.1, but .* is installed"):
        execute(make_job(replay(), resume=number))


def test_a_framework_that_is_gone_is_no_resume(
    make_job: MakeJob, replay: MakeReplay, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = interrupted(make_job, replay)
    cell = next(cell for cell in journal.cells(number) if cell.loading is not None)
    assert cell.loading is not None
    journal.save_cell(number, replace(cell, loading=replace(cell.loading, facts={"version": "1.2"})))
    gone = replay()
    monkeypatch.setattr(gone, "version_of", lambda framework: None)
    monkeypatch.setattr(gone, "why_not", lambda framework: "`bench devices provision R5C --frameworks ort`")
    with pytest.raises(
        BenchError, match=r"1\.2, which is not there now\n  try: `bench devices provision R5C"
    ):
        execute(make_job(gone, resume=number))


def test_another_network_of_that_name_is_no_resume(
    make_job: MakeJob, replay: MakeReplay, journal: Journal
) -> None:
    number = interrupted(make_job, replay)
    job = make_job(replay(), resume=number)
    (group,) = job.groups
    changed = replace(group, model=replace(group.model, digest="another"))
    with pytest.raises(BenchError, match="another version of 'net0'"):
        execute(replace(job, groups=(changed,)))
