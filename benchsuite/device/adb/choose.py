"""From what the user typed after `--device` to one phone."""

from collections.abc import Mapping

from benchsuite.device.adb.attached import NONE_ADVICE, Attached, attached, check_ready
from benchsuite.device.adb.binary import Adb, find_adb
from benchsuite.device.adb.facts import PROPERTIES, quoted_properties
from benchsuite.device.adb.network import NetworkLink
from benchsuite.device.adb.phone import AdbDevice
from benchsuite.device.adb.profiles import Profile, profiles
from benchsuite.device.adb.server import AdbServerLink
from benchsuite.device.link import NETWORK, SHELL_TIMEOUT_S, Link
from models.errors import BenchError


def open_phone(name: str) -> AdbDevice | None:
    """The phone of that profile, serial or `tcp:HOST:PORT`, held still; None for a name that is none of them.
    Raises `BenchError` when it is not attached, not usable, or several fit.
    """
    link = _find(name)
    return None if link is None else AdbDevice(name, link)


def open_link(name: str) -> Link:
    """The link to the phone of that name; raises `BenchError`, with what to do, unless it can be used."""
    link = _find(name)
    if link is None:
        adb = find_adb()
        check_ready(attached(adb), name)
        link = AdbServerLink(adb, name)
    return link


def _find(name: str) -> Link | None:
    profile = profiles().get(name)
    address = profile.address if profile is not None else ""
    if address or name.startswith(NETWORK):
        network = NetworkLink(address or name)
        network.check()
        return network
    try:
        adb = find_adb()
    except BenchError:
        if profile is None:
            return None
        raise
    phones = attached(adb)
    if profile is not None:
        return AdbServerLink(adb, _only(adb, profile, phones))
    if name not in [one.serial for one in phones]:
        return None
    check_ready(phones, name)
    return AdbServerLink(adb, name)


def properties_of(link: Link, timeout_s: float = SHELL_TIMEOUT_S) -> Mapping[str, str]:
    """What a phone says of itself, by property; raises `LinkDown`."""
    lines = link.shell(quoted_properties(PROPERTIES), timeout_s).out.split("\n")
    return dict(zip(PROPERTIES, lines, strict=False))


def _only(adb: Adb, profile: Profile, phones: tuple[Attached, ...]) -> str:
    """The serial of the one attached phone that fits."""
    ready = [one.serial for one in phones if one.ready]
    fitting = [one for one in ready if profile.fits(properties_of(AdbServerLink(adb, one)))]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BenchError(
            f"{len(fitting)} attached phones are {profile.name}",
            where="--device",
            hint=f"choose one: --device {fitting[0]} (also {', '.join(fitting[1:])})",
        )
    stuck = [f"{one.serial} is {one.state}: {one.advice}" for one in phones if not one.ready]
    raise BenchError(
        f"no attached phone is {profile.name} ({profile.title})",
        where="--device",
        hint="; ".join(stuck) or ("`bench devices` lists what is attached" if phones else NONE_ADVICE),
    )
