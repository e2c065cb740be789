"""What a drawn table consists of: text cells with marks, footnotes; every format draws this and computes
nothing.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

LINE_BREAKS = re.compile(r"[^\S ]+")


class Style(StrEnum):
    """What a cell's text means, for formats that can show it."""

    PLAIN = "plain"
    BEST = "best"
    STRUCK = "struck"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class TableCell:
    """Text with the numbers of its footnotes, from 1."""

    text: str
    style: Style = Style.PLAIN
    notes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table.

    Attributes:
        columns: the header, one cell a column.
        footers: rows below a line, such as the geometric mean.
        notes: footnotes, numbered from 1 as the cells' marks say.
        remarks: lines below the table that no mark points at.
        text_columns: how many columns, from the left, hold words: drawn to the left, and wrapped in need.
        key_columns: how many of those say what a row is about: a table that is too wide repeats them.
    """

    title: str
    columns: tuple[TableCell, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    footers: tuple[tuple[TableCell, ...], ...] = ()
    notes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    text_columns: int = 1
    key_columns: int = 1


def cells(*texts: str) -> tuple[TableCell, ...]:
    """A row of plain texts."""
    return tuple(map(TableCell, texts))


def one_line(text: str) -> str:
    """The text without line breaks and control characters: names and reasons may come from anywhere."""
    spaced = LINE_BREAKS.sub(" ", text).strip()
    return "".join(character if character.isprintable() else "�" for character in spaced)
