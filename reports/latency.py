"""The latency table: latency with interval, load time, peak memory and output error of every cell."""

from reports.cells import Cell, Group, RunData
from reports.speedup import latency_cell, milliseconds
from reports.table import Footnotes, Table, TableCell

COLUMNS = (
    "network",
    "framework",
    "threads",
    "ms",
    "interval",
    "blocks",
    "load ms",
    "peak MiB",
    "output error",
    "status",
)


def latency_table(data: RunData) -> Table:
    """One row a cell, in the order of the run."""
    notes = Footnotes()
    rows = [_row(group, name, notes) for group in data.groups for name in group.cells]
    title = f"Run {data.run.number}: latency on {data.run.options.device}, {data.run.options.precision}"
    return Table(title, COLUMNS, tuple(rows), notes=tuple(notes.texts), text_columns=2)


def _row(group: Group, framework: str, notes: Footnotes) -> tuple[TableCell, ...]:
    cell = group.cells[framework]
    texts = (_interval(cell), str(cell.blocks), _load(cell), _memory(cell), _error(cell), cell.status)
    first = (group.key.model, framework, str(group.key.threads))
    return (*map(TableCell, first), latency_cell(group, framework, notes), *map(TableCell, texts))


def _interval(cell: Cell) -> str:
    return f"[{milliseconds(cell.latency.low)}, {milliseconds(cell.latency.high)}]" if cell.latency else ""


def _load(cell: Cell) -> str:
    return f"{cell.record.loading.load_ns / 1e6:.0f}" if cell.record.loading else ""


def _memory(cell: Cell) -> str:
    return f"{cell.record.memory_peak_bytes / 2**20:.0f}" if cell.record.memory_peak_bytes else ""


def _error(cell: Cell) -> str:
    error = cell.record.outcome.error if cell.record.outcome else None
    return "" if error is None else f"{error:.1e}"
