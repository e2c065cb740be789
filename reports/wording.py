"""Words that every report needs: a count with its noun, a list in a sentence."""

from collections.abc import Sequence

IRREGULAR = {"is": "are", "was": "were"}


def counted(count: int, noun: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} {plural(count, noun)}"


def plural(count: int, word: str) -> str:
    """The word (a noun, `is` or `was`) as it stands after so many."""
    return word if count == 1 else IRREGULAR.get(word, f"{word}s")


def listed(texts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; empty for none."""
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1]))) if texts else ""
