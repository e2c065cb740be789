"""Requests and replies as files in a folder, for workers that outlive the cable to the machine that asks.

`request-0`, `request-1`, … are one line each, `reply-0`, `reply-1`, … their answers; each is written beside
its place and renamed. Nobody polls: the asker sends SIGUSR1 to the worker after a request, and the worker to
the process that `waiter` names (number and start time, because a number alone may be another by then).
`ourcompiler/runtime/serve.c` speaks the same.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

LOOK_AGAIN_SECONDS = 30
GIVE_UP_SECONDS = 7200
"""A worker whom nobody asked for so long has been forgotten."""
START_TIME_FIELD = 22


class Mailbox:
    """The worker's side of a folder. Make it before a framework is loaded: threads inherit the blocked
    signal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})

    def requests(self) -> Iterator[str]:
        """Lines in their order; ends when nobody has asked for long."""
        waited = 0
        while waited < GIVE_UP_SECONDS:
            try:
                line = (self._folder / f"request-{self._number}").read_text(encoding="utf-8")
            except FileNotFoundError:
                signal.sigtimedwait({signal.SIGUSR1}, LOOK_AGAIN_SECONDS)
                waited += LOOK_AGAIN_SECONDS
            else:
                waited = 0
                yield line

    def reply(self, text: str) -> None:
        """Answer the request under way; raises OSError when the disk is full."""
        part = self._folder / f"reply-{self._number}.part"
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(self._folder / f"reply-{self._number}")
        self._number += 1
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            pid, start = map(int, (self._folder / "waiter").read_text(encoding="ascii").split())
            if pid > 1 and start_time(pid) == start:
                os.kill(pid, signal.SIGUSR1)


def start_time(pid: int) -> int:
    """Clock ticks from boot to the start of a process; raises OSError for none."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return int(text.rpartition(")")[2].split()[START_TIME_FIELD - 3])
