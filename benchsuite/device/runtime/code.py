"""The layer of bench's own code: the packages that a worker imports, and who they say they are."""

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import adapters
import models
import ourcompiler

PACKAGES = (adapters, models, ourcompiler)
LEFT_OUT = shutil.ignore_patterns("__pycache__", "graphs", "export", "sweeps", "tvm_tuned", "selftest")
"""What only this machine needs: networks, their making, what was swept and tuned."""
NAMED = ("bench", "ziglang")
"""Distributions whose versions a worker tells: of the code, and of the compiler that made what it runs."""


def write_code(folder: Path) -> None:
    """Copy the packages that this very process runs, installed or not."""
    for package in PACKAGES:
        shutil.copytree(Path(package.__path__[0]), folder / package.__name__, ignore=LEFT_OUT)
    for name in NAMED:
        try:
            told = version(name)
        except PackageNotFoundError:
            continue
        place = folder / f"{name}-{told}.dist-info"
        place.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {told}\n"
        (place / "METADATA").write_text(text, encoding="utf-8")
