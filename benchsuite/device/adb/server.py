"""The usual link: the adb program and its server, over USB or the network."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchsuite.device.adb.binary import Adb
from benchsuite.device.link import (
    SHELL_TIMEOUT_S,
    Answer,
    LinkDown,
    LinkTimeout,
    pull_whole,
    push_whole,
    refused,
    transfer_limit_s,
    unwrapped,
    wrapped,
)

CONNECT_TIMEOUT_S = 20.0
GONE_WORDS = (
    "offline",
    "unauthorized",
    "not found",
    "no devices",
    "closed",
    "connect",
    "protocol fault",
    "broken pipe",
)
"""What adb says when the phone itself did not refuse anything."""


class AdbServerLink:
    """One phone of the adb server. Clients and server of any version from 30 on share one."""

    def __init__(self, adb: Adb, serial: str) -> None:
        self._adb, self._serial = adb, serial

    @property
    def serial(self) -> str:
        """As `adb devices` lists it."""
        return self._serial

    def shell(self, script: str, timeout_s: float = SHELL_TIMEOUT_S) -> Answer:
        """Run a script; its code counts only together with the last line that proves its end."""
        text, mark = wrapped(script)
        done = self._call(["shell", text], timeout_s)
        return unwrapped(mark, done.returncode, done.stdout, done.stderr)

    def push(self, local: Path, remote: str, then: str = "") -> None:
        """Put a file there; sent beside its place, compared, renamed."""

        def send(part: str) -> None:
            self._moved(["push", str(local.resolve()), part], local.stat().st_size, remote)

        push_whole(self, local, remote, send, then)

    def pull(self, remote: str, local: Path) -> None:
        """Bring a file here; received beside its place, compared, renamed."""
        pull_whole(
            self,
            remote,
            local,
            lambda part: self._moved(["pull", remote, str(part.absolute())], None, remote),
        )

    def reconnect(self) -> bool:
        """A network phone is disconnected first: adb says "already connected" of one that is offline."""
        try:
            if ":" in self._serial:
                self._run(["disconnect", self._serial], CONNECT_TIMEOUT_S)
                self._run(["connect", self._serial], CONNECT_TIMEOUT_S)
            return self.shell("echo here", CONNECT_TIMEOUT_S).out.strip() == "here"
        except LinkDown:
            return False

    def _moved(self, words: Sequence[str], byte_count: int | None, remote: str) -> None:
        """A push or pull; raises what its complaint amounts to. The exit code of a pull that broke off has no
        text at all.
        """
        limit = transfer_limit_s(byte_count if byte_count is not None else 1 << 34)
        done = self._call(words, limit)
        complaint = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace")
        if done.returncode == 0:
            return
        error = refused(self, "adb could not move a file", complaint, remote)
        told = any(
            word in complaint for word in ("No space left", "Permission denied", "No such file", "Read-only")
        )
        if told and not any(word in complaint for word in GONE_WORDS[:4]):
            raise error
        raise LinkDown(complaint.strip().splitlines()[-1] if complaint.strip() else "the transfer broke off")

    def _call(self, words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        return self._run(["-s", self._serial, *words], timeout_s)

    def _run(self, words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        return run_adb(self._adb, words, timeout_s)


def run_adb(adb: Adb, words: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[bytes]:
    """One call of adb, which has no limit of its own; raises `LinkTimeout`."""
    try:
        return subprocess.run(
            [adb.path, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            start_new_session=True,  # Ctrl-C is for bench, which has things to restore over this very link
            env=os.environ,
        )
    except subprocess.TimeoutExpired as error:
        raise LinkTimeout(
            f"no answer to `adb {words[-2] if len(words) > 1 else words[0]}` in {timeout_s:.0f} s"
        ) from error
