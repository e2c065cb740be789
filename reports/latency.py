"""The latency table: latency with interval, load time, peak memory and output error of every cell."""

from reports.cells import Cell, Group, RunData
from reports.footnotes import Footnotes
from reports.speedup import framework_cell, latency_cell
from reports.table import Table, TableCell, cells

COLUMNS = cells("network", "framework", "threads", "ms", "interval", "load ms", "peak MiB", "output error")


def latency_table(data: RunData) -> Table:
    """One row a cell, in the order of the run; the interval is ± of the latency."""
    notes = Footnotes()
    rows = [_row(data, group, name, notes) for group in data.groups for name in group.cells]
    title = f"Run {data.run.number}: latency on {data.run.options.device}, {data.run.options.precision}"
    return Table(title, COLUMNS, tuple(rows), notes=notes.texts, text_columns=2, key_columns=3)


def _row(data: RunData, group: Group, framework: str, notes: Footnotes) -> tuple[TableCell, ...]:
    cell = group.cells[framework]
    return (
        TableCell(group.key.model),
        framework_cell(data, framework, framework, notes),
        TableCell(str(group.key.threads)),
        latency_cell(group, framework, notes),
        *cells(_interval(cell), _load(cell), _memory(cell), _error(cell)),
    )


def _interval(cell: Cell) -> str:
    if cell.latency is None:
        return ""
    return f"±{cell.latency.relative_half_width:.1%}" if cell.latency.is_known else "–"


def _load(cell: Cell) -> str:
    return f"{cell.record.loading.load_ns / 1e6:.0f}" if cell.record.loading else ""


def _memory(cell: Cell) -> str:
    return f"{cell.record.memory_peak_bytes / 2**20:.0f}" if cell.record.memory_peak_bytes else ""


def _error(cell: Cell) -> str:
    error = cell.record.outcome.error if cell.record.outcome else None
    return "" if error is None else f"{error:.1e}" if error else "0"
