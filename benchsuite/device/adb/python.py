"""Frameworks in Python on a phone: the same worker and adapters as here, started from layers."""

import json
from collections.abc import Mapping
from typing import Any

from adapters.protocol import Adapter
from adapters.worker import MAILBOX_OPTION
from benchsuite.device.adb.ours import Place
from benchsuite.device.adb.process import RunnerRefusal
from benchsuite.device.link import Link
from benchsuite.device.runtime.provision import Runtime, provisioned
from benchsuite.device.runtime.table import layers_of, refusal, wheel_version

WORKER_MODULE = "adapters.worker"


def runtime_of(link: Link, framework: str) -> Runtime | None:
    """The layers of a framework, if they are on the phone; nothing is fetched or pushed."""
    return provisioned(link, [framework])


def why_no_python(link: Link, framework: Adapter) -> str | None:
    """Why a framework cannot run on that phone, with the line that helps; None when it can."""
    reason = refusal(framework.name)
    if reason is None and runtime_of(link, framework.name) is None:
        command = f"bench devices provision {link.serial} --frameworks {framework.name}"
        return f"it is not on the phone yet: `{command}`"
    return reason


def version_there(link: Link, framework: Adapter) -> str | None:
    """The version that the layers on the phone hold; None when they are not there, or are older ones.

    A layer's name is its content, so what is there and has this name holds what the table says.
    """
    if refusal(framework.name) is not None or runtime_of(link, framework.name) is None:
        return None
    return wheel_version(framework.distribution, layers_of([framework.name]))


class PythonRunner:
    """The worker's own protocol, in files."""

    def __init__(self, link: Link, framework: str, place: Place) -> None:
        self._link, self._framework, self._place = link, framework, place

    def begin(self, request: Mapping[str, Any]) -> tuple[str, str]:
        """The worker in its mailbox, the network and its inputs; the layers must be there."""
        runtime = runtime_of(self._link, self._framework)
        if runtime is None:
            raise RunnerRefusal(
                f"{self._framework} is not on the phone: `bench devices provision {self._link.serial}`"
            )
        self._place.bring([request["path"], request["inputs"]])
        return "", runtime.command(["-m", WORKER_MODULE, MAILBOX_OPTION, self._place.folder])

    def line(self, request: Mapping[str, Any]) -> str:
        """As it is."""
        return json.dumps(request)

    def reply(self, request: Mapping[str, Any], text: str) -> Mapping[str, Any]:
        """As it is."""
        reply: dict[str, Any] = json.loads(text)
        return reply
