"""What a drawn table consists of: text cells with marks, footnotes; every format draws this and computes
nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


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
    """A titled table; `footers` are rows below a line, such as the geometric mean."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    footers: tuple[tuple[TableCell, ...], ...] = ()
    notes: tuple[str, ...] = ()
    text_columns: int = 1


@dataclass(slots=True)
class Footnotes:
    """Collects footnote texts while a table is made; the same text gets the same number."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        """Number of a footnote, from 1."""
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1

    def numbers(self, texts: Sequence[str]) -> tuple[int, ...]:
        """Numbers of several, in order."""
        return tuple(self.number(text) for text in texts)
