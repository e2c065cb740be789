"""`bench doctor --frameworks`: is every framework at its best on this machine?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path

from rich.console import Console
from rich.status import Status

from adapters.catalogue import ADAPTERS
from benchsuite.cli.options import names, print_json
from benchsuite.device.host import host_facts
from benchsuite.findings import findings
from benchsuite.frameworks_doctor import Inspection, Look, inspect
from benchsuite.policy import Policy
from reports.as_rich import draw_rich
from reports.footnotes import Footnotes
from reports.table import Style, Table, TableCell, cells

ALL = "all"
SCHEMA = "bench.doctor.frameworks/1"
FOUND_COLUMNS = cells(
    *("framework", "threads", "version", "precision", "in the binary", "at run time"),
    *("busy", "cores", "idle"),
)
HOW_COLUMNS = cells("framework", "fact", "value")
TRIED_COLUMNS = cells("framework", "variant", "threads", "networks", "time ÷ default's", "options")
MOST_ISAS = 3
SMALL_SHARE = 0.02


def show_frameworks(
    selection: str, thread_counts: Sequence[int], policy: Policy, cache: Path, form: str
) -> int:
    """Inspect and print; the exit code is 1 when nothing could be looked at."""
    console = Console(stderr=True)
    with console.status("looking at the frameworks") as status:
        found = [_inspect(name, thread_counts, policy, cache, status) for name in selected(selection)]
    flags = str(host_facts()["isa"])
    if form == "json":
        print_json(SCHEMA, facts=dict(host_facts()), frameworks=[_document(one, flags) for one in found])
    else:
        for table in (_found_table(found, flags), _how_table(found), _tried_table(found)):
            if table.rows:
                draw_rich(table, Console())
    return int(all(look.refused for one in found for look in one.looks))


def selected(selection: str) -> tuple[str, ...]:
    """Names of frameworks from what the user typed: `all`, or a comma list."""
    return tuple(ADAPTERS) if selection.strip().lower() == ALL else names(selection)


def _inspect(
    name: str, thread_counts: Sequence[int], policy: Policy, cache: Path, status: Status
) -> Inspection:
    return inspect(name, thread_counts, policy=policy, cache=cache, say=lambda text: status.update(text))


def _found_table(found: Sequence[Inspection], flags: str) -> Table:
    notes = Footnotes()
    rows = []
    for one in found:
        for look in one.looks:
            marks = tuple(notes.number(text) for text in findings(one, look, flags))
            rows.append((TableCell(one.row.name, notes=marks), *_found(one, look)))
    remarks = (
        f"this processor: {flags}",
        "in the binary: multiply-adds by their encodings; at run time: the nearest one to where threads were",
        "busy: threads that used 5 % or more of the time; idle: CPU time of a loaded worker in one second",
    )
    title = "Frameworks on this machine, by looking at their workers"
    return Table(title, FOUND_COLUMNS, tuple(rows), notes=notes.texts, remarks=remarks, key_columns=2)


def _found(one: Inspection, look: Look) -> tuple[TableCell, ...]:
    if look.refused or look.use is None or look.idle is None or look.precision is None:
        return (*cells(str(look.threads), one.version or "–"), *(TableCell("–", Style.MISSING),) * 6)
    return cells(
        str(look.threads),
        one.version or look.facts.get("version", ""),
        look.precision.name + ("" if look.precision.sums_exact else ", narrow sums"),
        _most(look.in_binary),
        _shares(look),
        str(len(look.use.busy)),
        ", ".join(map(str, sorted(look.use.busy_cores))),
        f"{look.idle.cores_used * 1000:.0f} ms",
    )


def _most(counts: Mapping[str, int]) -> str:
    return ", ".join(sorted(counts, key=lambda isa: -counts[isa])[:MOST_ISAS]) or "none"


def _shares(look: Look) -> str:
    if not look.samples.total:
        return "unknown"
    shares = sorted(look.samples.by_isa, key=look.samples.share, reverse=True)
    seen = [isa for isa in shares if look.samples.share(isa) >= SMALL_SHARE]
    return ", ".join(f"{look.samples.share(isa):.0%} {isa or 'other'}" for isa in seen)


def _how_table(found: Sequence[Inspection]) -> Table:
    """How each one is run; what depends on the thread count is in the other table."""
    rows = []
    for one in found:
        facts = _how(one).items()
        rows += [cells("" if number else one.row.name, *fact) for number, fact in enumerate(facts)]
    return Table("How each is run", HOW_COLUMNS, tuple(rows), text_columns=3)


def _how(one: Inspection) -> dict[str, str]:
    facts = {"what it is": one.row.title, "environment": one.row.environment}
    facts["tuned"] = "yes" if one.row.tuned else "no"
    good = next((look for look in one.looks if not look.refused), None)
    if good is None:
        return facts
    said = {key: value for key, value in good.facts.items() if key != "threads"}
    code = {
        f"code in {Path(binary.path).name or 'memory only'}": _counts(binary.scan.counts)
        for binary in good.binaries
        if binary.scan.counts
    }
    return {**facts, "converter": good.converter, **said, **code}


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {isa}" for isa, count in counts.items()) or "no multiply-add"


def _tried_table(found: Sequence[Inspection]) -> Table:
    rows = [
        cells(
            one.row.name,
            row["variant"],
            str(row["threads"]),
            str(row["networks"] if isinstance(row["networks"], int) else len(row["networks"])),
            f"{row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            ", ".join(f"{key}={value}" for key, value in row["options"].items()),
        )
        for one in found
        for row in one.tried
    ]
    remark = "above 1: the variant is slower than the default; geometric means with their intervals"
    return Table("What was tried to make them faster", TRIED_COLUMNS, tuple(rows), remarks=(remark,))


def _document(one: Inspection, flags: str) -> dict[str, object]:
    row = one.row
    return {
        "name": row.name,
        "title": row.title,
        "version": one.version,
        "environment": row.environment,
        "tuned": row.tuned,
        "options": dict(row.options),
        "looks": [_look_document(one, look, flags) for look in one.looks],
        "tried": [dict(tried) for tried in one.tried],
    }


def _look_document(one: Inspection, look: Look, flags: str) -> dict[str, object]:
    use, precision = look.use, look.precision
    return {
        "threads": look.threads,
        "refused": look.refused,
        "facts": dict(look.facts),
        "converter": look.converter,
        "placement": look.placement,
        "latency_ms": look.median_ns / 1e6 if use else None,
        "busy_threads": len(use.busy) if use else None,
        "busy_cores": sorted(use.busy_cores) if use else None,
        "cores_used": round(use.cores_used, 3) if use else None,
        "idle_cores_used": round(look.idle.cores_used, 4) if look.idle else None,
        "binaries": [
            {"path": binary.path, "code_bytes": binary.scan.code_bytes, "counts": dict(binary.scan.counts)}
            for binary in look.binaries
        ],
        "samples": {
            "by_isa": dict(look.samples.by_isa),
            "by_file": dict(look.samples.by_file),
            "refused": look.samples.refused,
        },
        **({"precision": _finite(asdict(precision))} if precision else {}),
        "findings": list(findings(one, look, flags)),
    }


def _finite(values: Mapping[str, object]) -> dict[str, object]:
    """JSON has no infinity: all bits that survived are null."""
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in values.items()}
