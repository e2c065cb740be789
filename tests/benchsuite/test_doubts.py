"""Every doubt arises where it should and stays silent where it should; `CHECKS` is walked."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from benchsuite.device.protocol import Telemetry
from benchsuite.doubts import CHECKS, doubts_of
from benchsuite.record import (
    Block,
    CellKey,
    CellRecord,
    GroupKey,
    GroupRecord,
    Loading,
    Outcome,
    Status,
    Turn,
)

KEY = GroupKey("net", "local", 1, "fp32")
TYPICAL_NS = 1_000_000
TURNS_SECONDS = 0.4
"""Processor time of both turns of a block."""


def group(
    run_ns: Sequence[float] = (TYPICAL_NS,) * 20,
    *,
    sessions: Sequence[int] | None = None,
    first: Sequence[bool] | None = None,
    clocks_mhz: Sequence[float | None] = (2000.0,),
    others_seconds: float = 0.0,
    steal_seconds: float = 0.0,
    block_seconds: float = 0.5,
    restarts: int = 0,
    unfit: str | None = None,
    thermal_status: int | None = None,
    clock_limit_share: float | None = None,
    outputs: str | None = None,
) -> GroupRecord:
    """A group of two frameworks on two cores; the latencies are those of `ours`, one a block."""
    blocks = []
    for number, value in enumerate(run_ns):
        position = int(not (first[number] if first is not None else number % 2 == 0))
        turns = {
            "ours": Turn(position, (round(value),) * 3, (0,) * 3, round(TURNS_SECONDS / 2 * 1e9)),
            "theirs": Turn(1 - position, (TYPICAL_NS,) * 3, (0,) * 3, round(TURNS_SECONDS / 2 * 1e9)),
        }
        before = Telemetry(
            clock_mhz=clocks_mhz[number % len(clocks_mhz)],
            busy_seconds=number * 1.0,
            total_seconds=number * 2 * block_seconds,
            steal_seconds=number * steal_seconds,
            unfit=unfit,
            thermal_status=thermal_status,
            clock_limit_share=clock_limit_share,
        )
        after = replace(
            before,
            busy_seconds=number * 1.0 + TURNS_SECONDS + others_seconds,
            total_seconds=(number + 1) * 2 * block_seconds,
            steal_seconds=(number + 1) * steal_seconds,
        )
        session = sessions[number] if sessions is not None else 0
        blocks.append(Block(number, session, turns, before, after))
    cells = {
        name: CellRecord(CellKey(KEY, name), "digest", restarts=restarts if name == "ours" else 0)
        for name in ("ours", "theirs")
    }
    if outputs is not None:
        told = Loading(0.0, 0, 0, (TYPICAL_NS,), 3, 0, facts={"outputs": outputs}, options={})
        cells["ours"] = replace(cells["ours"], loading=told, outcome=Outcome(Status.OK))
    return GroupRecord(KEY, cells, tuple(blocks))


def ramp(ratio: float) -> list[float]:
    return list(np.linspace(TYPICAL_NS, TYPICAL_NS * ratio, 20))


def levels(low: int, high: int, ratio: float) -> list[float]:
    return [TYPICAL_NS] * low + [TYPICAL_NS * ratio] * high


def first_is_slower(ratio: float) -> list[float]:
    return [TYPICAL_NS * (ratio if number % 2 == 0 else 1) for number in range(20)]


NOISY = [TYPICAL_NS * factor for factor in np.random.default_rng(3).normal(1.0, 0.25, 20)]
QUIET = [TYPICAL_NS * factor for factor in np.random.default_rng(3).normal(1.0, 0.005, 20)]

RAISED: dict[str, tuple[str, GroupRecord, str]] = {
    "_unfit": ("not fit", group(unfit="skin at 41 °C"), "measured hot or low: skin at 41 °C"),
    "_clock_capped": (
        "clock capped",
        group(clock_limit_share=0.8),
        "the system allowed only 80% of the highest clock",
    ),
    "_few_blocks": ("few blocks", group([TYPICAL_NS] * 9), "only 9 of at least 10 blocks"),
    "_noisy": ("noisy", group(NOISY), "the latency's interval is ±"),
    "_drift": ("throttled", group(ramp(1.2)), "became 14% slower during the run"),
    "_clock_changed": (
        "clock changed",
        group(clocks_mhz=(2000.0, 1800.0)),
        "the clock moved between 1800 and 2000 MHz",
    ),
    "_unstable_order": (
        "unstable order",
        group(first_is_slower(1.1), first=[number % 2 == 0 for number in range(20)]),
        "the place in the block changes the latency by 10%",
    ),
    "_others_busy": (
        "busy machine",
        group(others_seconds=0.3),
        "other programs used 30% of the processor during the blocks",
    ),
    "_stolen": ("stolen time", group(steal_seconds=0.05), "the hypervisor took 5% of the processor away"),
    "_sessions_differ": (
        "sessions differ",
        group(levels(10, 10, 1.1), sessions=[0] * 10 + [1] * 10),
        "latency differs by 10% between before and after a resume",
    ),
    "_restarted": ("restarted", group(restarts=2), "its worker died and was started anew 2×"),
    "_unchecked": (
        "outputs not checked",
        group(outputs="not checked: its command has no {output}"),
        "outputs not checked: its command has no {output}",
    ),
}

SILENT: dict[str, GroupRecord] = {
    "clean": group(),
    "a phone that is cool": group(thermal_status=0, clock_limit_share=1.0),
    "a limit within 5 %": group(clock_limit_share=0.96),
    "a little noise": group(QUIET),
    "a little drift": group(ramp(1.04)),
    "clock within 5 %": group(clocks_mhz=(2000.0, 1901.0)),
    "a device that tells no clock": group(clocks_mhz=(None,)),
    "others a little busy": group(others_seconds=0.09),
    "others busy for less than the kernel's ticks": group(others_seconds=0.1, block_seconds=0.14),
    "a little stolen": group(steal_seconds=0.019),
    "sessions alike": group(levels(10, 10, 1.04), sessions=[0] * 10 + [1] * 10),
    "a session too short to judge": group(levels(18, 2, 1.2), sessions=[0] * 18 + [1] * 2),
    "outputs that were checked": group(outputs="checked"),
    "first a little slower": group(first_is_slower(1.02)),
}


def kinds(record: GroupRecord, framework: str = "ours") -> list[str]:
    return [doubt.kind for doubt in doubts_of(record, framework)]


def test_every_check_has_a_test() -> None:
    assert list(RAISED) == [check.__name__ for check in CHECKS]


@pytest.mark.parametrize("name", RAISED)
def test_a_doubt_arises(name: str) -> None:
    kind, record, text = RAISED[name]
    found = {doubt.kind: doubt for doubt in doubts_of(record, "ours")}
    assert kind in found
    assert found[kind].text.startswith(text)
    assert found[kind].advice
    assert str(found[kind]) == f"{found[kind].text}: {found[kind].advice}"


@pytest.mark.parametrize("name", SILENT)
def test_a_good_group_raises_no_doubt(name: str) -> None:
    assert kinds(SILENT[name]) == []


@pytest.mark.parametrize("name", [name for name in RAISED if name in {"_restarted", "_drift", "_noisy"}])
def test_doubts_are_of_one_cell(name: str) -> None:
    assert RAISED[name][0] not in kinds(RAISED[name][1], "theirs")


def test_warming_up_while_measured_is_no_fit_state() -> None:
    (doubt,) = doubts_of(group(thermal_status=2), "ours")
    assert (doubt.kind, doubt.text) == ("not fit", "thermal status above none after 20 blocks")


def test_becoming_faster_is_another_doubt() -> None:
    (doubt,) = [one for one in doubts_of(group(ramp(0.8)), "ours") if one.kind == "drift"]
    assert doubt.text == "became 15% faster during the run"
    assert doubt.advice == "warm up longer"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_blocks_are_not_judged_for_drift(count: int) -> None:
    assert kinds(group(ramp(2.0)[:count])) in (["few blocks"], ["few blocks", "noisy"])


def test_a_cell_without_blocks_has_no_doubts() -> None:
    record = group()
    cell = CellRecord(CellKey(KEY, "refused"), "digest")
    assert doubts_of(replace(record, cells={**record.cells, "refused": cell}), "refused") == ()


def test_blocks_that_miss_the_framework_do_not_count() -> None:
    """A worker that died in a block left no turn there."""
    record = group([TYPICAL_NS] * 12)
    alone = [
        replace(block, turns={"theirs": block.turns["theirs"]}) if block.number < 4 else block
        for block in record.blocks
    ]
    assert kinds(replace(record, blocks=tuple(alone))) == ["few blocks"]
    assert kinds(replace(record, blocks=tuple(alone)), "theirs") == []


@pytest.mark.parametrize("spoil", [lambda _: Telemetry(), lambda state: replace(state, busy_seconds=None)])
def test_a_device_that_tells_nothing_raises_no_doubt(spoil: Callable[[Telemetry], Telemetry]) -> None:
    record = group(others_seconds=0.3)
    blocks = tuple(
        replace(block, before=spoil(block.before), after=spoil(block.after)) for block in record.blocks
    )
    assert kinds(replace(record, blocks=blocks)) == []
