"""Reference outputs: ONNX Runtime, unoptimised, fp32, on this machine; computed once a network and kept."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.catalogue import REFERENCE, adapter, installed_version
from adapters.protocol import Setting
from benchsuite.client import WorkerClient, WorkerFailed
from benchsuite.device.local import LocalDevice
from benchsuite.policy import Policy
from benchsuite.prepare import prepare
from models.cache import is_complete, publish
from models.errors import ModelError
from models.model import Model

OUTPUTS_NAME = "outputs.npz"

Outputs = Mapping[str, NDArray[Any]]


def reference_outputs(
    model: Model, model_path: Path, inputs_path: Path, *, cache: Path, policy: Policy
) -> Outputs:
    """Outputs by name for these inputs, from the cache or computed in a worker of its own.

    The cache's key is the inputs (which name the network's digest and their seed) and the reference's
    version. Raises `ModelError` when the reference itself cannot run the network, or the cache cannot be
    used.
    """
    version = installed_version(adapter(REFERENCE))
    folder = cache / "reference" / f"{inputs_path.parent.name}-{REFERENCE}-{version}"
    if not is_complete(folder):
        publish(folder, 0, lambda partial: _compute(model, model_path, inputs_path, partial, policy))
    with np.load(folder / OUTPUTS_NAME, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _compute(model: Model, model_path: Path, inputs_path: Path, folder: Path, policy: Policy) -> None:
    """Run the reference once, with all processors, and leave its outputs in the folder."""
    setting = Setting(threads=os.cpu_count() or 1, precision="fp32")
    prepared = prepare(adapter(REFERENCE), model, model_path, setting, cache=folder, policy=policy)
    load = {
        "do": "load",
        "framework": REFERENCE,
        "path": str(prepared.path),
        "inputs": str(inputs_path),
        "options": dict(prepared.options),
        "threads": setting.threads,
        "precision": setting.precision,
    }
    steps = (load, {"do": "run", "iterations": 1}, {"do": "outputs", "path": str(folder / OUTPUTS_NAME)})
    device = LocalDevice()
    client = WorkerClient(device)
    try:
        for request in steps:
            client.ask(request, timeout_seconds=policy.load_timeout_seconds)
        client.close()
    except WorkerFailed as failure:
        raise ModelError(
            f"the reference (unoptimised ONNX Runtime) cannot run this network: {failure.outcome.reason}",
            where=model.name,
            hint="check the file with onnx.checker, or export it again with a newer exporter",
        ) from failure
    finally:
        client.kill()
        device.close()
