"""The plots of the page, each from what is computed elsewhere to one `<svg>` element."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from benchsuite.ceiling import Ceiling
from reports.ablation import Ablation, Ladder, Step, order_text
from reports.breakdown import Breakdown
from reports.cells import Group, RunData
from reports.history import ChangePoint, Series, levels
from reports.latency import place_of
from reports.roofline import GIGA
from reports.speedup import Speedups
from reports.svg import GRID, INK, MUTED, figure, label_rows, named_rows, plain, series_colour, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.0
ROW_HEIGHT = 0.3
HEAD_HEIGHT = 0.75
BINS = 48
LEGEND_LINE = 0.19
LONGEST_BREAKDOWN = 7
MILLISECOND = 1e6


def distribution(data: RunData, group: Group) -> str:
    """Every raw sample of one network, as a histogram a framework, with its median and interval below it."""
    names = [name for name, cell in group.cells.items() if cell.latency]
    samples = {name: _samples(group, name) for name in names}
    drawn, axes = named_rows(names, WIDTH, 1.5 * ROW_HEIGHT)
    # The slowest hundredth of a noisy machine would squeeze all the rest into a line.
    low = min(float(values.min()) for values in samples.values())
    high = max(float(np.quantile(values, 0.99)) for values in samples.values())
    edges = np.linspace(low, high + (high - low) * 0.02 + 1e-9, BINS + 1)
    beyond = 0
    for row, name in enumerate(names):
        colour = series_colour(data.frameworks.index(name))
        beyond += int((samples[name] > edges[-1]).sum())
        heights, _ = np.histogram(samples[name], edges)
        top = row + 0.3 - 0.75 * heights / max(int(heights.max()), 1)
        axes.stairs(top, edges, baseline=row + 0.3, fill=True, color=colour, linewidth=0)
        latency = group.cells[name].latency
        assert latency is not None
        ends = (latency.low, latency.high) if latency.is_known else (latency.estimate, latency.estimate)
        axes.plot(ends, (row + 0.4, row + 0.4), color=INK, linewidth=2)
        axes.plot([latency.estimate], [row + 0.4], "|", color=INK, markersize=8)
    label_rows(axes, names)
    axes.set_xlabel("ms" + (f" (samples beyond the right edge: {beyond})" if beyond else ""))
    axes.grid(visible=False, axis="y")
    described = f"Distribution of the samples of {group.key.model}, {group.key.threads} threads"
    return svg(drawn, f"d{group.key.model}{group.key.threads}", described)


def _samples(group: Group, name: str) -> "np.typing.NDArray[np.float64]":
    turns = [block.turns[name].run_ns for block in group.record.blocks if name in block.turns]
    return np.concatenate([np.asarray(turn, np.float64) for turn in turns]) / MILLISECOND


def forest(data: RunData, result: Speedups, threads: int) -> str:
    """Every speedup with its interval: a row a network, a colour a framework, 1 in the middle."""
    rows = [row for row in result.rows if row.threads == threads and row.speedup]
    models = list(dict.fromkeys(row.model for row in rows))
    drawn, axes = figure(WIDTH, HEAD_HEIGHT + 0.3 + ROW_HEIGHT * 1.2 * len(models))
    judged = list(dict.fromkeys(row.framework for row in result.rows))
    for place, name in enumerate(judged):
        mine = [row for row in rows if row.framework == name and row.speedup]
        offset = (place - (len(judged) - 1) / 2) * 0.7 / max(len(judged), 1)
        values = [(models.index(row.model) + offset, row.speedup) for row in mine if row.speedup]
        colour = series_colour(data.frameworks.index(name))
        for at, speedup in values:
            if speedup.is_known:
                axes.plot((speedup.low, speedup.high), (at, at), color=colour, linewidth=1.5)
        heights = [at for at, _ in values]
        axes.plot(
            [one.estimate for _, one in values], heights, "o", color=colour, markersize=3.5, label=plain(name)
        )
    axes.axvline(1.0, color=INK, linewidth=1)
    _log_axis(axes, [row.speedup.estimate for row in rows if row.speedup])
    label_rows(axes, models)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("speedup (right of 1 is faster)")
    drawn.legend(loc="outside upper left", ncols=6)
    return svg(drawn, f"f{threads}", f"Speedups with intervals, {threads} threads; the table has the numbers")


def _log_axis(axes: "object", values: Sequence[float]) -> None:
    from matplotlib.axes import Axes
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    assert isinstance(axes, Axes)
    axes.set_xscale("log", base=2)
    low, high = min([*values, 0.8]) * 0.93, max([*values, 1.25]) * 1.07
    axes.set_xlim(low, high)
    wide = high / low > 6
    axes.xaxis.set_major_locator(LogLocator(2, (1.0,) if wide else (1.0, 1.25, 1.5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def roofline(data: RunData, ceiling: Ceiling) -> str:
    """Operations a second over operations a byte, below what the device was seen to do."""
    drawn, axes = figure(WIDTH, 4.2)
    intensities = []
    for index, name in enumerate(data.frameworks):
        places = [
            place
            for group in data.groups
            if group.key.threads == ceiling.threads and (place := place_of(data, group, name))
        ]
        intensities += [place.intensity for place in places]
        rates = [2 * place.gmacs_per_second for place in places]
        at = [place.intensity for place in places]
        axes.plot(at, rates, "o", color=series_colour(index), markersize=4, label=plain(name), alpha=0.85)
    ridge = ceiling.flops_per_second / ceiling.bytes_per_second
    low, high = min([*intensities, ridge]) / 2, max([*intensities, ridge]) * 2
    line = np.array([low, ridge, high])
    roof = np.minimum(ceiling.flops_per_second, line * ceiling.bytes_per_second) / GIGA
    axes.plot(line, roof, color=INK, linewidth=1.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations a byte of weights and inputs")
    axes.set_ylabel("GFLOP/s (2 for each multiply-accumulate)")
    drawn.legend(loc="outside upper left", ncols=6)
    return svg(
        drawn, f"r{ceiling.threads}", f"Roofline with {ceiling.threads} threads; the table has the numbers"
    )


def breakdown(data: RunData, name: str, found: Breakdown) -> str:
    """Bars that add up to the profiled inference: the longest kinds of pieces, and the rest."""
    rows = found.by_label()[:LONGEST_BREAKDOWN]
    parts: list[tuple[str, Mapping[str, float], str]] = [
        (label, times, series_colour(index)) for index, (label, _, times) in enumerate(rows)
    ]
    shown = {one: sum(times.get(one, 0) for _, times, _ in parts) for one in found.columns}
    other = {
        one: column.total_ns - shown[one] - column.implicit_ns - column.unattributed_ns
        for one, column in found.columns.items()
    }
    parts += [
        ("other pieces", other, MUTED),
        ("implicit layout", {one: column.implicit_ns for one, column in found.columns.items()}, INK),
        (
            "unattributed",
            {one: max(0, column.unattributed_ns) for one, column in found.columns.items()},
            GRID,
        ),
    ]
    names = list(found.columns)
    drawn, axes = figure(WIDTH, HEAD_HEIGHT + LEGEND_LINE * len(parts) + 1.3 * ROW_HEIGHT * len(names))
    left = np.zeros(len(names))
    for label, times, colour in parts:
        widths = np.array([times.get(one, 0) / MILLISECOND for one in names])
        axes.barh(range(len(names)), widths, left=left, color=colour, label=plain(label), height=0.7)
        left += widths
    label_rows(axes, names)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("ms of the profiled inference")
    drawn.legend(loc="outside upper left", ncols=1)
    return svg(drawn, f"b{name}", f"Where the time of {name} goes; the table has the numbers")


def ablation(found: Ablation) -> str:
    """The ladder as a waterfall of time, where the run has one; else each optimisation alone."""
    name = f"w{found.framework}{found.threads}"
    said = f"Ablation of {found.framework}; the tables have the numbers"
    return svg(_waterfall(found.ladder) if found.ladder else _factors(found.steps), name, said)


def _waterfall(ladder: Ladder) -> "Figure":
    """Time ÷ time with all on: from all off, rung by rung, to 1."""
    drawn, axes = figure(WIDTH, HEAD_HEIGHT + 1.3 * ROW_HEIGHT * (len(ladder.rungs) + 2))
    level = ladder.whole.estimate
    axes.barh([0], [level], color=MUTED, height=0.6)
    for row, rung in enumerate(ladder.rungs, 1):
        after = level / rung.factor.estimate
        axes.barh(
            [row], [after - level], left=level, color=series_colour(2 if after <= level else 0), height=0.6
        )
        axes.text(max(level, after), row, f" {rung.factor.estimate:.2f}×", va="center", fontsize=9)
        level = after
    axes.barh([len(ladder.rungs) + 1], [1.0], color=MUTED, height=0.6)
    label_rows(axes, ["all off", *(f"+ {rung.optimisation}" for rung in ladder.rungs), "all on"])
    axes.set_xlabel(f"time ÷ time with all on; {order_text(ladder)}")
    return _without_rows(drawn, axes)


def _factors(steps: Sequence[Step]) -> "Figure":
    """Time without one ÷ time with all, from 1."""
    drawn, axes = figure(WIDTH, HEAD_HEIGHT + 1.3 * ROW_HEIGHT * len(steps))
    for row, step in enumerate(steps):
        factor = step.factor.estimate
        axes.barh([row], [factor - 1], left=1, color=series_colour(0 if factor >= 1 else 2), height=0.6)
        axes.text(max(factor, 1), row, f" {factor:.2f}×", va="center", fontsize=9)
    label_rows(axes, [f"no {step.optimisation}" for step in steps])
    axes.set_xlabel("time without it ÷ time with all on; one is off at a time")
    return _without_rows(drawn, axes)


def _without_rows(drawn: "Figure", axes: "Axes") -> "Figure":
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)
    return drawn


def history(frameworks: Sequence[str], series: Sequence[Series], points: Sequence[ChangePoint]) -> str:
    """Mean latency of every framework over the runs, relative to its first; change points as marks."""
    drawn, axes = figure(WIDTH, 3.2)
    for name, line in levels(series).items():
        colour = series_colour(frameworks.index(name) if name in frameworks else len(frameworks))
        axes.plot(
            np.array([moment(when) for when, _ in line]),
            [level for _, level in line],
            ".-",
            color=colour,
            linewidth=1,
            label=plain(name),
        )
    for when in sorted({point.started_at for point in points}):
        axes.axvline(moment(when), color=MUTED, linewidth=0.8, linestyle=":")  # type: ignore[arg-type]
    axes.set_ylabel("latency ÷ first")
    drawn.legend(loc="outside upper left", ncols=6)
    return svg(drawn, "h", "History of the mean latencies; the table has the changes")


def moment(started_at: str) -> np.datetime64:
    """A time of day in UTC, as numpy has it."""
    return np.datetime64(datetime.fromisoformat(started_at).astimezone(UTC).replace(tzinfo=None), "s")
