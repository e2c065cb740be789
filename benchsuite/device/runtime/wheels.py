"""Wheels of PyPI for the phone's Python: downloaded here by pip and sha256, unpacked, not installed."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from benchsuite.device.runtime.table import Wheel
from models.errors import BenchError

GLIBC_MINORS = (41, 39, 35, 34, 31, 28, 27, 24, 17)
PLATFORMS = (*(f"manylinux_2_{minor}_aarch64" for minor in GLIBC_MINORS), "manylinux2014_aarch64")
"""Every C library for which a wheel may have been built and that the base's is not older than."""
DOWNLOAD_TIMEOUT_S = 900


def unpack_wheels(wheels: Sequence[Wheel], python: str, folder: Path) -> None:
    """Put the content of wheels into one folder; raises `BenchError` when one cannot be had."""
    for wheel in wheels:
        with zipfile.ZipFile(_fetched(wheel, python)) as archive:
            archive.extractall(folder)
        for data in folder.glob("*.data"):
            raise BenchError(f"the wheel has files for other places: {data.name}", where=wheel.name)


def _fetched(wheel: Wheel, python: str) -> Path:
    """The file of a wheel, from the cache or by pip."""
    cache = user_cache_path("bench") / "wheels"
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / f"{wheel.name}-{wheel.version}-{wheel.sha256}.whl"
    with FileLock(f"{place}.lock"):
        if not place.is_file():
            with tempfile.TemporaryDirectory(dir=cache) as temporary:
                _download(wheel, python, Path(temporary))
                next(Path(temporary).glob("*.whl")).replace(place)
    return place


def _download(wheel: Wheel, python: str, folder: Path) -> None:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="ascii")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [
        "--require-hashes",
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        python,
    ]
    for abi in (f"cp{python.replace('.', '')}", "abi3", "none"):
        command += ["--abi", abi]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    command += ["--dest", str(folder), "--requirement", str(wanted)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"pip took more than {DOWNLOAD_TIMEOUT_S} s", where=wheel.name) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            "no word about why"
        ]
        raise BenchError(
            f"pip cannot fetch {wheel.name} {wheel.version} for 64-bit ARM: {lines[-1]}",
            where="the runtime on the phone",
            hint="is there a network?",
        )
