"""A published run: its short table says what is missing, and goes between its markers and nowhere else."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import BenchError
from reports.cells import RunData, typed_command
from reports.publish import folder_text, put_between, short_table, short_text
from reports.speedup import speedups

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "publish.py"


def texts(data: RunData, baseline: str) -> list[list[str]]:
    table = short_table(data, speedups(data, baseline))
    return [[cell.text for cell in row] for row in (*table.rows, *table.footers)]


def test_a_row_a_network_and_every_cell_without_a_number_says_why(run: RunData) -> None:
    rows = texts(run, "ort")
    assert rows[0][:3] == ["swin", "1", "98.1"]
    assert rows[0][3].startswith("1.96× [")
    assert [row[3] for row in rows[2:6]] == ["wrong", "crashed", "refused", "refused"]
    assert rows[5][2:] == ["12", "refused", "timeout"], "what it measured before it ran out of memory"
    assert rows[6][0] == "geometric mean"
    assert rows[6][3].endswith(", n = 1")
    table = short_table(run, speedups(run, "ort"))
    assert "crashed: SIGSEGV during `load`" in table.notes
    assert "ort-noopt: graph optimisation is off on purpose" in table.notes
    assert "the mean leaves out resnext, vit" in table.notes
    assert table.remarks == ("12 of 18 cells good; doubts about 14 of them are in the full tables",)


def test_the_command_is_without_places_of_this_machine(run: RunData) -> None:
    typed = ("/home/me/.venv/bin/bench", "run", "--journal", "/home/me/x.db", "--models", "all", "--cache=/c")
    assert typed_command(replace(run.run, command=typed)) == "bench run --models all"


def test_only_what_stands_between_the_markers_changes() -> None:
    text = "before\n<!-- here -->\nold\n<!-- end of here -->\nafter\n"
    once = put_between(text, "here", r"new \\1", "README.md")
    assert once == "before\n<!-- here -->\nnew \\\\1\n<!-- end of here -->\nafter\n"
    assert put_between(once, "here", "old", "README.md") == text


@pytest.mark.parametrize(
    "text",
    ["", "<!-- here -->", "<!-- end of here --> <!-- here -->", "<!-- here --><!-- end of here -->" * 2],
)
def test_markers_that_are_not_there_once(text: str) -> None:
    with pytest.raises(BenchError, match="are not there once each") as raised:
        put_between(text, "here", "new", "README.md")
    assert "README.md" in str(raised.value)
    assert "write them where the table belongs" in str(raised.value)


def test_the_texts_link_to_the_folder(run: RunData) -> None:
    result = speedups(run, "ort")
    assert "[reports/published/x](reports/published/x/README.md)" in short_text(
        run, result, "reports/published/x"
    )
    text = folder_text(run, result, {"report.md": "bench report 1"}, "0" * 64)
    assert "| [report.md](report.md) | `bench report 1` |" in text
    assert text.startswith("We measured 3 networks in 3 frameworks")


def test_one_command_publishes(run: RunData, tmp_path: Path) -> None:
    """Every file, a README of its own, and the table in the README; twice the same."""
    for library in ("jinja2", "matplotlib"):
        pytest.importorskip(library, reason="the extra `reports` is not installed")
    readme = tmp_path / "README.md"
    readme.write_text(
        "# Project\n\n<!-- bench: all networks -->\n<!-- end of bench: all networks -->\n\nThe end.\n"
    )
    folder = tmp_path / "published" / "now"
    typed = [sys.executable, str(SCRIPT), str(folder), "--journal", str(tmp_path / "journal.db")]
    typed += ["--readme", str(readme), "--baseline", "ort"]
    found = []
    for _ in range(2):
        done = subprocess.run(typed, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(
            (readme.read_text(), (folder / "README.md").read_text(), (folder / "report.md").read_text())
        )
    assert found[0] == found[1]
    assert "| swin | 1 | 98.1 | **1.96×" in found[0][0]
    assert "(published/now/README.md)" in found[0][0]
    assert found[0][0].endswith("\n\nThe end.\n")
    names = {path.name for path in folder.iterdir()}
    assert names == {"README.md", "report.html", "report.md", "report.tex", "report.json", "cells.csv",
                     "best-peer.md", "run.bench"}  # fmt: skip
