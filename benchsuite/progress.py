"""What a user sees while a run is going on; the runner knows only this protocol."""

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

    def close(self) -> None:
        """Leave the terminal as it was."""


class Quiet:
    """Says nothing; for CI and tests. Errors and the final table do not come through here."""

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

    def close(self) -> None:
        """Nothing."""
