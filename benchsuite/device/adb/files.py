"""bench's files on a phone: one folder a content, pushed once, removed when the room is needed."""

import hashlib
import shlex
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchsuite.device.adb.process import NO_SPACE, full
from benchsuite.device.adb.reach import Reach

HOME = "/data/local/tmp/bench"
FILES = f"{HOME}/files"
WORKERS = f"{HOME}/workers"
SCRATCH = f"{HOME}/scratch"
COMPLETE = "complete"
BUNDLE = "bundle.tar"
BUNDLE_BYTES = 32 << 20
"""More than that is not kept twice on a phone, if only for a moment."""
ABSENT = 44
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
        """Ask whether it is there; else make room, send, and mark it complete: the mark makes it one."""
        quoted = shlex.quote(folder)
        parents = sorted({f"{folder}/{place}".rpartition("/")[0] for place in places.values()})
        asked = self._reach.shell(
            f"[ -e {quoted}/{COMPLETE} ] && touch {quoted} && exit 0\n"
            f"mkdir -p {' '.join(map(shlex.quote, parents))} || exit {NO_SPACE}\n"
            f"cd {FILES} && df -k . && ls -tr && exit {ABSENT}"
        )
        if asked.code == 0:
            return
        if asked.code != ABSENT:
            raise full(self._reach.serial, asked.err)
        table, _, listed = asked.out.partition("\n")[2].partition("\n")
        byte_count = sum(one.stat().st_size for one in places)
        self._make_room(byte_count, _free_bytes(table), listed.split(), keep=folder)
        self._send(folder, places, byte_count)

    def _send(self, folder: str, places: dict[Path, str], byte_count: int) -> None:
        """Several small files as one: each transfer costs several calls."""
        quoted, unpack = shlex.quote(folder), ""
        if len(places) > 1 and byte_count <= BUNDLE_BYTES:
            with tempfile.TemporaryDirectory() as temporary:
                bundle = Path(temporary) / BUNDLE
                with tarfile.open(bundle, "w", format=tarfile.GNU_FORMAT) as archive:
                    for one, place in places.items():
                        archive.add(one.resolve(), place, filter=_plain)
                self._reach.push(bundle, f"{folder}/{BUNDLE}")
            unpack = f"{{ [ ! -e {BUNDLE} ] || {{ tar -xf {BUNDLE} && rm -f {BUNDLE}; }}; }} && "
        else:
            for one, place in places.items():
                self._reach.push(one, f"{folder}/{place}")
        names = " ".join(shlex.quote(place) for place in places.values())
        kept = f"{{ fsync {names} 2>/dev/null || sync; }}"  # before the mark: power may be lost any moment
        marked = self._reach.shell(f"cd {quoted} && {unpack}{kept} && : > {COMPLETE}")
        if marked.code:
            raise full(self._reach.serial, marked.err)

    def _make_room(self, byte_count: int, free: int, listed: Sequence[str], *, keep: str) -> None:
        """Remove folders that were not used for longest until there is room; what cannot fit is left to
        fail.
        """
        kept = [keep, *self._used]
        for name in [one for one in listed if f"{FILES}/{one}" not in kept]:
            if free >= byte_count + SPARE_BYTES:
                return
            self._reach.shell(f"rm -rf {shlex.quote(f'{FILES}/{name}')}")
            free = self.free_bytes()

    def free_bytes(self) -> int:
        """Room where bench's files lie."""
        return _free_bytes(self._reach.shell(f"df -k {HOME} | tail -n 1").out)

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


def _free_bytes(line: str) -> int:
    """From a line of `df -k`; what it does not tell is no limit."""
    words = line.split()
    return int(words[3]) * 1024 if len(words) > 3 and words[3].isdecimal() else 1 << 62


def _plain(facts: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's in particular: the phone's shell could not give files to this computer's users."""
    facts.uid = facts.gid = 0
    facts.uname = facts.gname = ""
    return facts


def place_beside(path: Path, base: Path) -> str:
    """A companion's place relative to the main file's folder; one that lies elsewhere comes beside it."""
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
