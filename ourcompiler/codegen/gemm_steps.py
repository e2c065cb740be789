"""A tile's walk through the depth: some steps in one turn of the loop, and what is asked for meanwhile.

A step of a tile is a load for each vector of the right side, one for each row of the left, and a multiply for
each of its results. What a loop adds to that (its counter, its jump, a line asked for) costs a core that is
alone nothing to speak of. Beside a neighbour on the same core it takes places that multiplies could have had:
four steps in a turn did 4 to 17 % more than one there, and 1 to 3 % more on a core that was alone (Zen 3,
`python -m benchmarks.steps`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from ourcompiler.codegen.contraction import Place
from ourcompiler.codegen.gemm_fetch import fetching, fetching_left
from ourcompiler.codegen.gemm_left import left_reader
from ourcompiler.codegen.gemm_parts import F32, Gemm, Part
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.index import ZERO, Affine
from ourcompiler.kernel.ir import Apply, Assign, Expr, Kind, Load, Name, apply, index, plus, splat

STEPS_IN_TURN = 4
Span = tuple[Expr, Expr]


def add_products(
    gemm: Gemm,
    batch: Place,
    panel: Affine,
    row: Affine,
    first: Expr,
    part: Part | None,
    totals: Sequence[Sequence[Name]],
) -> None:
    """Add the products of all steps of the depth, or of a part of it, to a tile's totals."""
    scope, tile, what, height = gemm.scope, gemm.tile, gemm.what, len(totals)
    kind = Kind(F32, tile.lanes)
    base = panel if gemm.right_is_local else scope.space.linear((*batch, panel), (*what.batch, gemm.panels))
    right = scope.let(scope.place(scope.space.multiply(base, gemm.panel_size)), "right")
    left = left_reader(gemm, batch, row, height, first, part.origin if part else index(0))
    fetches = [fetching(gemm, right, row, height, first, part)]
    if part is None and height == tile.rows:
        fetches.append(fetching_left(gemm, batch, row))

    def step(depth: Place) -> None:
        flat = scope.space.multiply(scope.space.linear(depth, what.depth), tile.columns)
        at = plus(right, scope.place(flat))
        columns = [
            scope.let(Load(gemm.right, plus(at, index(number * tile.lanes)), kind), "w")
            for number in range(len(totals[0]))
        ]
        for number in range(height):
            value = scope.let(splat(left(number, depth), tile.lanes), "a")
            for one, column in zip(totals[number], columns, strict=True):
                scope.emit(Assign(one.name, Apply("fma", (value, column, one), kind)))

    def turn(depths: Sequence[Place]) -> None:
        for fetch in fetches:
            fetch(depths[0], len(depths))
        for depth in depths:
            step(depth)

    _turns(gemm, part, turn)


def _turns(gemm: Gemm, part: Part | None, turn: Callable[[Sequence[Place]], None]) -> None:
    """The loops over the depth, or over a part of it; the innermost one takes some steps in a turn."""
    scope, extents = gemm.scope, gemm.what.depth
    spans: list[Span] = [(index(0), index(extent)) for extent in extents]
    outer: list[Affine] = []
    if part is not None:
        outer += part.outer
        spans[len(outer)] = part.span
    inner = max((axis for axis, extent in enumerate(extents) if extent > 1), default=0)
    inner = max(inner, len(outer))
    behind = [ZERO] * (len(extents) - inner - 1)
    with ExitStack() as loops:
        for axis in range(len(outer), inner):
            name = loops.enter_context(scope.loop(*spans[axis], 1, "k"))
            outer.append(scope.dim(extents[axis], name))
        # An extent in whole turns has parts in whole turns (see `next_part`).
        for start, stop, count in in_turns(scope, spans[inner], extents[inner]):
            with scope.loop(start, stop, count, "k") as name:
                places = (plus(name, index(one)) for one in range(count))
                turn([(*outer, scope.dim(extents[inner], place), *behind) for place in places])


def in_turns(scope: Scope, span: Span, divisor: int) -> Iterator[tuple[Expr, Expr, int]]:
    """From, to and steps in a turn for steps whose number is a multiple of `divisor`: whole turns, and what
    is left over.
    """
    start, stop = span
    if stop == plus(start, index(divisor)) and 0 < divisor <= 2 * STEPS_IN_TURN:
        yield start, stop, divisor
        return
    if divisor % STEPS_IN_TURN == 0:
        yield start, stop, STEPS_IN_TURN
        return
    rest = apply("remainder", apply("sub", stop, start), index(STEPS_IN_TURN))
    whole = scope.let(apply("sub", stop, rest), "whole")
    yield start, whole, STEPS_IN_TURN
    yield whole, stop, 1
