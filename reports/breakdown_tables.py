"""The tables of a breakdown: time by aligned pieces, and the share of layout transformations."""

from collections.abc import Mapping

from benchsuite.profiled import Profiled
from reports.breakdown import Breakdown, Column, align
from reports.footnotes import Footnotes
from reports.table import Table, TableCell, cells
from reports.wording import counted

MILLISECOND = 1e6
NODES_SHOWN = 2
ABSENT = "is a piece of which the framework names no node: computed at conversion, or unattributed"


def breakdown_tables(
    title: str, profiles: Mapping[str, Profiled], *, every: bool = False
) -> tuple[Table, ...]:
    """The breakdown of one network and its layout share; `every` piece apart, or those alike added up."""
    found = align(profiles)
    return (_pieces(title, found, profiles, every), layout_table(title, found))


def layout_table(title: str, found: Breakdown) -> Table:
    """Share of layout transformations, explicit (the network's own) and implicit (the framework's), as in
    SmartMem's Table 1.
    """
    heading = cells("framework", "ms", "explicit layout", "implicit layout", "all else")
    rows = tuple(_layout_row(name, column) for name, column in found.columns.items())
    return Table(f"{title}: layout transformations, share of the profiled inference", heading, rows)


def _layout_row(name: str, column: Column) -> tuple[TableCell, ...]:
    explicit, implicit = column.explicit_layout_ns, column.implicit_layout_ns
    shares = (
        value / column.total_ns for value in (explicit, implicit, column.total_ns - explicit - implicit)
    )
    return cells(name, _milliseconds(column.total_ns), *(f"{share:.1%}" for share in shares))


def _pieces(title: str, found: Breakdown, profiles: Mapping[str, Profiled], every: bool) -> Table:
    names, notes = list(found.columns), Footnotes()
    if every:
        first = cells("ONNX nodes", "operators")
        rows = [
            (*cells(_nodes(piece.nodes), piece.label), *_times(names, piece.times_ns))
            for piece in found.pieces
        ]
    else:
        first = cells("operators", "pieces")
        rows = [
            (*cells(label, str(count)), *_times(names, times)) for label, count, times in found.by_label()
        ]
    columns = (
        *first,
        *(
            TableCell(f"{name} ms", notes=(notes.number(f"{name}: {profiles[name].profile.source}"),))
            for name in names
        ),
    )
    return Table(
        f"{title}: time by ONNX nodes",
        columns,
        tuple(rows),
        footers=tuple(_footers(names, found)),
        notes=notes.texts,
        remarks=_remarks(found, profiles),
        text_columns=2 if every else 1,
        key_columns=1,
    )


def _footers(names: list[str], found: Breakdown) -> list[tuple[TableCell, ...]]:
    columns = [found.columns[name] for name in names]

    def row(label: str, values: list[str]) -> tuple[TableCell, ...]:
        return cells(label, "", *values)

    return [
        row("implicit layout", [_milliseconds(one.implicit_ns) for one in columns]),
        row("unattributed", [_milliseconds(one.unattributed_ns) for one in columns]),
        row("profiled inference", [_milliseconds(one.total_ns) for one in columns]),
        row("as it is timed", [_milliseconds(one.plain_ns) for one in columns]),
        row("profiling adds", [f"{one.overhead:+.1%}" for one in columns]),
    ]


def _remarks(found: Breakdown, profiles: Mapping[str, Profiled]) -> tuple[str, ...]:
    covered = ", ".join(
        f"{name} {len(one.covered_nodes)} of {len(one.node_names)}" for name, one in profiles.items()
    )
    return (
        f"{counted(len(found.pieces), 'piece')}: ONNX nodes that some framework runs in one operator lie in"
        f" one; an empty cell {ABSENT}",
        f"ONNX nodes that a framework's operators name: {covered}",
        "columns add up to the profiled inference; the profiled run is apart from the timed one",
    )


def _times(names: list[str], times: Mapping[str, int]) -> tuple[TableCell, ...]:
    return cells(*(_milliseconds(times[name]) if name in times else "" for name in names))


def _nodes(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NODES_SHOWN} more" if len(names) > NODES_SHOWN else ""
    return ", ".join(names[:NODES_SHOWN]) + more


def _milliseconds(nanoseconds: float) -> str:
    return f"{nanoseconds / MILLISECOND:.3f}"
