"""Networks of our compiler on a phone without Python: the package's own program, pushed and run."""

import hashlib
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchsuite.device.link import Link
from models.errors import BenchError
from ourcompiler.stored import PROGRAM, WEIGHTS, Package, read

PLACE = "/data/local/tmp/bench/packages"
LOOK_TIMEOUT_S = 60.0
RUN_TIMEOUT_S = 3600.0
DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True)
class StaticRun:
    """Outputs of the last run by name, and the nanoseconds of each run."""

    outputs: Mapping[str, NDArray[Any]]
    run_ns: tuple[int, ...]


def push_package(link: Link, folder: Path) -> str:
    """Push a package for a static target, once for its content; returns its folder on the phone. Raises
    `BenchError` for a package of another target.
    """
    package = read(folder)
    if not (folder / PROGRAM).is_file():
        raise BenchError(
            f"the package is for {package.target}: it has no program of its own",
            where=str(folder),
            hint="`bench compile NETWORK --target aarch64-static`",
        )
    digest = hashlib.sha256()
    for name in (PROGRAM, WEIGHTS):
        with (folder / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    place = f"{PLACE}/{digest.hexdigest()[:DIGEST_DIGITS]}"
    if link.shell(f"[ -x {place}/{PROGRAM} ]", LOOK_TIMEOUT_S).code:
        link.shell(f"mkdir -p {place}", LOOK_TIMEOUT_S)
        link.push(folder / WEIGHTS, f"{place}/{WEIGHTS}")
        link.push(folder / PROGRAM, f"{place}/{PROGRAM}.new")
        link.shell(f"cd {place} && chmod 755 {PROGRAM}.new && mv {PROGRAM}.new {PROGRAM}", LOOK_TIMEOUT_S)
    return place


def run_static(
    link: Link, folder: Path, inputs: Mapping[str, NDArray[Any]], *, threads: int = 1, runs: int = 1
) -> StaticRun:
    """Run a package on the phone with inputs by name, and bring its outputs back; raises `BenchError` when
    the program fails.
    """
    place, package = push_package(link, folder), read(folder)
    with tempfile.TemporaryDirectory() as temporary:
        given, made = Path(temporary) / "inputs", Path(temporary) / "outputs"
        given.write_bytes(_packed(package, inputs))
        link.push(given, f"{place}/inputs")
        words = [f"./{PROGRAM}", WEIGHTS, "inputs", "outputs", str(threads), str(runs)]
        answer = link.shell(f"cd {place} && {shlex.join(words)}", RUN_TIMEOUT_S)
        if answer.code:
            said = answer.err.strip() or f"it ended with {answer.code}"
            raise BenchError(f"the program failed on the phone: {said}", where=f"{link.serial}:{place}")
        link.pull(f"{place}/outputs", made)
        outputs = _unpacked(package, made.read_bytes())
    link.shell(f"rm -f {place}/inputs {place}/outputs", LOOK_TIMEOUT_S)
    return StaticRun(outputs, tuple(int(line) for line in answer.out.split()))


def _packed(package: Package, inputs: Mapping[str, NDArray[Any]]) -> bytes:
    """Inputs one after another as the manifest lists them."""
    parts = []
    for name, wanted in package.inputs:
        if name not in inputs or inputs[name].shape != tuple(wanted.shape):
            raise BenchError(f"the input {name} must have the shape {wanted.shape}", where=package.name)
        parts.append(np.ascontiguousarray(inputs[name], wanted.dtype.numpy).tobytes())
    return b"".join(parts)


def _unpacked(package: Package, data: bytes) -> dict[str, NDArray[Any]]:
    found, start = {}, 0
    for name, one in package.outputs:
        piece = data[start : start + one.byte_count]
        found[name] = np.frombuffer(piece, one.dtype.numpy).reshape(one.shape)
        start += one.byte_count
    return found
