"""From what the user asked for to groups of cells; what cannot run is refused here, with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapters.catalogue import installed_version, notes_of
from adapters.environments import why_unmakeable
from adapters.protocol import MAIN_ENVIRONMENT, Adapter, Setting
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
    cell = CellRecord(key=CellKey(key, adapter.name), model_digest=model.digest, notes=notes_of(adapter))
    reason = adapter.refuse(setting) or why_not_here(adapter)
    return replace(cell, outcome=Outcome(Status.REFUSED, reason)) if reason else cell


def why_not_here(adapter: Adapter) -> str | None:
    """Why a framework cannot run on this machine, with the line that installs it; None when it can, or when
    bench makes its environment on first use.
    """
    if adapter.environment != MAIN_ENVIRONMENT:
        return why_unmakeable(adapter.environment)
    if installed_version(adapter) is not None:
        return None
    extra = f"`pip install '.[{adapter.extra}]'` or " if adapter.extra else ""
    return f"{adapter.distribution} is not installed: {extra}`bench frameworks install {adapter.name}`"
