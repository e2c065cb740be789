"""The time of every kernel, from the instrumentation of TVM's virtual machine."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from adapters.protocol import Profile, ProfileEntry

BUILTIN = "vm.builtin."
IMPLICIT_NAMES = ("transpose", "layout_transform")
LAYOUT_WORDS = frozenset(
    {"reshape", "transpose", "strided", "slice", "split", "squeeze", "concatenate", "take", "pad", "exchange"}
    | {"last", "axes", "expand", "dims", "broadcast", "to", "fused", "flatten"}
)
"""Words of the names of kernels that move data and compute nothing."""


def profile(
    machine: Any, kernels: Sequence[dict[str, Any]], run: Callable[[], None], inferences: int
) -> Profile:
    """Run so often with instrumentation; medians per call, in order of execution.

    The nodes are those found when compiling, where the calls come in the same order.
    """
    started: list[int] = []
    calls: list[tuple[str, int]] = []

    def instrument(function: Any, symbol: str, before: bool, result: Any, *operands: Any) -> int:
        if before:
            started.append(time.perf_counter_ns())
        else:
            calls.append((symbol, time.perf_counter_ns() - started.pop()))
        return 0

    runs: list[list[tuple[str, int]]] = []
    totals: list[int] = []
    machine.set_instrument(instrument)
    for _ in range(inferences):
        calls.clear()
        start = time.perf_counter_ns()
        run()
        totals.append(time.perf_counter_ns() - start)
        runs.append([call for call in calls if not call[0].startswith(BUILTIN)])
    nodes = nodes_in_order([name for name, _ in runs[0]], kernels)
    entries = tuple(
        _entry(name, int(median(row[index][1] for row in runs)), nodes[index])
        for index, (name, _) in enumerate(runs[0])
    )
    return Profile(entries, int(median(totals)), "instrumentation of TVM's virtual machine, a call each")


def nodes_in_order(called: Sequence[str], kernels: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The nodes of each call: the compiler's list in the same order, less what became a view (a reshape)."""
    found: list[tuple[str, ...]] = []
    waiting = iter(kernels)
    for name in called:
        match = next((row for row in waiting if row["name"] == name), None)
        if match is None:
            return [()] * len(called)
        found.append(tuple(match["nodes"]))
    return found


def _entry(name: str, duration_ns: int, nodes: tuple[str, ...]) -> ProfileEntry:
    operator = name.removeprefix("fused_")
    words = {word.rstrip("0123456789") for word in name.split("_")}
    moves_only = words - {""} <= LAYOUT_WORDS
    if moves_only and not nodes and operator.startswith(IMPLICIT_NAMES):
        return ProfileEntry(name, operator, duration_ns, nodes, "implicit")
    return ProfileEntry(name, operator, duration_ns, nodes, "explicit" if moves_only else "")
