"""A loop in vectors as far as whole ones go, the rest one by one; or all of it one by one."""

from collections.abc import Callable

from ourcompiler.codegen.element import Even, Lane, NotInLanesError
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.index import Affine
from ourcompiler.kernel.ir import Expr, If, apply, index, plus

Visit = Callable[[Affine, Lane | None], None]
"""What is done at a place, for as many lanes as there are."""


def sweep(
    scope: Scope, span: tuple[Expr, Expr, Expr], extent: int, lanes: int, visit: Visit, hint: str = "j"
) -> None:
    """Visit all places of `span`: its start, where whole vectors end, its stop; `extent` is the most that a
    place can be, and more. Where lanes do not always lie side by side, it is looked at for each vector.
    """
    start, whole, stop = span
    for is_even in (False, True) if lanes > 1 else ():
        try:
            with scope.attempt():
                _vectors(scope, (start, whole), extent, lanes, visit, hint, is_even)
            start = whole
            break
        except NotInLanesError:
            pass
    if start != stop:
        with scope.loop(start, stop, 1, hint) as name:
            visit(scope.dim(extent, name), None)


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
        is_aligned = span[0] == index(0)
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
