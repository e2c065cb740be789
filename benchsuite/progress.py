"""What a user sees while a run is going on; the runner knows only this protocol."""

import sys
from collections.abc import Mapping
from typing import Protocol

from benchsuite.record import CellRecord, GroupKey


class Progress(Protocol):
    """Events of a run, in the order in which they happen."""

    def group_started(self, key: GroupKey, number: int, count: int) -> None:
        """A group begins, `number` of `count`, from 1."""

    def step(self, text: str) -> None:
        """Something that takes a while begins: drawing weights, loading, warming up."""

    def block_done(self, done: int, most: int, seconds: Mapping[str, float], width: float | None) -> None:
        """A block was saved; `seconds` is each framework's latency so far, `width` the widest interval,
        relative.
        """

    def cell_done(self, cell: CellRecord, seconds: float | None) -> None:
        """A cell has its status; `seconds` is its latency."""

    def time_left(self, seconds: float) -> None:
        """The estimate of what is left of the run changed."""

    def note(self, text: str) -> None:
        """Something the user should know now."""

    def trouble(self, text: str) -> None:
        """Why the run ends before its end: said on stderr also by those that say nothing else."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class Quiet:
    """Says nothing but trouble; for CI and tests. Errors and the final table do not come through here."""

    def group_started(self, key: GroupKey, number: int, count: int) -> None:
        """Nothing."""

    def step(self, text: str) -> None:
        """Nothing."""

    def block_done(self, done: int, most: int, seconds: Mapping[str, float], width: float | None) -> None:
        """Nothing."""

    def cell_done(self, cell: CellRecord, seconds: float | None) -> None:
        """Nothing."""

    def time_left(self, seconds: float) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def trouble(self, text: str) -> None:
        """The text, in one line."""
        print(" ".join(text.split()), file=sys.stderr)

    def close(self) -> None:
        """Nothing."""
