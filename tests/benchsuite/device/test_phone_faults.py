"""One fault of each kind strikes a real `bench run` on the test phone; two phones at once; a hot phone.

`benchmarks/phone_faults.py` strikes at random points, as often as asked.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchsuite.doubts import doubts_of
from tests.phone.faults import FAULTS, Rig
from tests.phone.fixtures import require_phone
from tests.phone.host import AdbHome

pytestmark = pytest.mark.slow

LONG_S = 120.0
WAITING_S = 4.0
"""Longer than the two blocks take."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, adb_home: AdbHome) -> Iterator[Rig]:
    require_phone()
    with Rig(tmp_path_factory.mktemp("rig"), adb_home, networks=("convolutions",), blocks=2) as one:
        yield one


@pytest.mark.parametrize("kind", FAULTS)
def test_nothing_is_lost_wrong_or_left_over(rig: Rig, kind: str) -> None:
    outcome = rig.strike(kind, LONG_S, 1.0, blocks=1)
    assert outcome.wrong == ()
    assert outcome.blocks_before == 1


def loaded(rig: Rig) -> bool:
    return any(cell.loading for group in rig.groups for cell in group.cells.values())


def test_heat_is_waited_for_marked_and_doubted(rig: Rig) -> None:
    rig.phone.conditions.heat(skin=45.0, status=2)
    try:
        assert rig.finish(rig.start_new()) == 0
    finally:
        rig.phone.conditions.heat(skin=30.0, status=0)
    (group,) = rig.groups
    states = [block.before.unfit for block in group.blocks]
    assert states == ["thermal status moderate, skin 45.0 °C > 35"] * 2
    assert any("skin 45.0" in str(one) for one in doubts_of(group, "ours"))


def test_a_phone_that_cools_down_is_measured_then(rig: Rig) -> None:
    rig.phone.conditions.heat(skin=45.0, status=2)
    child = rig.start_new("--set", f"settle_seconds={LONG_S}")
    deadline = time.monotonic() + LONG_S
    while not loaded(rig) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(WAITING_S)
    assert rig.groups[0].blocks == ()
    rig.phone.conditions.heat(skin=30.0, status=0)
    assert rig.finish(child) == 0
    assert [block.before.unfit for block in rig.groups[0].blocks] == [None, None]


def test_two_phones_side_by_side_and_one_bench_a_phone(rig: Rig, adb_home: AdbHome, tmp_path: Path) -> None:
    with Rig(tmp_path, adb_home, networks=("convolutions",), blocks=2) as other:
        children = [rig.start_new(), other.start_new()]
        assert children[0].poll() is None
        second = other.start_new("--device", rig.phone.serial)
        assert other.finish(second) == 2
        assert "another bench is using this phone" in other.said
        assert [one.wait(LONG_S) for one in children] == [0, 0]
