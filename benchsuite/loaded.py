"""One framework with one network loaded in a worker, outside a run: for profiles and self-tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.environments import make
from adapters.protocol import Adapter, Setting
from benchsuite.client import WorkerClient, WorkerFailed
from benchsuite.contestant import worker_cores
from benchsuite.device.frameworks import why_not_here
from benchsuite.device.protocol import Device
from benchsuite.group import inputs_file
from benchsuite.policy import Policy
from benchsuite.prepare import Say, prepare
from benchsuite.record import Outcome, Status
from benchsuite.steady import is_warm, next_warm_up_runs
from models.errors import BenchError
from models.materialize import materialize
from models.model import Model


@dataclass(frozen=True, slots=True)
class Loaded:
    """A worker that holds a network: `facts` is what its session tells, `warm_up_ns` its first inferences."""

    worker: WorkerClient
    policy: Policy
    facts: dict[str, str]
    converter: str
    warm_up_ns: tuple[int, ...]

    def ask(self, **request: object) -> dict[str, Any]:
        """Send one request and return its reply; raises `WorkerFailed`."""
        return self.worker.ask(request, timeout_seconds=self.policy.load_timeout_seconds)


@contextmanager
def loaded(
    device: Device,
    adapter: Adapter,
    model: Model,
    setting: Setting,
    *,
    policy: Policy,
    cache: Path,
    seed: int = 0,
    inputs: Path | None = None,
    say: Say = lambda text: None,
) -> Iterator[Loaded]:
    """Convert, load and warm up; the worker ends with the block. `inputs` is an npz file to feed instead of
    what `seed` draws.

    Raises `BenchError` with the status and reason when the framework cannot do it, here or inside the block.
    """
    worker: WorkerClient | None = None
    try:
        reason = adapter.refuse(setting) or why_not_here(adapter)
        if reason is not None:
            raise WorkerFailed(Outcome(Status.REFUSED, reason))
        path = materialize(model, cache)
        prepared = prepare(adapter, model, path, setting, cache=cache, policy=policy, device=device, say=say)
        make(adapter.environment, say)
        worker = WorkerClient(device, adapter.environment)
        request = {
            "do": "load",
            "framework": adapter.name,
            "path": device.push(prepared.path, prepared.companions),
            "options": dict(prepared.options),
            "inputs": device.push(inputs or inputs_file(model, seed, cache)),
            "cores": worker_cores(device, setting.threads, policy),
            **asdict(setting),
        }
        reply = worker.ask(request, timeout_seconds=policy.load_timeout_seconds)
        warm_up_ns = _warm_up(worker, policy)
        yield Loaded(worker, policy, reply["facts"], prepared.converter, tuple(warm_up_ns))
    except WorkerFailed as failure:
        raise _explained(failure.outcome, f"{model.name}/{adapter.name}") from failure
    finally:
        if worker is not None:
            worker.kill()


def _warm_up(worker: WorkerClient, policy: Policy) -> list[int]:
    runs_ns: list[int] = []
    while not is_warm(runs_ns, policy):
        request = {"do": "run", "iterations": next_warm_up_runs(runs_ns, policy), "rewarm": 0}
        runs_ns += worker.ask(request, timeout_seconds=policy.run_timeout_seconds)["run_ns"]
    return runs_ns


def _explained(outcome: Outcome, where: str) -> BenchError:
    tail = "\n  ".join(outcome.log_tail.splitlines()[-8:])
    log = f"\n  its last lines:\n  {tail}" if tail and outcome.status is not Status.REFUSED else ""
    return BenchError(f"{outcome.status}: {outcome.reason}{log}", where=where)
