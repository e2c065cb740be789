"""What bench asks of a link to a phone: a shell whose exit code can be believed, and files that arrive
whole.
"""

import base64
import hashlib
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from models.errors import BenchError

SHELL_TIMEOUT_S = 60.0
LEAST_BYTES_A_SECOND = 1_000_000
"""A cable slower than this is as good as cut; limits of pushes and pulls come from it."""
PIECE_BYTES = 1 << 20
WHOLE_HASH_BYTES = 8 * PIECE_BYTES
PART = ".part"
NETWORK = "tcp:"
"""Before the name of a phone that is reached without an adb server."""
DAMAGED, NO_ROOM = 9, 43
"""Exit codes of scripts: of those that find no file, or another than was sent; and of those that cannot
write.
"""
SMALL_DIGITS = 6
"""A file of fewer digits of bytes comes in the answer itself: a transfer is one call more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script said: its exit code, what it wrote, what it complained."""

    code: int
    out: str
    err: str


class LinkDown(Exception):  # noqa: N818  (an event of the link, which may be waited out)
    """The phone does not answer: the cable was pulled, the phone is off, or adbd is gone."""


class LinkTimeout(LinkDown):
    """The phone is connected, as far as can be known, and did not answer in time."""


class PhoneFull(BenchError):  # noqa: N818  (as BenchError itself, it names what is wrong)
    """No space is left where bench keeps its files on the phone."""


class Link(Protocol):
    """A way to one phone. Every call ends within its limit; raises `LinkDown` when the phone does not
    answer.
    """

    @property
    def serial(self) -> str:
        """How the way is named, and typed: what `adb devices` lists, or `tcp:HOST:PORT`."""

    def shell(self, script: str, timeout_s: float = SHELL_TIMEOUT_S) -> Answer:
        """Run a script with the phone's shell. What it started in the background lives on."""

    def push(self, local: Path, remote: str, then: str = "") -> None:
        """Put a file there, whole or not at all, and run a script in the call that puts it in its place: it
        is run again when that call is lost. Raises `PhoneFull`, also when that script cannot write (exit
        code `NO_ROOM`), and `BenchError` for another refusal.
        """

    def pull(self, remote: str, local: Path) -> None:
        """Bring a file here, whole or not at all; raises `BenchError` when it is not there."""

    def reconnect(self) -> bool:
        """Try once to reach the phone again; True when it can be asked."""


def wrapped(script: str) -> tuple[str, str]:
    """A script with a last line that proves that it came to its end, and how that line begins.

    Clients up to adb 34 answer 0 when the cable is pulled, so an exit code alone is no evidence. The line is
    printed when the shell ends, by whatever way: neither `exit` nor a syntax error in the script leaves it
    out. The script is one quoted word, in no shell of its own: that would be one more program to start. So an
    `exec` in it has to stand in parentheses: the shell that would print the line is gone otherwise.
    """
    mark = f"__BENCH_END_{secrets.token_hex(8)}"
    last = f"c=$?; trap - EXIT; echo; echo {mark} $c; exit $c"
    return f"trap {shlex.quote(last)} EXIT; eval {shlex.quote(script)}", mark


def unwrapped(mark: str, code: int | None, out: bytes, err: bytes) -> Answer:
    """The script's answer; raises `LinkDown` unless the last line is there and agrees with the exit
    code, which
    is None over a transport that has none.
    """
    text = out.decode("utf-8", "replace")
    body, found, tail = text.rpartition(f"\n{mark} ")
    said = tail.strip()
    if not found or not said.isdecimal() or code not in (None, int(said)):
        complaint = err.decode("utf-8", "replace").strip().splitlines()
        raise LinkDown(complaint[-1] if complaint else "the answer broke off")
    return Answer(int(said), body, err.decode("utf-8", "replace"))


def file_name(serial: str) -> str:
    """Letters and digits of a serial, the same for a phone whichever way it is reached."""
    return "".join(one if one.isalnum() else "-" for one in serial.removeprefix(NETWORK))


def transfer_limit_s(byte_count: int) -> float:
    """How long a file of that size may take."""
    return SHELL_TIMEOUT_S + byte_count / LEAST_BYTES_A_SECOND


ENDS = f"{{ head -c {PIECE_BYTES} %(path)s; tail -c {PIECE_BYTES} %(path)s; }} | sha256sum"
"""A stream that was cut or torn shows in size and end, and hashing gigabytes takes longer than sending
them: of a big file the first and the last megabyte.
"""


def digest_script(path: str, byte_count: int) -> str:
    """Shell that prints size and digest of a file, of all of it unless it is big."""
    quoted = shlex.quote(path)
    size = f"[ -f {quoted} ] && stat -c %s {quoted} || exit {DAMAGED}; "
    return size + (f"sha256sum < {quoted}" if byte_count <= WHOLE_HASH_BYTES else ENDS % {"path": quoted})


def tell_script(path: str) -> str:
    """The same for a file whose size is not known yet; a small one itself follows, as base64.

    A shell's numbers may end at 2^31: digits are counted first.
    """
    quoted = shlex.quote(path)
    return (
        f"[ -f {quoted} ] && s=$(stat -c %s {quoted}) || exit {DAMAGED}\n"
        f'if [ "${{#s}}" -lt 10 ] && [ "$s" -le {WHOLE_HASH_BYTES} ]; then d=$(sha256sum < {quoted})\n'
        f"else d=$({ENDS % {'path': quoted}}); fi\n"
        f'echo "$s ${{d%% *}}"; [ "${{#s}}" -ge {SMALL_DIGITS} ] || base64 {quoted} 2>/dev/null; true'
    )


def local_digest(path: Path, byte_count: int) -> str:
    """The same digest of a file here."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if byte_count <= WHOLE_HASH_BYTES:
            digest.update(file.read())
        else:
            digest.update(file.read(PIECE_BYTES))
            file.seek(byte_count - PIECE_BYTES)
            digest.update(file.read(PIECE_BYTES))
    return digest.hexdigest()


def push_whole(link: Link, local: Path, remote: str, send: Callable[[str], None], then: str = "") -> None:
    """Send to `remote`.part, compare, rename: `remote` is never half a file. `send` moves the bytes."""
    part, size = remote + PART, local.stat().st_size
    send(part)
    quoted, place = shlex.quote(part), shlex.quote(remote)
    expected = f"{size} {local_digest(local, size)}"
    script = (
        f"t=$({digest_script(part, size)}); set -- $t\n"
        f'[ "$1 $2" = "{expected}" ] || {{ rm -f {quoted}; exit {DAMAGED}; }}\n'
        f"mv -f {quoted} {place} || exit 1\n{then}"
    )
    answer = link.shell(script, transfer_limit_s(size))
    if answer.code == DAMAGED:
        raise LinkDown(f"{local.name} arrived damaged")
    if answer.code:
        raise refused(link, "a file could not be put in its place", answer.err, remote, answer.code)


def pull_whole(link: Link, remote: str, local: Path, receive: Callable[[Path], None]) -> None:
    """The other way round: received beside its place, compared, renamed. `receive` moves the bytes of a file
    that did not come along with its digest.
    """
    said = link.shell(tell_script(remote))
    if said.code == DAMAGED:
        raise BenchError("there is no such file on the phone", where=f"{link.serial}:{remote}")
    expected, _, text = said.out.partition("\n")
    if not expected.partition(" ")[2]:
        raise refused(link, "a file cannot be read", said.err, remote)
    part = local.with_name(local.name + PART)
    try:
        if not _came_along(text, part, expected):
            receive(part)
        if _told(part) != expected:
            raise LinkDown(f"{local.name} arrived damaged")
        part.replace(local)
    finally:
        part.unlink(missing_ok=True)


def _came_along(text: str, part: Path, expected: str) -> bool:
    """Whether a file's own text followed its digest; a phone may have no base64."""
    try:
        part.write_bytes(base64.b64decode(text))
    except ValueError:
        return False
    return _told(part) == expected


def _told(path: Path) -> str:
    """What `tell_script` says of a file that is the same as the one here."""
    size = path.stat().st_size
    return f"{size} {local_digest(path, size)}"


def refused(link: Link, what: str, complaint: str, remote: str, code: int | None = None) -> BenchError:
    """The phone's own refusal as an error; no space has an error of its own."""
    text = " ".join(complaint.split())
    if code == NO_ROOM or "No space left" in text:
        return PhoneFull(
            "the phone's storage is full",
            where=f"{link.serial}:{remote}",
            hint="make room on the phone (`bench devices restore DEV --clean` removes what bench keeps"
            " there),"
            " then `bench run --resume`",
        )
    return BenchError(f"{what}: {text}", where=f"{link.serial}:{remote}")
