"""Which adb is used: `$ADB`, the one on the PATH if it is new enough, or the one that adbutils carries."""

import os
import re
import shutil
import subprocess
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from models.errors import BenchError

LEAST_VERSION = 30
GOOD_VERSION = 35
"""Older ones answer 0 when the cable is pulled in the middle of a command."""
VERSION_TIMEOUT_S = 20
INSTALL_HINT = "`pip install '.[phones]'`, or Android's platform-tools (35 or newer) on the PATH"


@dataclass(frozen=True, slots=True)
class Adb:
    """An adb program and the major number of its version."""

    path: str
    version: int


class OldAdb(UserWarning):
    """An adb that works; a newer one tells pulled cables better."""


def find_adb() -> Adb:
    """The adb to use, looked for once for each value of `$ADB` and the PATH; raises `BenchError`, and warns
    with `OldAdb`.
    """
    return _find(os.environ.get("ADB", ""), os.environ.get("PATH", ""))


@cache
def _find(named: str, path: str) -> Adb:
    if named:
        return _judged(Adb(named, version_of(named)))
    on_path = shutil.which("adb")
    candidates = [one for one in (on_path, carried()) if one]
    found = [Adb(one, version_of(one)) for one in candidates]
    best = next((one for one in found if one.version >= GOOD_VERSION), None)
    if best is None and not found:
        raise BenchError("there is no adb", where="phones", hint=INSTALL_HINT)
    return best or _judged(max(found, key=lambda one: one.version))


def carried() -> str | None:
    """The adb inside the package adbutils, which has one for x86-64 Linux, Windows and older Macs only."""
    spec = find_spec("adbutils")
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent / "binaries" / "adb"
    return str(place) if place.is_file() and os.access(place, os.X_OK) else None


def version_of(path: str) -> int:
    """Major number of an adb's version; raises `BenchError` for what is none."""
    try:
        done = subprocess.run(
            [path, "version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
        match = re.search(rb"^Version (\d+)\.", done.stdout, re.MULTILINE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"this adb cannot be run: {error}", where=path, hint=INSTALL_HINT) from error
    if match is None:
        raise BenchError("this is not an adb: it tells no version", where=path, hint=INSTALL_HINT)
    return int(match[1])


def _judged(adb: Adb) -> Adb:
    if adb.version < LEAST_VERSION:
        raise BenchError(
            f"adb {adb.version} is too old: at least {LEAST_VERSION} is needed",
            where=adb.path,
            hint=INSTALL_HINT,
        )
    if adb.version < GOOD_VERSION:
        warnings.warn(
            f"adb {adb.version} at {adb.path} answers 0 when a cable is pulled; bench does not believe"
            f" it, but"
            f" {GOOD_VERSION} or newer is better: {INSTALL_HINT}",
            OldAdb,
            stacklevel=2,
        )
    return adb
