"""What `bench doctor` found out about a machine, kept in the journal: how small a difference it shows."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from benchsuite.device.protocol import Facts
from benchsuite.doctor import Diagnosis
from benchsuite.journal import Journal

KIND = "diagnosis"
MACHINE = ("processor", "logical_cores")
"""Facts that must agree before a diagnosis is taken for that of another run's machine."""


@dataclass(frozen=True, slots=True)
class KeptDiagnosis:
    """An A/A test of the past: `detectable` is a relative difference, as in `Diagnosis`.

    `machine` are the values of `MACHINE` when it was made.
    """

    device: str
    threads: int
    model: str
    framework: str
    measured_at: str
    blocks: int
    comparisons: int
    detectable: float
    machine: tuple[str, ...]


def keep_diagnosis(
    journal: Journal, device: str, facts: Facts, threads: int, model: str, framework: str, found: Diagnosis
) -> None:
    """Keep the result of an A/A test in place of the last one of that machine and thread count."""
    kept = KeptDiagnosis(
        device=device,
        threads=threads,
        model=model,
        framework=framework,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        blocks=found.blocks,
        comparisons=found.comparisons,
        detectable=found.detectable,
        machine=machine_of(facts),
    )
    journal.save_note(KIND, " ".join((device, f"{threads}t", *kept.machine)), asdict(kept))


def kept_diagnoses(journal: Journal, device: str, facts: Facts) -> tuple[KeptDiagnosis, ...]:
    """The latest A/A tests of this device on this machine, one a thread count, fewest threads first."""
    found = (one for one in _read(journal) if (one.device, one.machine) == (device, machine_of(facts)))
    return tuple(sorted(found, key=lambda one: one.threads))


def machine_of(facts: Facts) -> tuple[str, ...]:
    """What tells one machine from another."""
    return tuple(str(facts.get(name)) for name in MACHINE)


def _read(journal: Journal) -> Iterator[KeptDiagnosis]:
    for document in journal.notes(KIND).values():
        yield _from_document(document)


def _from_document(document: Mapping[str, Any]) -> KeptDiagnosis:
    return KeptDiagnosis(**{**document, "machine": tuple(document["machine"])})
