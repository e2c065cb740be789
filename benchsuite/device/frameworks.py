"""Which frameworks can run on this machine, and what a device says that runs them like this machine."""

import platform
from abc import ABC, abstractmethod
from collections.abc import Callable

from adapters.catalogue import installed_version
from adapters.environments import why_unmakeable
from adapters.external import External
from adapters.protocol import MAIN_ENVIRONMENT, Adapter
from adapters.runners import existing_files
from benchsuite.device.protocol import Telemetry
from benchsuite.elf import machine_of
from benchsuite.policy import Policy

HOST_TARGET = "host"
OLDER = {"aarch64": "arm", "x86_64": "i386"}
"""What a machine may run besides its own: 32-bit programs, if the system has what they need."""


def why_not_here(adapter: Adapter) -> str | None:
    """Why a framework cannot run on this machine, with the line that installs it; None when it can, or when
    bench makes its environment on first use.
    """
    if isinstance(adapter, External):
        return why_not_machine(adapter, platform.machine())
    if adapter.environment != MAIN_ENVIRONMENT:
        return why_unmakeable(adapter.environment)
    if installed_version(adapter) is not None:
        return None
    extra = f"`pip install '.[{adapter.extra}]'` or " if adapter.extra else ""
    return f"{adapter.distribution} is not installed: {extra}`bench frameworks install {adapter.name}`"


def why_not_machine(framework: External, machine: str) -> str | None:
    """Why a program of one's own cannot run on a machine (as `uname -m` names it): a file is for another."""
    for file in existing_files(framework.program):
        found = machine_of(file)
        if found is not None and found not in (machine, OLDER.get(machine)):
            return f"{file.name} is a program for {found}, and {machine} is where it would run"
    return None


class OnThisMachine(ABC):
    """The members of a `Device` whose workers run with this machine's frameworks and need no waiting."""

    target = HOST_TARGET

    @abstractmethod
    def telemetry(self) -> Telemetry:
        """The state of the device now."""

    def ready(self, policy: Policy, say: Callable[[str], None]) -> Telemetry:
        """At once."""
        return self.telemetry()

    def why_not(self, framework: Adapter) -> str | None:
        """As this machine has it installed."""
        return why_not_here(framework)

    def version_of(self, framework: Adapter) -> str | None:
        """As this machine has it installed."""
        return installed_version(framework)
