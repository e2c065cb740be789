"""Folders in the user's cache that appear complete or not at all, whoever is killed meanwhile."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import ModelError

MANIFEST = "files.json"
PARTIAL = ".partial-"
SPARE_BYTES = 16 * 2**20  # a file system is never filled to the last block
ELSEWHERE = "choose another folder with `--cache DIR`"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
NOT_A_FOLDER = (errno.ENOTDIR, errno.EEXIST)


def is_complete(folder: Path) -> bool:
    """Whether every file that the manifest names is there in its full size."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def publish(folder: Path, byte_count: int, fill: Callable[[Path], None]) -> None:
    """Make `folder` by calling `fill` on an empty private folder beside it, renamed when all is on disk.

    One process fills, others wait for it. Raises `ModelError` when the disk is full (`byte_count` is what
    will be needed), the cache is read-only or not a folder; nothing half-made is left behind by an error, and
    what a killed process left is removed by the next one.
    """
    with explained(folder.parent, byte_count):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock_path(folder.parent, folder.name)):
            if is_complete(folder):
                return
            _remove_leftovers(folder)
            _check_space(folder.parent, byte_count)
            partial = folder.with_name(f"{folder.name}{PARTIAL}{os.getpid()}")
            try:
                partial.mkdir()
                fill(partial)
                _seal(partial)
                os.rename(partial, folder)
                _sync(folder.parent)
            finally:
                shutil.rmtree(partial, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove a damaged `folder`, and partial folders whose owner is dead: it no longer holds their lock."""
    shutil.rmtree(folder, ignore_errors=True)
    for partial in folder.parent.glob(f"*{PARTIAL}*"):
        name = partial.name.rpartition(PARTIAL)[0]
        if name == folder.name:
            shutil.rmtree(partial, ignore_errors=True)
            continue
        try:
            with FileLock(_lock_path(folder.parent, name), timeout=0):
                shutil.rmtree(partial, ignore_errors=True)
        except Timeout:
            continue  # its owner lives and is at work


def _lock_path(parent: Path, name: str) -> Path:
    return parent / f".{name}.lock"


def _check_space(parent: Path, byte_count: int) -> None:
    if shutil.disk_usage(parent).free < byte_count + SPARE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _seal(folder: Path) -> None:
    """Write the manifest and put all files on the disk."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    (folder / MANIFEST).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
    for path in (*files, folder / MANIFEST, folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(parent: Path, byte_count: int) -> Iterator[None]:
    """Turn the operating system's refusals into `ModelError`s that say what to do; `byte_count` is what is
    needed in `parent`.
    """
    try:
        yield
    except OSError as error:
        what, hint = _reason(error, parent, byte_count)
        raise ModelError(what, where=f"cache {parent}", hint=hint) from error


def _reason(error: OSError, parent: Path, byte_count: int) -> tuple[str, str]:
    if error.errno in DISK_FULL:
        return f"the disk is full: {_megabytes(byte_count)} are needed, {_free(parent)} are free", (
            f"free some space there, or {ELSEWHERE}"
        )
    if error.errno in NOT_WRITABLE:
        return f"the cache cannot be written ({error.strerror})", f"make it writable, or {ELSEWHERE}"
    if error.errno in NOT_A_FOLDER:
        file = next((path for path in (parent, *parent.parents) if path.is_file()), parent)
        return f"the cache is not a folder: {file} is a file", f"remove that file, or {ELSEWHERE}"
    return f"the cache cannot be used: {error}", ELSEWHERE


def _free(parent: Path) -> str:
    try:
        return _megabytes(shutil.disk_usage(parent).free)
    except OSError:
        return "too few"


def _megabytes(byte_count: int) -> str:
    return f"{byte_count / 1e6:,.0f} MB"
