"""What each optimisation gives: alone with all others on, and one after another in an order that is said."""

from collections.abc import Callable, Mapping
from math import prod

import pytest

from benchsuite.record import Outcome, Status
from reports.ablation import ablation_tables, ablations, switched_off
from reports.cells import RunData
from reports.table import Table

FULL = "ours"
SLOWER = {  # ms on swin and on vit; they overlap: rewrite gives 1.5× beside the others and more alone
    "ours": (10.0, 40.0),
    "ours:without-rewrite": (15.0, 60.0),
    "ours:without-sink": (12.0, 48.0),
    "ours:without-layout": (11.0, 44.0),
    "ours:without-sink-layout": (13.0, 52.0),
    "ours:without-rewrite-sink-layout": (26.0, 78.0),
    "ort": (20.0, 80.0),
}
WRONG = Outcome(Status.WRONG, "output 'y': relative L2 error 0.5 > 0.001", error=0.5)
Write = Callable[..., RunData]


@pytest.fixture
def ablated(write_run: Write, good: Outcome) -> Callable[..., RunData]:
    """A run with these variants; cells of `wrong` (network, variant) do not count."""

    def write(*names: str, wrong: tuple[tuple[str, str], ...] = ()) -> RunData:
        groups: dict[tuple[str, int], Mapping] = {
            (network, 1): {
                name: (SLOWER[name][place], WRONG if (network, name) in wrong else good) for name in names
            }
            for place, network in enumerate(("swin", "vit"))
        }
        return write_run(groups, names)

    return write


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in (*table.rows, *table.footers)]


@pytest.mark.parametrize(
    ("framework", "off"),
    [
        ("ours", ()),
        ("ours:without-sink", ("sink",)),
        ("ours:without-sink-layout", ("sink", "layout")),
        ("ort:no-mem-pattern", ("mem-pattern",)),
        ("mnn:bf16", ()),
        ("no-such", ()),
    ],
)
def test_a_variant_says_what_is_off(framework: str, off: tuple[str, ...]) -> None:
    assert switched_off(framework) == off


def test_each_alone_the_most_useful_first(ablated: Callable) -> None:
    (found,) = ablations(ablated(*(name for name in SLOWER if "-sink-" not in name and name != "ort"), "ort"))
    assert [step.optimisation for step in found.steps] == ["rewrite", "sink", "layout"]
    assert [step.factor.estimate for step in found.steps] == pytest.approx([1.5, 1.2, 1.1], rel=1e-2)
    assert found.ladder is None, "no variant lies inside another"


def test_a_ladder_multiplies_to_the_whole(ablated: Callable) -> None:
    (found,) = ablations(ablated(*SLOWER))
    assert found.ladder is not None
    assert [rung.optimisation for rung in found.ladder.rungs] == ["rewrite", "sink", "layout"]
    factors = [rung.factor.estimate for rung in found.ladder.rungs]
    assert prod(factors) == pytest.approx(found.ladder.whole.estimate, rel=1e-12)
    assert found.ladder.whole.estimate == pytest.approx((2.6 * 1.95) ** 0.5, rel=1e-2)
    assert factors[2] == pytest.approx(1.1, rel=1e-2), "the last one comes on where all others are"
    assert factors[0] != pytest.approx(found.steps[0].factor.estimate, rel=0.05), "they overlap"


def test_the_tables_say_the_order(ablated: Callable) -> None:
    (found,) = ablations(ablated(*SLOWER))
    alone, ladder = ablation_tables(found)
    assert [row[0] for row in texts(alone)] == ["rewrite", "sink", "layout"]
    assert "one is off at a time" in alone.remarks[0]
    assert [row[0] for row in texts(ladder)] == ["+ rewrite", "+ sink", "+ layout", "all"]
    assert "rewrite comes on first, then sink, then layout" in ladder.remarks[0]
    assert "over 2 networks" in ladder.remarks[0]


def test_a_ladder_goes_over_networks_that_have_all_of_it(ablated: Callable) -> None:
    (found,) = ablations(ablated(*SLOWER, wrong=(("vit", "ours:without-sink-layout"),)))
    assert found.ladder is not None
    assert (found.ladder.count, found.ladder.missing) == (1, ("vit",))
    assert found.ladder.whole.estimate == pytest.approx(2.6, rel=1e-2)
    assert "left out, because a variant does not count there: vit" in ablation_tables(found)[1].remarks
    assert found.steps[0].count == 2, "alone it is still known"


def test_no_ladder_where_nothing_has_all_of_it(ablated: Callable) -> None:
    wrong = tuple((network, "ours:without-sink-layout") for network in ("swin", "vit"))
    (found,) = ablations(ablated(*SLOWER, wrong=wrong))
    assert found.ladder is None
    assert len(ablation_tables(found)) == 1


def test_a_run_without_variants_has_none(ablated: Callable) -> None:
    assert ablations(ablated("ours", "ort")) == ()
