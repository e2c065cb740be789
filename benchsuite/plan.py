"""From what the user asked for to groups of cells; what cannot run is refused here, with its reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from adapters.catalogue import notes_of
from adapters.protocol import Adapter, Setting
from benchsuite.device.frameworks import HOST_TARGET, why_not_here
from benchsuite.record import CellKey, CellRecord, GroupKey, Outcome, Status
from models.model import Model

WhyNot = Callable[[Adapter], str | None]


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """One network in one setting, with every framework that will be measured against the others."""

    key: GroupKey
    model: Model
    setting: Setting
    adapters: tuple[Adapter, ...]
    cells: tuple[CellRecord, ...]


def plan(
    models: Sequence[Model],
    adapters: Sequence[Adapter],
    device: str,
    threads: Sequence[int],
    precision: str,
    *,
    target: str = HOST_TARGET,
    why_not: WhyNot = why_not_here,
) -> tuple[PlannedGroup, ...]:
    """All groups in the order in which they run: network by network, thread counts inside. `target` and
    `why_not` are the device's own.
    """
    return tuple(
        _group(model, adapters, GroupKey(model.name, device, count, precision), target, why_not)
        for model in models
        for count in threads
    )


def _group(
    model: Model, adapters: Sequence[Adapter], key: GroupKey, target: str, why_not: WhyNot
) -> PlannedGroup:
    setting = Setting(threads=key.threads, precision=key.precision, target=target)
    cells = tuple(_cell(model, adapter, key, setting, why_not) for adapter in adapters)
    return PlannedGroup(key, model, setting, tuple(adapters), cells)


def _cell(model: Model, adapter: Adapter, key: GroupKey, setting: Setting, why_not: WhyNot) -> CellRecord:
    cell = CellRecord(key=CellKey(key, adapter.name), model_digest=model.digest, notes=notes_of(adapter))
    reason = adapter.refuse(setting) or why_not(adapter)
    return replace(cell, outcome=Outcome(Status.REFUSED, reason)) if reason else cell
