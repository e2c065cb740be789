"""Small C programs of bench for a device: static, built once for each source and compiler by the compiler of
ourcompiler.
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from models.errors import BenchError
from ourcompiler.toolchain import compiler, compiler_version

TARGETS = {"aarch64": ("aarch64-linux-musl", "generic"), "x86_64": ("x86_64-linux-musl", "x86_64")}
"""Triple and -mcpu by what `uname -m` says: no instruction that one of them might not have."""
FLAGS = ("-std=gnu11", "-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror", "-fno-sanitize=all")
BUILD_TIMEOUT_S = 600
"""The first build for a machine makes the C library too: a minute on a slow machine."""


def built(source: Path, machine: str) -> Path:
    """The program of one C file for `aarch64` or `x86_64`, named after it in the cache; raises `BenchError`
    for another machine, or when it cannot be built.
    """
    name = source.stem
    if machine not in TARGETS:
        raise BenchError(f"there is no {name} for {machine!r}", hint=f"one of {', '.join(TARGETS)}")
    triple, cpu = TARGETS[machine]
    command = [*compiler(), "-target", triple, f"-mcpu={cpu}", *FLAGS, str(source)]
    key = hashlib.sha256(source.read_bytes())
    key.update("\0".join([compiler_version(), triple, cpu, *FLAGS]).encode())
    place = user_cache_path("bench") / name / f"{machine}-{key.hexdigest()[:16]}"
    if place.is_file():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as temporary:
        made = Path(temporary) / name
        try:
            done = subprocess.run(
                [*command, "-o", str(made)],
                capture_output=True,
                text=True,
                timeout=BUILD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BenchError(
                f"the C compiler took more than {BUILD_TIMEOUT_S} s", where=source.name
            ) from error
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no word about why"])[0]
            raise BenchError(f"the C compiler failed: {said}", where=source.name)
        os.replace(made, place)
    return place
