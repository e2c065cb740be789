"""Real workers whose frameworks crash, hang, lie and chatter: each gets its status, the run goes on."""

import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from benchsuite.client import WorkerClient, WorkerFailed
from benchsuite.device.local import LocalDevice
from benchsuite.journal import Journal
from benchsuite.plan import plan
from benchsuite.policy import Policy
from benchsuite.progress import Quiet
from benchsuite.record import GroupRecord, Outcome, RunOptions, RunStatus, Status
from benchsuite.run import Job, execute
from models.model import Model

EXPECTED: dict[str, tuple[Status, str]] = {
    "good": (Status.OK, ""),
    "segfault": (Status.CRASHED, "the worker ended with SIGSEGV during `run`"),
    "segfault-in-load": (Status.CRASHED, "the worker ended with SIGSEGV during `load`"),
    "hang": (Status.TIMEOUT, "no answer to `run` within 4 s"),
    "greedy": (Status.OOM, "MemoryError: "),
    "greedy-run": (Status.OOM, "MemoryError: "),
    "bad-alloc": (Status.OOM, "out of memory during `run` (SIGABRT)"),
    "exit": (Status.CRASHED, "the worker ended with exit code 3 during `run`"),
    "polite-exit": (Status.CRASHED, "the worker ended with exit code 0 during `run`"),
    "raises": (Status.FAILED, "RuntimeError: no kernel for operator 'Conv'"),
    "chatty": (Status.OK, ""),
    "forger": (Status.FAILED, "the worker answered garbage: '�� Segmentation fault'"),
    "parent": (Status.OK, ""),
    "nan": (Status.WRONG, "output 'y' has 256 of 256 values NaN or infinite"),
    "flat": (Status.WRONG, "output 'y' has shape [256], expected [1, 4, 8, 8]"),
    "renamed": (Status.WRONG, "output 'y' is missing"),
    "slightly-off": (Status.WRONG, "output 'y': relative L2 error 0.01 > 0.001"),
    "objects": (Status.FAILED, "ValueError: Object arrays cannot be saved"),
    "text": (Status.WRONG, "output 'y' has dtype <U"),
    "converter-segfault": (Status.CRASHED, "the worker ended with SIGSEGV during `convert`"),
    "converter-hang": (Status.TIMEOUT, "no answer to `convert` within"),
    "converter-greedy": (Status.OOM, "MemoryError: Unable to allocate"),
    "converter-raises": (Status.FAILED, "RuntimeError: no kernel for operator 'Conv'"),
    "converter-refuses": (Status.REFUSED, "operator Frobnicate (node 'head/warp') is not supported"),
    "converter-leaves-nothing": (Status.FAILED, "RuntimeError: the converter left no file 'net.converted'"),
    "converter-good": (Status.OK, ""),
    "refuses": (Status.REFUSED, "operator Frobnicate (node 'head/warp') is not supported"),
    "half-precision": (
        Status.REFUSED,
        "computes in fp16 here, not in fp32: measure it with --precision fp16",
    ),
}
LOGS = {
    "bad-alloc": "std::bad_alloc",
    "exit": "licence expired",
    "raises": "a line of the framework's own log",
}
POLICY = Policy(
    block_seconds=0.002,
    warm_up_seconds=0.002,
    least_blocks=3,
    most_blocks=3,
    run_timeout_seconds=4.0,
    convert_timeout_seconds=4.0,
    convert_memory_share=0.2,
    restarts=0,
)


MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def faulty_job(network: Model, misdeeds: object, tmp_path_factory: pytest.TempPathFactory) -> MakeJob:
    def make(device: LocalDevice, journal: Journal, names: tuple[str, ...], **parts: object) -> Job:
        adapters = [misdeeds.ADAPTERS[name] for name in names]
        values = {
            "groups": plan([network], adapters, device.name, (1,), "fp32"),
            "options": RunOptions(
                ("tiny",), names, "local", (1,), "fp32", 0, memory_limit_bytes=misdeeds.MEMORY_LIMIT_BYTES
            ),
            "device": device,
            "journal": journal,
            "policy": POLICY,
            "cache": tmp_path_factory.mktemp("cache"),
            "progress": Quiet(),
            "command": ("bench", "run"),
            "facts": {},
        }
        return Job(**{**values, **parts})

    return make


@pytest.fixture(scope="module")
def measured(
    faulty_job: MakeJob, faulty_device: type[LocalDevice], tmp_path_factory: pytest.TempPathFactory
) -> tuple[GroupRecord, list[int]]:
    """One run of every misdeed in one group, and the process ids of all its workers."""
    device = faulty_device()
    with Journal(tmp_path_factory.mktemp("journal") / "journal.db") as journal:
        assert execute(faulty_job(device, journal, tuple(EXPECTED))) == (1, RunStatus.COMPLETE)
        device.close()
        (group,) = journal.groups(1)
        return group, device.pids


def outcome(group: GroupRecord, name: str) -> Outcome:
    found = group.cells[name].outcome
    assert found is not None
    return found


def test_every_misdeed_is_tried(misdeeds: object) -> None:
    assert set(EXPECTED) == set(misdeeds.MISDEEDS)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_misdeed_becomes_a_status(measured: tuple[GroupRecord, list[int]], name: str) -> None:
    status, reason = EXPECTED[name]
    found = outcome(measured[0], name)
    assert found.status is status, found
    assert found.reason.startswith(reason)
    assert LOGS.get(name, "") in found.log_tail


@pytest.mark.parametrize("name", ["good", "chatty", "parent", "nan"])
def test_the_others_are_measured_as_if_nothing_had_happened(
    measured: tuple[GroupRecord, list[int]], name: str
) -> None:
    group, _ = measured
    assert len(group.blocks) == 3
    assert all(min(block.turns[name].run_ns) > 0 for block in group.blocks)
    assert group.cells[name].memory_peak_bytes > 10_000_000


def test_no_process_remains(measured: tuple[GroupRecord, list[int]]) -> None:
    """Neither a worker nor a child that a framework left in its group."""
    _, pids = measured
    # One each, for a converter that failed leaves nothing to load; two for the one that did not.
    assert len(pids) == len(EXPECTED) + 1
    assert in_groups(pids) == []


def in_groups(pids: list[int]) -> list[psutil.Process]:
    """Living processes in the process groups of these workers; zombies are dead."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) in pids and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


class Murderer(Quiet):
    """Kills the newest worker from outside after the first block, as often as asked."""

    def __init__(self, device: LocalDevice, times: int) -> None:
        self._device, self._times = device, times

    def block_done(self, done: int, *event: object) -> None:
        if self._times:
            self._times -= 1
            os.kill(self._device.pids[-1], signal.SIGKILL)


@pytest.mark.parametrize(
    ("restarts", "status", "reason"),
    [(0, Status.CRASHED, "the worker ended with SIGKILL during `run`"), (1, Status.OK, "")],
)
def test_a_worker_killed_from_outside(
    faulty_job: MakeJob,
    faulty_device: type[LocalDevice],
    journal: Journal,
    restarts: int,
    status: Status,
    reason: str,
) -> None:
    device = faulty_device()
    policy = Policy(
        block_seconds=0.002, warm_up_seconds=0.002, least_blocks=3, most_blocks=3, restarts=restarts
    )
    job = faulty_job(device, journal, ("good", "chatty"), policy=policy, progress=Murderer(device, 1))
    execute(job)
    device.close()
    (group,) = journal.groups(1)
    assert outcome(group, "good").status is Status.OK
    assert (outcome(group, "chatty").status, outcome(group, "chatty").reason) == (status, reason)
    assert group.cells["chatty"].restarts == restarts
    assert in_groups(device.pids) == []


def test_a_hanging_worker_and_its_children_are_killed(
    misdeeds: object, faulty_device: type[LocalDevice]
) -> None:
    """The limit holds whatever the worker does, and the wait is not much longer."""
    device = faulty_device()
    client = WorkerClient(device)
    start = time.monotonic()
    with pytest.raises(WorkerFailed):
        client.ask({"do": "load"}, timeout_seconds=0.05)
    assert time.monotonic() - start < 5
    assert in_groups(device.pids) == []
    device.close()
