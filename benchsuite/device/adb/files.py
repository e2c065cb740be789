"""bench's files on a phone: one folder a content, sent once, removed when the room is needed."""

import hashlib
import shlex
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchsuite.device.adb.reach import Reach, full
from benchsuite.device.link import NO_ROOM, PART

HOME = "/data/local/tmp/bench"
FILES = f"{HOME}/files"
WORKERS = f"{HOME}/workers"
SCRATCH = f"{HOME}/scratch"
COMPLETE = "complete"
BUNDLE = "bundle.tar"
BUNDLE_BYTES = 32 << 20
"""More than that is not kept twice on a phone, if only for a moment."""
DIGEST_DIGITS = 24
CHUNK_BYTES = 1 << 22
SPARE_BYTES = 64 << 20
"""Room left free for outputs, logs, and Android itself."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at the phone tells: which folders are complete, bytes free, all folders, oldest first."""

    complete: frozenset[str]
    free_bytes: int
    folders: tuple[str, ...]


class PhoneFiles:
    """What was pushed, by content. Files go over when the first of them is needed, with all others that are
    needed then: each call costs more than what it carries. Folders that this run does not use give way when
    there is no room.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._digests: dict[tuple[str, int, int], str] = {}
        self._wanted: dict[str, Mapping[Path, str]] = {}
        self._there: set[str] = set()

    def place(self, path: Path, companions: Sequence[Path] = ()) -> str:
        """Where a file will be on the phone, those beside it with it: `bring` brings them there."""
        files = (path, *companions)
        places = {one: place_beside(one, path.parent) for one in files}
        digest = hashlib.sha256()
        for one in files:
            digest.update(f"{places[one]}\0{self._digest(one)}\0".encode("utf-8", "surrogateescape"))
        name = digest.hexdigest()[:DIGEST_DIGITS]
        self._wanted[name] = places
        return f"{FILES}/{name}/{places[path]}"

    def bring(self, remotes: Iterable[str]) -> None:
        """Have these files there, whole: one look, then what is missing, marked complete by the call that
        puts the last of it in its place. The mark makes a folder one.
        """
        asked = dict.fromkeys(one.removeprefix(f"{FILES}/").partition("/")[0] for one in remotes)
        names = [one for one in asked if one in self._wanted and one not in self._there]
        if not names:
            return
        found = self._look(names)
        missing = [one for one in names if one not in found.complete]
        if missing:
            files = {f"{one}/{place}": path for one in missing for path, place in self._wanted[one].items()}
            self._make_room(sum(one.stat().st_size for one in files.values()), found)
            self._send(files, missing)
        self._there.update(names)

    def _look(self, names: Sequence[str]) -> Found:
        """Which are complete, and how much room there is; what an earlier transfer left is cleared away."""
        parents = {
            f"{one}/{place}".rpartition("/")[0] for one in names for place in self._wanted[one].values()
        }
        asked = self._reach.shell(
            f"mkdir -p {FILES} && cd {FILES} && mkdir -p {shlex.join(sorted(parents))} || exit {NO_ROOM}\n"
            f"rm -f {BUNDLE} {BUNDLE}{PART}; df -k . | tail -n 1\n"
            f"for one in {shlex.join(names)}; do"
            f" [ -e $one/{COMPLETE} ] && touch $one && print -rn -- $one/; done; echo; ls -tr"
        )
        if asked.code:
            raise full(self._reach.serial, asked.err)
        table, complete, listed = (*asked.out.split("\n", 2), "", "")[:3]
        return Found(frozenset(complete.split("/")), _free_bytes(table), tuple(listed.split()))

    def _send(self, files: Mapping[str, Path], names: Sequence[str]) -> None:
        """Files by their places; small ones as one: each transfer costs two calls."""
        with tempfile.TemporaryDirectory() as temporary:
            small = _smallest(files, BUNDLE_BYTES)
            transfers = [(one, place) for place, one in files.items() if place not in small]
            unpack = ""
            if len(small) > 1:
                transfers.append((_bundled(small, Path(temporary) / BUNDLE), BUNDLE))
                unpack = f"tar -xf {BUNDLE} && rm -f {BUNDLE} && "
            else:
                transfers += [(one, place) for place, one in small.items()]
            kept = f"{{ fsync {shlex.join(files)} 2>/dev/null || sync; }}"
            marks = " && ".join(f": > {one}/{COMPLETE}" for one in names)
            # The marks come last: power may be lost any moment.
            last = f"cd {FILES} && {unpack}{kept} && {marks} || exit {NO_ROOM}"
            for one, place in transfers[:-1]:
                self._reach.push(one, f"{FILES}/{place}")
            self._reach.push(transfers[-1][0], f"{FILES}/{transfers[-1][1]}", last)

    def _make_room(self, byte_count: int, found: Found) -> None:
        """Remove folders that were not used for longest until there is room; what cannot fit is left to
        fail.
        """
        free = found.free_bytes
        for name in [one for one in found.folders if one not in self._wanted]:
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


def _smallest(files: Mapping[str, Path], most_bytes: int) -> dict[str, Path]:
    """The smallest files that have no more bytes together."""
    found, total = dict[str, Path](), 0
    for place, one in sorted(files.items(), key=lambda row: row[1].stat().st_size):
        total += one.stat().st_size
        if total > most_bytes:
            break
        found[place] = one
    return found


def _bundled(files: Mapping[str, Path], bundle: Path) -> Path:
    """One archive of files by their places."""
    with tarfile.open(bundle, "w", format=tarfile.GNU_FORMAT) as archive:
        for place, one in files.items():
            archive.add(one.resolve(), place, filter=_plain)
    return bundle


def _plain(facts: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's in particular: the phone's shell could not give files to this computer's users."""
    facts.uid = facts.gid = 0
    facts.uname = facts.gname = ""
    return facts


def place_beside(path: Path, base: Path) -> str:
    """A companion's place relative to the main file's folder; one that lies elsewhere comes beside it."""
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
