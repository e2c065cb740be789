"""The cable between a client and a test phone: a proxy that can be cut, hang, be slow, be plugged in."""

import contextlib
import random
import socket
import threading
import time
from dataclasses import dataclass, field

CHUNK_BYTES = 1 << 16
CONNECT_TIMEOUT_S = 5.0

PORTS = (20000, 30000)
"""Below the ports that the system gives out, beyond those that an adb server searches for emulators."""


@dataclass
class _Pair:
    """One connection through the cable."""

    client: socket.socket
    phone: socket.socket
    dead: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        self.dead.set()
        for one in (self.client, self.phone):
            with contextlib.suppress(
                OSError
            ):  # a plain close() would never reach a peer whose thread is in recv
                one.shutdown(socket.SHUT_RDWR)


class Cable:
    """Plugged in when made. `rate_bytes_s` slows both directions together, None is as fast as it goes."""

    def __init__(self, phone_port: int) -> None:
        self.rate_bytes_s: float | None = None
        self.moved_bytes = 0
        self._phone_port = phone_port
        self._pairs: list[_Pair] = []
        self._flows = threading.Event()
        self._flows.set()
        self._opens = threading.Event()
        self._plugged = self._powered = True
        self._closed = False
        self._left: int | None = None
        self._lock = threading.Lock()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = free_port()
        self._listener.bind(("127.0.0.1", self.port))  # one that was asked for stays ours when nobody listens
        self._listener.listen(64)
        self._opens.set()
        threading.Thread(target=self._accept, daemon=True, name="cable").start()

    def cut(self) -> None:
        """Pull the plug: connections end on both sides, new ones are refused at once. adbd stays alive."""
        with self._lock:
            self._plugged, self._left = False, None
            pairs, self._pairs = self._pairs, []
        self._listen()
        for pair in pairs:
            pair.end()
        self._flows.set()

    def power(self, on: bool) -> None:
        """Whether there is a phone that runs at the other end; without, connections are refused."""
        self._powered = on
        self._listen()

    def plug(self) -> None:
        """Put it in again; a hang and a count of bytes are over too."""
        with self._lock:
            self._plugged, self._left = True, None
        self._listen()
        self._flows.set()

    def hang(self) -> None:
        """Nothing moves any more and nobody is told, until `plug` or `cut`."""
        self._flows.clear()

    def cut_after(self, count: int) -> None:
        """Cut when so many more bytes have passed, both directions together."""
        with self._lock:
            self._left = count

    def close(self) -> None:
        """End everything."""
        self._closed = True
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                self._opens.wait()
                continue
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _listen(self) -> None:
        """Listen or not; the port stays ours either way."""
        with self._lock, contextlib.suppress(OSError):
            if self._plugged and self._powered and not self._closed:
                self._listener.listen(64)
                self._opens.set()
            elif self._opens.is_set():
                self._opens.clear()
                # Only of one that listens: else whatever it accepts later is born shut down.
                self._listener.shutdown(socket.SHUT_RDWR)
            if self._closed:
                self._opens.set()

    def _connect(self, client: socket.socket) -> None:
        try:
            phone = socket.create_connection(("127.0.0.1", self._phone_port), CONNECT_TIMEOUT_S)
        except OSError:
            client.close()
            return
        phone.settimeout(None)
        pair = _Pair(client, phone)
        for one in (client, phone):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._pairs.append(pair)
        back = threading.Thread(target=self._move, args=(pair, phone, client), daemon=True)
        back.start()
        self._move(pair, client, phone)
        back.join()
        client.close()
        phone.close()
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)

    def _move(self, pair: _Pair, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                self._flows.wait()
                if pair.dead.is_set():
                    break
                allowed = self._allowed(len(data))
                sink.sendall(data[:allowed])
                if allowed < len(data):
                    self.cut()
                    break
                if self.rate_bytes_s:
                    time.sleep(len(data) / self.rate_bytes_s)
        pair.end()

    def _allowed(self, count: int) -> int:
        with self._lock:
            allowed = count if self._left is None else min(count, self._left)
            if self._left is not None:
                self._left -= allowed
            self.moved_bytes += allowed
            return allowed


def free_port() -> int:
    """A port of this machine that nobody has now."""
    for _ in range(100):
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port for the test phone")
