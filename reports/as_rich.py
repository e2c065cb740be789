"""Draw a table in the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from reports.table import Style, Table, TableCell

STYLES = {Style.PLAIN: "", Style.BEST: "bold green", Style.STRUCK: "strike red", Style.MISSING: "dim"}
SUPERSCRIPTS = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹˒")


def draw_rich(table: Table, console: Console) -> None:
    """Print the table and its footnotes."""
    drawn = RichTable(title=escape(table.title), box=box.SIMPLE_HEAD, title_justify="left", show_footer=False)
    for index, column in enumerate(table.columns):
        left = index < table.text_columns
        drawn.add_column(escape(column), justify="left" if left else "right", overflow="fold")
    for row in table.rows:
        drawn.add_row(*_texts(row))
    if table.footers:
        drawn.add_section()
    for row in table.footers:
        drawn.add_row(*_texts(row), style="bold")
    notes = [
        Text(f"{str(number).translate(SUPERSCRIPTS)} {text}", "dim")
        for number, text in enumerate(table.notes, 1)
    ]
    console.print(Group(drawn, *notes))


def _texts(row: Sequence[TableCell]) -> list[Text]:
    return [_text(cell) for cell in row]


def _text(cell: TableCell) -> Text:
    marks = ",".join(map(str, cell.notes)).translate(SUPERSCRIPTS)
    return Text.assemble((cell.text, STYLES[cell.style]), (marks, "dim"))
