"""A phone's state, asked for by itself or brought along by a call that is made anyway."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchsuite.device.adb.facts import Core
from benchsuite.device.adb.reach import Reach
from benchsuite.device.adb.state import parse_state, parse_states, resident_mhz, state_script
from benchsuite.device.protocol import Telemetry

FRESH_S = 1.0
"""A state that is younger, with nothing done since, is the state now."""


class StateWatch:
    """Clocks, heat, battery, load, memory of a phone with these cores, the biggest first."""

    def __init__(self, reach: Reach, cores: Sequence[Core]) -> None:
        self._reach, self._cores = reach, tuple(cores)
        self._policies = tuple(dict.fromkeys(one.policy for one in cores if one.policy is not None))
        self._clocks: Mapping[int, Mapping[int, int]] = {}
        self._latest: tuple[Telemetry | None, int, float] = (None, 0, 0.0)
        self._expected = False

    def expect(self) -> None:
        """The state is wanted as it is after the next reply of a worker."""
        self._expected = True

    def errand(self) -> str:
        """What a call is to bring along now: a script, or nothing."""
        return state_script(self._policies) if self._expected else ""

    def take(self, text: str) -> Telemetry:
        """What the script said, in the call that has just ended."""
        states = parse_states(text)
        clocks = [resident_mhz(self._clocks.get(one, {}), states.get(one, {})) for one in self._policies[:1]]
        first_look = not self._clocks
        self._clocks = states
        resident = None if first_look or not clocks else clocks[0]
        state = replace(parse_state(text, self._cores), resident_mhz=resident)
        self._latest = (state, self._reach.calls, time.monotonic())
        self._expected = False
        return state

    def look(self) -> Telemetry:
        """One round trip."""
        return self.take(self._reach.shell(state_script(self._policies)).out)

    def now(self) -> Telemetry | None:
        """The last state while nothing was asked of the phone since, and at once: a block's end is the next
        one's beginning.
        """
        state, calls, taken = self._latest
        current = calls == self._reach.calls and time.monotonic() - taken <= FRESH_S
        return state if current else None
