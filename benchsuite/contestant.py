"""One framework in one group: its worker from start to end, its turns, its outputs, and how it fails."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from adapters.external import External
from adapters.protocol import Adapter, Prepared, Setting
from benchsuite.client import EXTERNAL_MODULE, WORKER_MODULE, WorkerClient, WorkerFailed
from benchsuite.context import Context
from benchsuite.device.protocol import Device
from benchsuite.gate import Arrays, Verdict, compare
from benchsuite.policy import Policy
from benchsuite.record import CellRecord, Loading, Outcome, Status, Turn
from benchsuite.steady import NANO, is_warm, iterations_for_block, next_warm_up_runs, rewarm_for_block

SLOWER_THAN_EXPECTED = 10


@dataclass(frozen=True, slots=True)
class Task:
    """What every contestant of a group is given: paths on the device, and the setting."""

    prepared: Prepared
    remote_path: str
    remote_inputs: str
    setting: Setting
    prepare_seconds: float


class Contestant:
    """A cell being measured. `cell` is always what is known now; `outcome` is set once it cannot go on."""

    def __init__(self, context: Context, adapter: Adapter, cell: CellRecord, task: Task) -> None:
        self.cell = cell
        self._context, self._adapter, self._task = context, adapter, task
        self._client: WorkerClient | None = None
        self._outputs = context.scratch / f"{self.name}.npz"
        self._recorded: Verdict | None = None
        self._has_run = self._has_fetched = False

    @property
    def name(self) -> str:
        """The framework's name."""
        return self.cell.key.framework

    @property
    def alive(self) -> bool:
        """Whether it can still be measured."""
        return self.cell.outcome is None

    @property
    def loaded(self) -> bool:
        """Whether its worker holds the network now."""
        return self._client is not None

    @property
    def memory_loaded_bytes(self) -> int:
        """What its worker held once loaded; 0 while that is not known."""
        return self.cell.loading.memory_loaded_bytes if self.cell.loading else 0

    @property
    def load_ns(self) -> int:
        """How long its worker took to load; 0 while that is not known."""
        return self.cell.loading.load_ns if self.cell.loading else 0

    @property
    def judgeable(self) -> bool:
        """Whether there are outputs of a timed run of this session: in its worker, or fetched from one."""
        return self._has_fetched or (self.loaded and self._has_run)

    def start(self) -> None:
        """Start the worker, load the network, warm up; raises `WorkerFailed`, with the worker gone."""
        context, task = self._context, self._task
        with context.accounts.spend("loading"):
            start = time.monotonic()
            self._client, self._has_run = self._worker(), False
            reply = self._ask(
                {
                    "do": "load",
                    "framework": self.name,
                    "path": task.remote_path,
                    "options": dict(task.prepared.options),
                    "inputs": task.remote_inputs,
                    "memory_limit_bytes": context.memory_limit_bytes,
                    "cores": worker_cores(context.device, task.setting.threads, context.policy),
                    **asdict(task.setting),
                },
                context.policy.load_timeout_seconds,
            )
            elapsed_ns = int((time.monotonic() - start) * NANO)
        self._check_precision(reply["facts"])
        warm_up_ns, placement = self._warmed_up(reply)
        known = self.cell.loading
        self._save(
            loading=Loading(
                prepare_seconds=round(task.prepare_seconds, 3),
                start_ns=max(0, elapsed_ns - reply["load_ns"]),
                load_ns=reply["load_ns"],
                warm_up_ns=tuple(warm_up_ns),
                # A resumed or restarted cell keeps its blocks alike.
                iterations=known.iterations if known else iterations_for_block(warm_up_ns, context.policy),
                memory_loaded_bytes=reply["memory_now_bytes"],
                facts={**reply["facts"], "placement": placement},
                options={"converter": task.prepared.converter, **task.prepared.options},
                convert_seconds=task.prepared.convert_seconds,
            )
        )

    def turn(self, position: int, *, last: bool = False) -> Turn:
        """One timed turn of a block, of whose last the device's state is asked for next; raises
        `WorkerFailed`.
        """
        loading = self.cell.loading
        assert loading is not None
        typical_seconds = max(loading.warm_up_ns[-2:]) / NANO
        policy = self._context.policy
        rewarm = rewarm_for_block(loading.warm_up_ns, policy)
        limit = policy.run_timeout_seconds + SLOWER_THAN_EXPECTED * typical_seconds * (
            loading.iterations + rewarm
        )
        if last:
            self._context.device.expect_telemetry()
        reply = self._ask({"do": "run", "iterations": loading.iterations, "rewarm": rewarm}, limit)
        self._has_run = True
        accounts = self._context.accounts
        accounts.add("timed", (sum(reply["run_ns"]) + sum(reply["input_ns"])) / NANO)
        accounts.add("warm_up", reply["rewarm_ns"] / NANO)
        return Turn(position, tuple(reply["run_ns"]), tuple(reply["input_ns"]), reply["cpu_ns"])

    def fetch_outputs(self) -> None:
        """Bring the outputs of the last run here; raises `WorkerFailed`. Only the latest are kept."""
        remote = self._context.device.scratch(f"outputs-{self.name}.npz")
        reply = self._ask({"do": "outputs", "path": remote}, self._context.policy.load_timeout_seconds)
        if "recorded_error" in reply:
            self._recorded = Verdict(reply["recorded_error"], reply.get("recorded_reason", ""))
        else:
            self._context.device.pull(remote, self._outputs)
        self._has_fetched = True

    def judge(self, reference: Callable[[], Arrays]) -> Verdict:
        """Compare the fetched outputs with the reference's, which are asked for only when they are needed."""
        if self._recorded is not None:
            return self._recorded
        with np.load(self._outputs, allow_pickle=False) as archive:
            outputs = {name: archive[name] for name in archive.files}
        return compare(reference(), outputs, self._task.setting.precision)

    def note_memory(self) -> None:
        """Ask for the peak memory and keep it; raises `WorkerFailed`."""
        peak = self._ask({"do": "memory"}, 30.0)["memory_peak_bytes"]
        if peak:  # 0: it cannot be known
            self._save(memory_peak_bytes=max(peak, self.cell.memory_peak_bytes or 0))

    def stop(self) -> None:
        """End the worker; it can be started again."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def kill(self) -> None:
        """End the worker at once."""
        if self._client is not None:
            self._client.kill()
            self._client = None

    def conclude(self, outcome: Outcome) -> None:
        """Give the cell its status and write it down."""
        self._save(outcome=outcome)

    def restarted(self) -> None:
        """Count one more restart."""
        self._save(restarts=self.cell.restarts + 1)

    def _worker(self) -> WorkerClient:
        module = EXTERNAL_MODULE if isinstance(self._adapter, External) else WORKER_MODULE
        return WorkerClient(self._context.device, self._adapter.environment, module)

    def _check_precision(self, facts: Mapping[str, str]) -> None:
        """A framework that computes in another class than it was asked for is not compared in this one."""
        asked = self._task.setting.precision
        found = facts.get("precision", asked)
        if found != asked:
            self.kill()
            reason = f"computes in {found} here, not in {asked}: measure it with --precision {found}"
            raise WorkerFailed(Outcome(Status.REFUSED, reason))

    def _warmed_up(self, reply: Mapping[str, Any]) -> tuple[list[int], str]:
        """Warm up, unless nothing of it would stay: a program that is started for every turn tells its first
        run at once.
        """
        if "warm_up_ns" in reply:
            return reply["warm_up_ns"], reply["facts"]["placement"]
        return self._warm_up()

    def _warm_up(self) -> tuple[list[int], str]:
        """Run until warm, on the accounts as warm-up; raw nanoseconds of every inference, and where
        threads are.
        """
        policy, runs_ns, placement = self._context.policy, list[int](), ""
        limit = policy.run_timeout_seconds
        with self._context.accounts.spend("warm_up"):
            while not is_warm(runs_ns, policy):
                request = {"do": "run", "iterations": next_warm_up_runs(runs_ns, policy), "rewarm": 0}
                reply = self._ask(request, limit)
                runs_ns += reply["run_ns"]
                placement = reply["placement"]
        return runs_ns, placement

    def _ask(self, request: Mapping[str, Any], timeout_seconds: float) -> dict[str, Any]:
        assert self._client is not None
        try:
            return self._client.ask(request, timeout_seconds=timeout_seconds)
        except WorkerFailed:
            self._client = None
            raise

    def _save(self, **changes: Any) -> None:
        self.cell = replace(self.cell, **changes)
        self._context.journal.save_cell(self._context.run, self.cell)


def worker_cores(device: Device, threads: int, policy: Policy) -> tuple[int, ...]:
    """The cores of every worker of a group; none when there are not as many as threads, or none are
    wanted.
    """
    cores = device.cores()[:threads]
    return cores if policy.pin_threads and len(cores) == threads else ()
