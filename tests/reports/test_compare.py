"""Two runs: what changed, what broke, what is missing; and the machine's part."""

from collections.abc import Callable

import pytest

from benchsuite.record import Outcome, Status
from models.errors import BenchError
from reports.as_markdown import markdown
from reports.cells import RunData
from reports.compare import Change, compare
from reports.compare_table import comparison_table, facts_that_differ, headline
from reports.detectable import asked_for

CRASHED = Outcome(Status.CRASHED, "SIGSEGV during `run`")


@pytest.fixture
def before(write_run: Callable, good: Outcome) -> RunData:
    groups = {
        ("swin", 1): {"ours": (50.0, good), "ort": (100.0, good)},
        ("vit", 1): {"ours": (20.0, good), "ort": (40.0, good)},
        ("smt", 1): {"ours": (10.0, good), "ort": (10.0, good)},
        ("cswin", 1): {"ours": (10.0, good), "ort": (10.0, good)},
    }
    data: RunData = write_run(groups, ("ours", "ort"))
    return data


@pytest.fixture
def after(write_run: Callable, good: Outcome) -> RunData:
    groups = {
        ("swin", 1): {"ours": (55.0, good), "ort": (100.1, good)},
        ("vit", 1): {"ours": (18.0, good), "ort": (40.0, good)},
        ("smt", 1): {"ours": (None, CRASHED), "ort": (10.0, good)},
        ("regnet", 1): {"ours": (10.0, good), "ort": (10.0, good)},
    }
    facts = {"processor": "slide rule", "python": "3.12"}
    data: RunData = write_run(groups, ("ours", "ort"), facts=facts)
    return data


def changes(found: object) -> dict[tuple[str, str], str]:
    return {(pair.key.group.model, pair.key.framework): pair.change for pair in found.pairs}


def test_every_change_has_its_name(before: RunData, after: RunData) -> None:
    found = compare(before, after)
    assert changes(found) == {
        ("swin", "ours"): Change.SLOWER,
        ("swin", "ort"): Change.SAME,
        ("vit", "ours"): Change.FASTER,
        ("vit", "ort"): Change.SAME,
        ("smt", "ours"): Change.BROKE,
        ("smt", "ort"): Change.SAME,
    }
    assert [str(pair.key) for pair in found.regressions] == [
        "swin/ours/local/1t/fp32",
        "smt/ours/local/1t/fp32",
    ]
    ratio = found.pairs[0].ratio
    assert ratio is not None
    assert ratio.estimate == pytest.approx(1.1, rel=1e-3)
    assert ratio.low < 1.1 < ratio.high
    assert headline(found).startswith("6 cells compared: 1 broke, 1 slower, 3 same, 1 faster")


def test_only_cells_of_both_enter_a_mean_and_the_missing_are_named(before: RunData, after: RunData) -> None:
    found = compare(before, after)
    ours = next(one for one in found.aggregates if one.framework == "ours")
    assert ours.count == 2
    assert ours.missing == ("smt", "cswin", "regnet")
    assert ours.ratio is not None
    assert ours.ratio.estimate == pytest.approx((1.1 * 0.9) ** 0.5, rel=1e-3)
    assert [key.group.model for key in found.only_before] == ["cswin", "cswin"]
    assert [key.group.model for key in found.only_after] == ["regnet", "regnet"]


def test_the_detectable_difference_is_a_threshold(before: RunData, after: RunData) -> None:
    found = compare(before, after, detectable=asked_for(0.15))
    assert changes(found)["swin", "ours"] == Change.SAME
    assert [pair.change for pair in found.regressions] == [Change.BROKE]


def test_what_hits_both_frameworks_is_the_machine(
    write_run: Callable, before: RunData, good: Outcome
) -> None:
    """Half as fast tonight, all of it: relative to a framework that did not change, nothing happened."""
    slower = write_run({("swin", 1): {"ours": (100.0, good), "ort": (200.0, good)}}, ("ours", "ort"))
    assert len(compare(before, slower).regressions) == 2
    found = compare(before, slower, relative_to="ORT")
    assert changes(found) == {("swin", "ours"): Change.SAME}
    assert "÷ ort" in comparison_table(found).columns[5].text


def test_mended_and_never_measured(write_run: Callable, good: Outcome) -> None:
    first = write_run({("swin", 1): {"a": (None, CRASHED), "b": (None, CRASHED)}}, ("a", "b"))
    second = write_run({("swin", 1): {"a": (5.0, good), "b": (None, CRASHED)}}, ("a", "b"))
    assert list(changes(compare(first, second)).values()) == [Change.MENDED, Change.NEITHER]
    assert compare(first, second).regressions == ()


def test_few_blocks_claim_nothing(write_run: Callable, before: RunData, good: Outcome) -> None:
    place = ("swin", 1)
    after = write_run({place: {"ours": (99.0, good), "ort": (100.0, good)}}, ("ours", "ort"), few=[place])
    assert changes(compare(before, after))["swin", "ours"] == Change.SAME


def test_nothing_in_common(write_run: Callable, before: RunData, good: Outcome) -> None:
    other = write_run({("regnet", 2): {"ours": (1.0, good), "ort": (1.0, good)}}, ("ours", "ort"))
    with pytest.raises(BenchError, match="no cell in common"):
        compare(before, other)


def test_a_control_must_be_in_both(before: RunData, after: RunData) -> None:
    with pytest.raises(BenchError, match="'mnn' is not in both runs") as caught:
        compare(before, after, relative_to="mnn")
    assert caught.value.hint == "one of ours, ort"


def test_what_else_changed(before: RunData, after: RunData) -> None:
    assert facts_that_differ(before, after) == {
        "processor": ("abacus", "slide rule"),
        "python": ("None", "3.12"),
    }


def test_comparison(before: RunData, after: RunData, golden: Callable) -> None:
    golden("compare.md", markdown(comparison_table(compare(before, after))))
