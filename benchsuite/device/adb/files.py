"""bench's files on a phone: one folder a content, pushed once, removed when the room is needed."""

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from benchsuite.device.adb.process import full
from benchsuite.device.adb.reach import Reach

HOME = "/data/local/tmp/bench"
FILES = f"{HOME}/files"
WORKERS = f"{HOME}/workers"
SCRATCH = f"{HOME}/scratch"
COMPLETE = "complete"
DIGEST_DIGITS = 24
CHUNK_BYTES = 1 << 22
SPARE_BYTES = 64 << 20
"""Room left free for outputs, logs, and Android itself."""


class PhoneFiles:
    """What was pushed, by content. Folders that this run did not use give way when there is no room."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._digests: dict[tuple[str, int, int], str] = {}
        self._used: dict[str, str] = {}

    def push(self, path: Path, companions: Sequence[Path] = ()) -> str:
        """Bring a file and those beside it to the phone unless they are there; returns the file's path
        there.
        """
        files = (path, *companions)
        base = path.parent
        places = {one: place_beside(one, base) for one in files}
        digest = hashlib.sha256()
        for one in files:
            digest.update(f"{places[one]}\0{self._digest(one)}\0".encode("utf-8", "surrogateescape"))
        folder = f"{FILES}/{digest.hexdigest()[:DIGEST_DIGITS]}"
        if folder not in self._used:
            self._bring(folder, places)
            self._used[folder] = digest.hexdigest()
        return f"{folder}/{places[path]}"

    def _bring(self, folder: str, places: dict[Path, str]) -> None:
        quoted = shlex.quote(folder)
        there = self._reach.shell(f"[ -e {quoted}/{COMPLETE} ] && touch {quoted}")
        if there.code == 0:
            return
        self._make_room(sum(one.stat().st_size for one in places), keep=folder)
        parents = sorted({f"{folder}/{place}".rpartition("/")[0] for place in places.values()})
        made = self._reach.shell(f"mkdir -p {' '.join(map(shlex.quote, parents))}")
        if made.code:
            raise full(self._reach.serial, made.err)
        for one, place in places.items():
            self._reach.push(one, f"{folder}/{place}")
        marked = self._reach.shell(
            f"echo complete > {quoted}/{COMPLETE}.part && mv {quoted}/{COMPLETE}.part {quoted}/{COMPLETE}"
        )
        if marked.code:
            raise full(self._reach.serial, marked.err)

    def _make_room(self, byte_count: int, *, keep: str) -> None:
        """Remove folders that were not used for longest until there is room; what cannot fit is left to
        fail.
        """
        kept = [keep, *self._used]
        listed = self._reach.shell(f"mkdir -p {FILES} && cd {FILES} && ls -tr").out.split()
        for name in [one for one in listed if f"{FILES}/{one}" not in kept]:
            if self.free_bytes() >= byte_count + SPARE_BYTES:
                return
            self._reach.shell(f"rm -rf {shlex.quote(f'{FILES}/{name}')}")

    def free_bytes(self) -> int:
        """Room where bench's files lie."""
        words = self._reach.shell(f"df -k {HOME} | tail -n 1").out.split()
        return int(words[3]) * 1024 if len(words) > 3 and words[3].isdecimal() else 1 << 62

    def _digest(self, path: Path) -> str:
        facts = path.stat()
        key = (str(path.resolve()), facts.st_size, facts.st_mtime_ns)
        if key not in self._digests:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
            self._digests[key] = digest.hexdigest()
        return self._digests[key]


def place_beside(path: Path, base: Path) -> str:
    """A companion's place relative to the main file's folder; one that lies elsewhere comes beside it."""
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
