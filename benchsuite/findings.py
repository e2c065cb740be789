"""What a reader must know before calling a framework slow here: conclusions from an inspection's facts, one
function a kind.
"""

from collections.abc import Callable, Iterator

from adapters.catalogue import ADAPTERS, adapter, notes_of
from benchsuite.frameworks_doctor import Inspection, Look
from benchsuite.threads import SPINNING_SHARE

RARE_SHARE = 0.1
NOTABLE_RATIO = 0.98
WIDEST_FIRST = (("avx512f", "AVX-512 FMA"), ("avx2", "AVX2 FMA"), ("sve", "SVE FMA"), ("asimd", "NEON FMA"))
"""Flags of a processor and the multiply-adds that they allow: the first that it has is its best."""

Finder = Callable[[Inspection, Look, str], Iterator[str]]


def best_isa(processor_flags: str) -> str | None:
    """The widest fp32 multiply-add of a processor with these flags (`host_facts()["isa"]`)."""
    flags = processor_flags.split()
    return next((isa for flag, isa in WIDEST_FIRST if flag in flags), None)


def findings(inspection: Inspection, look: Look, processor_flags: str) -> tuple[str, ...]:
    """All findings of a framework at one thread count, as footnotes."""
    if look.refused:
        return tuple(_refused(look))
    texts = [text for finder in FINDERS for text in finder(inspection, look, processor_flags)]
    return (*texts, *notes_of(inspection.row))


def _refused(look: Look) -> Iterator[str]:
    yield look.refused


def _binary_without(inspection: Inspection, look: Look, flags: str) -> Iterator[str]:
    best = best_isa(flags)
    anywhere = {isa for binary in look.binaries for isa in binary.scan.counts}
    if best is not None and best not in anywhere:
        yield (
            f"no {best} in what is installed, although this processor has it: "
            "a build from source may be faster"
        )


def _not_used(inspection: Inspection, look: Look, flags: str) -> Iterator[str]:
    best = best_isa(flags)
    there = any(best in binary.scan.counts for binary in look.binaries)
    samples = look.samples
    if there and best and samples.multiply_adds and samples.part(best) < RARE_SHARE:
        yield f"has {best} but hardly uses it: {samples.part(best):.0%} of its multiply-adds in the probe"


def _unknown_at_run_time(inspection: Inspection, look: Look, flags: str) -> Iterator[str]:
    if look.samples.refused:
        yield f"instruction sets at run time are unknown: {look.samples.refused}"


def _precision(inspection: Inspection, look: Look, flags: str) -> Iterator[str]:
    found = look.precision
    if found is None:
        return
    if found.name != "fp32":
        yield f"computes in {found.name}, not in fp32 as asked: its times are of another class"
    elif not found.sums_exact:
        yield "adds up in fewer bits than fp32 has"
    said = look.facts.get("precision", found.name)
    if said != found.name:
        yield f"says that it computes in {said}, and computes in {found.name}"


def _threads(inspection: Inspection, look: Look, flags: str) -> Iterator[str]:
    if look.use is not None and len(look.use.busy) != look.threads:
        yield f"asked for {look.threads} threads, {len(look.use.busy)} computed"
    if look.use is not None and len(look.use.busy_cores) < min(len(look.use.busy), look.threads):
        yield f"its {len(look.use.busy)} threads shared {len(look.use.busy_cores)} cores"


def _spins(inspection: Inspection, look: Look, flags: str) -> Iterator[str]:
    if look.idle is not None and look.idle.cores_used > SPINNING_SHARE:
        yield f"its idle worker uses {look.idle.cores_used:.0%} of a core: it disturbs the others"


def _untuned(inspection: Inspection, look: Look, flags: str) -> Iterator[str]:
    row = inspection.row
    tuned = [name for name in ADAPTERS if name.startswith(f"{row.name}-") and adapter(name).tuned]
    if not row.tuned and tuned:
        yield f"not tuned for the network: `{tuned[0]}` is"


def _better_setting(inspection: Inspection, look: Look, flags: str) -> Iterator[str]:
    for row in inspection.tried:
        high = row["high"]  # None when no network had a number
        if row["threads"] == look.threads and high is not None and high < NOTABLE_RATIO:
            yield f"its variant {row['variant']} was faster: {row['ratio']:.2f} of the default's time"


FINDERS: tuple[Finder, ...] = (
    _precision,
    _binary_without,
    _not_used,
    _unknown_at_run_time,
    _threads,
    _spins,
    _untuned,
    _better_setting,
)
"""In the order of the footnotes."""
