"""LaTeX: balanced, escaped, and compiled where a TeX is installed, alone and inside a paper."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reports.as_latex import ESCAPES, latex_document, latex_table
from reports.cells import RunData
from reports.experiment import setup_text
from reports.latency import latency_table
from reports.speedup import choose_baseline, speedup_table, speedups
from reports.table import Style, Table, TableCell, cells

TEX = shutil.which("pdflatex")
PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs,graphicx}
\begin{document}
Before.
\input{report}
After.
\end{document}
"""


def document(run: RunData) -> str:
    result = speedups(run, choose_baseline(run, None))
    return latex_document((speedup_table(run, result), latency_table(run)), setup_text(run))


def test_latex(run: RunData, golden: Callable) -> None:
    golden("report.tex", document(run))


def test_every_environment_and_brace_is_closed(run: RunData) -> None:
    text = document(run)
    for begin, end in ((r"\begin{table}", r"\end{table}"), (r"\begin{tabular}", r"\end{tabular}")):
        assert text.count(begin) == text.count(end) > 0
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert rule in text


def test_all_rows_have_all_columns(run: RunData) -> None:
    for table in (speedup_table(run, speedups(run, "ort")), latency_table(run)):
        body = latex_table(table).split(r"\toprule")[1].split(r"\bottomrule")[0]
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(table.columns) - 1}


def test_long_tables_are_cut_and_keep_every_row() -> None:
    rows = tuple(cells(f"row{number}", "1") for number in range(100))
    text = latex_table(Table("long", cells("a", "b"), rows, footers=(cells("mean", "1"),), notes=("note",)))
    assert text.count(r"\begin{table}") == 3
    assert re.findall(r"row\d+", text) == [f"row{number}" for number in range(100)]
    assert text.count("mean") == text.count("} note") == 1
    assert text.count("(continued)") == 2


def test_an_empty_table_is_a_table() -> None:
    assert r"\begin{tabular}{l}" in latex_table(Table("none", cells("a"), ()))


def test_marks_and_styles() -> None:
    row = (TableCell("1", Style.STRUCK, (2, 1)), TableCell("[x]"), TableCell("*"), TableCell("", Style.BEST))
    text = latex_table(Table("t", cells("a", "b", "c", "d"), (row,)))
    assert r"\benchstruck{1}\textsuperscript{1,2} & {}[x] & {}* &  \\" in text
    assert "--budget" not in latex_table(Table("t", cells("a"), (cells("--budget"),)))


def test_no_special_character_stays_itself(write_run: Callable) -> None:
    special = "".join(ESCAPES) + "日é"
    text = latex_table(Table(special, cells("a"), (cells(special),)))
    for character in "日×±–…≤µ":
        assert character not in text
    assert r"\texttt{U+65E5}" in text
    assert "é" in text
    assert not re.search(r"(?<!\\)[&%#_]", text.split(r"\midrule")[1].split(r"\bottomrule")[0])


@pytest.mark.skipif(TEX is None, reason="no pdflatex here: apt-get install texlive-latex-recommended")
@pytest.mark.parametrize("inside", [False, True])
def test_it_compiles(inside: bool, hostile: RunData, run: RunData, tmp_path: Path) -> None:
    for number, data in enumerate((run, hostile)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "report.tex").write_text(document(data), encoding="utf-8")
        (folder / "paper.tex").write_text(PAPER, encoding="utf-8")
        done = subprocess.run(
            [str(TEX), "-interaction=nonstopmode", "-halt-on-error", "paper" if inside else "report"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
        )
        assert done.returncode == 0, done.stdout[-3000:]
        assert (folder / ("paper.pdf" if inside else "report.pdf")).stat().st_size > 10_000
