"""The latency table: latency with interval, times to compile and load, peak memory, arithmetic rate, percent
of the roofline and output error of every cell.
"""

from benchsuite.ceiling import SOURCE, source_of, why_no_ceiling
from reports.cells import Cell, Group, RunData
from reports.footnotes import Footnotes
from reports.roofline import NO_CEILING, PUBLISHED, Position, position, work_in
from reports.speedup import framework_cell, latency_cell
from reports.table import Table, TableCell, cells

COLUMNS = cells(
    *("network", "framework", "threads", "ms", "interval", "compile s", "load ms", "peak MiB"),
    *("GMACs/s", "roofline", "output error"),
)


PREPARED = (
    "compile s is what preparing took in this run, which did not write down the conversion itself:"
    " about 0 where that was kept from before"
)


def latency_table(data: RunData, *, model: str = "", framework: str = "") -> Table:
    """One row a cell, in the order of the run; the interval is ± of the latency. `model` and `framework` keep
    the cells of one.
    """
    notes = Footnotes()
    rows = [
        _row(data, group, name, notes)
        for group in data.groups
        for name in group.cells
        if model in ("", group.key.model) and framework in ("", name)
    ]
    title = f"Run {data.run.number}: latency on {data.run.options.device}, {data.run.options.precision}"
    return Table(
        title, COLUMNS, tuple(rows), notes=notes.texts, remarks=_remarks(data), text_columns=2, key_columns=3
    )


def place_of(data: RunData, group: Group, framework: str) -> Position | None:
    """Where a cell stands on the roofline; None for one whose number does not count."""
    cell = group.cells[framework]
    if not cell.counts or cell.latency is None:
        return None
    return position(data.run.facts, group.key, cell.latency.estimate)


def compile_seconds(cell: Cell) -> float | None:
    """What converting or compiling took when it was done; for runs that did not write that down, what
    preparing took in the run itself, which is little where the result was kept from before.
    """
    loading = cell.record.loading
    if loading is None:
        return None
    return loading.prepare_seconds if loading.convert_seconds is None else loading.convert_seconds


def _is_guess(cell: Cell) -> bool:
    loading = cell.record.loading
    return bool(
        loading
        and loading.convert_seconds is None
        and not loading.options.get("converter", "none").startswith("none")
    )


def _remarks(data: RunData) -> tuple[str, ...]:
    counted = [(group, name) for group in data.groups for name, cell in group.cells.items() if cell.counts]
    places = [place for group, name in counted if (place := place_of(data, group, name))]
    remarks = []
    if places and all(place.share is None for place in places):
        why = why_no_ceiling(data.run.facts)
        remarks.append(f"no percent of the roofline: {why}" if why else NO_CEILING)
    elif places and SOURCE in data.run.facts:
        remarks.append(f"percent of the roofline: of {source_of(data.run.facts)}, measured in the same run")
    if any(_is_guess(cell) for group in data.groups for cell in group.cells.values()):
        remarks.append(PREPARED)
    if any(work_in(data.run.facts, model)[1] for model in {group.key.model for group, _ in counted}):
        remarks.append(PUBLISHED)
    return tuple(remarks)


def _row(data: RunData, group: Group, framework: str, notes: Footnotes) -> tuple[TableCell, ...]:
    cell, place = group.cells[framework], place_of(data, group, framework)
    return (
        TableCell(group.key.model),
        framework_cell(data, framework, framework, notes),
        TableCell(str(group.key.threads)),
        latency_cell(group, framework, notes),
        *cells(_interval(cell), _compile(cell), _load(cell), _memory(cell)),
        *cells(_rate(place), share_text(place), _error(cell)),
    )


def _interval(cell: Cell) -> str:
    if cell.latency is None:
        return ""
    return f"±{cell.latency.relative_half_width:.1%}" if cell.latency.is_known else "–"


def _compile(cell: Cell) -> str:
    seconds = compile_seconds(cell)
    return "" if seconds is None else f"{seconds:.1f}"


def _load(cell: Cell) -> str:
    return f"{cell.record.loading.load_ns / 1e6:.0f}" if cell.record.loading else ""


def _memory(cell: Cell) -> str:
    return f"{cell.record.memory_peak_bytes / 2**20:.0f}" if cell.record.memory_peak_bytes else ""


def _rate(place: Position | None) -> str:
    return "" if place is None else f"{place.gmacs_per_second:.3g}"


def share_text(place: Position | None) -> str:
    """`78%`, with an m for networks that memory bounds; empty where the run has no ceiling."""
    if place is None or place.share is None:
        return ""
    return f"{place.share:.0%}" + (" m" if place.bound == "memory" else "")


def _error(cell: Cell) -> str:
    error = cell.record.outcome.error if cell.record.outcome else None
    return "" if error is None else f"{error:.1e}" if error else "0"
