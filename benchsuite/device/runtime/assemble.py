"""Put a layer together: a tar with everything that is in it, named by its content, kept in the cache.

A layer of wheels is a folder for PYTHONPATH. The base holds the loader, the C library, others, and Python,
all from Debian's packages for 64-bit ARM; started through its loader it needs only the phone's Linux.
"""

import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from benchsuite.device.debian import fetch, unpack
from benchsuite.device.runtime.code import write_code
from benchsuite.device.runtime.table import BASE, CODE, TABLE, layer_table
from benchsuite.device.runtime.wheels import unpack_wheels

CACHE_VARIABLE = "BENCH_RUNTIME"
DIGEST_DIGITS = 16
TAR, FACTS, SUMS = "layer.tar", "layer.json", "sha256sums"
LOADER = "ld-linux-aarch64.so.1"
LIBRARIES = Path("usr/lib/aarch64-linux-gnu")
NOT_NEEDED = re.compile(
    r"(^|/)(tests?|idlelib|lib2to3|ensurepip|turtledemo|turtle\.py|tkinter|venv|pydoc_data|__pycache__"
    r"|_(test\w*|ctypes_test|xxtestfuzz|curses\w*|dbm)\.cpython[^/]*|xxlimited\w*\.cpython[^/]*"
    r"|readline\.cpython[^/]*|sitecustomize\.py|EXTERNALLY-MANAGED)(/|$)"
)
"""What is left out of Python and of wheels: tests, windows, terminals, what a distribution put in."""
MODE_PROGRAM, MODE_FILE = 0o755, 0o644
SHELL_UID = 2000


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer, ready to be pushed: `digest` names the content, `byte_count` is what it takes unpacked."""

    name: str
    digest: str
    tar: Path
    byte_count: int
    file_count: int

    @property
    def folder_name(self) -> str:
        """How it is called on the phone."""
        return f"{self.name}-{self.digest}"


def assemble(name: str, say: Callable[[str], None] = lambda _: None) -> Layer:
    """The layer of that name, from the cache or made now; raises `BenchError` when parts cannot be had."""
    if name == CODE:
        return _publish(name, None, write_code)
    key = hashlib.sha256(TABLE.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:DIGEST_DIGITS]
    place = _base_folder() / f"{name}-{key}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if (place / FACTS).is_file():
            return _read(place)
        for older in place.parent.glob(f"{name}-*/"):
            shutil.rmtree(older, ignore_errors=True)
        say(f"putting together the layer {name}")
        return _publish(name, place, _base if name == BASE else lambda made: _wheels(name, made))


def _base_folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else user_cache_path("bench") / "runtime"


def _base(made: Path) -> None:
    """Loader and libraries in `lib`, Python in `py`, and a `python3` that starts it for child processes."""
    version = layer_table().python
    with tempfile.TemporaryDirectory() as temporary:
        unpacked = Path(temporary)
        unpack(fetch(layer_table().debian).values(), unpacked)
        (made / "lib").mkdir()
        for file in sorted((unpacked / LIBRARIES).glob("*.so*")):
            if file.is_file():
                shutil.copy(file, made / "lib" / file.name, follow_symlinks=_leads_nowhere(file, unpacked))
        library = Path("lib") / f"python{version}"
        shutil.copytree(unpacked / "usr" / library, made / "py" / library, symlinks=True)
        (made / "py/bin").mkdir()
        shutil.copy(unpacked / f"usr/bin/python{version}", made / "py/bin")
    starter = made / "py/bin/python3"
    starter.write_text(
        "#!/system/bin/sh\nD=${0%/py/bin/python3}\nexport PYTHONHOME=$D/py\n"
        f'exec "$D/lib/{LOADER}" --library-path "$D/lib" --argv0 "$0" "$D/py/bin/python{version}" "$@"\n',
        encoding="ascii",
    )
    starter.chmod(MODE_PROGRAM)


def _leads_nowhere(file: Path, unpacked: Path) -> bool:
    """Whether a link leads out of the libraries' own folder: then its target is copied."""
    return file.is_symlink() and os.sep in os.readlink(file)


def _wheels(name: str, made: Path) -> None:
    table = layer_table()
    unpack_wheels(table.wheels[name], table.python, made)


def _publish(name: str, place: Path | None, make: Callable[[Path], None]) -> Layer:
    """Make the content in a temporary folder and put its tar in place, whole or not at all; without a place
    in one named by the content, which stays when it is there already.
    """
    _base_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_base_folder(), prefix=".make-") as temporary:
        made, ready = Path(temporary) / "made", Path(temporary) / "ready"
        made.mkdir()
        ready.mkdir()
        make(made)
        sums, bytes_in_all = _sums(made)
        (made / SUMS).write_text(sums, encoding="utf-8")
        digest = hashlib.sha256((sums + _links(made)).encode()).hexdigest()[:DIGEST_DIGITS]
        place = place or _base_folder() / f"{name}-{digest}"
        if (place / FACTS).is_file():
            return _read(place)
        _write_tar(made, ready / TAR)
        facts = {"name": name, "digest": digest, "bytes": bytes_in_all, "files": sums.count("\n")}
        (ready / FACTS).write_text(json.dumps(facts) + "\n", encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        os.replace(ready, place)
    return _read(place)


def _read(place: Path) -> Layer:
    facts = json.loads((place / FACTS).read_text(encoding="utf-8"))
    return Layer(facts["name"], facts["digest"], place / TAR, facts["bytes"], facts["files"])


def _paths(folder: Path) -> Iterator[Path]:
    """Everything that belongs into a layer, in an order of its own."""
    for path in sorted(folder.rglob("*")):
        if not NOT_NEEDED.search(path.relative_to(folder).as_posix()):
            yield path


def _sums(folder: Path) -> tuple[str, int]:
    """Lines as sha256sum writes them, of all files but links; and the bytes of all."""
    lines, total = [], 0
    for path in _paths(folder):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
            total += path.stat().st_size
    return "".join(lines), total


def _links(folder: Path) -> str:
    return "".join(f"{path.name} -> {os.readlink(path)}\n" for path in _paths(folder) if path.is_symlink())


def _write_tar(folder: Path, target: Path) -> None:
    """A tar that any tar reads; modes are all that is kept of who made the files, and when."""

    def plain(one: tarfile.TarInfo) -> tarfile.TarInfo:
        one.uid = one.gid = SHELL_UID
        one.uname = one.gname = "shell"
        one.mtime = 0
        one.mode = MODE_PROGRAM if one.isdir() or one.mode & 0o100 else MODE_FILE
        return one

    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in _paths(folder):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=plain)
