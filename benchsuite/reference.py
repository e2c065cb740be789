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
from models.errors import ModelError
from models.model import Model

Outputs = Mapping[str, NDArray[Any]]


def reference_outputs(
    model: Model, model_path: Path, inputs_path: Path, *, cache: Path, policy: Policy
) -> Outputs:
    """Outputs by name for these inputs, from the cache or computed in a worker of its own.

    The cache's key is the network's digest, the inputs and the reference's version. Raises `ModelError` when
    the reference itself cannot run the network.
    """
    version = installed_version(adapter(REFERENCE))
    path = cache / "reference" / f"{model.digest}-{inputs_path.stem}-{REFERENCE}-{version}.npz"
    if not path.exists():
        _compute(model, model_path, inputs_path, path, policy)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _compute(model: Model, model_path: Path, inputs_path: Path, path: Path, policy: Policy) -> None:
    setting = Setting(threads=os.cpu_count() or 1, precision="fp32")
    prepared = adapter(REFERENCE).prepare(model_path, setting, path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
    load = {
        "do": "load",
        "framework": REFERENCE,
        "path": str(prepared.path),
        "inputs": str(inputs_path),
        "options": dict(prepared.options),
        "threads": setting.threads,
        "precision": setting.precision,
    }
    device = LocalDevice()
    client = WorkerClient(device)
    try:
        client.ask(load, timeout_seconds=policy.load_timeout_seconds)
        client.ask({"do": "run", "iterations": 1}, timeout_seconds=policy.load_timeout_seconds)
        client.ask({"do": "outputs", "path": str(partial)}, timeout_seconds=policy.load_timeout_seconds)
        client.close()
        os.replace(partial, path)
    except WorkerFailed as failure:
        raise ModelError(
            f"the reference (unoptimised ONNX Runtime) cannot run this network: {failure.outcome.reason}",
            where=model.name,
            hint="check the file with `python -m onnx.checker` or open it in a newer ONNX Runtime",
        ) from failure
    finally:
        client.kill()
        partial.unlink(missing_ok=True)
        device.close()
