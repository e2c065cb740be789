"""Which elements of a matrix anybody reads, where those are the ones between two diagonals: what a relative
position's score is read by (Transformer-XL, section 3.3; its shift is a view) leaves half of them out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ourcompiler.ir.graph import Graph
from ourcompiler.ir.index_map import IndexMap
from ourcompiler.kernel.ir import FLAG, Expr, apply, index, plus

MOST_READ = 0.75
"""Of all elements: what is asked for each tile has to pay."""


@dataclass(frozen=True, slots=True)
class Band:
    """Of the last two axes row r and column c with `low` ≤ c + `sign`·r ≤ `high`."""

    sign: int
    low: int
    high: int

    def share(self, rows: int, columns: int) -> float:
        """The part of all elements that lies in the band."""
        found = 0
        for row in range(rows):
            first, last = self.low - self.sign * row, self.high - self.sign * row
            found += max(0, min(last, columns - 1) - max(first, 0) + 1)
        return found / (rows * columns)

    def touches(self, rows: tuple[Expr, int], columns: tuple[Expr, int]) -> Expr:
        """Whether a tile has an element in the band: its first row and column, and how many it has."""
        (row, height), (column, width) = rows, columns
        low, high = (0, height - 1) if self.sign > 0 else (1 - height, 0)
        corner = plus(column, row) if self.sign > 0 else apply("sub", column, row)
        begins = apply("less_equal", plus(corner, index(low)), index(self.high), kind=FLAG)
        ends = apply("less_equal", index(self.low), plus(corner, index(high + width - 1)), kind=FLAG)
        return apply("and", begins, ends, kind=FLAG)


def bands(graph: Graph) -> dict[str, Band]:
    """The bands of values between fused nodes, of which few enough elements are read."""
    found = {}
    outputs = {value for _, value in graph.outputs}
    for name, maps in _views(graph).items():
        shape = graph.types[name].shape
        if name in outputs or maps is None or len(shape) < 2 or not prod(shape):
            continue
        band = min((_band(maps, sign) for sign in (1, -1)), key=lambda one: one.high - one.low)
        if band.share(*shape[-2:]) <= MOST_READ:
            found[name] = band
    return found


def _views(graph: Graph) -> dict[str, list[IndexMap] | None]:
    """The views by which each value is read; None where anything reads it as it is."""
    found: dict[str, list[IndexMap] | None] = {}
    for node in graph.nodes:
        body = node.body
        for number, name in enumerate(node.inputs):
            maps = found.setdefault(name, [])
            inner = name if body is None else body.inputs[number]
            users = [] if body is None else [one for one in body.nodes if inner in one.inputs]
            is_result = body is None or inner in [value for _, value in body.outputs]
            if maps is None or is_result or any(one.op != "View" for one in users):
                found[name] = None
            else:
                maps += [one["map"] for one in users]
    return {name: maps for name, maps in found.items() if maps != []}


def _band(maps: Sequence[IndexMap], sign: int) -> Band:
    """The narrowest that holds all that the views read."""
    ends = []
    for view in maps:
        row, column = view.results[-2:]
        ends.append(view.space.bounds(view.space.add(column, view.space.multiply(row, sign))))
    return Band(sign, min(low for low, _ in ends), max(high for _, high in ends))
