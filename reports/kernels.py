"""How near every kernel comes to what the device can do, framework beside framework, and what that means for
the work that the networks have of its kind.

Kernels of a template that multiplies are judged by the measured peak, the others by the measured bandwidth of
the memory. What a kernel works on may stay in the caches, so a small one can pass 100 % of the bandwidth.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchsuite.ceiling import Ceiling, ceiling_of
from benchsuite.device.protocol import Facts
from benchsuite.stats import Interval
from models.errors import BenchError
from models.kernel_templates import TEMPLATES
from reports.cells import Group, RunData, typed_command
from reports.experiment import setup_text
from reports.footnotes import Footnotes
from reports.speedup import BEST_PEER, SpeedupRow, framework_cell, interval_text, latency_cell, speedups
from reports.table import Style, Table, TableCell, cells

SCHEMA = "bench.kernels/1"
GIGA, MEGA = 1e9, 1e6
HOW_COUNTED = (
    "n: how often the networks have it. Rates are 2 × multiply-accumulates a second with percent of the"
    " measured peak, or for templates without products the bytes of inputs, weights and results with percent"
    " of the measured bandwidth (small ones stay in the caches, and pass 100 %)."
)
HOW_SUMMED = (
    "Time and work of each kernel × n, added up over the kernels of this run; `covered` is their part of"
    " all work of the template in the chosen networks. Means leave out kernels that a framework did not do."
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the run remembers of a kernel; `work` of one call, in operations or bytes."""

    name: str
    template: str
    flops: int
    byte_count: int
    count: int
    networks: tuple[str, ...]

    @property
    def work(self) -> int:
        """Operations for a template that multiplies, else bytes."""
        return self.flops if TEMPLATES[self.template].is_arithmetic else self.byte_count


@dataclass(frozen=True, slots=True)
class Rate:
    """Operations or bytes a second; `share` of the measured peak or bandwidth, None if that is unknown."""

    per_second: float
    share: float | None


def kernel_of(facts: Facts, name: str) -> Kernel | None:
    """The kernel of that name; None for a network that is none."""
    template, flops, moved, count, networks = (
        facts.get(f"kernel.{name}.{fact}") for fact in ("template", "flops", "bytes", "count", "networks")
    )
    if not isinstance(template, str) or template not in TEMPLATES or not isinstance(networks, str):
        return None
    if not isinstance(flops, int) or not isinstance(moved, int) or not isinstance(count, int):
        return None
    return Kernel(name, template, flops, moved, count, tuple(networks.split(", ")))


def kernel_groups(data: RunData) -> tuple[tuple[Kernel, Group], ...]:
    """Every kernel with what was measured of it; raises `BenchError` for a run of networks."""
    found = [(kernel_of(data.run.facts, group.key.model), group) for group in data.groups]
    kernels = tuple((kernel, group) for kernel, group in found if kernel is not None)
    if not kernels:
        raise BenchError(
            f"run {data.run.number} measured networks, not kernels",
            where="--run",
            hint="`bench runs --journal FILE` lists the runs; `bench report` draws those of networks",
        )
    return kernels


def rate_of(kernel: Kernel, group: Group, framework: str, ceiling: Ceiling | None) -> Rate | None:
    """How fast a framework ran it; None where its number does not count."""
    cell = group.cells[framework]
    if not cell.counts or cell.latency is None:
        return None
    return _rate(kernel.template, kernel.work, cell.latency.estimate / 1e3, ceiling)


def _rate(template: str, work: float, seconds: float, ceiling: Ceiling | None) -> Rate:
    most = None
    if ceiling is not None:
        is_arithmetic = TEMPLATES[template].is_arithmetic
        most = ceiling.flops_per_second if is_arithmetic else ceiling.bytes_per_second
    return Rate(work / seconds, work / seconds / most if most else None)


def judged(data: RunData) -> str:
    """The framework that is compared with its best peer: the one named first."""
    return data.frameworks[0]


def kernel_table(data: RunData) -> Table:
    """One row a kernel and thread count: latency, rate and share of every framework, and the first one's
    speedup over the best of the others.
    """
    notes = Footnotes()
    first = judged(data)
    gains = {(row.model, row.threads): row for row in speedups(data, BEST_PEER, first).rows}
    columns = [*cells("template", "kernel", "threads", "n", "work")]
    for name in data.frameworks:
        columns += [framework_cell(data, name, f"{name} ms", notes), *cells("±", "rate")]
    columns.append(TableCell(f"{first} ÷ best peer"))
    rows = []
    for kernel, group in kernel_groups(data):
        ceiling = ceiling_of(data.run.facts, group.key.threads)
        row = [*cells(kernel.template, kernel.name, str(group.key.threads), str(kernel.count), _work(kernel))]
        for name in data.frameworks:
            row += [latency_cell(group, name, notes), TableCell(_width(group, name))]
            row.append(TableCell(rate_text(kernel.template, rate_of(kernel, group, name, ceiling))))
        rows.append((*row, _gain(gains.get((kernel.name, group.key.threads)))))
    return Table(
        f"Run {data.run.number}: kernels on {data.run.options.device}, {data.run.options.precision}",
        tuple(columns),
        tuple(rows),
        notes=notes.texts,
        remarks=(HOW_COUNTED, *_setup(data)),
        text_columns=2,
        key_columns=2,
    )


@dataclass(frozen=True, slots=True)
class Summary:
    """One template at one thread count. `rates` by framework over the kernels that all frameworks did;
    `gain` is the time of the best peer of each kernel ÷ the first framework's, both weighted.
    """

    template: str
    threads: int
    kernels: int
    compared: int
    covered: float | None
    rates: Mapping[str, Rate]
    gain: float | None


def summaries(data: RunData) -> Iterator[Summary]:
    """Every template that was measured."""
    kernels = kernel_groups(data)
    for threads in dict.fromkeys(group.key.threads for _, group in kernels):
        for template in dict.fromkeys(kernel.template for kernel, _ in kernels):
            mine = [
                pair for pair in kernels if pair[0].template == template and pair[1].key.threads == threads
            ]
            if mine:
                yield _summary(data, template, threads, mine)


def _summary(data: RunData, template: str, threads: int, mine: Sequence[tuple[Kernel, Group]]) -> Summary:
    ceiling = ceiling_of(data.run.facts, threads)
    shared = [pair for pair in mine if all(cell.counts for cell in pair[1].cells.values())]
    seconds = {
        name: sum(kernel.count * _seconds(group, name) for kernel, group in shared)
        for name in data.frameworks
    }
    work = sum(kernel.count * kernel.work for kernel, _ in shared)
    first = judged(data)
    others = [name for name in data.frameworks if name != first]
    best = sum(
        kernel.count * min(_seconds(group, name) for name in others) for kernel, group in shared if others
    )
    total = data.run.facts.get(f"template.{template}.work")
    all_work = sum(kernel.count * kernel.work for kernel, _ in mine)
    return Summary(
        template,
        threads,
        len(mine),
        len(shared),
        all_work / total if isinstance(total, int) and total else None,
        {name: _rate(template, work, seconds[name], ceiling) for name in data.frameworks if seconds[name]},
        best / seconds[first] if best and seconds[first] else None,
    )


def _seconds(group: Group, framework: str) -> float:
    latency = group.cells[framework].latency
    assert latency is not None
    return latency.estimate / 1e3


def summary_table(data: RunData) -> Table:
    """One row a template: what its kernels reach, each as often as the networks have it."""
    first = judged(data)
    columns = cells("template", "threads", "kernels", "covered", *data.frameworks, f"{first} ÷ best peer")
    rows = []
    for one in summaries(data):
        kernels = str(one.kernels) if one.compared == one.kernels else f"{one.compared} of {one.kernels}"
        rates = [rate_text(one.template, one.rates.get(name)) for name in data.frameworks]
        gain = "–" if one.gain is None else f"{one.gain:.2f}×"
        covered = "" if one.covered is None else f"{one.covered:.0%}"
        rows.append(cells(one.template, str(one.threads), kernels, covered, *rates, gain))
    return Table(
        f"Run {data.run.number}: templates, weighted with how often the networks have each kernel",
        columns,
        tuple(rows),
        remarks=(HOW_SUMMED,),
    )


def rate_text(template: str, rate: Rate | None) -> str:
    """`98.1 GFLOP/s 83%`; empty where nothing counts."""
    if rate is None:
        return ""
    unit = "GFLOP/s" if TEMPLATES[template].is_arithmetic else "GB/s"
    share = "" if rate.share is None else f" {rate.share:.0%}"
    return f"{rate.per_second / GIGA:.3g} {unit}{share}"


def _work(kernel: Kernel) -> str:
    if TEMPLATES[kernel.template].is_arithmetic:
        return f"{kernel.work / MEGA:.3g} MFLOP"
    return f"{kernel.work / MEGA:.3g} MB"


def _width(group: Group, framework: str) -> str:
    latency = group.cells[framework].latency
    if latency is None:
        return ""
    return f"{latency.relative_half_width:.1%}" if latency.is_known else "–"


def _gain(row: SpeedupRow | None) -> TableCell:
    if row is None or row.speedup is None:
        return TableCell("–", Style.MISSING)
    style = Style.BEST if row.speedup.low > 1 else Style.PLAIN
    return TableCell(f"{interval_text(row.speedup)} {row.baseline}", style)


def _setup(data: RunData) -> tuple[str, ...]:
    return (f"Command: {typed_command(data.run)}", setup_text(data))


def kernels_json(data: RunData) -> str:
    """Kernels, rates and templates under `SCHEMA`; `docs/json.md` has the fields."""
    gains = {(row.model, row.threads): row for row in speedups(data, BEST_PEER, judged(data)).rows}
    document = {
        "schema": SCHEMA,
        "run": {
            "number": data.run.number,
            "started_at": data.run.started_at,
            "status": data.run.status,
            "command": typed_command(data.run),
            "setup": setup_text(data),
            "precision": data.run.options.precision,
            "policy": dict(data.run.options.policy),
        },
        "ceilings": [_ceiling(data, threads) for threads in data.run.options.threads],
        "kernels": [
            _kernel(data, kernel, group, gains.get((kernel.name, group.key.threads)))
            for kernel, group in kernel_groups(data)
        ],
        "templates": [_template(one) for one in summaries(data)],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _ceiling(data: RunData, threads: int) -> dict[str, object]:
    found = ceiling_of(data.run.facts, threads)
    return {
        "threads": threads,
        "flops_per_second": found.flops_per_second if found else None,
        "bytes_per_second": found.bytes_per_second if found else None,
    }


def _kernel(data: RunData, kernel: Kernel, group: Group, gain: SpeedupRow | None) -> dict[str, object]:
    ceiling = ceiling_of(data.run.facts, group.key.threads)
    speedup = gain.speedup if gain else None
    return {
        "name": kernel.name,
        "template": kernel.template,
        "threads": group.key.threads,
        "count": kernel.count,
        "networks": list(kernel.networks),
        "flops": kernel.flops,
        "bytes": kernel.byte_count,
        "frameworks": [_measured(kernel, group, name, ceiling) for name in data.frameworks],
        "best_peer": gain.baseline if gain else "",
        "speedup": speedup.estimate if speedup else None,
        "interval": _ends(speedup),
    }


def _measured(kernel: Kernel, group: Group, name: str, ceiling: Ceiling | None) -> dict[str, object]:
    cell, rate = group.cells[name], rate_of(kernel, group, name, ceiling)
    return {
        "framework": name,
        "status": cell.status,
        "reason": cell.reason,
        "latency_ms": cell.latency.estimate if cell.latency else None,
        "latency_interval_ms": _ends(cell.latency),
        "per_second": rate.per_second if rate else None,
        "share": rate.share if rate else None,
    }


def _template(one: Summary) -> dict[str, object]:
    return {
        "template": one.template,
        "threads": one.threads,
        "kernels": one.kernels,
        "compared": one.compared,
        "covered": one.covered,
        "per_second": {name: rate.per_second for name, rate in one.rates.items()},
        "share": {name: rate.share for name, rate in one.rates.items() if rate.share is not None},
        "speedup": one.gain,
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return [interval.low, interval.high] if interval and interval.is_known else None
