"""Searching for a network's kernels: a framework's tuner, a process a network."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from adapters.catalogue import ADAPTERS, adapter
from adapters.protocol import Adapter
from models.errors import BenchError
from models.materialize import materialize
from models.model import Model

Say = Callable[[str], None]


def tune(
    row: Adapter, models: Sequence[Model], *, trials: int, minutes: float, cache: Path, say: Say
) -> tuple[str, ...]:
    """Run the tuner of a framework on each network, for at most `minutes` each; returns what failed.

    Each network has a process of its own, whose end is not the end of the others. Raises `BenchError` for a
    framework without a tuner.
    """
    if not row.tuner:
        tuned = ", ".join(name for name in ADAPTERS if adapter(name).tuner)
        raise BenchError(f"{row.name} has no tuner", where="bench frameworks tune", hint=f"one of: {tuned}")
    failed = []
    for model in models:
        say(f"tuning {model.name} for {row.name}: at most {minutes:g} minutes")
        path = materialize(model, cache)
        typed = [
            sys.executable,
            "-m",
            row.tuner,
            str(path),
            "--trials",
            str(trials),
            "--minutes",
            str(minutes),
        ]
        code = subprocess.run(typed, check=False).returncode
        if code:
            failed.append(f"{model.name}: its tuner ended with exit code {code}")
    return tuple(failed)
