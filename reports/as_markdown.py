"""Draw a table as GitHub-flavoured Markdown."""

from collections.abc import Sequence

from reports.table import Style, Table, TableCell, one_line

WRAPPERS = {Style.PLAIN: "{}", Style.BEST: "**{}**", Style.STRUCK: "~~{}~~", Style.MISSING: "*{}*"}
IN_PROSE = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_{}[]#|~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)
# Brackets are harmless inside a table unless a parenthesis follows, and intervals are full of them.
IN_TABLE = {number: text for number, text in IN_PROSE.items() if chr(number) not in "[]{}#"}


def markdown(table: Table) -> str:
    """The table with its title as a heading, its remarks, and its footnotes as a numbered list."""
    count = len(table.columns)
    lines = [f"### {prose(table.title)}", ""]
    lines.append(_line([_marked(_escaped(column.text), column) for column in table.columns]))
    lines.append(_line([":--" if index < table.text_columns else "--:" for index in range(count)]))
    lines += [_line([_styled(cell, cell.style) for cell in row]) for row in table.rows]
    lines += [_line([_styled(cell, Style.BEST) for cell in row]) for row in table.footers]
    for remark in table.remarks:
        lines += ["", prose(remark)]
    if table.notes:
        lines += ["", *(f"{number}. {prose(text)}" for number, text in enumerate(table.notes, 1))]
    return "\n".join(lines) + "\n"


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _styled(cell: TableCell, style: Style) -> str:
    text = _escaped(cell.text)
    return _marked(WRAPPERS[style].format(text) if text else "", cell)


def _marked(text: str, cell: TableCell) -> str:
    return text + (f"<sup>{','.join(map(str, sorted(cell.notes)))}</sup>" if cell.notes else "")


def _escaped(text: str) -> str:
    return one_line(text).translate(IN_TABLE).replace("](", "]\\(")


def prose(text: str) -> str:
    """Text of names and reasons, of which nothing is taken for a mark of Markdown."""
    return one_line(text).translate(IN_PROSE)
