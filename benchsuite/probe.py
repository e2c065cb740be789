"""Measure, before a run, what a roofline needs: the device's ceiling, and what each network asks for."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchsuite.ceiling import MISSING, SOURCE
from benchsuite.client import WorkerClient, WorkerFailed
from benchsuite.contestant import worker_cores
from benchsuite.device.protocol import Device, DeviceLost, DeviceRestarted, Fact, Facts
from benchsuite.policy import Policy
from benchsuite.record import Outcome, Status
from models.cache import is_complete, publish
from models.dtypes import ELEMENT_TYPES
from models.errors import ModelError
from models.model import Model

PROBE_TIMEOUT_SECONDS = 120.0
COUNTS_NAME = "counts.json"
COUNTS_BYTES = 4096


def ceiling_facts(device: Device, threads: Iterable[int], policy: Policy) -> Facts:
    """Measure the device's ceiling at every thread count, in a worker; what fails is left out and says why.
    The source is what was measured.
    """
    facts: dict[str, Fact] = {}
    for count in threads if policy.probe_seconds > 0 else ():
        try:
            reply = _probe(device, count, policy)
        except WorkerFailed as failed:  # a report without a roofline is better than no run
            facts[f"ceiling.{count}t{MISSING}"] = _reason(failed)
            continue
        except DeviceLost as lost:
            facts[f"ceiling.{count}t{MISSING}"] = str(lost)
            break  # the run meets it again, and ends so that it can be resumed
        if reply.get("source"):
            facts[SOURCE] = str(reply["source"])
        for name in ("flops_per_second", "bytes_per_second"):
            if reply.get(name):
                facts[f"ceiling.{count}t.{name}"] = round(reply[name])
    return facts


def _probe(device: Device, threads: int, policy: Policy) -> Mapping[str, Any]:
    """The worker's reply; raises `WorkerFailed`, and `DeviceLost` for a device that is gone."""
    worker = WorkerClient(device)
    request = {
        "do": "probe",
        "threads": threads,
        "seconds": policy.probe_seconds,
        "cores": worker_cores(device, threads, policy),
    }
    try:
        return worker.ask(request, timeout_seconds=PROBE_TIMEOUT_SECONDS + 4 * policy.probe_seconds)
    except DeviceRestarted as restart:
        device.facts()  # a phone is held still anew
        raise WorkerFailed(Outcome(Status.CRASHED, str(restart))) from restart
    finally:
        worker.kill()


def _reason(failed: WorkerFailed) -> str:
    """Why there is no figure, with the last thing that the worker said."""
    said = failed.outcome.log_tail.strip().splitlines()
    return ": ".join([failed.outcome.reason, *said[-1:]])


def network_facts(models: Sequence[Model], cache: Path) -> Facts:
    """Work of every network, counted in its graph once (the cache keeps it); others are left out."""
    facts: dict[str, Fact] = {}
    for model in models:
        macs = _macs(model, cache)
        if macs is None:
            continue
        facts[f"network.{model.name}.macs"] = macs
        facts[f"network.{model.name}.weight_bytes"] = model.weight_byte_count
        facts[f"network.{model.name}.input_bytes"] = _input_bytes(model)
    return facts


def _macs(model: Model, cache: Path) -> int | None:
    from models.count import count_model

    folder = cache / "counts" / model.digest

    def fill(partial: Path) -> None:
        (partial / COUNTS_NAME).write_text(json.dumps({"macs": count_model(model).macs}), encoding="utf-8")

    try:
        if not is_complete(folder):
            publish(folder, COUNTS_BYTES, fill)
        macs = json.loads((folder / COUNTS_NAME).read_text(encoding="utf-8"))["macs"]
    except (ModelError, OSError, ValueError, KeyError, TypeError):
        return None  # the run itself says what is wrong with the network or the cache
    return macs if isinstance(macs, int) else None


def _input_bytes(model: Model) -> int:
    return sum(spec.element_count * ELEMENT_TYPES[spec.dtype].byte_count for spec in model.inputs)
