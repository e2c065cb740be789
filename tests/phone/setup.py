"""Make what test phones are started from: `python -m tests.phone.setup`; a second time it does nothing.

Packages come from Debian into the cache (`benchsuite/device/debian.py`); nothing is installed. With `--why`
it only says whether the phone can run here.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from benchsuite.device.debian import fetch, read_pins, unpack
from models.errors import BenchError
from tests.phone.root import build_root

HERE = Path(__file__).parent
PINS = HERE / "debian.toml"
FOLDER_VARIABLE = "BENCH_TEST_PHONE"
COMPLETE = "complete"
KERNEL = (6, 7)
"""The first Linux in which a user namespace has emulations of its own."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a phone is started from: a tree to copy, and the emulator."""

    root: Path
    emulator: Path


class Unavailable(Exception):  # noqa: N818  (a reason to skip)
    """The test phone cannot run here; the text is the reason in one line."""


def folder() -> Path:
    """Where the parts lie; another content of the recipe is another folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    base = Path(named) if named else user_cache_path("bench") / "test-phone"
    digest = hashlib.sha256()
    for file in sorted([*HERE.glob("system/*"), PINS, HERE / "root.py", HERE / "properties.c"]):
        digest.update(file.read_bytes())
    return base / digest.hexdigest()[:12]


def parts() -> Parts:
    """The parts, if they are there; raises `Unavailable` where not."""
    if reason := why_not():
        raise Unavailable(reason)
    if not (folder() / COMPLETE).is_file():
        raise Unavailable("the test phone is not set up: python -m tests.phone.setup")
    return Parts(folder() / "root", folder() / "qemu-aarch64")


@cache
def why_not() -> str:
    """Why the phone cannot run on this machine; empty when it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the test phone needs Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    release = platform.release()
    if tuple(int(part) for part in release.split("-")[0].split(".")[:2]) < KERNEL:
        wanted = ".".join(map(str, KERNEL))
        return f"the test phone needs Linux {wanted} (emulation in a user namespace), this is {release}"
    probe = [sys.executable, "-S", str(HERE / "namespaces.py"), "--probe"]
    done = subprocess.run(
        probe, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    try:
        reply = json.loads(done.stdout or "{}")
    except ValueError:
        reply = {}
    if reply.get("ok"):
        return ""
    return f"the test phone may not be started here: {reply.get('error') or done.stderr.strip()[-200:]}"


def make() -> Parts:
    """Fetch, unpack, patch; idempotent. Raises `Unavailable`."""
    if reason := why_not():
        raise Unavailable(reason)
    place = folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.parent / "lock", timeout=1800):
        if not (place / COMPLETE).is_file():
            try:
                _make(place)
            except (BenchError, OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
                raise Unavailable(
                    f"the test phone could not be set up: {' '.join(str(error).split())}"
                ) from error
    return parts()


def _make(place: Path) -> None:
    packages = fetch(read_pins(PINS))
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".make-") as temporary:
        unpacked, made = Path(temporary) / "unpacked", Path(temporary) / "made"
        made.mkdir()
        unpacked.mkdir()
        unpack(packages.values(), unpacked)
        emulator = made / "qemu-aarch64"
        shutil.copy(unpacked / "usr/bin/qemu-aarch64", emulator)
        (made / "root").mkdir()
        build_root(made / "root", unpacked, emulator)
        (made / COMPLETE).touch()
        shutil.rmtree(place, ignore_errors=True)
        os.replace(made, place)


def main() -> None:
    """Say what was done, or why it could not be; never fails: tests are skipped with the reason."""
    try:
        if "--why" in sys.argv:
            print(why_not() or "the test phone can run here")
        else:
            print(f"test phone: {make().root.parent}")
        if "--vm" in sys.argv:
            from tests.phone.vm import VmParts  # which imports this module

            print(f"virtual phone: {VmParts().made().folder}")
    except Unavailable as error:
        print(f"{error}: its tests will be skipped")


if __name__ == "__main__":
    main()
