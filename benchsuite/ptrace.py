"""Look at where another process's threads are, without its help: attach, stop a thread, read its instruction
pointer and the code around it, let it go on.

Linux only, by ctypes. Everything that the kernel may refuse (a container without the capability, the Yama
module, another machine) raises `TraceRefused` with the reason, and what was attached is always let go.
"""

import ctypes
import errno
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

SEIZE, INTERRUPT, CONTINUE, DETACH, GET_REGISTER_SET = 0x4206, 0x4207, 7, 17, 0x4204
GENERAL_REGISTERS = 1  # NT_PRSTATUS
INSTRUCTION_POINTER = {"x86_64": 16, "aarch64": 32}
"""Index of the instruction pointer among the 64-bit general registers."""
REGISTER_BYTES = 4096
ANY_CHILD_KIND = 0x40000000  # __WALL: threads that are no children of ours, too
STOP_TIMEOUT_SECONDS = 0.5
REASONS = {
    errno.EPERM: "the kernel refuses ptrace (a container without CAP_SYS_PTRACE, or yama/ptrace_scope)",
    errno.ENOSYS: "this kernel has no ptrace",
    errno.EIO: "this kernel has no PTRACE_SEIZE",
}


class TraceRefused(Exception):  # noqa: N818  (what is asked for becomes unknown, nothing fails)
    """The threads cannot be looked at; the text says why."""


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def _call(request: int, thread: int, address: int = 0, data: object = None) -> None:
    """One ptrace call; raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    library.ptrace.restype = ctypes.c_long
    library.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    if library.ptrace(request, thread, address, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Tracer:
    """Threads of one process, attached while the `with` block lasts; calls must come from one thread."""

    def __init__(self, process: int) -> None:
        if sys.platform != "linux" or platform.machine() not in INSTRUCTION_POINTER:
            raise TraceRefused(f"not known how to look at threads on {sys.platform} {platform.machine()}")
        self._process = process
        self._index = INSTRUCTION_POINTER[platform.machine()]
        self._attached: set[int] = set()
        self._memory: int | None = None

    def __enter__(self) -> "Tracer":
        try:
            self._memory = os.open(f"/proc/{self._process}/mem", os.O_RDONLY)
            self.attach(self._process)
        except OSError as error:
            self._close()
            raise TraceRefused(REASONS.get(error.errno or 0, f"ptrace: {error.strerror}")) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in list(self._attached):
            with suppress(OSError, TraceRefused):
                self._detach(thread)
        self._close()

    def attach(self, thread: int) -> None:
        """Attach to one thread unless that was done; it goes on running. Raises OSError."""
        if thread not in self._attached:
            _call(SEIZE, thread)
            self._attached.add(thread)

    def instruction_pointer(self, thread: int) -> int | None:
        """Where the thread is now; None when it has ended. It is stopped for some microseconds."""
        with self._stopped(thread) as stopped:
            return self._read_pointer(thread) if stopped else None

    def read(self, address: int, size: int) -> bytes:
        """Memory of the process: shorter than `size` bytes, or empty, where nothing is mapped."""
        assert self._memory is not None
        try:
            return os.pread(self._memory, size, address)
        except (OSError, OverflowError):
            return b""

    def _read_pointer(self, thread: int) -> int:
        registers = (ctypes.c_uint64 * (REGISTER_BYTES // 8))()
        vector = _Vector(ctypes.addressof(registers), REGISTER_BYTES)
        _call(GET_REGISTER_SET, thread, GENERAL_REGISTERS, ctypes.addressof(vector))
        return int(registers[self._index])

    @contextmanager
    def _stopped(self, thread: int) -> Iterator[bool]:
        """Hold the thread; false when it is gone. It always goes on afterwards."""
        held, delivered = False, 0
        try:
            self.attach(thread)
            _call(INTERRUPT, thread)
            held, delivered = self._wait(thread)
            yield held
        except ProcessLookupError:
            self._attached.discard(thread)
            yield False
        finally:
            if held:
                with suppress(ProcessLookupError):
                    _call(CONTINUE, thread, data=delivered)

    def _wait(self, thread: int) -> tuple[bool, int]:
        """Wait for the stop: whether there is one, and the signal that was on its way to the thread then."""
        end = time.monotonic() + STOP_TIMEOUT_SECONDS
        while time.monotonic() < end:
            try:
                found, status = os.waitpid(thread, ANY_CHILD_KIND | os.WNOHANG)
            except ChildProcessError:
                self._attached.discard(thread)
                return False, 0
            if found and os.WIFSTOPPED(status):
                event, sent = status >> 16, os.WSTOPSIG(status)
                return True, 0 if event or sent == signal.SIGTRAP else sent
            if found:
                self._attached.discard(thread)
                return False, 0
        raise TraceRefused("a thread did not stop when it was asked to")

    def _detach(self, thread: int) -> None:
        _call(INTERRUPT, thread)
        held, delivered = self._wait(thread)
        if held:
            _call(DETACH, thread, data=delivered)
        self._attached.discard(thread)

    def _close(self) -> None:
        if self._memory is not None:
            os.close(self._memory)
            self._memory = None
