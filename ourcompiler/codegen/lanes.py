"""A loop in vectors as far as whole ones go, the rest in shorter ones or one by one; or all one by one."""

from collections.abc import Callable

from ourcompiler.codegen.element import Even, Lane, NotInLanesError
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.index import Affine
from ourcompiler.kernel.ir import Expr, If, Number, apply, index, plus

FEWEST_LANES = 4
"""Shorter vectors save nothing."""
Visit = Callable[[Affine, Lane | None], None]
"""What is done at a place, for as many lanes as there are."""


def sweep(
    scope: Scope, span: tuple[Expr, Expr, Expr], extent: int, lanes: int, visit: Visit, hint: str = "j"
) -> None:
    """Visit all places of `span`: its start, where whole vectors end, its stop; `extent` is the most that a
    place can be, and more. Where lanes do not always lie side by side, it is looked at for each vector. What
    is left after whole vectors is done in halves and quarters of one, if its size is known.
    """
    start, whole, stop = span
    if lanes > 1 and _in_vectors(scope, (start, whole), extent, lanes, visit, hint):
        start = whole
        while lanes > FEWEST_LANES and isinstance(start, Number) and isinstance(stop, Number):
            lanes //= 2
            end = index(int(start.value) + (int(stop.value) - int(start.value)) // lanes * lanes)
            if end != start and _in_vectors(scope, (start, end), extent, lanes, visit, hint):
                start = end
    if start != stop:
        with scope.loop(start, stop, 1, hint) as name:
            visit(scope.dim(extent, name), None)


def _in_vectors(
    scope: Scope, span: tuple[Expr, Expr], extent: int, lanes: int, visit: Visit, hint: str
) -> bool:
    """Whether the places could be visited in vectors."""
    for is_even in (False, True):
        try:
            with scope.attempt():
                _vectors(scope, span, extent, lanes, visit, hint, is_even)
        except NotInLanesError:
            continue
        return True
    return False


def _vectors(
    scope: Scope,
    span: tuple[Expr, Expr],
    extent: int,
    lanes: int,
    visit: Visit,
    hint: str,
    is_even: bool,
) -> None:
    with scope.loop(*span, lanes, hint) as name:
        inner = scope.dim(extent, name)
        even = Even(scope, lanes, len(scope.extents)) if is_even else None
        is_aligned = isinstance(span[0], Number) and int(span[0].value) % lanes == 0
        with scope.block() as body:
            visit(inner, Lane(len(scope.extents) - 1, lanes, is_aligned, even))
        if even is None or not even.found:
            for statement in body:
                scope.emit(statement)
            return
        condition, *more = even.found
        for one in more:
            condition = apply("and", condition, one)
        with (
            scope.block() as each,
            scope.loop(name, plus(name, index(lanes)), 1, hint) as single,
        ):
            visit(scope.dim(extent, single), None)
        scope.emit(If(condition, tuple(body), tuple(each)))
