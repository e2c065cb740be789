"""How large a difference between two runs must be before it is believed, and where that number comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchsuite.diagnoses import KeptDiagnosis, kept_diagnoses
from benchsuite.journal import Journal
from reports.cells import RunData
from reports.wording import counted

EFFECT = 0.02
"""What bench itself calls a difference. An A/A test compares inside one run; two runs differ by more than
that, so a machine that sees less is not believed to see it between runs: that is for `--detectable`.
"""


@dataclass(frozen=True, slots=True)
class Detectable:
    """A relative difference, and in words where it comes from."""

    share: float
    source: str


UNMEASURED = Detectable(
    EFFECT,
    "bench's own: no A/A test of this machine is in the journal, `bench doctor` makes one",
)


def asked_for(share: float) -> Detectable:
    """What the user typed."""
    return Detectable(share, "--detectable")


def detectable_of(journal: Journal, data: RunData) -> Detectable:
    """The difference that the machine of a run is known to see: the largest of its A/A tests in the journal
    with the run's thread counts, and never below `EFFECT`.
    """
    options = data.run.options
    kept = kept_diagnoses(journal, options.device, data.run.facts)
    return _from_tests([one for one in kept if one.threads in options.threads])


def _from_tests(kept: Sequence[KeptDiagnosis]) -> Detectable:
    if not kept:
        return UNMEASURED
    worst = max(kept, key=lambda one: one.detectable)
    threads = counted(worst.threads, "thread")
    seen = (
        f"`bench doctor` of {worst.measured_at[:10]}, {worst.framework} on {worst.model} with {threads}:"
        f" {worst.detectable:.1%}"
    )
    if worst.detectable < EFFECT:
        return Detectable(EFFECT, f"{seen} inside a run, and between runs never below {EFFECT:.0%}")
    return Detectable(worst.detectable, seen)
