"""Footnotes of a table: the same text is there once, and texts that differ in figures only share a line."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

FIGURE = re.compile(r"\d+(?:\.\d+)?")


@dataclass(slots=True)
class Footnotes:
    """Collects footnotes while a table is made; numbers count from 1 in the order of first use."""

    _kinds: dict[str, list[str]] = field(default_factory=dict)

    def number(self, text: str, kind: str = "") -> int:
        """Number of a footnote. Texts of one `kind` share a number; without a kind only equal texts do."""
        texts = self._kinds.setdefault(kind or text, [])
        if text not in texts:
            texts.append(text)
        return list(self._kinds).index(kind or text) + 1

    @property
    def texts(self) -> tuple[str, ...]:
        """One line a number."""
        return tuple(merged(texts) for texts in self._kinds.values())


def merged(texts: Sequence[str]) -> str:
    """One text for several: figures that differ become ranges (`±2%` and `±7%` give `±2–7%`).

    Texts that differ in more than figures are listed one after the other.
    """
    if len({FIGURE.sub("", text) for text in texts}) > 1:
        return "; ".join(texts)
    columns = zip(*(FIGURE.findall(text) for text in texts), strict=True)
    ranges = iter([_range(column) for column in columns])
    return FIGURE.sub(lambda match: next(ranges), texts[0])


def _range(figures: Sequence[str]) -> str:
    low, high = min(figures, key=float), max(figures, key=float)
    return low if float(low) == float(high) else f"{low}–{high}"
