"""What was said about each night: how many cells became slower or broke, and who accepted that."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from benchsuite.journal import Journal

VERDICT, ACCEPTED = "night", "accepted"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Somebody said that a night's level is the one to compare with from then on, and `why`."""

    at: str
    why: str


def keep_verdict(journal: Journal, run: int, regressions: int) -> None:
    """Keep how many cells of a night became slower or broke; the last look at a night counts."""
    journal.save_note(VERDICT, str(run), {"regressions": regressions})


def regressed(journal: Journal) -> frozenset[int]:
    """Nights with cells that became slower or broke."""
    verdicts = journal.notes(VERDICT).items()
    return frozenset(int(run) for run, document in verdicts if int(document["regressions"]))


def accept(journal: Journal, run: int, why: str) -> None:
    """Keep that somebody accepted a night's level."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    journal.save_note(ACCEPTED, str(run), asdict(Acceptance(now, why)))


def accepted(journal: Journal) -> Mapping[int, Acceptance]:
    """Nights whose level was accepted by hand."""
    return {int(run): Acceptance(**document) for run, document in journal.notes(ACCEPTED).items()}
