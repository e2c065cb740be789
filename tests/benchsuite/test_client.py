"""The harness's end of a worker: what every ending and every reply amounts to."""

import json
from collections.abc import Sequence

import pytest

from adapters.worker import OUT_OF_MEMORY_TEXTS
from benchsuite.client import SHOWN_GARBAGE, WorkerClient, WorkerFailed, outcome_of_ending
from benchsuite.device.protocol import Ending, Silence
from benchsuite.record import Status

ENDINGS: dict[str, tuple[Ending, Status, str]] = {
    "segmentation fault": (Ending(-11, "last words"), Status.CRASHED, "the worker ended with SIGSEGV"),
    "killed from outside": (Ending(-9, ""), Status.CRASHED, "the worker ended with SIGKILL"),
    "killed for memory": (Ending(-9, "", True), Status.OOM, "killed by the kernel's memory killer"),
    "abort": (Ending(-6, "assertion failed"), Status.CRASHED, "the worker ended with SIGABRT"),
    "uncaught bad_alloc": (
        Ending(-6, "terminate called after throwing an instance of 'std::bad_alloc'"),
        Status.OOM,
        "out of memory",
    ),
    "exit after MemoryError": (Ending(1, "MemoryError: 16 GiB"), Status.OOM, "out of memory"),
    "crash after a survived bad_alloc": (
        Ending(-11, "std::bad_alloc, falling back"),
        Status.CRASHED,
        "the worker ended with SIGSEGV",
    ),
    "exit": (Ending(3, "giving up"), Status.CRASHED, "the worker ended with exit code 3"),
    "a clean exit is no answer": (Ending(0, ""), Status.CRASHED, "the worker ended with exit code 0"),
    "a signal without a name": (Ending(-99, ""), Status.CRASHED, "the worker ended with signal 99"),
    "had to be ended": (Ending(None, ""), Status.CRASHED, "the worker closed its output"),
}

REPLIES: dict[str, tuple[str, Status, str]] = {
    "not JSON": ("Segmentation fault", Status.FAILED, "the worker answered garbage: 'Segmentation fault'"),
    "cut off": ('{"ok": true, "run', Status.FAILED, 'the worker answered garbage: \'{"ok": true, "run\''),
    "empty": ("", Status.FAILED, "the worker answered garbage: ''"),
    "a number": ("42", Status.FAILED, "the worker answered garbage: '42'"),
    "a list": ('["ok"]', Status.FAILED, "the worker answered garbage: '[\"ok\"]'"),
    "null": ("null", Status.FAILED, "the worker answered garbage: 'null'"),
    "no verdict": ("{}", Status.FAILED, "the worker answered garbage: '{}'"),
    "nothing in it": ('{"ok": true}', Status.FAILED, "the worker answered garbage: '{\"ok\": true}'"),
    "endless": ("x" * 10_000, Status.FAILED, f"the worker answered garbage: '{'x' * SHOWN_GARBAGE}'"),
    "refused": ('{"ok": false, "kind": "failed", "error": "no"}', Status.FAILED, "no"),
    "out of memory": ('{"ok": false, "kind": "oom", "error": "MemoryError: "}', Status.OOM, "MemoryError: "),
    "no reason": ('{"ok": false}', Status.FAILED, "the worker gave no reason"),
}

GOOD = {"ok": True, "run_ns": [5], "input_ns": [1], "cpu_ns": 4, "rewarm_ns": 0, "placement": ""}


class Process:
    """A worker that says the given lines (None: the end of output) and then nothing."""

    def __init__(self, lines: Sequence[str | None], ending: Ending = Ending(0, "the log")) -> None:  # noqa: B008
        self.sent: list[object] = []
        self.ends = 0
        self._lines, self._ending = list(lines), ending

    def send(self, line: str) -> None:
        self.sent.append(json.loads(line))

    def receive(self, timeout_seconds: float) -> str | None:
        if not self._lines:
            raise Silence
        return self._lines.pop(0)

    def end(self, *, grace_seconds: float = 0.0) -> Ending:
        self.ends += 1
        return self._ending


class Device:
    """Spawns one prepared process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def spawn(self, module: str, environment: str) -> Process:
        assert module == "adapters.worker"
        return self.process


def client(process: Process) -> WorkerClient:
    return WorkerClient(Device(process))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ENDINGS)
def test_status_of_an_ending(name: str) -> None:
    ending, status, reason = ENDINGS[name]
    outcome = outcome_of_ending(ending, "run")
    assert outcome.status is status
    assert outcome.reason.startswith(f"{reason} during `run`")
    assert outcome.log_tail == ending.log_tail


@pytest.mark.parametrize("text", OUT_OF_MEMORY_TEXTS)
def test_every_text_about_memory_is_recognised(text: str) -> None:
    assert outcome_of_ending(Ending(1, f"Error: {text.upper()}!"), "load").status is Status.OOM


@pytest.mark.parametrize("name", REPLIES)
def test_status_of_a_reply(name: str) -> None:
    line, status, reason = REPLIES[name]
    process = Process([line])
    with pytest.raises(WorkerFailed) as caught:
        client(process).ask({"do": "run"}, timeout_seconds=1.0)
    assert (caught.value.outcome.status, caught.value.outcome.reason) == (status, reason)
    assert caught.value.outcome.log_tail == "the log"
    assert process.ends == 1


@pytest.mark.parametrize("field", sorted(set(GOOD) - {"ok"}))
def test_a_reply_without_what_was_asked_is_garbage(field: str) -> None:
    process = Process([json.dumps({name: value for name, value in GOOD.items() if name != field})])
    with pytest.raises(WorkerFailed, match="answered garbage"):
        client(process).ask({"do": "run"}, timeout_seconds=1.0)


def test_a_good_reply_is_returned() -> None:
    process = Process([json.dumps(GOOD)])
    assert client(process).ask({"do": "run", "iterations": 1}, timeout_seconds=1.0) == GOOD
    assert process.sent == [{"do": "run", "iterations": 1}]
    assert process.ends == 0


def test_silence_is_a_timeout_and_the_worker_is_ended() -> None:
    process = Process([])
    with pytest.raises(WorkerFailed) as caught:
        client(process).ask({"do": "load"}, timeout_seconds=0.0)
    assert caught.value.outcome.status is Status.TIMEOUT
    assert caught.value.outcome.reason == "no answer to `load` within 0 s"
    assert process.ends == 1


def test_the_end_of_output_is_judged_by_the_ending() -> None:
    process = Process([None], Ending(-11, "boom"))
    with pytest.raises(WorkerFailed, match="SIGSEGV during `outputs`") as caught:
        client(process).ask({"do": "outputs"}, timeout_seconds=1.0)
    assert caught.value.outcome.log_tail == "boom"


def test_closing_asks_first() -> None:
    process = Process([])
    client(process).close()
    assert process.sent == [{"do": "quit"}]
    assert process.ends == 1
