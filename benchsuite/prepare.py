"""Make a network ready for a framework: conversion in a process of its own, kept by content in the cache."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from adapters.catalogue import distribution_version
from adapters.environments import make, why_unmakeable
from adapters.framework import VARIANT_MARK
from adapters.protocol import Adapter, Conversion, Prepared, Setting
from benchsuite.client import WorkerClient, WorkerFailed
from benchsuite.device.host import host_telemetry
from benchsuite.device.local import LocalDevice
from benchsuite.device.protocol import Device
from benchsuite.policy import Policy
from benchsuite.record import Outcome, Status
from models.cache import MANIFEST, is_complete, publish
from models.model import Model

CONVERTED_NAME = "converted.json"
KEY_DIGITS = 16
TELL_EVERY_SECONDS = 2.0

Say = Callable[[str], None]


def prepare(
    adapter: Adapter,
    model: Model,
    model_path: Path,
    setting: Setting,
    *,
    cache: Path,
    policy: Policy,
    device: Device | None = None,
    say: Say = lambda text: None,
) -> Prepared:
    """What the worker loads for `model_path` (the ONNX file of `model`, weights included).

    Converted at most once for a content: the key is the network's digest, the converter's versions, its
    options and its own files. `device` is where it will be measured. Raises `WorkerFailed` with the status of
    a conversion that failed, was refused, crashed, took too long or too much memory, and `BenchError` when
    its environment cannot be made or the cache cannot be used.
    """
    conversion = adapter.conversion(setting)
    if conversion is None:
        return _as_it_is(adapter, model_path)
    reason = why_unmakeable(conversion.environment)
    if reason is not None:
        raise WorkerFailed(Outcome(Status.REFUSED, reason))
    make(conversion.environment, say)
    versions = _versions(conversion)
    framework = adapter.name.partition(VARIANT_MARK)[0]  # variants that convert alike share what was made
    key = _key(model, framework, conversion, versions, setting)
    folder = cache / "converted" / f"{model.name}-{framework}-{key}"
    if not is_complete(folder):
        with _telling(say, f"converting for {adapter.name} with {conversion.tool}"):
            publish(
                folder,
                model.weight_byte_count,
                lambda partial: _convert(
                    _host(device), adapter, conversion, model_path, partial, setting, policy
                ),
            )
    return _prepared(folder, f"{conversion.tool} ({', '.join(versions)})")


def _as_it_is(adapter: Adapter, model_path: Path) -> Prepared:
    from models.onnx_file import external_files  # onnx takes long to import

    companions = tuple(model_path.parent / location for location in external_files(model_path))
    return Prepared(model_path, companions, dict(adapter.options))


def _versions(conversion: Conversion) -> list[str]:
    """`name version` of every package that decides the result; raises `WorkerFailed` when one is missing."""
    found = {name: distribution_version(name, conversion.environment) for name in conversion.distributions}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        reason = f"the converter needs {missing[0]}, which is not installed: `pip install {missing[0]}`"
        raise WorkerFailed(Outcome(Status.REFUSED, reason))
    return [f"{name} {version}" for name, version in found.items()]


def _key(model: Model, framework: str, conversion: Conversion, versions: list[str], setting: Setting) -> str:
    content = json.dumps(
        {
            "model": model.digest,
            "framework": framework,
            "tool": conversion.tool,
            "versions": versions,
            "options": dict(conversion.options),
            "precision": setting.precision,
            "threads": setting.threads if conversion.per_threads else None,
            "files": [hashlib.sha256(path.read_bytes()).hexdigest() for path in conversion.files],
        },
        sort_keys=True,
    )
    return hashlib.sha256(content.encode()).hexdigest()[:KEY_DIGITS]


def _host(device: Device | None) -> LocalDevice:
    """Converters run on this machine, whatever device measures."""
    return device if isinstance(device, LocalDevice) else LocalDevice()


def _convert(
    device: LocalDevice,
    adapter: Adapter,
    conversion: Conversion,
    source: Path,
    folder: Path,
    setting: Setting,
    policy: Policy,
) -> None:
    """Run the converter in a worker of its environment, within limits of memory and time."""
    client = WorkerClient(device, conversion.environment)
    available = host_telemetry().memory_available_bytes
    request = {
        "do": "convert",
        "framework": adapter.name,
        "source": str(source),
        "folder": str(folder),
        "memory_limit_bytes": int(available * policy.convert_memory_share) if available else None,
        **asdict(setting),
    }
    try:
        reply = client.ask(request, timeout_seconds=policy.convert_timeout_seconds)
        client.close()
    finally:
        client.kill()
    (folder / CONVERTED_NAME).write_text(json.dumps(reply, indent=1) + "\n", encoding="utf-8")


def _prepared(folder: Path, converter: str) -> Prepared:
    made = json.loads((folder / CONVERTED_NAME).read_text(encoding="utf-8"))
    main = folder / made["file"]
    others = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MANIFEST)
    companions = tuple(path for path in others if path != main)
    seconds = made["convert_ns"] / 1e9 if "convert_ns" in made else None
    return Prepared(main, companions, made["options"], converter, seconds)


@contextmanager
def _telling(say: Say, what: str) -> Iterator[None]:
    """Say how long something has been going on, every few seconds, until it ends."""
    done, start = threading.Event(), time.monotonic()

    def tell() -> None:
        while not done.wait(TELL_EVERY_SECONDS):
            say(f"{what}, {time.monotonic() - start:.0f} s")

    say(what)
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
