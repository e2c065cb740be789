"""The phones of `bench devices`: those of the adb server, and those on the network that the user's own table
names.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchsuite.device.adb.attached import ADVICE, NO_ANSWER, NONE_ADVICE, READY, Attached, attached
from benchsuite.device.adb.binary import find_adb
from benchsuite.device.adb.choose import properties_of
from benchsuite.device.adb.facts import clusters_text, parse_probe, probe_script
from benchsuite.device.adb.network import NetworkLink, Unauthorized
from benchsuite.device.adb.phone import PROBE_LIMIT_S
from benchsuite.device.adb.profiles import Profile, profiles
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.device.link import SHELL_TIMEOUT_S, Link, LinkDown
from models.errors import BenchError

ANSWER_S = 5.0
"""A phone on the network that does not answer in time is listed as such: the list is not waited for."""
FACTS_S = 20.0
"""The same for the facts of one that does."""
SLACK_S = 0.5
NO_VALUES = ("",) * 5


@dataclass(frozen=True, slots=True)
class Row:
    """One phone as the list shows it."""

    phone: Attached
    model: str
    values: tuple[str, ...]
    advice: str


def rows() -> tuple[tuple[Row, ...], str]:
    """All phones that are attached, or named with an address; and what to do when none is attached."""
    try:
        names = tuple(profiles().values())
    except BenchError as error:
        return (), str(error)
    asked = [_Asked(one) for one in names if one.address]
    served, advice = _served(names)
    return (*served, *_answers(asked)), advice


def _served(names: Sequence[Profile]) -> tuple[tuple[Row, ...], str]:
    """Those of the adb server."""
    try:
        adb = find_adb()
        found = [(one, AdbServerLink(adb, one.serial)) for one in attached(adb)]
    except (BenchError, LinkDown) as error:
        return (), str(error)
    return tuple(_row(one, link, names) for one, link in found), "" if found else NONE_ADVICE


def _row(phone: Attached, link: Link, names: Sequence[Profile]) -> Row:
    if not phone.ready:
        return Row(phone, phone.model, NO_VALUES, phone.advice)
    try:
        return _with_facts(phone, link, names, PROBE_LIMIT_S)
    except LinkDown as down:
        return Row(phone, phone.model, NO_VALUES, f"it does not answer: {down}")


def _with_facts(phone: Attached, link: Link, names: Iterable[Profile], limit_s: float) -> Row:
    """A phone that answers; raises `LinkDown`."""
    properties = properties_of(link, min(limit_s, SHELL_TIMEOUT_S))
    found = parse_probe(link.shell(probe_script(), limit_s).out)
    fitting = [one.name for one in names if one.fits(properties) or one.address == phone.serial]
    chip = " ".join(filter(None, (properties.get("ro.soc.manufacturer"), properties.get("ro.soc.model"))))
    kilobytes = [int(one) for one in (found["memory_total"].value or "").split() if one.isdecimal()]
    memory = f"{kilobytes[0] / 2**20:.1f} GiB" if kilobytes else "unknown"
    android = found["ro.build.version.release"].value or "unknown"
    model = properties.get("ro.product.model") or phone.model
    return Row(phone, model, (chip, clusters_text(found), android, memory, ", ".join(fitting) or "none"), "")


class _Asked(threading.Thread):
    """A phone on the network, asked beside all others. Looking up a name has no limit: nobody waits for the
    end of this.
    """

    def __init__(self, profile: Profile) -> None:
        super().__init__(daemon=True)
        self._profile = profile
        self.answered = threading.Event()
        self.row = self._shown(NO_ANSWER, f"nothing came in {ANSWER_S:.0f} s; {ADVICE[NO_ANSWER]}")
        self.start()

    def run(self) -> None:
        """Ask whether it is there, then what it is."""
        profile = self._profile
        try:
            link = NetworkLink(profile.address)
            link.shell("true", ANSWER_S)
            self.row = self._shown(READY, "")
            self.answered.set()
            self.row = _with_facts(self.row.phone, link, [profile], FACTS_S / 2)
        except Unauthorized:
            self.row = self._shown("unauthorized", ADVICE["unauthorized"])
        except LinkDown as down:
            if not self.answered.is_set():
                self.row = self._shown(NO_ANSWER, f"{down}; {ADVICE[NO_ANSWER]}")
        except BenchError as error:
            self.row = self._shown(NO_ANSWER, " ".join(str(error).split()))
        finally:
            self.answered.set()

    def _shown(self, state: str, advice: str) -> Row:
        values = (*NO_VALUES[1:], self._profile.name)
        return Row(Attached(self._profile.address, state), "", values, advice)


def _answers(asked: Sequence[_Asked]) -> tuple[Row, ...]:
    """What is known in time."""
    end = time.monotonic() + ANSWER_S + SLACK_S
    there = [one for one in asked if one.answered.wait(max(0.0, end - time.monotonic()))]
    end = time.monotonic() + FACTS_S + SLACK_S
    for one in there:
        one.join(max(0.0, end - time.monotonic()))
    return tuple(one.row for one in asked)
