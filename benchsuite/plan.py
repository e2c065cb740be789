"""From what the user asked for to groups of cells; what cannot run is refused here, with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapters.catalogue import installed_version
from adapters.protocol import Adapter, Setting
from benchsuite.record import CellKey, CellRecord, GroupKey, Outcome, Status
from models.model import Model


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """One network in one setting, with every framework that will be measured against the others."""

    key: GroupKey
    model: Model
    setting: Setting
    adapters: tuple[Adapter, ...]
    cells: tuple[CellRecord, ...]


def plan(
    models: Sequence[Model], adapters: Sequence[Adapter], device: str, threads: Sequence[int], precision: str
) -> tuple[PlannedGroup, ...]:
    """All groups in the order in which they run: network by network, thread counts inside."""
    return tuple(
        _group(model, adapters, GroupKey(model.name, device, count, precision))
        for model in models
        for count in threads
    )


def _group(model: Model, adapters: Sequence[Adapter], key: GroupKey) -> PlannedGroup:
    setting = Setting(threads=key.threads, precision=key.precision)
    cells = tuple(_cell(model, adapter, key, setting) for adapter in adapters)
    return PlannedGroup(key, model, setting, tuple(adapters), cells)


def _cell(model: Model, adapter: Adapter, key: GroupKey, setting: Setting) -> CellRecord:
    cell = CellRecord(key=CellKey(key, adapter.name), model_digest=model.digest, notes=adapter.notes)
    reason = adapter.refuse(setting)
    if reason is None and installed_version(adapter) is None:
        reason = f"{adapter.distribution} is not installed: `pip install {adapter.distribution}`"
    return replace(cell, outcome=Outcome(Status.REFUSED, reason)) if reason else cell
