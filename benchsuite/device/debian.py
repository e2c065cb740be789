"""Packages of Debian for another machine: fetched by apt in a private folder, unpacked; nothing is installed.

A pin is a row of a TOML file with the sha256 of the package, so that two machines get the same bytes; apt
only finds and fetches them. What was fetched once stays in the cache under its sha256.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from models.errors import BenchError

SUITE = "trixie"
ARCHITECTURES = ("amd64", "arm64")
USUAL_MIRROR = "http://deb.debian.org/debian"
OLD_PACKAGES = "http://snapshot.debian.org/archive/debian/{date}T000000Z"
"""What Debian's mirrors have replaced by a newer version is kept there."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SYSTEM_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))
UPDATE_TIMEOUT_S = 180
DOWNLOAD_TIMEOUT_S = 900
LOCK_TIMEOUT_S = 1800
CACHE_VARIABLE = "BENCH_DEBIAN"


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of one architecture in one version, with the sha256 of its file."""

    name: str
    architecture: str
    version: str
    sha256: str

    @property
    def spec(self) -> str:
        """As apt is asked for it."""
        return f"{self.name}:{self.architecture}={self.version}"


@dataclass(frozen=True, slots=True)
class Pins:
    """A file of pins: `date` is a day (YYYYMMDD) on which Debian had all of them."""

    date: str
    pins: tuple[Pin, ...]


def read_pins(path: Path) -> Pins:
    """Read the rows `name = ["version", "sha256"]` of the tables `[arm64]` and `[amd64]`."""
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    pins = [
        Pin(name, architecture, version, digest)
        for architecture in ARCHITECTURES
        for name, (version, digest) in values.get(architecture, {}).items()
    ]
    return Pins(values["date"], tuple(pins))


def package_folder() -> Path:
    """Where fetched packages are kept; safe to delete. `BENCH_DEBIAN` names another folder."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else user_cache_path("bench") / "debian"


def fetch(wanted: Pins) -> dict[str, Path]:
    """The files of all pins, by package name; raises `BenchError` when one cannot be had."""
    folder = package_folder()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=LOCK_TIMEOUT_S):
            missing = [one for one in wanted.pins if not _place(folder, one).is_file()]
            if missing:
                _download(missing, folder, wanted.date)
    except Timeout as error:
        raise BenchError(
            f"another process has been fetching packages for {LOCK_TIMEOUT_S} s", where=str(folder)
        ) from error
    return {one.name: _place(folder, one) for one in wanted.pins}


def unpack(packages: Iterable[Path], folder: Path) -> None:
    """Unpack packages over one another; nothing of theirs is run. Raises `BenchError`."""
    for package in packages:
        _run(["dpkg-deb", "-x", str(package), str(folder)], UPDATE_TIMEOUT_S, package.name)


def _place(folder: Path, pin: Pin) -> Path:
    return folder / f"{pin.name}-{pin.sha256}.deb"


def _download(pins: Sequence[Pin], folder: Path, date: str) -> None:
    """Fetch from the usual mirror, and what is no longer there from the archive of old packages."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise BenchError(f"{tool} is missing", hint="use Debian or Ubuntu, or fetch the packages there")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".apt-") as temporary:
        private = Path(temporary)
        sources = (usual_mirror(), OLD_PACKAGES.format(date=date))
        for source in sources:
            try:
                _from(source, [one for one in pins if not _place(folder, one).is_file()], folder, private)
                return
            except BenchError:
                if source == sources[-1]:
                    raise


def _from(source: str, pins: Sequence[Pin], folder: Path, private: Path) -> None:
    environment = {**os.environ, "APT_CONFIG": str(write_configuration(private, source)), "LC_ALL": "C"}
    _run(["apt-get", "-q", "update"], UPDATE_TIMEOUT_S, source, environment, private)
    specs = [pin.spec for pin in pins]
    _run(["apt-get", "-q", "download", *specs], DOWNLOAD_TIMEOUT_S, source, environment, private)
    for pin in pins:
        file = next(private.glob(f"{pin.name}_*_{pin.architecture}.deb"))
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != pin.sha256:
            raise BenchError(f"the package has sha256 {found}, not {pin.sha256}", where=pin.spec)
        os.replace(file, _place(folder, pin))


def usual_mirror(places: Sequence[Path] = SYSTEM_SOURCES) -> str:
    """The mirror of Debian that this machine's apt uses, or the one for everybody."""
    for place in places:
        for file in sorted(place.iterdir()) if place.is_dir() else [place]:
            text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
            words = " ".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
            if found := re.search(r"\bhttps?://\S+/debian(?=/?(\s|$))", words):
                return found[0]
    return USUAL_MIRROR


def write_configuration(private: Path, source: str) -> Path:
    """Write a configuration that keeps every file of apt's inside `private`; returns its path.

    The signature is checked where Debian's keyring is installed; the sha256 of the pins is checked always.
    """
    for name in ("lists/partial", "archives/partial", "etc"):
        (private / name).mkdir(parents=True, exist_ok=True)
    (private / "status").touch()
    trust = f"signed-by={KEYRING}" if KEYRING.is_file() else "trusted=yes"
    options = f"arch={','.join(ARCHITECTURES)} {trust}" + (
        " check-valid-until=no" if "snapshot" in source else ""
    )
    (private / "sources.list").write_text(f"deb [{options}] {source} {SUITE} main\n", encoding="utf-8")
    architectures = "".join(f'"{one}";' for one in ARCHITECTURES)
    lines = [
        f'Dir "{private}";',
        *(f'Dir::{name} "{private}";' for name in ("State", "Cache")),
        f'Dir::State::status "{private}/status";',
        f'Dir::State::lists "{private}/lists";',
        f'Dir::Cache::archives "{private}/archives";',
        f'Dir::Etc "{private}/etc";',
        f'Dir::Etc::sourcelist "{private}/sources.list";',
        *(f'Dir::Etc::{name} "/dev/null";' for name in ("sourceparts", "main", "parts")),
        f'APT::Architecture "{ARCHITECTURES[0]}";',
        f"APT::Architectures {{{architectures}}};",
        'APT::Sandbox::User "root";',
        'Acquire::Languages "none";',
        'Acquire::Retries "2";',
        *_proxies(),
    ]
    place = private / "apt.conf"
    place.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


def _proxies() -> list[str]:
    """How this machine reaches a mirror, as its own apt is told."""
    if shutil.which("apt-config") is None:
        return []
    done = subprocess.run(
        ["apt-config", "dump"], capture_output=True, text=True, timeout=UPDATE_TIMEOUT_S, check=False
    )
    return [line for line in done.stdout.splitlines() if re.match(r"Acquire::(https?)::\S*[Pp]roxy", line)]


def _run(
    command: Sequence[str],
    timeout_s: float,
    where: str,
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{command[0]} took more than {timeout_s:.0f} s", where=where) from error
    warned = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:", "Err:", "dpkg-deb:"))]
    if done.returncode or (command[-1] == "update" and warned):
        said = (warned or done.stderr.strip().splitlines() or ["no word about why"])[0]
        raise BenchError(f"{command[0]} failed: {said}", where=where, hint="is there a network?")
