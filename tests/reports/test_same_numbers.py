"""The same table in every format has the same numbers, cell by cell."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from reports.as_data import csv_text, json_text
from reports.as_latex import latex_table
from reports.as_markdown import markdown
from reports.as_rich import draw_rich
from reports.cells import RunData
from reports.latency import latency_table
from reports.speedup import BEST_PEER, speedup_table, speedups
from reports.table import Table

Matrix = list[list[str]]
MARKDOWN = MarkdownIt("commonmark").enable("table").enable("strikethrough")


def expected(table: Table) -> Matrix:
    return [[cell.text for cell in row] for row in (*table.rows, *table.footers)]


def from_markdown(table: Table) -> Matrix:
    rows: Matrix = []
    for token in MARKDOWN.parse(re.sub(r"<sup>[\d,]*</sup>", "", markdown(table))):
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline" and rows:
            texts = [
                child.content for child in token.children or [] if child.type in ("text", "text_special")
            ]
            rows[-1].append("".join(texts))
        if token.type == "table_close":
            break
    return rows[1:]


def from_latex(table: Table) -> Matrix:
    text = re.sub(r"\\textsuperscript\{[\d,]*\}", "", latex_table(table))
    body = text.split(r"\midrule", 1)[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
    text = re.sub(r"\\(?:textbf|emph|benchstruck)\{(.*?)\}(?= &| \\\\)", r"\1", body)
    for source, target in ((r"$\times$", "×"), (r"$\pm$", "±"), ("--", "–"), (r"\%", "%"), (r"\_", "_")):
        text = text.replace(source, target)
    lines = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r"\\")]
    return [[part.strip() for part in line.split(" &")] for line in lines]


@pytest.fixture(params=["speedup", "best peer", "latency"])
def table(request: pytest.FixtureRequest, run: RunData) -> Table:
    if request.param == "latency":
        return latency_table(run)
    return speedup_table(run, speedups(run, BEST_PEER if request.param == "best peer" else "ort-noopt"))


def test_markdown(table: Table) -> None:
    assert from_markdown(table) == expected(table)


def test_latex(table: Table) -> None:
    assert from_latex(table) == expected(table)


def test_terminal(table: Table) -> None:
    console = Console(file=io.StringIO(), width=400)
    with console.capture() as captured:
        draw_rich(table, console)
    text = captured.get()
    for row in expected(table):
        assert [one for one in row if one not in text] == []


def test_html(run: RunData, page_of: Callable[[RunData], Sequence[Matrix]]) -> None:
    matrices = page_of(run)
    for table in (speedup_table(run, speedups(run, "ort-noopt")), latency_table(run)):
        assert expected(table) in matrices


def test_data(run: RunData) -> None:
    """JSON and CSV have the numbers before they are rounded: rounded, they are the table's."""
    table = latency_table(run)
    document = json.loads(json_text(run, speedups(run, "ort-noopt")))
    lines = list(csv.DictReader(io.StringIO(csv_text(run))))
    for row, cell, line in zip(table.rows, document["cells"], lines, strict=True):
        texts = [one.text for one in row]
        assert texts[:3] == [cell["model"], cell["framework"], str(cell["threads"])]
        if cell["latency_ms"] is not None:
            assert float(texts[3]) == pytest.approx(cell["latency_ms"], rel=0.01)
            assert float(line["latency_ms"]) == cell["latency_ms"]
        if texts[8]:
            assert float(texts[8]) == pytest.approx(cell["gmacs_per_second"], rel=0.01)
            assert float(line["gmacs_per_second"]) == cell["gmacs_per_second"]
