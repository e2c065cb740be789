"""Footnotes: numbered from 1, each text once, and those that differ in figures only on one line."""

import pytest

from reports.footnotes import Footnotes, merged
from reports.speedup import milliseconds


def test_the_same_text_has_the_same_number() -> None:
    notes = Footnotes()
    assert [notes.number(text) for text in ("b", "a", "b")] == [1, 2, 1]
    assert notes.texts == ("b", "a")


def test_one_kind_shares_a_line() -> None:
    notes = Footnotes()
    texts = ("the interval is ±7%: wait", "the interval is ±12%: wait", "the interval is ±7%: wait")
    assert {notes.number(text, kind="noisy") for text in texts} == {1}
    assert notes.number("something else") == 2
    assert notes.texts == ("the interval is ±7–12%: wait", "something else")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["no figure"], "no figure"),
        (["5 of 10", "5 of 10"], "5 of 10"),
        (["5 of 10", "3 of 10"], "3–5 of 10"),
        (["between 9 and 10.5 MHz", "between 11 and 12 MHz"], "between 9–11 and 10.5–12 MHz"),
        (["1.0 s", "1 s"], "1.0 s"),
        (["slower by 5%", "faster by 6%"], "slower by 5%; faster by 6%"),
    ],
)
def test_merged(texts: list[str], expected: str) -> None:
    assert merged(texts) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.0, "1"), (99.94, "99.9"), (99.96, "100"), (999.7, "1000"), (12345.6, "12346")],
)
def test_milliseconds(value: float, text: str) -> None:
    assert milliseconds(value) == text
