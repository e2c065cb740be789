"""Draw a table as GitHub-flavoured Markdown."""

from collections.abc import Sequence

from reports.table import Style, Table, TableCell

WRAPPERS = {Style.PLAIN: "{}", Style.BEST: "**{}**", Style.STRUCK: "~~{}~~", Style.MISSING: "*{}*"}
SPECIAL = str.maketrans(
    {character: f"\\{character}" for character in "\\`*_{}[]<>#|~"} | {"\n": " ", "\r": " "}
)
IN_TABLE = str.maketrans({"|": "\\|", "\n": " ", "\r": " ", "<": "&lt;", "`": "\\`", "*": "\\*", "~": "\\~"})


def markdown(table: Table) -> str:
    """The table with its title as a heading and its footnotes as a list."""
    lines = [
        f"### {table.title.translate(SPECIAL)}",
        "",
        _line([column.translate(IN_TABLE) for column in table.columns]),
    ]
    lines.append(
        _line([":--" if index < table.text_columns else "--:" for index in range(len(table.columns))])
    )
    lines += [_line([_text(cell) for cell in row]) for row in table.rows]
    lines += [_line([_bold(cell) for cell in row]) for row in table.footers]
    if table.notes:
        lines += ["", *(f"{number}. {text.translate(SPECIAL)}" for number, text in enumerate(table.notes, 1))]
    return "\n".join(lines) + "\n"


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _text(cell: TableCell) -> str:
    marks = f"<sup>{','.join(map(str, cell.notes))}</sup>" if cell.notes else ""
    text = cell.text.translate(IN_TABLE)
    return (WRAPPERS[cell.style].format(text) if text else "") + marks


def _bold(cell: TableCell) -> str:
    return f"**{cell.text.translate(IN_TABLE)}**" if cell.text else ""
