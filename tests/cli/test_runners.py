"""`--runners`: a program of one's own as a framework on this machine, and the ways in which it goes wrong."""

import json
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.runners import FILE_VARIABLE
from benchsuite.journal import Journal
from benchsuite.record import CellRecord, Status
from tests.external import AVERAGE, HOSTILE, QUICK, WORDS, build_relu, row, staying_row, write_relu

MACHINE = platform.machine()
SETTINGS = tuple(word for one in QUICK for word in ("--set", one))
OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}


@pytest.fixture(autouse=True)
def _variable_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--runners` sets it for the workers; here the process goes on."""
    monkeypatch.setenv(FILE_VARIABLE, "")


@pytest.fixture(scope="module")
def relu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if MACHINE not in OTHER:
        pytest.skip(f"no target for {MACHINE}")
    return build_relu(MACHINE, tmp_path_factory.mktemp("program") / "relu")


@pytest.fixture
def measured(bench: Callable, place: Path) -> Callable[..., dict[str, CellRecord]]:
    """Run rows of `runners.toml` on this machine; the cells by framework."""

    def run(*rows: str, code: int = 0) -> dict[str, CellRecord]:
        (place / "runners.toml").write_text("\n".join(rows), encoding="utf-8")
        names = ",".join(one.partition("]")[0].lstrip("[") for one in rows)
        network = write_relu(place / "rectify.onnx")
        words = ("--models", str(network), "--frameworks", f"{names},ort", "--runners", "runners.toml")
        done = bench("run", *words, *SETTINGS)
        assert done.code == code, done.err
        with Journal(place / "journal.db") as book:
            (group,) = book.groups(book.runs()[-1].number)
        return dict(group.cells)

    return run


def test_a_program_is_a_framework(relu: Path, measured: Callable, bench: Callable, place: Path) -> None:
    hostile = place / HOSTILE
    hostile.write_bytes(relu.read_bytes())
    rows = [
        row("relu", relu, "each", environment={"WHERE": "{files}"}),
        row("of-mnn", relu, "each", made_from="mnn"),
        row("average", relu, "average", times=AVERAGE, notes=["of the tests"]),
        row("hostile", hostile, "each"),
    ]
    cells = measured(*rows)
    assert {name: one.outcome.status for name, one in cells.items()} == dict.fromkeys(cells, Status.OK)
    assert all(one.outcome.error == 0 for one in cells.values())
    facts = cells["relu"].loading.facts
    assert (facts["build"], facts["outputs"]) == ("relu 1.2", "checked")
    assert facts["version"].startswith("sha256 ")
    assert set(cells["relu"].loading.options) == {"converter"}
    assert facts["version"] != cells["hostile"].loading.facts["version"], "another file is another version"
    assert not list(place.rglob("executed"))
    assert any("a block is one sample" in note for note in cells["average"].notes)
    with Journal(place / "journal.db") as book:
        (group,) = book.groups(1)
    for block in group.blocks:
        assert len(block.turns["relu"].run_ns) == cells["relu"].loading.iterations
        assert len(block.turns["average"].run_ns) == 1
        assert block.turns["relu"].cpu_ns >= 0
    table = bench("report", "1", "--format", "json").document
    assert "average" in json.dumps(table)


def test_a_program_that_stays_answers_lines(relu: Path, measured: Callable, place: Path) -> None:
    mute = place / "mute.sh"
    mute.write_text("#!/bin/sh\necho hello\nsleep 60\n")
    rows = (staying_row("stays", relu), staying_row("dies", relu, "soon"), staying_row("mute", mute))
    cells = measured(*rows, code=1)
    assert cells["stays"].outcome.status is Status.OK, cells["stays"].outcome
    assert (cells["stays"].outcome.error, cells["stays"].memory_peak_bytes) == (0, 4096)
    assert cells["stays"].loading.load_ns == 1_000_000
    assert len(cells["stays"].loading.warm_up_ns) > 1, "what stays is warmed up"
    assert cells["dies"].outcome.status is Status.CRASHED
    assert "ended with exit code 9" in cells["dies"].outcome.reason
    assert "out of patience" in cells["dies"].outcome.log_tail
    assert cells["mute"].outcome.status is Status.FAILED
    assert "the program answered `load` with 'hello" in cells["mute"].outcome.reason


def test_outputs_that_are_not_checked_never_count(relu: Path, measured: Callable, bench: Callable) -> None:
    words = ["{files}/relu", "each", *WORDS[:-1], "/dev/null"]
    cells = measured(row("blind", relu, "each", command=words))
    assert cells["blind"].outcome.status is Status.OK
    assert cells["blind"].outcome.error is None
    assert cells["blind"].unchecked == "not checked: its command has no {output}"
    drawn = bench("report", "1", "--format", "md").out
    assert "outputs not checked" in drawn
    speedup = next(line for line in drawn.splitlines() if line.startswith("| rectify")).split("|")
    assert [one.strip(" *") for one in speedup][-2] == "–", drawn
    assert "~~" not in drawn
    assert "ok:" not in drawn
    page = bench("report", "1", "--format", "html").out
    assert "blind: outputs not checked: its command has no {output}" in page


@pytest.mark.parametrize(
    ("mode", "status", "said"),
    [
        ("wrong", Status.WRONG, "relative L2 error"),
        ("short", Status.FAILED, "wrote 384 bytes of outputs, which do not fit y: [1, 3, 8, 8] float32"),
        ("nothing", Status.CRASHED, "left no output-0"),
        ("untimed", Status.FAILED, "`times` found nothing in what own said; its last words: "),
        ("fail", Status.CRASHED, "exit code 7; its last words: "),
        ("crash", Status.CRASHED, "own ended with signal 6"),
    ],
)
def test_what_goes_wrong_is_a_status(
    mode: str, status: Status, said: str, relu: Path, measured: Callable
) -> None:
    cell = measured(row("own", relu, mode), code=1)["own"]
    assert cell.outcome.status is status, cell.outcome
    assert said in cell.outcome.reason
    if mode == "fail":
        assert "error: no such delegate" in cell.outcome.reason
        assert "error: no such delegate" in cell.outcome.log_tail


def test_a_program_for_another_machine_is_refused(
    measured: Callable, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if MACHINE not in OTHER:
        pytest.skip(f"no target for {MACHINE}")
    other = build_relu(OTHER[MACHINE], tmp_path_factory.mktemp("other") / "relu")
    cell = measured(row("own", other, "each"))["own"]
    assert cell.outcome.status is Status.REFUSED
    assert (
        cell.outcome.reason == f"relu is a program for {OTHER[MACHINE]}, and {MACHINE} is where it would run"
    )


def test_a_network_that_it_is_not_made_for_is_refused(relu: Path, measured: Callable) -> None:
    words = ["{files}/relu", "each", *WORDS[:-1], "{output:1}"]
    cell = measured(row("own", relu, "each", command=words))["own"]
    assert cell.outcome.status is Status.REFUSED
    assert cell.outcome.reason == "its command names {output:1}, the network has 1 outputs"


def test_a_file_that_is_not_there(relu: Path, bench: Callable, place: Path) -> None:
    (place / "runners.toml").write_text(row("own", place / "gone", "each"), encoding="utf-8")
    done = bench("run", "--frameworks", "own", "--runners", "runners.toml")
    assert done.code == 2
    assert f"[own] files: {place}/gone: there is no such file" in done.err
    done = bench("run", "--frameworks", "own", "--runners", "nowhere.toml")
    assert (done.code, "nowhere.toml: there is no such file" in done.err) == (2, True)
    done = bench("run", "--frameworks", "owm", "--runners", "runners.toml")
    assert "did you mean own" in done.err
