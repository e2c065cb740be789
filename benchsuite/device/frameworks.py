"""Which frameworks can run on this machine, and what a device says that runs them like this machine."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from adapters.catalogue import installed_version
from adapters.environments import why_unmakeable
from adapters.protocol import MAIN_ENVIRONMENT, Adapter
from benchsuite.device.protocol import Telemetry
from benchsuite.policy import Policy

HOST_TARGET = "host"


def why_not_here(adapter: Adapter) -> str | None:
    """Why a framework cannot run on this machine, with the line that installs it; None when it can, or when
    bench makes its environment on first use.
    """
    if adapter.environment != MAIN_ENVIRONMENT:
        return why_unmakeable(adapter.environment)
    if installed_version(adapter) is not None:
        return None
    extra = f"`pip install '.[{adapter.extra}]'` or " if adapter.extra else ""
    return f"{adapter.distribution} is not installed: {extra}`bench frameworks install {adapter.name}`"


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
