"""A device whose workers cannot reach the network, and whose attempts to are written down.

The kernel reports every `socket`, `connect` and started program of a worker and all that it starts
(`watched_start.py`). Sockets of IPv4, IPv6 and the like are refused; what stays on this machine goes on.
"""

import errno
import fcntl
import os
import select
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.environments import interpreter
from benchsuite import watched_start
from benchsuite.device.local import LocalDevice, LocalProcess, code_folder
from benchsuite.device.protocol import Process
from models.errors import BenchError

RECEIVE, SEND, STILL_THERE = 0xC0502100, 0xC0182101, 0x40082102
REPORT = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
ANSWER = struct.Struct("=QqiI")
CONTINUE = 1
POLL_SECONDS = 0.2
START_SECONDS = 20.0
PATH_BYTES = 256
ARGUMENTS_SHOWN = 6
LOCAL_FAMILIES = {socket.AF_UNIX: "AF_UNIX", 16: "AF_NETLINK"}
"""Sockets that stay on this machine. Netlink asks the kernel which addresses there are."""
RING = "io_uring_setup"
RESOLVERS = ("nscd", "resolve", "avahi", "sssd")
"""Parts of the paths of local services that resolve names for others."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call that was reported: its name, what it was about, whether it was refused."""

    call: str
    what: str
    refused: bool

    @property
    def is_network(self) -> bool:
        """Whether it reached, or would have reached, out of this machine; asking a resolver counts.

        A ring is refused because nothing could be seen through it, and is no attempt by itself: a process
        that goes on without one makes its calls where they are seen.
        """
        asks_resolver = self.call == "connect" and any(name in self.what for name in RESOLVERS)
        return (self.refused and self.call != RING) or asks_resolver


class WatchedDevice(LocalDevice):
    """Our own machine; `attempts` is what workers tried, `imports` names modules whose import is one.

    Raises `BenchError` at the first worker where the kernel cannot watch.
    """

    def __init__(self, imports: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.attempts: list[Attempt] = []
        self._imports = imports

    def spawn(self, module: str, environment: str) -> Process:
        """Start the module under the filter."""
        return self.start(module, interpreter(environment), code_folder(self.scratch_folder, environment))

    def start(self, module: str, python: Path, code: Path) -> LocalProcess:
        """Start `python -m module` with packages from the folder `code`, watched."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as door:
            place = str(Path(folder) / "door")
            door.bind(place)
            door.listen(1)
            door.settimeout(START_SECONDS)
            starter = [str(python), watched_start.__file__, place, module]
            extra = {watched_start.IMPORTS_VARIABLE: ",".join(self._imports)}
            process = LocalProcess(starter, self.scratch_folder, code, extra)
            listener = _listener(door, process)
        threading.Thread(target=self._listen, args=(listener,), daemon=True).start()
        return process

    def _listen(self, listener: int) -> None:
        try:
            while (report := _receive(listener)) is not None:
                attempt = _attempt(report)
                self.attempts.append(attempt)
                _answer(listener, report[0], attempt.refused)
        finally:
            os.close(listener)


def _listener(door: socket.socket, process: LocalProcess) -> int:
    """The descriptor that the worker sends; raises `BenchError` when the kernel gives none."""
    try:
        inside, _ = door.accept()
        with inside:
            message, descriptors, _, _ = socket.recv_fds(inside, PATH_BYTES, 1)
            if not descriptors:
                raise OSError(errno.EPERM, message.decode(errors="replace"))
            inside.sendall(b"!")
    except OSError as error:
        tail = process.end().log_tail
        raise BenchError(f"the kernel cannot watch a process here: {error} {tail}".strip()) from error
    return descriptors[0]


def _receive(listener: int) -> tuple[int, ...] | None:
    """The next report; None when the last process under the filter has ended."""
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    while True:
        for _, event in waiting.poll(POLL_SECONDS * 1000):
            if event & select.POLLIN:
                buffer = bytearray(REPORT.size)
                try:
                    fcntl.ioctl(listener, RECEIVE, buffer)
                except OSError as error:  # its process was killed meanwhile
                    if error.errno in (errno.ENOENT, errno.EINTR):
                        continue
                    return None
                return REPORT.unpack(buffer)
            if event & (select.POLLHUP | select.POLLERR):
                return None


def _answer(listener: int, number: int, refused: bool) -> None:
    answer = ANSWER.pack(number, 0, -errno.EPERM if refused else 0, 0 if refused else CONTINUE)
    try:
        fcntl.ioctl(listener, SEND, bytearray(answer))
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _attempt(report: tuple[int, ...]) -> Attempt:
    _, process, _, number, _, _, *arguments = report
    calls = watched_start.CALLS[os.uname().machine]
    call = next(name for name, one in calls.items() if one == number)
    what, refused = DESCRIPTIONS[call](process, arguments)
    return Attempt(call, what, refused)


def _socket(process: int, arguments: list[int]) -> tuple[str, bool]:
    family = arguments[0] & 0xFFFFFFFF
    local = LOCAL_FAMILIES.get(family)
    try:
        name = socket.AddressFamily(family).name
    except ValueError:
        name = f"family {family}"
    return local or name, local is None


def _connect(process: int, arguments: list[int]) -> tuple[str, bool]:
    address = _memory(process, arguments[1], min(arguments[2], PATH_BYTES))
    family = int.from_bytes(address[:2], sys.byteorder)
    path = address[2:].lstrip(b"\0").partition(b"\0")[0].decode(errors="replace")
    return (path, False) if family in LOCAL_FAMILIES else (f"family {family}: {address[2:].hex()}", True)


def _program(process: int, arguments: list[int]) -> tuple[str, bool]:
    words, place = [_text(process, arguments[0])], arguments[1]
    for index in range(ARGUMENTS_SHOWN if place else 0):
        pointer = int.from_bytes(_memory(process, place + 8 * index, 8), sys.byteorder)
        if not pointer:
            break
        words.append(_text(process, pointer))
    return " ".join(words), False


def _descriptor_program(process: int, arguments: list[int]) -> tuple[str, bool]:
    return _program(process, arguments[1:])


def _ring(process: int, arguments: list[int]) -> tuple[str, bool]:
    return "a way to the network that system calls do not show", True


DESCRIPTIONS: Mapping[str, Callable[[int, list[int]], tuple[str, bool]]] = {
    "socket": _socket,
    "connect": _connect,
    "execve": _program,
    "execveat": _descriptor_program,
    RING: _ring,
}
"""Text of a call's arguments, and whether it is refused."""


def _text(process: int, address: int) -> str:
    return _memory(process, address, PATH_BYTES).partition(b"\0")[0].decode(errors="replace")


def _memory(process: int, address: int, size: int) -> bytes:
    """Memory of the waiting process, up to the end of its mapping."""
    try:
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(size) or b""
    except (OSError, OverflowError, ValueError):
        return b""
