"""The experimental setup of a run in sentences, from the facts that it wrote down; nothing is guessed."""

from dataclasses import fields

from benchsuite.ceiling import SOURCE, ceiling_of
from benchsuite.device.protocol import Facts
from benchsuite.gate import TOLERANCES
from benchsuite.policy import Policy
from benchsuite.stats import LEVEL
from reports.cells import RunData
from reports.wording import counted, listed, plural

GIGA = 1e9


def setup_text(data: RunData) -> str:
    """What a paper says before its table: what was measured, where, how, and with which versions."""
    return " ".join(filter(None, (_what(data), _where(data), _how(data), _versions(data), _ceilings(data))))


def versions(data: RunData) -> dict[str, str]:
    """Version of every framework, as it said itself; several where cells differ."""
    found: dict[str, dict[str, None]] = {name: {} for name in data.frameworks}
    for group in data.groups:
        for name, cell in group.cells.items():
            version = cell.record.loading.facts.get("version") if cell.record.loading else None
            if version:
                found[name][version] = None
    return {name: ", ".join(texts) for name, texts in found.items() if texts}


def _what(data: RunData) -> str:
    options = data.run.options
    networks = len({group.key.model for group in data.groups})
    frameworks = len(data.frameworks)
    return (
        f"We measured {counted(networks, 'network')} in {counted(frameworks, 'framework')}"
        f" with {listed([str(count) for count in options.threads])} CPU"
        f" {plural(max(options.threads), 'thread')},"
        f" batch and shapes as in the networks' graphs, in precision class {options.precision}."
    )


def _where(data: RunData) -> str:
    facts = data.run.facts
    cores, memory = facts.get("logical_cores"), facts.get("memory_bytes")
    parts = [
        f"{_fact(facts, 'processor')}" if facts.get("processor") else f"device {data.run.options.device}"
    ]
    if cores:
        parts.append(f"{cores} {'virtual' if facts.get('hypervisor') else 'logical'} cores")
    if isinstance(memory, int):
        parts.append(f"{memory / 2**30:.0f} GiB of memory")
    parts += [text for name in ("system", "kernel") if (text := _fact(facts, name))]
    governor = _fact(facts, "governor")
    clock = f" The frequency governor was {governor}." if governor else ""
    return f"The device was: {', '.join(parts)}.{clock}"


def _how(data: RunData) -> str:
    known = {field.name for field in fields(Policy)}
    limits = {name: value for name, value in data.run.options.policy.items() if name in known}
    policy = Policy(**limits)  # type: ignore[arg-type]
    tolerance = TOLERANCES.get(data.run.options.precision)
    gate = f" (relative L2 error at most {tolerance:g})" if tolerance else ""
    return (
        "Every framework ran in a process of its own on the same cores; a block measured each once, in a"
        f" seeded random order, {policy.block_seconds:g} s or one inference long, after a warm-up."
        f" Each network took {policy.least_blocks} to {policy.most_blocks} blocks, fewer when intervals were"
        f" within {policy.interval_width:.1%}. A latency is the median of the blocks' medians, a speedup the"
        f" ratio of two; intervals are {LEVEL:.0%} intervals of a bootstrap over blocks. A speedup counts"
        f" only where the outputs of the last timed run agree with unoptimised ONNX Runtime{gate}."
    )


def _versions(data: RunData) -> str:
    named = [f"{name} {version}" for name, version in versions(data).items()]
    facts = data.run.facts
    commit = _fact(facts, "bench_commit")[:12]
    ours = f"bench {_fact(facts, 'bench_version')}" if facts.get("bench_version") else "bench"
    ours += f" at commit {commit}" if commit else ""
    ours += " with uncommitted changes" if facts.get("bench_dirty") else ""
    return f"Versions: {', '.join([*named, ours])}."


def _ceilings(data: RunData) -> str:
    found = [ceiling_of(data.run.facts, count) for count in data.run.options.threads]
    texts = [
        f"{one.flops_per_second / GIGA:.0f} GFLOP/s and {one.bytes_per_second / GIGA:.1f} GB/s"
        f" with {counted(one.threads, 'thread')}"
        for one in found
        if one
    ]
    if not texts:
        return ""
    source = _fact(data.run.facts, SOURCE)
    return f"The device reached {listed(texts)} in the same run{f' ({source})' if source else ''}."


def _fact(facts: Facts, name: str) -> str:
    value = facts.get(name)
    return "" if value is None else str(value)
