"""The plan: groups in a sensible order, and what cannot run refused with its reason."""

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.catalogue import adapter
from adapters.ort import ORT
from benchsuite import facts
from benchsuite.facts import harness_facts
from benchsuite.plan import plan
from benchsuite.record import GroupKey, Outcome, Status
from models.model import Model

BOTH = [adapter("ort"), adapter("ort-noopt")]


def test_network_by_network_thread_counts_inside(network: Model) -> None:
    other = replace(network, name="other", digest="0123")
    groups = plan([network, other], BOTH, "local", (1, 2), "fp32")
    assert [(group.key.model, group.key.threads) for group in groups] == [
        ("tiny", 1),
        ("tiny", 2),
        ("other", 1),
        ("other", 2),
    ]
    assert all(group.setting.threads == group.key.threads for group in groups)
    assert [cell.key.framework for cell in groups[0].cells] == ["ort", "ort-noopt"]
    assert groups[0].key == GroupKey("tiny", "local", 1, "fp32")
    assert {cell.model_digest for cell in groups[2].cells} == {"0123"}
    assert all(cell.outcome is None for group in groups for cell in group.cells)


def test_what_a_reader_must_know_is_in_the_cell(network: Model) -> None:
    (group,) = plan([network], BOTH, "local", (1,), "fp32")
    assert [cell.notes for cell in group.cells] == [one.notes for one in BOTH]


def test_a_framework_refuses_a_precision(network: Model) -> None:
    (group,) = plan([network], BOTH, "local", (1,), "bf16")
    for cell in group.cells:
        assert cell.outcome is not None
        assert cell.outcome.status is Status.REFUSED
        assert "bf16" in cell.outcome.reason


def test_a_framework_that_is_not_installed_is_refused(network: Model) -> None:
    missing = replace(ORT, name="missing", distribution="no-such-distribution")
    (group,) = plan([network], [ORT, missing], "local", (1,), "fp32")
    assert [cell.outcome for cell in group.cells] == [
        None,
        Outcome(Status.REFUSED, "no-such-distribution is not installed: `bench frameworks install missing`"),
    ]


def test_the_harness_tells_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert set(harness_facts()) == {"bench_version", "bench_commit", "bench_dirty"}
    monkeypatch.setattr(facts, "ROOT", tmp_path)
    assert (harness_facts()["bench_commit"], harness_facts()["bench_dirty"]) == (None, None)
