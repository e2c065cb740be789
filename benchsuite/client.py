"""The harness's end of a worker: requests with a time limit, and every way to fail as a value."""

import json
import signal
import time
from collections.abc import Mapping
from typing import Any

from adapters.protocol import MAIN_ENVIRONMENT
from adapters.worker import OUT_OF_MEMORY_TEXTS
from benchsuite.device.protocol import Device, Ending, Process, Silence
from benchsuite.record import Outcome, Status

WORKER_MODULE = "adapters.worker"
EXTERNAL_MODULE = "adapters.external_worker"
SHOWN_GARBAGE = 200
LAST_WORDS_SECONDS = 2.0
REPLY_FIELDS: Mapping[str, set[str]] = {
    "convert": {"file", "options"},
    "load": {"load_ns", "facts", "memory_now_bytes"},
    "run": {"run_ns", "input_ns", "cpu_ns", "rewarm_ns", "placement"},
    "outputs": set(),
    "profile": {"entries", "total_ns", "source"},
    "probe": {"flops_per_second", "bytes_per_second"},
    "memory": {"memory_peak_bytes"},
}
"""What a good reply to each request has at least."""


FAILURE_KINDS = {"oom": Status.OOM, "refused": Status.REFUSED, "crashed": Status.CRASHED}


class WorkerFailed(Exception):  # noqa: N818  (carries a status of a cell; it is not an error of ours)
    """The worker cannot go on; `outcome` is the status of its cell."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class WorkerClient:
    """One worker process. After a `WorkerFailed` the process is gone."""

    def __init__(
        self, device: Device, environment: str = MAIN_ENVIRONMENT, module: str = WORKER_MODULE
    ) -> None:
        self._process: Process = device.spawn(module, environment)

    @property
    def process(self) -> Process:
        """The worker's process, for those who look at it from outside."""
        return self._process

    def ask(self, request: Mapping[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        """Send one request and return its reply; raises `WorkerFailed` with the status that it amounts to."""
        self._process.send(json.dumps(request))
        start = time.monotonic()
        try:
            line = self._process.receive(timeout_seconds)
        except Silence:
            waited = time.monotonic() - start
            raise self._failed(
                Status.TIMEOUT, f"no answer to `{request['do']}` within {waited:.0f} s"
            ) from None
        if line is None:
            raise self._died(str(request["do"]))
        return self._reply(str(request["do"]), line)

    def close(self) -> None:
        """Ask the worker to end, then make sure that it has."""
        self._process.send('{"do": "quit"}')
        self._process.end(grace_seconds=1.0)

    def kill(self) -> None:
        """End the worker at once."""
        self._process.end()

    def _reply(self, doing: str, line: str) -> dict[str, Any]:
        try:
            reply = json.loads(line)
            complete = not reply["ok"] or REPLY_FIELDS[doing] <= set(reply)
        except (ValueError, TypeError, KeyError):
            complete = False
        if not complete:
            raise self._failed(Status.FAILED, f"the worker answered garbage: {line[:SHOWN_GARBAGE]!r}")
        if not reply["ok"]:
            status = FAILURE_KINDS.get(reply.get("kind"), Status.FAILED)
            raise self._failed(status, str(reply.get("error", "the worker gave no reason")))
        return dict(reply)

    def _failed(self, status: Status, reason: str) -> WorkerFailed:
        return WorkerFailed(Outcome(status, reason, self._process.end().log_tail))

    def _died(self, doing: str) -> WorkerFailed:
        ending = self._process.end(grace_seconds=LAST_WORDS_SECONDS)
        return WorkerFailed(outcome_of_ending(ending, doing))


def outcome_of_ending(ending: Ending, doing: str) -> Outcome:
    """Status of a worker that ended by itself while it was asked to do something."""
    code, tail = ending.exit_code, ending.log_tail
    if ending.killed_for_memory:
        return Outcome(Status.OOM, f"killed by the kernel's memory killer during `{doing}`", tail)
    if code is None:
        return Outcome(Status.CRASHED, f"the worker closed its output during `{doing}`", tail)
    how = _signal_name(-code) if code < 0 else f"exit code {code}"
    # C++ ends a process with SIGABRT when nobody catches its bad_alloc; other signals are no memory trouble.
    if (code >= 0 or code == -signal.SIGABRT) and any(text in tail.lower() for text in OUT_OF_MEMORY_TEXTS):
        return Outcome(Status.OOM, f"out of memory during `{doing}` ({how})", tail)
    return Outcome(Status.CRASHED, f"the worker ended with {how} during `{doing}`", tail)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
