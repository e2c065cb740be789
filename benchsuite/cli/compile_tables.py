"""The tables of `bench compile --explain`."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ourcompiler.explain import Explanation
    from ourcompiler.pipeline import State


def draw(found: "Explanation", console: Console, *, with_memory: bool) -> None:
    """All of it; the layouts of a memory that code is not made for only when it was asked for."""
    _draw_steps(found, console)
    _draw_layouts(found, console)
    _draw_tilings(found, console)
    _draw_fusion(found, console)
    if with_memory:
        _draw_memory(found, console)


def _draw_steps(found: "Explanation", console: Console) -> None:
    table = Table(
        "step", "operators", "of them moving", "intermediate MB", title=f"{found.network} for {found.target}"
    )
    for step in found.steps:
        table.add_row(
            step.step, str(step.operators), str(step.moving), f"{step.intermediate_bytes / 1e6:.1f}"
        )
    console.print(table)
    paper = "" if found.kernels_in_paper is None else f" (SmartMem: {found.kernels_in_paper})"
    console.print(
        f"{found.kernels_left} kernels{paper}, {found.distinct_kernels} distinct, {found.copies} copies"
    )
    console.print(", ".join(f"{count} {kind}" for kind, count in found.kernels.items()), markup=False)
    console.print(
        f"{found.views} maps on edges; arena {found.arena_bytes / 1e6:.1f} MB, "
        f"weights {found.weights_bytes / 1e6:.1f} MB"
    )


def _draw_layouts(found: "Explanation", console: Console) -> None:
    layouts = Table("value", "place of an element", "why", title="layouts that are not row-major")
    for value, place, why in found.layouts:
        if why != "row-major":
            layouts.add_row(value, place, why)
    if layouts.row_count:
        console.print(layouts)


def _draw_tilings(found: "Explanation", console: Console) -> None:
    table = Table("", "product", "rows × vectors of a tile", "decided by", title="how products are cut")
    for one in found.tilings:
        table.add_row(str(one.count), one.problem, one.tiling, one.decided_by)
    if table.row_count:
        console.print(table)
    for text in found.tilings_ignored:
        console.print(f"not used: {text}", markup=False)


def _draw_fusion(found: "Explanation", console: Console) -> None:
    """Why, then the pairs that were looked up, and every yellow one with its figures."""
    reasons = Counter((joined, reason) for _, _, joined, reason, *_ in found.fusion)
    fusion = Table("", "operators", "why", title="fusion (each one by name: --format json)")
    for (joined, reason), times in sorted(reasons.items(), key=lambda one: (not one[0][0], -one[1])):
        fusion.add_row("joined" if joined else "apart", str(times), reason)
    console.print(fusion)
    ground = found.combinations
    console.print(
        f"table of combinations: {ground.table}, groups grow {ground.order}; "
        f"{ground.profile_entries} measured pairs ({ground.profile_damaged} damaged rows left out); "
        f"model: {ground.model}",
        markup=False,
    )
    if ground.overridden:
        console.print(f"overridden: {'; '.join(ground.overridden)}", markup=False)
    if ground.seeds:
        console.print(f"seeds: {', '.join(ground.seeds)}", markup=False)
    pairs = Counter(
        (colour, pair, joined, why if colour == "red" else "")
        for _, _, joined, _, pair, colour, why in found.fusion
        if pair
    )
    table = Table("colour", "pair", "", "operators", "decided by", title="pairs of mapping types")
    for (colour, pair, joined, why), times in pairs.most_common():
        table.add_row(colour, pair, "joined" if joined else "apart", str(times), why)
    console.print(table)
    yellow = Table("value", "pair", "", "decided by", title="yellow pairs")
    for value, _, joined, _, pair, colour, why in found.fusion:
        if colour == "yellow":
            yellow.add_row(value, pair, "joined" if joined else "apart", why)
    if yellow.row_count:
        console.print(yellow)


def _draw_memory(found: "Explanation", console: Console) -> None:
    table = Table("value", "serves", "place of an element", "size", "for", "copies", "strided")
    table.title = f"layouts in {found.memory} memory: {found.memory_copies} copies"
    for one in found.memory_layouts:
        table.add_row(
            one.value,
            ", ".join(one.serves),
            one.place,
            f"{one.width} x {one.height}",
            "; ".join(one.readers) or one.reason,
            "; ".join(one.copies),
            "; ".join(one.strided),
        )
    console.print(table)


def draw_times(done: "Sequence[State]", console: Console) -> None:
    """How long each pass took."""
    table = Table("step", "seconds", title="time of the passes")
    for state in done:
        table.add_row(state.step, f"{state.seconds:.2f}")
    console.print(table)
