"""Which phones the adb server sees, and what to do about those that cannot be used."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchsuite.device.adb.binary import Adb
from benchsuite.device.adb.server import run_adb
from models.errors import BenchError

LIST_TIMEOUT_S = 20.0
READY = "device"
NO_ANSWER = "no answer"
"""What adb has no word for: a phone that is named, and was not reached over the network."""
ADVICE: Mapping[str, str] = {
    READY: "",
    "unauthorized": 'unlock the phone and accept "Allow USB debugging?"; if it does not ask: Developer'
    " options, Revoke"
    " USB debugging authorisations, plug in again",
    "offline": "pull the cable and plug it in again (network: `adb disconnect`, `adb connect`); else"
    " restart the phone",
    "authorizing": "wait a moment, then accept the question on the phone",
    "connecting": "wait a moment, then look again",
    "no permissions": "this computer's user may not open the USB device: install Android's udev rules,"
    " plug in again",
    "recovery": "the phone is in its recovery: start Android",
    "bootloader": "the phone is in its bootloader: start Android",
    "sideload": "the phone waits for an update: start Android",
    NO_ANSWER: "is it on and in the same network, and does its adbd listen? Over USB, after each restart of"
    " the phone: `adb tcpip 5555`",
}
NONE_ADVICE = (
    "plug the phone in, switch on Developer options and USB debugging, use a cable that carries data;"
    " over the network:"
    " `adb connect HOST:PORT` (docs/phones.md)"
)


@dataclass(frozen=True, slots=True)
class Attached:
    """One line of `adb devices -l`."""

    serial: str
    state: str
    model: str = ""

    @property
    def ready(self) -> bool:
        """Whether it can be asked."""
        return self.state == READY

    @property
    def advice(self) -> str:
        """What to do about its state, empty when there is nothing to do."""
        return ADVICE.get(self.state, "look at the phone; `adb devices -l` says more")


def attached(adb: Adb) -> tuple[Attached, ...]:
    """Every phone that the server sees; raises `BenchError` when there is no server to be had."""
    done = run_adb(adb, ["devices", "-l"], LIST_TIMEOUT_S)
    if done.returncode:
        raise BenchError(
            "the adb server does not answer: " + done.stderr.decode("utf-8", "replace").strip()[-300:],
            where=adb.path,
            hint="`adb kill-server`, then again",
        )
    return parse_devices(done.stdout.decode("utf-8", "replace"))


def parse_devices(text: str) -> tuple[Attached, ...]:
    """Read the list of `adb devices -l`."""
    found = []
    for line in text.splitlines():
        match = re.match(r"^(\S+)\s+(no permissions|\S+)(.*)$", line)
        if not match or line.startswith(("List of devices", "*")):
            continue
        model = re.search(r"\bmodel:(\S+)", match[3])
        found.append(Attached(match[1], match[2], model[1].replace("_", " ") if model else ""))
    return tuple(found)


def check_ready(phones: Sequence[Attached], serial: str) -> None:
    """Raise `BenchError`, with what to do, unless the phone of that serial can be used."""
    phone = next((one for one in phones if one.serial == serial), None)
    if phone is None:
        listed = ", ".join(f"{one.serial} ({one.state})" for one in phones)
        raise BenchError(
            "no such phone is attached",
            where=serial,
            hint=f"attached: {listed}" if listed else NONE_ADVICE,
        )
    if not phone.ready:
        raise BenchError(f"the phone is {phone.state}", where=serial, hint=phone.advice)
