"""The second link: to a phone on the network by the package adb-shell, without an adb program or its server.

The package has neither exit codes nor a stderr of its own, and its waits are not to be relied on: the first
two come through the script itself, the waits are those of `Wire`.
"""

import math
import secrets
import shlex
import socket
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from benchsuite.device.adb.attached import ADVICE
from benchsuite.device.link import (
    NETWORK,
    SHELL_TIMEOUT_S,
    Answer,
    LinkDown,
    LinkTimeout,
    pull_whole,
    push_whole,
    refused,
    transfer_limit_s,
    unwrapped,
)
from models.errors import BenchError

PORT = 5555
CONNECT_TIMEOUT_S = 20.0
STALL_S = 30.0
"""A transfer in which nothing moves for so long has come to a halt."""
PULL_LIMIT_S = transfer_limit_s(1 << 34)
FILE_MODE = 0o100644
SPARE = 1.02
"""Bytes of a disk for a byte of a file: blocks are not full."""
SPELLING = (
    f"such as {NETWORK}192.168.0.7:{PORT} ({NETWORK}HOST is port {PORT}, {NETWORK}[::1]:{PORT} for IPv6)"
)
T = TypeVar("T")


class Unauthorized(LinkDown):
    """The phone is there, and waits for its user to accept this computer's key."""


class NetworkLink:
    """One phone whose adbd listens on the network (`adb tcpip 5555`, done once over USB)."""

    def __init__(self, name: str) -> None:
        """`name` is `tcp:HOST:PORT`; raises `BenchError` for another, for a host that nobody knows, and when
        the package is not there.
        """
        if find_spec("adb_shell") is None:
            raise BenchError(
                "a phone on the network needs the package adb-shell",
                where=name,
                hint="`pip install '.[phones]'`, or `adb connect HOST:PORT` and --device HOST:PORT",
            )
        from adb_shell.adb_device import AdbDevice

        from benchsuite.device.adb.wire import Wire

        self._name = name
        self._wire = Wire(_looked_up(name))
        self._remote = AdbDevice(self._wire)
        self._asked = False

    @property
    def serial(self) -> str:
        """As the user types it: `tcp:HOST:PORT`."""
        return self._name

    def check(self) -> None:
        """Raise `BenchError`, with what to do, unless the phone can be asked."""
        try:
            self.shell("true", CONNECT_TIMEOUT_S)
        except Unauthorized as down:
            raise BenchError(
                "the phone is unauthorized", where=self._name, hint=ADVICE["unauthorized"]
            ) from down
        except LinkDown as down:
            raise BenchError(
                f"the phone does not answer: {down}",
                where=self._name,
                hint="is it in the same network, and does its adbd listen there? Once over USB: `adb tcpip"
                f" {PORT}` (docs/phones.md)",
            ) from down

    def shell(self, script: str, timeout_s: float = SHELL_TIMEOUT_S) -> Answer:
        """Run a script; its code, and what it complained, come behind its output."""
        text, mark = framed(script)
        raw = self._call(
            lambda: self._remote.exec_out(text, read_timeout_s=math.inf, decode=False), timeout_s
        )
        return unframed(mark, raw)

    def push(self, local: Path, remote: str, then: str = "") -> None:
        """Put a file there; sent beside its place, compared, renamed."""
        push_whole(self, local, remote, lambda part: self._send(local, part, remote), then)

    def pull(self, remote: str, local: Path) -> None:
        """Bring a file here; received beside its place, compared, renamed."""
        pull_whole(self, remote, local, lambda part: self._receive(remote, part))

    def reconnect(self) -> bool:
        """Drop the connection, make a new one, ask something."""
        self._drop()
        try:
            return self.shell("echo here", CONNECT_TIMEOUT_S).out.strip() == "here"
        except LinkDown:
            return False

    def _send(self, local: Path, part: str, remote: str) -> None:
        size = local.stat().st_size

        def send() -> None:
            self._wire.pushing = True
            self._remote.push(
                str(local),
                part,
                st_mode=FILE_MODE,
                transport_timeout_s=STALL_S,
                read_timeout_s=math.inf,
            )

        try:
            self._call(send, transfer_limit_s(size))
        except _Refused as no:
            said = str(no) or self._why(part, size)
            self.shell(f"rm -f {shlex.quote(part)}")
            raise refused(self, "the phone does not take a file", said, remote) from no

    def _receive(self, remote: str, part: Path) -> None:
        try:
            self._call(
                lambda: self._remote.pull(
                    remote, str(part), transport_timeout_s=STALL_S, read_timeout_s=math.inf
                ),
                PULL_LIMIT_S,
            )
        except _Refused as no:
            raise refused(self, "the phone does not give a file", str(no), remote) from no

    def _why(self, part: str, byte_count: int) -> str:
        """Why a file was refused when that was not said: what a shell says to the same place, or no room."""
        folder, quoted = part.rpartition("/")[0] or "/", shlex.quote(part)
        looked = self.shell(f"df -k {shlex.quote(folder)} | tail -n 1; : > {quoted} && rm -f {quoted}")
        words = looked.out.split()
        free = int(words[3]) * 1024 if len(words) > 3 and words[3].isdecimal() else None
        if looked.code == 0 and free is not None and free < SPARE * byte_count:
            return "No space left on device"
        return looked.err.strip() or "it did not say why"

    def _call(self, action: Callable[[], T], timeout_s: float) -> T:
        """Something of adb-shell within a limit, connected before. After an exception of any kind the
        connection is in no state to go on with.
        """
        from adb_shell.exceptions import AdbCommandFailureException, PushFailedError

        from benchsuite.device.adb.wire import Refusal

        self._wire.deadline = time.monotonic() + timeout_s
        self._wire.pushing = False
        try:
            if not self._remote.available:
                self._connect()
            return action()
        except (Refusal, PushFailedError, AdbCommandFailureException) as no:
            self._drop()
            raise _Refused(_words(no)) from no
        except (LinkDown, BenchError):
            self._drop()
            raise
        except UnicodeEncodeError as error:
            raise BenchError("this name cannot be sent: it is not UTF-8", where=self._name) from error
        except Exception as error:  # a package that can meet anything on a torn connection
            self._drop()
            raise LinkDown(f"{type(error).__name__}: {error}") from error
        except BaseException:
            self._drop()
            raise

    def _connect(self) -> None:
        from benchsuite.device.adb.keys import signers

        self._asked = False
        try:
            self._remote.connect(
                rsa_keys=signers(),
                auth_timeout_s=CONNECT_TIMEOUT_S,
                read_timeout_s=math.inf,
                auth_callback=self._note_asked,
            )
        except LinkTimeout as late:
            raise (Unauthorized(ADVICE["unauthorized"]) if self._asked else late) from late

    def _note_asked(self, device: Any) -> None:
        self._asked = True

    def _drop(self) -> None:
        self._remote.close()


class _Refused(Exception):  # noqa: N818
    """The phone's own no, which becomes an error with its place."""


def _words(no: Exception) -> str:
    said = no.args[0] if no.args else ""
    return said.decode("utf-8", "replace") if isinstance(said, bytes | bytearray) else str(said)


def framed(script: str) -> tuple[str, str]:
    """A script behind whose output its complaints and its exit code follow, and the mark that begins both.

    The complaints wait in a variable of the shell, not in a file: there may be no room for one. `print` is
    a part of Android's shell, where `printf` is a program, which takes no more than 128 kB.
    The service of adbd has a terminal, whose end hangs up on what was just started in the background.
    """
    mark = f"__BENCH_END_{secrets.token_hex(8)}"
    lines = (
        f"trap '' HUP; exec 3>&1; e=$(sh -c {shlex.quote(script)} 2>&1 >&3 3>&- < /dev/null; echo /$?)",
        f'c=${{e##*/}}; echo; echo {mark}; print -rn -- "${{e%/*}}"; echo; echo {mark} $c',
    )
    return "; ".join(lines), mark


def unframed(mark: str, raw: bytes) -> Answer:
    """The answer to a framed script; raises `LinkDown` when it broke off."""
    out, _, rest = raw.partition(f"\n{mark}\n".encode())
    answer = unwrapped(mark, None, b"\n" + rest, b"")
    return Answer(answer.code, out.decode("utf-8", "replace"), answer.out.removeprefix("\n"))


def host_and_port(name: str) -> tuple[str, int]:
    """What `tcp:HOST:PORT` names; raises `BenchError`."""
    text = name.removeprefix(NETWORK)
    host, bracket, rest = text.removeprefix("[").partition("]") if text.startswith("[") else (text, "", "")
    if not bracket:
        host, _, rest = text.partition(":")
        rest = f":{rest}" if rest else ""
    port = rest.removeprefix(":") or str(PORT)
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise BenchError(f"{name!r} names no phone on the network", where="--device", hint=SPELLING)
    return host, int(port)


def _looked_up(name: str) -> tuple[str, int]:
    """Numeric address and port of `tcp:HOST:PORT`."""
    host, port = host_and_port(name)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BenchError(
            f"nobody knows the host {host!r}: {error}", where="--device", hint=SPELLING
        ) from error
    address = found[0][4]
    return str(address[0]), int(address[1])
