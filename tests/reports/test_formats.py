"""One run in every format: what a hand-made journal says is known, and hostile names stay text."""

import csv
import io
import json
import re
from collections.abc import Callable

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from reports.as_data import csv_text, json_text
from reports.as_markdown import markdown
from reports.as_rich import draw_rich
from reports.cells import RunData
from reports.latency import latency_table
from reports.speedup import choose_baseline, speedup_table, speedups
from reports.table import Table, TableCell, cells, one_line

SPEEDUP = r"\d\.\d\d× \[[^\]]+\]"
MARKDOWN = MarkdownIt("commonmark").enable("table").enable("strikethrough")


def tables(run: RunData, baseline: str | None = None) -> list[Table]:
    result = speedups(run, choose_baseline(run, baseline))
    return [speedup_table(run, result), latency_table(run)]


def terminal(drawn: list[Table], width: int, **options: object) -> str:
    console = Console(file=io.StringIO(), width=width, **options)  # type: ignore[arg-type]
    with console.capture() as captured:
        for table in drawn:
            draw_rich(table, console)
    return captured.get()


def test_terminal(run: RunData, golden: Callable) -> None:
    golden("report-100.txt", terminal(tables(run), 100))


def test_narrow_terminal(run: RunData, golden: Callable) -> None:
    golden("report-60.txt", terminal(tables(run), 60))


def test_markdown(run: RunData, golden: Callable) -> None:
    golden("report.md", "\n".join(map(markdown, tables(run))))


def test_csv(run: RunData, golden: Callable) -> None:
    golden("report.csv", csv_text(run))


def test_json(run: RunData, golden: Callable) -> None:
    """To twelve digits: the last ones of a logarithm are each processor's own."""
    text = json_text(run, speedups(run, choose_baseline(run, None)))
    golden("report.json", re.sub(r"\d+\.\d{12,}(e-?\d+)?", lambda found: f"{float(found[0]):.12g}", text))


def test_the_same_data_give_the_same_bytes(run: RunData) -> None:
    result = speedups(run, choose_baseline(run, None))
    assert json_text(run, result) == json_text(run, speedups(run, choose_baseline(run, None)))
    assert csv_text(run) == csv_text(run)


def test_speedups_and_means(run: RunData) -> None:
    document = json.loads(json_text(run, speedups(run, choose_baseline(run, None))))
    found = {(row["model"], row["threads"], row["framework"]): row["speedup"] for row in document["rows"]}
    assert found["swin", 1, "ours"] == pytest.approx(2.62)
    assert found["vit", 1, "ort"] == pytest.approx(2.0)
    assert [key for key, value in found.items() if value is None] == [
        ("resnext", 1, "ours"),
        ("resnext", 2, "ours"),
        ("vit", 1, "ours"),
        ("vit", 2, "ours"),
        ("vit", 2, "ort"),
    ]
    means = {(mean["framework"], mean["threads"]): mean for mean in document["means"]}
    assert means["ort", 1]["count"] == 3
    assert means["ort", 1]["speedup"] == pytest.approx((131.0 / 98.1 * 39 / 40 * 2) ** (1 / 3))
    assert means["ort", 2]["missing"] == ["vit"]
    assert means["ours", 1]["missing"] == ["resnext", "vit"]
    low, high = means["ort", 1]["interval"]
    assert low < means["ort", 1]["speedup"] < high


def test_a_wrong_number_never_looks_right(run: RunData) -> None:
    """Struck through where that is possible, marked where it is not."""
    assert "~~20~~" in terminal(tables(run), 100)
    assert "\x1b[9;31m20\x1b[0m" in terminal(tables(run), 100, force_terminal=True, color_system="standard")
    assert "~~20~~<sup>" in markdown(tables(run)[0])


def test_another_baseline_turns_the_speedup_around(run: RunData) -> None:
    there = speedups(run, "ort").rows[0].speedup
    back = {row.framework: row.speedup for row in speedups(run, "ours").rows[:2]}["ort"]
    assert there is not None
    assert back is not None
    assert there.estimate * back.estimate == pytest.approx(1)


def test_numbers_never_wrap_and_no_column_is_lost(run: RunData) -> None:
    """A table that is too wide is drawn in parts, each with the columns that say what a row is."""
    wide = set(re.findall(SPEEDUP, terminal(tables(run), 300)))
    assert len(wide) == 9
    for width in (40, 60, 80, 120):
        text = terminal(tables(run), width)
        assert set(re.findall(SPEEDUP, text)) == wide
        assert max(map(len, text.splitlines())) <= width


def test_hostile_names_in_json(hostile: RunData, hostile_names: tuple[str, ...]) -> None:
    document = json.loads(json_text(hostile, speedups(hostile, "ort")))
    assert [row["model"] for row in document["rows"]] == list(hostile_names)
    assert [cell["reason"] for cell in document["cells"][1::2]] == list(hostile_names)


def test_hostile_names_in_csv(hostile: RunData, hostile_names: tuple[str, ...]) -> None:
    lines = list(csv.DictReader(io.StringIO(csv_text(hostile), newline="")))
    assert [line["model"].removeprefix("'") for line in lines[::2]] == list(hostile_names)
    assert [line["reason"].removeprefix("'") for line in lines[1::2]] == list(hostile_names)
    for line in lines:
        assert not any(str(text).startswith(("=", "+", "-", "@", "\t", "\r")) for text in line.values())


def test_hostile_names_in_the_terminal(hostile: RunData, hostile_names: tuple[str, ...]) -> None:
    text = terminal(tables(hostile), 400)
    assert "\x1b" not in text
    assert "\x07" not in text
    lines = text.split("─\n")[1].splitlines()
    for name, line in zip(hostile_names, lines, strict=False):
        assert line.startswith(one_line(name))


def test_hostile_names_in_markdown(hostile: RunData, hostile_names: tuple[str, ...]) -> None:
    """Parsed by a Markdown parser, every name is text: no tag, link, image, emphasis, or extra column."""
    for table in tables(hostile):
        tokens = MARKDOWN.parse(markdown(table))
        counts = [0]
        texts: list[str] = []
        for token in tokens:
            counts = [*counts, 0] if token.type == "tr_open" else counts
            counts[-1] += token.type in {"th_open", "td_open"}
            inner = token.children or []
            assert {child.type for child in inner} <= {
                *("text", "text_special", "html_inline", "softbreak"),
                *("strong_open", "strong_close", "em_open", "em_close", "s_open", "s_close"),
            }
            tags = {child.content for child in inner if child.type == "html_inline"}
            assert tags <= {"<sup>", "</sup>"}
            texts.append("".join(child.content for child in inner if child.type != "html_inline"))
        assert set(counts[1:]) == {len(table.columns)}
        missing = [
            one_line(name) for name in hostile_names if not any(one_line(name) in text for text in texts)
        ]
        assert missing == []


def test_emphasis_in_a_cell_is_ours() -> None:
    drawn = markdown(Table("*title*", cells("a*b"), (cells("**x**"), (TableCell(""),))))
    assert drawn == "### \\*title\\*\n\n| a\\*b |\n| :-- |\n| \\*\\*x\\*\\* |\n|  |\n"
