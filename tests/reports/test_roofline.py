"""GMACs/s and percent of the roofline: the arithmetic, and what is said where something is unknown."""

from collections.abc import Callable, Mapping

import pytest

from benchsuite.ceiling import ceiling_of, work_of
from benchsuite.record import GroupKey, Outcome
from reports.latency import latency_table
from reports.roofline import NO_CEILING, PUBLISHED, position, work_in

SWIN = GroupKey("swin", "local", 1, "fp32")
VIT = GroupKey("vit", "local", 1, "fp32")


def test_arithmetic_bounds_what_computes_much(ceilings: Mapping) -> None:
    place = position(ceilings, SWIN, 90.0)
    assert place is not None
    assert place.gmacs_per_second == pytest.approx(50)
    assert place.share == pytest.approx(0.5), "9 GFLOP at 200 GFLOP/s are 45 ms"
    assert place.bound == "arithmetic"
    assert place.intensity == pytest.approx(9e9 / 113_602_112)


def test_memory_bounds_what_reads_much(ceilings: Mapping) -> None:
    place = position(ceilings, VIT, 1.0)
    assert place is not None
    assert place.share == pytest.approx(0.20005), "4 MB at 20 GB/s are 0.2 ms"
    assert place.bound == "memory"


def test_a_network_that_beats_the_probe_says_so(ceilings: Mapping) -> None:
    place = position(ceilings, SWIN, 40.0)
    assert place is not None
    assert place.share == pytest.approx(1.125)


def test_without_a_probe_there_is_a_rate_and_no_share(ceilings: Mapping) -> None:
    place = position(ceilings, GroupKey("swin", "local", 2, "fp32"), 90.0)
    assert place is not None
    assert (place.share, place.bound) == (None, "")
    assert place.gmacs_per_second == pytest.approx(50)


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"ceiling.1t.flops_per_second": 1e9},
        {"ceiling.1t.flops_per_second": 0, "ceiling.1t.bytes_per_second": 0},
    ],
)
def test_no_ceiling_from_half_a_probe(facts: Mapping) -> None:
    assert ceiling_of(facts, 1) is None


def test_unknown_networks_have_no_position() -> None:
    assert work_of({"network.x.macs": 5}, "x") is None
    assert work_in({}, "my-own") == (None, False)
    assert position({}, GroupKey("my-own", "local", 1, "fp32"), 1.0) is None
    assert position({}, SWIN, None) is None


def test_old_runs_use_the_published_count_and_say_so(write_run: Callable, good: Outcome) -> None:
    data = write_run({("swin", 1): {"ort": (50.0, good)}}, ("ort",))
    table = latency_table(data)
    texts = [cell.text for cell in table.rows[0]]
    work, published = work_in({}, "swin")
    assert published
    assert work is not None
    assert texts[8] == f"{work.macs / 0.05 / 1e9:.3g}"
    assert texts[9] == ""
    assert table.remarks == (NO_CEILING, PUBLISHED)


def test_runs_with_a_probe_have_a_share(write_run: Callable, good: Outcome, ceilings: Mapping) -> None:
    groups = {("swin", 1): {"ort": (90.0, good)}, ("vit", 1): {"ort": (1.0, good)}}
    table = latency_table(write_run(groups, ("ort",), facts=ceilings))
    assert [[cell.text for cell in row][8:10] for row in table.rows] == [["50", "50%"], ["1", "20% m"]]
    assert table.remarks == ()


def test_what_the_percent_is_of_is_said(write_run: Callable, good: Outcome, ceilings: Mapping) -> None:
    groups = {("swin", 1): {"ort": (90.0, good)}}
    table = latency_table(write_run(groups, ("ort",), facts={**ceilings, "ceiling.source": "this and that"}))
    assert table.remarks == ("percent of the roofline: of this and that, measured in the same run",)


def test_why_a_probe_gave_nothing_is_said(write_run: Callable, good: Outcome, ceilings: Mapping) -> None:
    known = {name: fact for name, fact in ceilings.items() if not name.startswith("ceiling.")}
    groups = {("swin", 1): {"ort": (90.0, good)}}
    table = latency_table(write_run(groups, ("ort",), facts={**known, "ceiling.1t.missing": "it is full"}))
    assert table.remarks == ("no percent of the roofline: it is full",)
