"""The socket under the package adb-shell: it ends every wait at the call's limit, and at the line's end."""

import select
import socket
import time
import weakref

from adb_shell.transport.base_transport import BaseTransport

from benchsuite.device.link import LinkDown, LinkTimeout

KEEPALIVE_IDLE_S = 10
FAIL = b"FAIL"
FAIL_HEAD_BYTES = 8


class Refusal(Exception):  # noqa: N818  (the phone's word, which the link makes an error of)
    """The phone said no in the middle of a push; the text is its reason, empty when it came apart from it."""


class Wire(BaseTransport):  # type: ignore[misc]  # the package has no types
    """One connection at a time. Everything in which adb-shell waits is a method of this class, so `deadline`
    (of `time.monotonic`) bounds each of its calls.

    Three of adb-shell's faults end here. It takes the end of a connection for an empty read and asks again
    until its own limit, with all of a core. It sends a message once, also when only a part went. It forgets
    the refusal of a push that comes before the push is over.
    """

    def __init__(self, address: tuple[str, int]) -> None:
        """Numeric address: names are looked up by whoever calls, once, because that has no limit."""
        self.deadline = 0.0
        self.pushing = False
        self._address = address
        self._socket: socket.socket | None = None
        self._closing: weakref.finalize[..., Wire] | None = None

    def connect(self, transport_timeout_s: float | None) -> None:
        """Connect anew; raises `LinkDown`."""
        self.close()
        try:
            made = socket.create_connection(
                self._address, timeout=max(0.001, self._left(transport_timeout_s))
            )
        except TimeoutError as error:
            raise LinkTimeout(f"{self._shown}: no connection in time") from error
        except OSError as error:
            raise LinkDown(f"{self._shown}: {error.strerror or error}") from error
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
        self._socket, self._closing = made, weakref.finalize(self, made.close)

    def close(self) -> None:
        """End the connection; nothing when there is none."""
        if self._closing is not None:
            self._closing()
        self._socket = self._closing = None

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """At least one byte, at most so many; raises `LinkDown`, and `Refusal` while something is pushed."""
        while True:
            self._wait(transport_timeout_s, writing=False)
            try:
                data = self._connected.recv(numbytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise LinkDown(f"{self._shown}: {error.strerror or error}") from error
            if not data:
                raise LinkDown(f"{self._shown}: the phone closed the connection")
            if self.pushing and data.startswith(FAIL):
                raise Refusal(data[FAIL_HEAD_BYTES:].decode("utf-8", "replace"))
            return data

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        """Send all of it; raises `LinkDown`."""
        rest = memoryview(data)
        while rest:
            self._wait(transport_timeout_s, writing=True)
            try:
                rest = rest[self._connected.send(rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise LinkDown(f"{self._shown}: {error.strerror or error}") from error
        return len(data)

    @property
    def _shown(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    @property
    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise LinkDown(f"{self._shown}: not connected")
        return self._socket

    def _left(self, limit_s: float | None) -> float:
        left = self.deadline - time.monotonic()
        return max(0.0, left if limit_s is None else min(left, limit_s))

    def _wait(self, limit_s: float | None, *, writing: bool) -> None:
        one = [self._connected]
        ready = select.select([] if writing else one, one if writing else [], [], self._left(limit_s))
        if not any(ready):
            raise LinkTimeout(f"{self._shown}: no answer in time")
