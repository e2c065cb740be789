"""A phone that may be out of reach for a while: calls that wait for the cable, and know when the phone
restarted.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from benchsuite.device.link import SHELL_TIMEOUT_S, Answer, Link, LinkDown, PhoneFull
from benchsuite.device.protocol import DeviceLost, DeviceRestarted

BOOT_ID = "/proc/sys/kernel/random/boot_id"
REATTACH_S = 600.0
RETRY_S = 1.0
FIRST_S = 10.0
"""Before the first answer nothing is under way that waiting would save: a link that breaks the moment it is
made is tried again, but not for minutes.
"""
MOST_TRIES = 5
"""With the cable in: a call that breaks off so often does not break off by chance."""

Say = Callable[[str], None]
T = TypeVar("T")


def nothing(text: str) -> None:
    """Says nothing."""


class Reach:
    """A link that comes back, itself a `Link`. Scripts must stand being run twice: a cut may hide that one
    was run.
    """

    def __init__(self, link: Link, *, reattach_s: float = REATTACH_S, say: Say = nothing) -> None:
        self._link, self._reattach_s = link, reattach_s
        self.say = say
        self.outage_s = 0.0
        """Seconds without the phone so far; whoever counts time leaves them out."""
        self.calls = 0
        self._errands: list[str] = []
        self.boot_id = self._first_boot()

    @property
    def serial(self) -> str:
        """The link's name of the phone."""
        return self._link.serial

    def shell(self, script: str, timeout_s: float = SHELL_TIMEOUT_S) -> Answer:
        """Run a script; waits for the phone to come back, raises `DeviceLost` when it does not."""
        self.calls += 1
        return self._with_errands(
            lambda first: self._again(lambda: self._link.shell(first + script, timeout_s))
        )

    def later(self, errand: str) -> None:
        """A script that says nothing and is in no hurry: it goes with the next shell, before its own."""
        self._errands.append(errand)

    def push(self, local: Path, remote: str, then: str = "") -> None:
        """As `Link.push`; a full phone raises `DeviceLost`: no other cell would fare better."""
        self.calls += 1
        try:
            self._again(lambda: self._link.push(local, remote, then))
        except PhoneFull as error:
            raise full(self.serial, error.what) from error

    def pull(self, remote: str, local: Path) -> None:
        """As `Link.pull`."""
        self.calls += 1
        self._again(lambda: self._link.pull(remote, local))

    def reconnect(self) -> bool:
        """As `Link.reconnect`."""
        return self._link.reconnect()

    def try_shell(self, script: str, timeout_s: float = SHELL_TIMEOUT_S) -> Answer | None:
        """Run a script if the phone can be reached now, else None: for clearing up, which must not wait."""
        self.calls += 1
        try:
            return self._with_errands(lambda first: self._link.shell(first + script, timeout_s))
        except LinkDown:
            return None

    def answers_within(self, seconds: float) -> bool:
        """Whether the phone can be reached now or soon."""
        deadline = time.monotonic() + seconds
        while self.try_shell("true", seconds) is None:
            if time.monotonic() >= deadline:
                return False
            time.sleep(RETRY_S)
            self._link.reconnect()
        return True

    def _with_errands(self, ask: Callable[[str], Answer]) -> Answer:
        """An answer says that the errands were done, too."""
        errands = list(self._errands)
        answer = ask("".join(f"{one}\n" for one in errands))
        del self._errands[: len(errands)]
        return answer

    def _again(self, action: Callable[[], T]) -> T:
        for _ in range(MOST_TRIES):
            try:
                return action()
            except LinkDown as down:
                self._wait_for_return(down)
        raise DeviceLost(f"{self.serial}: the link breaks off again and again; try another cable or port")

    def _wait_for_return(self, down: LinkDown) -> None:
        start = time.monotonic()
        said = False
        try:
            while not self._link.reconnect():
                waited = time.monotonic() - start
                if not said:
                    self.say(f"{self.serial} is out of reach ({down}): waiting, plug it in again")
                    said = True
                if waited >= self._reattach_s:
                    raise DeviceLost(
                        f"{self.serial} did not come back within {waited:.0f} s ({down}): every finished"
                        f" block is"
                        " kept; plug it in, then `bench run --resume`"
                    ) from down
                time.sleep(RETRY_S)
        finally:
            self.outage_s += time.monotonic() - start
        self._check_boot()
        if said:
            self.say(f"{self.serial} is back")

    def _check_boot(self) -> None:
        try:
            now = self._tell_boot()
        except LinkDown:
            return  # gone again: whoever asks next waits again
        if now != self.boot_id:
            self.boot_id = now
            raise DeviceRestarted(f"{self.serial} was restarted: what was loaded there is gone")

    def _first_boot(self) -> str:
        deadline = time.monotonic() + min(FIRST_S, self._reattach_s)
        while True:
            try:
                return self._tell_boot()
            except LinkDown:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(RETRY_S)
            self._link.reconnect()

    def _tell_boot(self) -> str:
        return self._link.shell(f"cat {BOOT_ID}").out.strip()


def full(serial: str, complaint: str) -> DeviceLost:
    """The phone could not write: nothing can be measured there before there is room."""
    words = " ".join(complaint.split())[-200:]
    return DeviceLost(
        f"{serial}: the phone's storage is full or cannot be written ({words}): every finished block is kept;"
        " make room (`bench devices restore DEV --clean` removes what bench keeps there), then `bench run"
        " --resume`"
    )
