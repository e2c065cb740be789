"""A journal made by hand: fixed samples, every status, doubts; so that what a report says is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import benchsuite.journal
from benchsuite.device.protocol import Fact, Telemetry
from benchsuite.journal import Journal
from benchsuite.policy import Policy
from benchsuite.record import (
    Block,
    CellKey,
    CellRecord,
    GroupKey,
    Loading,
    Outcome,
    RunOptions,
    RunStatus,
    Status,
    Turn,
)
from reports.cells import RunData, read_run
from reports.speedup import choose_baseline, speedups

FACTS: Mapping[str, Fact] = {"processor": "abacus"}
CEILINGS: Mapping[str, Fact] = {
    "processor": "abacus",
    "ceiling.1t.flops_per_second": 200_000_000_000,
    "ceiling.1t.bytes_per_second": 20_000_000_000,
    "network.swin.macs": 4_500_000_000,
    "network.swin.weight_bytes": 113_000_000,
    "network.swin.input_bytes": 602_112,
    "network.vit.macs": 1_000_000,
    "network.vit.weight_bytes": 4_000_000,
    "network.vit.input_bytes": 1000,
}
"""Those of swin are bound by arithmetic, those of vit by memory."""
PAST = "2026-11-22T10:00:00+00:00"
OK = Outcome(Status.OK, error=2e-7)
LOADING = Loading(0.25, 10_000_000, 40_000_000, (1, 1), 3, 2**26, {"version": "1.2"}, {"level": "all"})
WOBBLE = (0, 2, -1, 1, -2)  # per mille

# Milliseconds a framework takes and how its cell ended; a cell without milliseconds has no block.
Cells = Mapping[str, tuple[float | None, Outcome | None]]


def group_of_cells(book: Journal, run: int, key: GroupKey, cells: Cells, blocks: int) -> None:
    for number in range(blocks):
        turns = {
            name: Turn(position, samples(milliseconds, number + position), (900,) * 3, 10_000_000)
            for position, (name, (milliseconds, _)) in enumerate(cells.items())
            if milliseconds
        }
        states = (
            Telemetry(busy_seconds=0.0, total_seconds=1.0),
            Telemetry(busy_seconds=0.6 - 0.1 * (number % 2), total_seconds=2.0),
        )
        if turns:
            book.save_block(run, key, Block(number, 0, turns, *states))


def samples(milliseconds: float, phase: int) -> tuple[int, ...]:
    """Three samples whose median wobbles from block to block."""
    median = round(milliseconds * 1e6 * (1 + WOBBLE[phase % len(WOBBLE)] / 1000))
    return (median, median - 500, median + 700)


def planned(key: GroupKey, name: str, milliseconds: float | None, outcome: Outcome | None) -> CellRecord:
    notes = ("graph optimisation is off on purpose",) if name == "ort-noopt" else ()
    cell = CellRecord(CellKey(key, name), "0123456789abcdef", outcome, notes=notes)
    return replace(cell, loading=LOADING, memory_peak_bytes=200 * 2**20) if milliseconds else cell


WriteRun = Callable[..., RunData]


@pytest.fixture
def write_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteRun:
    """Write one run; returns it as a report reads it."""

    def write(
        groups: Mapping[tuple[str, int], Cells],
        frameworks: Sequence[str],
        *,
        few: Sequence[tuple[str, int]] = (),
        device: str = "local",
        facts: Mapping[str, Fact] = FACTS,
        command: Sequence[str] = ("bench", "run"),
        started_at: str = PAST,
        status: RunStatus = RunStatus.COMPLETE,
    ) -> RunData:
        monkeypatch.setattr(benchsuite.journal, "_now", lambda: started_at)
        models = tuple(dict.fromkeys(model for model, _ in groups))
        threads = tuple(dict.fromkeys(count for _, count in groups))
        options = RunOptions(models, tuple(frameworks), device, threads, "fp32", 0, policy=vars_of(Policy()))
        keys = {place: GroupKey(place[0], device, place[1], "fp32") for place in groups}
        with Journal(tmp_path / "journal.db") as book:
            cells = [
                planned(keys[place], name, *groups[place][name]) for place in groups for name in frameworks
            ]
            run = book.start_run(options, tuple(command), facts, tuple(cells))
            book.start_session(run, {})
            for cell in cells:
                book.save_cell(run, cell)
            for place, key in keys.items():
                group_of_cells(book, run, key, groups[place], 5 if place in few else 10)
            book.finish_run(run, status)
            return read_run(book, run)

    return write


def vars_of(policy: Policy) -> dict[str, float]:
    return {name: getattr(policy, name) for name in policy.__slots__}


@pytest.fixture
def run(write_run: WriteRun) -> RunData:
    """Three networks, two thread counts, every way for a cell to end."""
    wrong = Outcome(Status.WRONG, "output 'y': relative L2 error 0.5 > 0.001", error=0.5)
    crashed = Outcome(Status.CRASHED, "SIGSEGV during `load`", "last words")
    refused = Outcome(Status.REFUSED, "no window attention")
    oom = Outcome(Status.OOM, "out of memory during `run`")
    timeout = Outcome(Status.TIMEOUT, "no answer to `load` within 600 s")
    groups: dict[tuple[str, int], Cells] = {
        ("swin", 1): {"ours": (50.0, OK), "ort": (98.1, OK), "ort-noopt": (131.0, OK)},
        ("swin", 2): {"ours": (26.0, OK), "ort": (51.5, OK), "ort-noopt": (70.0, OK)},
        ("resnext", 1): {"ours": (20.0, wrong), "ort": (40.0, OK), "ort-noopt": (39.0, OK)},
        ("resnext", 2): {"ours": (None, crashed), "ort": (1234.5, OK), "ort-noopt": (999.7, OK)},
        ("vit", 1): {"ours": (None, refused), "ort": (0.0456, OK), "ort-noopt": (0.0912, OK)},
        ("vit", 2): {"ours": (None, refused), "ort": (12.0, oom), "ort-noopt": (None, timeout)},
    }
    return write_run(groups, ("ours", "ort", "ort-noopt"), few=[("swin", 2)])


@pytest.fixture
def ceilings() -> Mapping[str, Fact]:
    """Facts of a run that measured its device and counted two networks."""
    return CEILINGS


@pytest.fixture
def good() -> Outcome:
    """How a cell ends well."""
    return OK


HOSTILE = (
    "[red]swin[/red]",
    "a|b||c",
    "*bold* _em_ ~~gone~~ `code`",
    "<script>alert(1)</script>",
    "[click](https://example.org) ![image](x.png)",
    "first\nsecond\r\nthird",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(A1)",
    "\\|\\",
    "&lt;&amp;",
    "日本語 naïve — ×",
    "\x1b[31mred\x07",
    "\t=1",
    "# heading",
    "1. list",
    "https://example.org",
)


@pytest.fixture
def hostile(write_run: Callable) -> RunData:
    """Networks with hostile names, whose cells failed for hostile reasons."""
    groups = {
        (name, 1): {"ort": (1.0, Outcome(Status.OK)), "ort-noopt": (None, Outcome(Status.FAILED, name))}
        for name in HOSTILE
    }
    data: RunData = write_run(groups, ("ort", "ort-noopt"), device="replay:<b>|.json")
    return data


@pytest.fixture
def hostile_names() -> tuple[str, ...]:
    """Names that mean something in some format."""
    return HOSTILE


class Tables(HTMLParser):
    """Texts of every table's body and foot, without footnote marks."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attributes: object) -> None:
        if tag == "table":
            self.tables.append([])
        if tag == "tr" and "thead" not in self._inside:
            self.tables[-1].append([])
        if tag in ("td", "th") and "thead" not in self._inside:
            self.tables[-1][-1].append("")
        if tag in ("thead", "sup", "td", "th"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("thead", "sup", "td", "th"):
            self._inside.remove(tag)

    def handle_data(self, text: str) -> None:
        if {"td", "th"} & set(self._inside) and not {"thead", "sup"} & set(self._inside):
            self.tables[-1][-1][-1] += text


@pytest.fixture
def page_of() -> Callable[[RunData], list[list[list[str]]]]:
    """The tables of a run's page, as texts."""
    pytest.importorskip("matplotlib", reason="the extra `reports` is not installed")
    from reports.as_html import html_page

    def tables(data: RunData) -> list[list[list[str]]]:
        parser = Tables()
        parser.feed(html_page(data, speedups(data, choose_baseline(data, None))))
        return parser.tables

    return tables
