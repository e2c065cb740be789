"""Draw a table in the terminal: numbers never wrap, and a table too wide for it is drawn in parts."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from reports.table import Style, Table, TableCell, one_line

STYLES = {Style.PLAIN: "", Style.BEST: "bold green", Style.STRUCK: "strike red", Style.MISSING: "dim"}
SUPERSCRIPTS = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")
WIDEST_WORDS = 12  # a column of words may be wrapped to this before the table is cut into parts
GAP = 2


def draw_rich(table: Table, console: Console) -> None:
    """Print the table, its remarks and its footnotes."""
    console.print(Text(one_line(table.title), "bold"))
    for number, columns in enumerate(_parts(table, console)):
        if number:
            console.print()
        console.print(_drawn(table, columns, console))
    for remark in table.remarks:
        console.print(Text(one_line(remark), "dim"))
    for number, text in enumerate(table.notes, 1):
        console.print(Text(f"{_marks([number])} {one_line(text)}", "dim"))
    console.print()


def _parts(table: Table, console: Console) -> Iterator[list[int]]:
    """Columns of every part: as many as fit, the key columns first in each."""
    widths = [_width(table, index, console) for index in range(len(table.columns))]
    keys = list(range(table.key_columns))
    part = list(keys)
    for index in range(table.key_columns, len(widths)):
        if len(part) > len(keys) and sum(widths[one] + GAP for one in (*part, index)) - GAP > console.width:
            yield part
            part = list(keys)
        part.append(index)
    yield part


def _width(table: Table, index: int, console: Console) -> int:
    texts = [_text(row[index], console).plain for row in (*table.rows, *table.footers)]
    heading = max(cell_len(line) for line in _heading(table, index, console).plain.split("\n"))
    width = max([heading, *map(cell_len, texts)])
    return min(width, WIDEST_WORDS) if index < table.text_columns else width


def _drawn(table: Table, columns: Sequence[int], console: Console) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for index in columns:
        words = index < table.text_columns
        drawn.add_column(
            _heading(table, index, console),
            justify="left" if words else "right",
            vertical="top",
            overflow="fold",
            no_wrap=not words,
        )
    for row in table.rows:
        drawn.add_row(*(_text(row[index], console) for index in columns))
    if table.footers:
        drawn.add_section()
    for row in table.footers:
        drawn.add_row(*(_text(row[index], console) for index in columns), style="bold")
    return drawn


def _heading(table: Table, index: int, console: Console) -> Text:
    """The words over a column of numbers stand one above the other: the numbers are short."""
    heading = _text(table.columns[index], console)
    return heading if index < table.text_columns else Text("\n").join(heading.split(" "))


def _text(cell: TableCell, console: Console) -> Text:
    text = one_line(cell.text)
    if cell.style is Style.STRUCK and console.color_system is None:
        text = f"~~{text}~~"  # nothing can be struck through here, and a wrong number must not look right
    return Text.assemble((text, STYLES[cell.style]), (_marks(cell.notes), "dim"))


def _marks(numbers: Sequence[int]) -> str:
    return ",".join(map(str, sorted(numbers))).translate(SUPERSCRIPTS)
