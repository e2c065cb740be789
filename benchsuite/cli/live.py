"""Progress for people: a live display in a terminal, plain lines elsewhere."""

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from benchsuite.progress import Progress, Quiet
from benchsuite.record import CellRecord, GroupKey, Status
from reports.table import one_line

COLOURS = {Status.OK: "green", Status.REFUSED: "yellow"}
PLAIN_EVERY_BLOCKS = 10


def choose_progress(quiet: bool) -> Progress:
    """Nothing but trouble when quiet, a live display when stderr is a terminal, else plain lines."""
    if quiet:
        return Quiet()
    console = Console(stderr=True, highlight=False)
    return Terminal(console) if sys.stderr.isatty() and not console.is_dumb_terminal else Plain(console)


class Plain:
    """One line an event that matters: for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._place = ""

    def group_started(self, key: GroupKey, number: int, count: int) -> None:
        """A line with the group's name."""
        self._place = f"[{number}/{count}] {key.model}, {key.threads} thread{'s' if key.threads > 1 else ''}"
        self._print(self._place, indent="")

    def step(self, text: str) -> None:
        """Not worth a line."""

    def block_done(self, done: int, most: int, seconds: Mapping[str, float], width: float | None) -> None:
        """A line every few blocks."""
        if done % PLAIN_EVERY_BLOCKS == 0:
            self._print(progress_text(done, seconds, width))

    def cell_done(self, cell: CellRecord, seconds: float | None) -> None:
        """A line with the status."""
        self._print(cell_text(cell, seconds))

    def time_left(self, seconds: float) -> None:
        """A line with the estimate."""
        self._print(time_text(seconds))

    def note(self, text: str) -> None:
        """The text."""
        self._print(f"note: {text}")

    def trouble(self, text: str) -> None:
        """The text, as a note."""
        self.note(text)

    def close(self) -> None:
        """Nothing to undo."""

    def _print(self, text: str, indent: str = "  ") -> None:
        self._console.print(f"{indent}{one_line(text)}", markup=False, soft_wrap=True)


class Terminal:
    """A bar for the group being measured, above it the cells that are done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[detail]}"),
        )
        self._bars = Bars(*columns, TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=console)
        self._task: TaskID = self._bars.add_task("starting", total=None, detail="", left="")
        self._live = Live(self._bars, console=console, refresh_per_second=2, transient=True)
        self._live.start()

    def group_started(self, key: GroupKey, number: int, count: int) -> None:
        """A new bar."""
        description = f"[{number}/{count}] {key.model} {key.threads}t"
        self._bars.reset(self._task, description=escape(description), total=None, detail="")

    def step(self, text: str) -> None:
        """Beside the bar."""
        self._bars.update(self._task, detail=escape(text))

    def block_done(self, done: int, most: int, seconds: Mapping[str, float], width: float | None) -> None:
        """The bar moves."""
        self._bars.update(
            self._task, completed=done, total=most, detail=escape(progress_text(done, seconds, width))
        )

    def cell_done(self, cell: CellRecord, seconds: float | None) -> None:
        """A line that stays."""
        status = cell.outcome.status if cell.outcome else Status.FAILED
        self._console.print(
            f"[{COLOURS.get(status, 'red')}]●[/] {escape(one_line(cell_text(cell, seconds)))}"
        )

    def time_left(self, seconds: float) -> None:
        """Behind the bar."""
        self._bars.update(self._task, left=time_text(seconds))

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(f"[yellow]note:[/] {escape(one_line(text))}")

    def trouble(self, text: str) -> None:
        """The text, as a note."""
        self.note(text)

    def close(self) -> None:
        """Take the bar away."""
        self._live.stop()


def progress_text(done: int, seconds: Mapping[str, float], width: float | None) -> str:
    """`12 blocks  ort 98.1 ms  ort-noopt 131 ms  ±0.8%`."""
    latencies = "  ".join(f"{name} {value * 1e3:.3g} ms" for name, value in seconds.items())
    return f"{done} blocks  {latencies}" + (f"  ±{width:.1%}" if width is not None else "")


def cell_text(cell: CellRecord, seconds: float | None) -> str:
    """`swin/ort/local/1t/fp32 ok 98.1 ms`, or the status with its reason."""
    outcome = cell.outcome
    latency = f" {seconds * 1e3:.3g} ms" if seconds is not None else ""
    if outcome is None:
        return f"{cell.key} not measured"
    return f"{cell.key} {outcome.status}{latency}" + (f": {outcome.reason}" if outcome.reason else "")


def time_text(seconds: float) -> str:
    """`about 12 min left`."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} s left"
    return f"about {seconds / 60:.0f} min left"
