"""Against the best peer: the fastest other framework of each network, never a variant of the same one."""

import json
from collections.abc import Callable

import pytest

from benchsuite.record import Outcome
from models.errors import BenchError
from reports.as_data import json_text
from reports.cells import RunData
from reports.speedup import BEST_PEER, choose_reference, speedup_table, speedups


@pytest.fixture
def race(write_run: Callable, good: Outcome) -> RunData:
    """Ours is fastest on swin; on vit tvm is; a variant of ours is faster than anyone on both."""
    groups = {
        ("swin", 1): {
            "ours": (10.0, good),
            "ours:no-fuse": (9.0, good),
            "tvm": (20.0, good),
            "mnn": (15.0, good),
        },
        ("vit", 1): {
            "ours": (10.0, good),
            "ours:no-fuse": (9.0, good),
            "tvm": (5.0, good),
            "mnn": (None, None),
        },
    }
    data: RunData = write_run(groups, ("ours", "ours:no-fuse", "tvm", "mnn"))
    return data


def test_the_best_other_framework_of_each_network_is_the_peer(race: RunData) -> None:
    document = json.loads(json_text(race, speedups(race, BEST_PEER)))
    found = {(row["model"], row["framework"]): (row["peer"], row["speedup"]) for row in document["rows"]}
    assert found["swin", "ours"] == ("mnn", pytest.approx(1.5))
    assert found["vit", "ours"] == ("tvm", pytest.approx(0.5))
    assert found["swin", "ours:no-fuse"] == ("mnn", pytest.approx(15 / 9))
    assert found["swin", "tvm"] == ("ours:no-fuse", pytest.approx(0.45))
    assert found["vit", "mnn"] == ("tvm", None)
    assert document["baseline"] == BEST_PEER
    (mean,) = [mean for mean in document["means"] if mean["framework"] == "ours"]
    assert (mean["count"], mean["speedup"]) == (2, pytest.approx((1.5 * 0.5) ** 0.5))


def test_the_table_names_the_peer(race: RunData) -> None:
    table = speedup_table(race, speedups(race, BEST_PEER))
    assert "speedup over the best peer" in table.title
    assert [cell.text for cell in table.columns][:4] == ["network", "threads", "ours ms", "ours speedup"]
    assert table.rows[0][3].text.startswith("1.50× [")
    assert table.rows[0][3].text.endswith("] mnn")
    assert len(table.footers[0]) == len(table.columns)


def test_one_framework_alone_can_be_judged(race: RunData) -> None:
    result = speedups(race, BEST_PEER, "ours")
    assert [(row.model, row.framework, row.baseline) for row in result.rows] == [
        ("swin", "ours", "mnn"),
        ("vit", "ours", "tvm"),
    ]
    table = speedup_table(race, result)
    assert [cell.text for cell in table.columns] == ["network", "threads", "ours ms", "ours speedup"]


def test_one_framework_has_no_peer(write_run: Callable, good: Outcome) -> None:
    data = write_run({("swin", 1): {"ort": (1.0, good)}}, ("ort",))
    (row,) = speedups(data, BEST_PEER).rows
    assert (row.baseline, row.speedup) == ("", None)


def test_what_speedups_are_relative_to(race: RunData) -> None:
    assert choose_reference(race, None, None) == "mnn"
    assert choose_reference(race, "TVM", None) == "tvm"
    assert choose_reference(race, None, "Best-Peer") == BEST_PEER
    assert choose_reference(race, None, "tvm") == "tvm"
    with pytest.raises(BenchError, match="one framework, not to two"):
        choose_reference(race, "tvm", "mnn")
    with pytest.raises(BenchError, match="no 'best-per'") as caught:
        choose_reference(race, None, "best-per")
    assert caught.value.hint == "did you mean best-peer?"
