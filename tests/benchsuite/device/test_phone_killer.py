"""A worker on a phone that ends by SIGKILL: out of memory where that can be shown, else a crash."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from benchsuite.client import outcome_of_ending
from benchsuite.device.adb.files import WORKERS
from benchsuite.device.adb.process import PhoneProcess
from benchsuite.device.adb.reach import Reach
from benchsuite.device.protocol import Ending, Silence
from benchsuite.record import Status
from tests.phone.host import AdbHome
from tests.phone.links import KINDS, link_to
from tests.phone.phone import Phone


class Dies:
    """A program that ends itself when the file `die` is there."""

    def __init__(self, end: str) -> None:
        self._end = end

    def begin(self, request: Mapping[str, Any]) -> tuple[str, str]:
        return "", f"sh -c 'echo last words; until [ -e die ]; do sleep 0.1; done; {self._end}'"

    def line(self, request: Mapping[str, Any]) -> str:
        return "load"

    def reply(self, request: Mapping[str, Any], text: str) -> Mapping[str, Any]:
        raise AssertionError("it never replies")


@pytest.fixture(params=KINDS)
def reach(
    request: pytest.FixtureRequest, phone: Phone, adb_home: AdbHome, monkeypatch: pytest.MonkeyPatch
) -> Reach:
    phone.conditions.memory_kills(3)
    return Reach(link_to(request.param, phone, adb_home, monkeypatch), reattach_s=5.0)


def begun(reach: Reach, end: str) -> PhoneProcess:
    """A worker begins with the first wait for a reply, which it does not give."""
    process = PhoneProcess(reach, f"{WORKERS}/0", lambda request: Dies(end))
    process.send(json.dumps({"do": "load"}))
    with pytest.raises(Silence):
        process.receive(1.0)
    return process


def ended(reach: Reach, phone: Phone, *, end: str = "kill -9 $$", kills: int = 3, log: str = "") -> Ending:
    """How a worker ends while the phone's counter and log become these; {} in the log is its number."""
    process = begun(reach, end)
    wait = f"cd {WORKERS}/0; until [ -e worker ]; do sleep 0.1; done; cat worker"
    number = reach.shell(wait).out.split()[0]
    phone.conditions.memory_kills(kills)
    phone.conditions.log(log.format(number))
    reach.shell(f"touch {WORKERS}/0/die")
    assert process.receive(30.0) is None
    ending = process.end(grace_seconds=5.0)
    assert ending.log_tail.startswith("last words")
    assert not phone.processes()
    return ending


def test_the_kernel_counted_a_kill(reach: Reach, phone: Phone) -> None:
    ending = ended(reach, phone, kills=4)
    assert (ending.exit_code, ending.killed_for_memory) == (-9, True)
    outcome = outcome_of_ending(ending, "load")
    assert (outcome.status, outcome.reason) == (
        Status.OOM,
        "killed by the kernel's memory killer during `load`",
    )


def test_the_log_names_the_worker(reach: Reach, phone: Phone) -> None:
    log = "I/lowmemorykiller( 412): Kill 'ours' ({}), uid 2000, oom_score_adj 0 to free 900000kB rss\n"
    assert ended(reach, phone, log=log).killed_for_memory


def test_somebody_else_killed_it(reach: Reach, phone: Phone) -> None:
    log = "I/lowmemorykiller( 412): Kill 'other' (1{}), uid 10123, oom_score_adj 900 to free 90kB rss\n"
    ending = ended(reach, phone, log=log)
    assert (ending.exit_code, ending.killed_for_memory) == (-9, False)
    assert outcome_of_ending(ending, "load").status is Status.CRASHED


def test_another_end_is_not_the_killer_s(reach: Reach, phone: Phone) -> None:
    ending = ended(reach, phone, end="exit 3", kills=9)
    assert (ending.exit_code, ending.killed_for_memory) == (3, False)


def test_what_bench_ended_was_not_killed_for_memory(reach: Reach, phone: Phone) -> None:
    process = begun(reach, "")
    reach.shell(f"cd {WORKERS}/0; until [ -e worker ]; do sleep 0.1; done")
    phone.conditions.memory_kills(4)
    ending = process.end()
    assert (ending.exit_code, ending.killed_for_memory) == (None, False)


def test_a_phone_that_hides_its_counter(reach: Reach, phone: Phone) -> None:
    phone.conditions.write_proc("vmstat", "nr_free_pages 1")
    process = begun(reach, "kill -9 $$")
    reach.shell(f"cd {WORKERS}/0; until [ -e worker ]; do sleep 0.1; done; touch die")
    assert process.receive(30.0) is None
    assert not process.end(grace_seconds=5.0).killed_for_memory
