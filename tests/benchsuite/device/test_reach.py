"""A link that breaks, as `Reach` sees it; the link itself is made up here."""

from pathlib import Path

import pytest

from benchsuite.device.adb import reach
from benchsuite.device.adb.reach import Reach
from benchsuite.device.link import SHELL_TIMEOUT_S, Answer, LinkDown, PhoneFull
from benchsuite.device.protocol import DeviceLost


class BreakingLink:
    """Breaks the first calls; has no room."""

    serial = "made-up"

    def __init__(self, breaks: int) -> None:
        self.breaks, self.reconnected = breaks, 0

    def shell(self, script: str, timeout_s: float = SHELL_TIMEOUT_S) -> Answer:
        if self.breaks:
            self.breaks -= 1
            raise LinkDown("the answer broke off")
        return Answer(0, "boot-1\n", "")

    def push(self, local: Path, remote: str, then: str = "") -> None:
        raise PhoneFull("the phone's storage is full", where="made-up:/data")

    def pull(self, remote: str, local: Path) -> None:
        raise NotImplementedError

    def reconnect(self) -> bool:
        self.reconnected += 1
        return True


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "RETRY_S", 0.001)


def test_a_link_that_breaks_at_once_is_tried_again() -> None:
    link = BreakingLink(2)
    assert Reach(link).boot_id == "boot-1"
    assert link.reconnected == 2


def test_but_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "FIRST_S", 0.01)
    with pytest.raises(LinkDown):
        Reach(BreakingLink(10**6))
    with pytest.raises(LinkDown):  # nobody waits here
        Reach(BreakingLink(1), reattach_s=0.0)


def test_a_full_phone_keeps_what_was_measured(tmp_path: Path) -> None:
    with pytest.raises(DeviceLost, match=r"made-up: .*storage is full.*every finished block is kept"):
        Reach(BreakingLink(0)).push(tmp_path / "file", "/data/file")
