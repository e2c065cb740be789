"""The commands that answer questions: breakdown, compare, nightly, export, verify, reproduce; and their exit
codes.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from benchsuite.journal import Journal

PAGE_LIBRARIES = ("jinja2", "matplotlib", "ruptures")
FAST = ("--set", "warm_up_seconds=0.01", "--set", "probe_seconds=0")
QUICK_PROFILE = ("--set", "warm_up_seconds=0.01")


@pytest.fixture
def device(record: Callable, place: Path) -> Callable[..., str]:
    """A recorded device on which ort takes so many ms."""

    def write(milliseconds: float = 1.0, *faults: object) -> str:
        name: str = record(*faults)
        path = place / "device.json"
        values = json.loads(path.read_text())
        values["latency_ns"]["ort"] = milliseconds * 1e6
        values["probe"] = {"flops_per_second": 1e11, "bytes_per_second": 1e10}
        path.write_text(json.dumps(values))
        return name

    return write


def test_a_run_measures_the_device_once(bench: Callable, device: Callable, tiny: Path, place: Path) -> None:
    bench("run", "--models", str(tiny), "--device", device(), "--threads", "1,2", "--quiet")
    with Journal(place / "journal.db") as book:
        facts = book.run().facts
    assert facts["ceiling.1t.flops_per_second"] == facts["ceiling.2t.flops_per_second"] == 10**11
    assert facts["network.tiny.macs"] == 2 * 16 * 16 * 8 * 8 * 9
    cell = bench("report", "--format", "json").document["cells"][0]
    assert cell["gmacs_per_second"] == pytest.approx(facts["network.tiny.macs"] / 1e6, rel=0.05)
    assert 0 < cell["roofline_share"] < 1
    assert cell["roofline_bound"] == "arithmetic"


def test_no_probe_when_none_is_wanted(bench: Callable, device: Callable, tiny: Path, place: Path) -> None:
    bench("run", "--models", str(tiny), "--device", device(), "--set", "probe_seconds=0", "--quiet")
    with Journal(place / "journal.db") as book:
        assert not [name for name in book.run().facts if name.startswith("ceiling")]


def test_compare(bench: Callable, device: Callable, tiny: Path, place: Path) -> None:
    for milliseconds in (1.0, 1.3):
        bench("run", "--models", str(tiny), "--device", device(milliseconds), "--quiet")
    slower = bench("compare", "1", "2")
    assert slower.code == 1
    assert "1 slower, 1 same" in slower.out
    assert bench("compare", "2", "1").code == 0
    assert bench("compare", "1", "1").code == 0
    assert bench("compare", "1", "2", "--detectable", "50%").code == 0
    assert bench("compare", "1", "2", "--relative-to", "ort-noopt").code == 1
    (place / "other.db").write_bytes((place / "journal.db").read_bytes())
    document = bench("compare", "journal.db:1", "other.db", "--format", "json").document
    assert document["regressions"] == 1
    ratios = {cell["framework"]: cell["ratio"] for cell in document["cells"]}
    assert ratios["ort"] == pytest.approx(1.3, rel=0.03)


def test_compare_writes_markdown(bench: Callable, device: Callable, tiny: Path, place: Path) -> None:
    bench("run", "--models", str(tiny), "--device", device(), "--quiet")
    assert bench("compare", "1", "1", "--format", "md", "--out", "change.md").out == ""
    assert (place / "change.md").read_text().startswith("### run 1")


def test_breakdown_profiles_once_and_keeps_it(bench: Callable, tiny: Path, place: Path) -> None:
    done = bench(
        "run", "--models", str(tiny), "--quiet", *FAST, "--set", "least_blocks=2", "--set", "most_blocks=2"
    )
    assert done.code == 0
    first = bench("breakdown", str(tiny), "--inferences", "2", *QUICK_PROFILE)
    assert first.code == 0
    assert "profiling ort\nprofiling ort-noopt\n" in first.err
    for text in (
        "Conv",
        "unattributed",
        "profiled inference",
        "as it is timed",
        "profiling adds",
        "implicit layout",
    ):
        assert text in first.out
    again = bench("breakdown", str(tiny), "--format", "json")
    assert again.err == "", "nothing is profiled again"
    assert {one["framework"] for one in again.document["frameworks"]} == {"ort", "ort-noopt"}
    for one in again.document["frameworks"]:
        pieces = sum(piece["times_ns"].get(one["framework"], 0) for piece in again.document["pieces"])
        assert pieces + one["implicit_ns"] + one["unattributed_ns"] == one["total_ns"]
    fresh = bench("breakdown", str(tiny), "--fresh", "--frameworks", "ort", *QUICK_PROFILE)
    assert fresh.err == "profiling ort\n"
    for library in PAGE_LIBRARIES:
        pytest.importorskip(library, reason="the extra `reports` is not installed")
    assert "Where the time goes" in bench("report", "--format", "html").out


def test_breakdown_without_a_run_is_only_printed(bench: Callable, tiny: Path, place: Path) -> None:
    """Named from the folder it lies in, and its nodes have no names: their tensors' stand for them."""
    network = onnx.load(tiny)
    for node in network.graph.node:
        node.name = ""
    onnx.save(network, place / "unnamed.onnx")
    typed = ("--frameworks", "ort,ort-noopt", "--inferences", "1", "--all", "--format", "md", *QUICK_PROFILE)
    done = bench("breakdown", "unnamed.onnx", *typed)
    assert done.code == 0
    rows = [line.split(" | ")[0] for line in done.out.split("### ")[1].splitlines() if line.startswith("| ")]
    assert rows[:3] == ["| ONNX nodes", "| :--", "| c0, r0"]
    assert rows[3] == "| c1, y"
    assert "name: ort 4 of 4, ort-noopt 4 of 4" in done.out
    assert not (place / "journal.db").exists()


def test_breakdown_of_what_cannot_be_profiled(bench: Callable, device: Callable, tiny: Path) -> None:
    done = bench("breakdown", str(tiny), "--frameworks", "ort", "--precision", "bf16")
    assert done.code == 2
    assert "no framework could be profiled: ort: refused" in done.err


@pytest.fixture
def nightly(bench: Callable, device: Callable, tiny: Path) -> Callable:
    """Run a night on a recorded device."""
    for library in PAGE_LIBRARIES:
        pytest.importorskip(library, reason="the extra `reports` is not installed")

    def run(milliseconds: float = 1.0, *more: str, faults: tuple = ()) -> object:
        typed = ("--models", str(tiny), "--device", device(milliseconds, *faults), "--out", "site", "--quiet")
        return bench("nightly", *typed, *more)

    return run


def test_nightly(nightly: Callable, place: Path) -> None:
    first = nightly()
    assert first.code == 0
    assert first.out.split() == ["site/latest.html", "site/latest.md"]
    assert (place / "site" / "latest.md").read_text().startswith("# Night of ")
    second = nightly(1.3)
    assert second.code == 1
    assert "trouble: 1 regression: tiny/ort/" in second.err
    assert "slower +30." in (place / "site" / "night-0002.md").read_text()
    page = (place / "site" / "latest.html").read_text()
    assert "1 regression" in page
    assert 'id="history"' in page
    assert (place / "site" / "night-0001.html").exists()


def test_a_slower_level_is_accepted(nightly: Callable, bench: Callable, place: Path) -> None:
    nightly()
    assert nightly(1.3).code == 1
    assert nightly(1.3).code == 1, "still slower than the last good night"
    assert "1 regression" in (place / "site" / "latest.md").read_text()
    done = bench("accept", "3", "--why", "the new host")
    assert done.out == "later nights are compared with night 3: the new host\n"
    assert nightly(1.3).code == 0
    assert "compared with run 3 of" in (place / "site" / "latest.md").read_text()


def test_only_whole_nights_are_accepted(
    nightly: Callable, bench: Callable, tiny: Path, device: Callable
) -> None:
    nightly(1.0, "--budget", "0.001s")
    part = bench("accept", "1")
    assert (part.code, "night 1 is incomplete" in part.err) == (2, True)
    bench("run", "--models", str(tiny), "--device", device(), "--quiet")
    other = bench("accept", "2")
    assert (other.code, "run 2 is no night" in other.err) == (2, True)
    assert "there is no run 9" in bench("accept", "9").err


QUICK_DOCTOR = ("--comparisons", "5", "--set", "block_seconds=0.001")


def test_the_detectable_difference_is_the_doctors(
    bench: Callable, nightly: Callable, record: Callable
) -> None:
    """A machine that `bench doctor` found to be noisy does not see 5 %, and the report says who says so."""
    nightly()
    assert nightly(1.05).code == 1
    draw = random.Random(0)
    noise = [draw.lognormvariate(0, 0.2) for _ in range(997)]
    assert bench("doctor", "--device", record(noise=noise), *QUICK_DOCTOR).code == 0
    found = bench("compare", "1", "2", "--format", "json")
    assert found.code == 0
    assert found.document["detectable"] > 0.05
    assert found.document["detectable_source"].startswith("`bench doctor` of 20")
    assert "ort on probe-3x48x56 with 1 thread" in found.document["detectable_source"]
    assert bench("compare", "1", "2", "--detectable", "2%").code == 1


def test_a_quiet_machine_is_not_believed_to_see_less_than_bench(
    bench: Callable, nightly: Callable, record: Callable
) -> None:
    nightly()
    nightly(1.01)
    unmeasured = bench("compare", "1", "2", "--format", "json").document
    assert (unmeasured["detectable"], "no A/A test" in unmeasured["detectable_source"]) == (0.02, True)
    bench("doctor", "--device", record(noise=[1.0, 1.001]), *QUICK_DOCTOR)
    found = bench("compare", "1", "2", "--format", "json").document
    assert found["detectable"] == 0.02
    assert "never below 2%" in found["detectable_source"]


def test_nightly_goes_on_where_it_was_cut_off(nightly: Callable, place: Path) -> None:
    cut = nightly(1.0, "--budget", "0.001s")
    assert cut.code == 4
    assert "not whole (incomplete): 2 cells of 1 network" in cut.err
    assert nightly(1.0, "--budget", "1h").code == 0
    with Journal(place / "journal.db") as book:
        assert [run.status for run in book.runs()] == ["complete"]
    assert nightly(1.0).code == 0
    with Journal(place / "journal.db") as book:
        assert len(book.runs()) == 2, "a night that is whole is not gone on with"


def test_nightly_with_a_failure(nightly: Callable, place: Path) -> None:
    done = nightly(1.0, faults=({"framework": "ort", "kind": "crash", "do": "load"},))
    assert done.code == 1
    text = (place / "site" / "latest.md").read_text()
    assert text.split("\n")[2].startswith("- **1 cell failed: tiny/ort/")
    assert "the mean leaves out tiny" in text


def test_nightly_looks_before_it_measures(nightly: Callable, place: Path) -> None:
    (place / "file").write_text("a file")
    done = nightly(1.0, "--out", "file/site")
    assert done.code == 2
    assert "the folder cannot be made" in done.err
    assert not (place / "journal.db").exists()


@pytest.fixture
def exported(bench: Callable, device: Callable, tiny: Path) -> str:
    bench("run", "--models", str(tiny), "--device", device(), "--quiet")
    done = bench("export", "1", "out.bench")
    assert done.code == 0
    assert done.out.startswith("out.bench: run 1, 2 good cells")
    return "out.bench"


def test_export_and_verify(bench: Callable, exported: str, place: Path) -> None:
    done = bench("verify", exported)
    assert done.code == 0
    assert done.out.count("matches") == 4
    document = bench("verify", exported, "--format", "json").document
    assert document["matches"]
    assert bench("export", "1", exported).code == 2, "nothing is written over"
    assert bench("export", "1", exported, "--force", "--against", "best-peer").code == 0
    (place / exported).write_bytes(b"PK" + bytes(100))
    broken = bench("verify", exported)
    assert broken.code == 2
    assert "this artefact is refused: not an intact archive" in broken.err


def test_reproduce(bench: Callable, device: Callable, exported: str, place: Path) -> None:
    same = bench("reproduce", exported, "--cell", "tiny/ort", "--quiet")
    assert same.code == 0
    assert "2 cells compared: 2 same" in same.out
    device(1.5)
    other = bench("reproduce", exported, "--cell", "TINY/ort/1".lower(), "--alone", "--quiet")
    assert other.code == 1
    assert "1 cell compared: 1 slower" in other.out
    with Journal(place / "journal.db") as book:
        assert [run.options.frameworks for run in book.runs()][1:] == [("ort", "ort-noopt"), ("ort",)]


def test_reproduce_another_network(bench: Callable, exported: str, tiny: Path, tmp_path: Path) -> None:
    missing = bench("reproduce", exported, "--cell", "tiny/otr")
    assert missing.code == 2
    assert "did you mean tiny/ort/1" in missing.err
    whole = tiny.read_bytes()
    try:
        tiny.write_bytes(whole.replace(b"c0", b"c9"))
        changed = bench("reproduce", exported, "--cell", "tiny/ort")
    finally:
        tiny.write_bytes(whole)
    assert changed.code == 2
    assert "another version of 'tiny'" in changed.err
