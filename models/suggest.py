"""The nearest known name, for error messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """Return `did you mean …?` when something close is known, else the text `otherwise`."""
    close = get_close_matches(name.lower(), list(known), n=3, cutoff=0.55)
    return f"did you mean {' or '.join(close)}?" if close else otherwise
