"""What a phone could do at most: a static program of a few kB measures it, so that no Python is needed there.

It knows nothing of requests: the shell that starts it keeps its one line as the reply, and its end wakes who
waits. So a measurement is one call, and a second one that clears up.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from benchsuite.device.adb.ours import Place
from benchsuite.device.adb.process import RunnerRefusal
from benchsuite.device.peak.build import built_peak, peak_words
from models.errors import BenchError

SETUP = r"""
chmod 755 %(program)s
answer_peak() { %(command)s > reply.part && move reply.part reply-0; }
"""
"""`move` is that of `process.py`, in the same script."""


class PeakRunner:
    """Answers one request, `probe`."""

    def __init__(self, place: Place, machine: str) -> None:
        """`machine` is what `uname -m` says there."""
        self._place, self._machine = place, machine

    def begin(self, request: Mapping[str, Any]) -> tuple[str, str]:
        """Bring the program over, once for a content; raises `RunnerRefusal` when it cannot be built here."""
        try:
            program = self._place.push(built_peak(self._machine))
        except BenchError as error:
            raise RunnerRefusal(str(error)) from error
        self._place.bring([program])
        cores = tuple(request.get("cores", ()))
        words = peak_words(program, int(request["threads"]), float(request["seconds"]), cores)
        return SETUP % {"program": shlex.quote(program), "command": shlex.join(words)}, "answer_peak"

    def line(self, request: Mapping[str, Any]) -> str:
        """Nothing: the program's words say it all."""
        if request["do"] not in ("probe", "quit"):
            raise RunnerRefusal(f"the probe of a phone cannot answer `{request['do']}`")
        return ""

    def reply(self, request: Mapping[str, Any], text: str) -> Mapping[str, Any]:
        """The program's line; raises ValueError for one that broke off."""
        reply: dict[str, Any] = json.loads(text)
        return reply
