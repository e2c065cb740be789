"""`bench kernels`: which kernels, the same measurement as networks, rates worked out by hand."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

PEAK, BANDWIDTH = 1e11, 2e10
GROUPED = ("kernels", "--models", "regnet", "--template", "grouped,softmax,elementwise", "--top", "2")
FLOPS = 2 * 576 * 14 * 14 * 9 * 24


@pytest.fixture
def device(record: Callable[..., str], place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recorded device with a known ceiling, on which ort takes 1 ms and every other one 2 ms."""
    monkeypatch.setenv("BENCH_KERNELS_JOURNAL", str(place / "kernels.db"))
    name = record(noise=(1.0,))
    file = place / "device.json"
    values = json.loads(file.read_text())
    values["facts"] |= {"ceiling.1t.flops_per_second": PEAK, "ceiling.1t.bytes_per_second": BANDWIDTH}
    file.write_text(json.dumps(values))
    return name


def measured(bench: Callable, device: str, *more: str) -> dict:
    options = ("--frameworks", "ort,ort-noopt", "--device", device, "--set", "probe_seconds=0")
    done = bench(*GROUPED, *options, "--format", "json", "--quiet", *more)
    assert done.err == ""
    return done.document


def test_rates_and_shares(bench: Callable, device: str) -> None:
    document = measured(bench, device)
    kernels = {kernel["name"]: kernel for kernel in document["kernels"]}
    first = kernels["grouped-576x14x14-576-k3x3-g24"]
    ours, peer = first["frameworks"]
    assert (first["count"], first["flops"], first["networks"]) == (12, FLOPS, ["regnet"])
    assert ours["per_second"] == pytest.approx(FLOPS / 1e-3, rel=0.01)
    assert ours["share"] == pytest.approx(FLOPS / 1e-3 / PEAK, rel=0.01)
    assert peer["share"] == pytest.approx(FLOPS / 2e-3 / PEAK, rel=0.01)
    assert (first["best_peer"], first["speedup"]) == ("ort-noopt", pytest.approx(2, rel=0.01))
    moved = next(kernel for kernel in document["kernels"] if kernel["template"] == "elementwise")
    assert moved["frameworks"][0]["share"] == pytest.approx(moved["bytes"] / 1e-3 / BANDWIDTH, rel=0.01)


def test_templates_weigh_kernels_with_their_occurrences(bench: Callable, device: str) -> None:
    document = measured(bench, device)
    row = next(one for one in document["templates"] if one["template"] == "grouped")
    mine = [kernel for kernel in document["kernels"] if kernel["template"] == "grouped"]
    assert (row["kernels"], row["compared"], len(mine)) == (2, 2, 2)
    calls = sum(kernel["count"] for kernel in mine)
    work = sum(kernel["count"] * kernel["flops"] for kernel in mine)
    assert row["share"]["ort"] == pytest.approx(work / (calls * 1e-3) / PEAK, rel=0.01)
    assert row["speedup"] == pytest.approx(2, rel=0.01)
    listing = "kernels --list --models regnet --template grouped --top 0 --format json"
    whole = bench(*listing.split())
    total = sum(one["flops"] * one["count"] for one in whole.document["kernels"])
    assert row["covered"] == pytest.approx(work / total)


def test_the_tables_show_the_numbers_of_the_json(bench: Callable, device: str, place: Path) -> None:
    document = measured(bench, device)
    done = bench("kernels", "--run", "1", "--format", "md")
    assert "Command: bench kernels --models regnet" in done.out
    for kernel in document["kernels"]:
        (line,) = [line for line in done.out.splitlines() if f"| {kernel['name']} |" in line]
        assert f"{kernel['frameworks'][0]['share']:.0%} |" in line
        assert f"{kernel['speedup']:.2f}×" in line
    bench("kernels", "--run", "1", "--out", "tables.txt")
    written = (place / "tables.txt").read_text(encoding="utf-8")
    assert "grouped-576x14x14-576-k3x3-g24" in written
    assert "\x1b" not in written


def test_without_a_ceiling_there_are_rates_but_no_shares(bench: Callable, record: Callable) -> None:
    document = measured(bench, record(), "--journal", "other.db")
    assert {one["flops_per_second"] for one in document["ceilings"]} == {None}
    cells = [cell for kernel in document["kernels"] for cell in kernel["frameworks"]]
    assert all(cell["per_second"] > 0 and cell["share"] is None for cell in cells)


def test_a_kernel_that_fails_is_left_out_of_the_template(bench: Callable, record: Callable) -> None:
    device = record({"framework": "ort", "kind": "crash"})
    typed = "kernels --models regnet --template grouped --top 1 --quiet --format json --journal k.db"
    options = f"--frameworks ort,ort-noopt --set probe_seconds=0 --device {device}"
    done = bench(*typed.split(), *options.split())
    assert done.code == 1
    (row,) = done.document["templates"]
    assert (row["kernels"], row["compared"], row["per_second"], row["speedup"]) == (1, 0, {}, None)
    (kernel,) = done.document["kernels"]
    assert (kernel["speedup"], kernel["frameworks"][0]["status"]) == (None, "crashed")


def test_a_run_that_the_budget_ended_goes_on(bench: Callable, device: str) -> None:
    typed = ("kernels", "--models", "regnet", "--template", "grouped", "--top", "1", "--quiet")
    options = ("--frameworks", "ort,ort-noopt", "--device", device, "--set", "probe_seconds=0")
    assert bench(*typed, *options, "--budget", "0.001s").code == 4
    done = bench(*typed, *options, "--resume", "--format", "json")
    assert (done.code, done.document["run"]["number"]) == (0, 1)
    assert done.document["run"]["status"] == "complete"
    assert bench(*typed, *options, "--resume", "--format", "json").document["run"]["number"] == 2


def test_kernels_stay_out_of_the_journal_of_networks(bench: Callable, device: str, place: Path) -> None:
    measured(bench, device)
    assert (place / "kernels.db").exists()
    assert not (place / "journal.db").exists()


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--template conv3", "no template is called 'conv3'"),
        ("--models regnet --template softmax", "no kernel of the template softmax"),
        ("--models TINY", "is a file: kernels are those of the pinned networks"),
        ("--models swim", "no network or set is called 'swim'"),
        ("--set block=1", "no limit is called 'block'"),
        ("--frameworks ,", "no framework was named"),
        ("--threads 0", "not a list of thread counts"),
    ],
)
def test_mistakes_are_told(bench: Callable, tiny: Path, place: Path, typed: str, message: str) -> None:
    done = bench("kernels", "--journal", "k.db", *typed.replace("TINY", str(tiny)).split())
    assert done.code == 2
    assert message in done.err
    assert "try:" in done.err
    assert not (place / "k.db").exists(), "a mistyped command leaves no empty file behind"


def test_a_run_of_networks_is_not_drawn_as_kernels(bench: Callable, record: Callable, tiny: Path) -> None:
    bench("run", "--models", str(tiny), "--device", record(), "--quiet", "--journal", "k.db")
    done = bench("kernels", "--run", "1", "--journal", "k.db")
    assert done.code == 2
    assert "run 1 measured networks, not kernels" in done.err


def test_the_list_needs_no_device(bench: Callable) -> None:
    done = bench("kernels", "--list", "--template", "depthwise", "--top", "1", "--format", "md")
    assert re.search(r"\| depthwise \| depthwise-\S+ \| \d+ \|", done.out)
    assert "convolution of every channel by itself" in done.out
