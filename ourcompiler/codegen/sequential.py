"""Operators that go one element after another: running sums, the first k, scatters."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod

from ourcompiler.codegen.element import Elements, Index
from ourcompiler.codegen.fold import converted, wide
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.nest import TASK_WORK, Loops, task_rows
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.graph import Node
from ourcompiler.ir.index import Affine, constant
from ourcompiler.kernel.ir import (
    FLAG,
    Apply,
    Assign,
    Expr,
    Kernel,
    Kind,
    Load,
    Number,
    Phase,
    Store,
    apply,
    index,
)


def lower(group: Group, node: Node, name: str) -> Kernel:
    """The kernel of such an operator; it stands alone in its group but for what it reads."""
    scope = Scope()
    return group.kernel(name, [scope], LOWERINGS[node.op](group, scope, node))


@contextmanager
def _rows(scope: Scope, shape: tuple[int, ...], axis: int, tasks: list[int]) -> Iterator[list[Affine]]:
    """Tasks over every axis but one; appends their number to `tasks`."""
    outer = (*shape[:axis], *shape[axis + 1 :])
    in_task = max(1, TASK_WORK // (4 * max(shape[axis], 1)))
    loops = Loops(outer, 1, in_task, 1)
    tasks.append(loops.tasks)
    with task_rows(scope, loops) as (dims, _):
        yield dims


def _put(group: Group, scope: Scope, name: str, place: Index, value: Expr) -> None:
    where = group.storages[name].at(scope.space, place)
    scope.emit(Store(group.stored[name].buffer, scope.place(where), converted(value, group.dtype(name))))


def _running(group: Group, scope: Scope, node: Node) -> list[Phase]:
    one = group.body.types[node.inputs[0]]
    axis, size = node["axis"] % one.rank, one.shape[node["axis"] % one.rank]
    function, start = ("add", 0) if node.op == "CumSum" else ("mul", 1)
    tasks: list[int] = []
    with scope.block() as body, _rows(scope, one.shape, axis, tasks) as outer:
        kind = Kind(wide(one.dtype))
        total = scope.variable(Number(start, kind))
        with scope.axis(size, "r") as step:
            back = scope.space.add(constant(size - 1), scope.space.multiply(step, -1))
            place = (*outer[:axis], back if node["reverse"] else step, *outer[axis:])
            value = converted(group.elements(scope).at(node.inputs[0], place), kind.dtype)
            if node["exclusive"]:
                _put(group, scope, node.output, place, total)
            scope.emit(Assign(total.name, Apply(function, (total, value), kind)))
            if not node["exclusive"]:
                _put(group, scope, node.output, place, total)
    return [Phase(tasks[0], tuple(body))]


RANKED_SHARE = 8
"""Of a row, the least share of elements asked for with which all of them are ranked: each is compared with
all others then, many at once; else the row is gone through once for each element asked for.
"""


def _top(group: Group, scope: Scope, node: Node) -> list[Phase]:
    size, few = group.body.types[node.inputs[0]].shape[node["axis"]], node["k"]
    is_ranked = few > 1 and size <= RANKED_SHARE * few
    return (_ranked if is_ranked else _one_by_one)(group, scope, node)


def _ranked(group: Group, scope: Scope, node: Node) -> list[Phase]:
    """The rank of an element is how many are before it in order: better ones, and equal ones with a lower
    index.
    """
    one = group.body.types[node.inputs[0]]
    axis, size, kind = node["axis"] % one.rank, one.shape[node["axis"] % one.rank], Kind(one.dtype)
    tasks: list[int] = []
    keys = scope.local(one.dtype, size)
    with scope.block() as body, _rows(scope, one.shape, axis, tasks) as outer:

        def element(along: Affine) -> Expr:
            return scope.let(group.elements(scope).at(node.inputs[0], (*outer[:axis], along, *outer[axis:])))

        with scope.axis(size, "r") as along:
            scope.emit(Store(keys, scope.place(along), _key(element(along))))
        with scope.axis(size, "r") as along:
            at = scope.let(scope.place(along))
            rank = _rank(scope, node, keys, Load(keys, at, kind), (at, size))
            with scope.when(apply("less", rank, index(node["k"]), kind=FLAG)):
                place = (*outer[:axis], scope.dim(node["k"], rank), *outer[axis:])
                for name, found in zip(node.outputs, (element(along), at), strict=True):
                    if name in group.written:
                        _put(group, scope, name, place, found)
    return [Phase(tasks[0], tuple(body))]


def _key(value: Expr) -> Expr:
    """What elements are ordered by: what is no number counts as infinite, so that each has a place of its
    own.
    """
    if not value.kind.dtype.is_float:
        return value
    is_none = apply("is_nan", value, kind=FLAG)
    return apply("where", is_none, Number(float("inf"), value.kind), value, kind=value.kind)


def _rank(scope: Scope, node: Node, keys: str, key: Load, where: tuple[Expr, int]) -> Expr:
    """How many of the keys come before this one, which lies at `where` among so many."""
    at, size = where
    mine, rank = scope.let(key), scope.variable(index(0))

    def is_better(one: Expr, two: Expr) -> Expr:
        return Apply("less", (two, one) if node["largest"] else (one, two), FLAG)

    def count(start: Expr, stop: Expr, is_before: Callable[[Expr], Expr]) -> None:
        with scope.loop(start, stop) as other:
            one = apply("cast", is_before(Load(keys, other, key.kind)), kind=rank.kind)
            scope.emit(Assign(rank.name, apply("add", rank, one)))

    count(index(0), at, lambda other: apply("not", is_better(mine, other)))
    count(apply("add", at, index(1)), index(size), lambda other: is_better(other, mine))
    return rank


def _one_by_one(group: Group, scope: Scope, node: Node) -> list[Phase]:
    """Rank after rank: the best of those that come after the one before."""
    one = group.body.types[node.inputs[0]]
    axis, size, kind = node["axis"] % one.rank, one.shape[node["axis"] % one.rank], Kind(one.dtype)
    tasks: list[int] = []
    values, places = node.outputs
    with scope.block() as body, _rows(scope, one.shape, axis, tasks) as outer:
        last, last_at = scope.variable(Number(0, kind)), scope.variable(index(-1))
        with scope.axis(node["k"], "rank") as rank:
            best, best_at = scope.variable(Number(0, kind)), scope.variable(index(-1))
            shown = scope.variable(Number(0, kind))
            with scope.axis(size, "r") as along:
                at = scope.place(along)
                place = (*outer[:axis], along, *outer[axis:])
                value = scope.let(group.elements(scope).at(node.inputs[0], place))
                key = scope.let(_key(value))
                is_first = apply("equal", last_at, index(-1), kind=FLAG)
                follows = _follows(node, last, last_at, key, at)
                none_yet = apply("equal", best_at, index(-1), kind=FLAG)
                is_better = Apply("less", (best, key) if node["largest"] else (key, best), FLAG)
                better = apply("and", apply("or", is_first, follows), apply("or", none_yet, is_better))
                with scope.when(better):
                    scope.emit(Assign(best.name, key))
                    scope.emit(Assign(shown.name, value))
                    scope.emit(Assign(best_at.name, at))
            place = (*outer[:axis], rank, *outer[axis:])
            for name, found in ((values, shown), (places, best_at)):
                if name in group.written:
                    _put(group, scope, name, place, found)
            scope.emit(Assign(last.name, best))
            scope.emit(Assign(last_at.name, best_at))
    return [Phase(tasks[0], tuple(body))]


def _follows(node: Node, last: Expr, last_at: Expr, value: Expr, at: Expr) -> Expr:
    """Worse than the last one, or as good and further behind."""
    worse = Apply("less", (value, last) if node["largest"] else (last, value), FLAG)
    equal = Apply("equal", (value, last), FLAG)
    return apply("or", worse, apply("and", equal, Apply("less", (last_at, at), FLAG)))


def _copied(group: Group, scope: Scope, node: Node) -> Phase:
    """What is scattered into, as it was."""
    shape = group.body.types[node.output].shape
    rows, width = prod(shape[:-1]), shape[-1] if shape else 1
    loops = Loops(shape[:-1], width, max(1, TASK_WORK // max(width, 1)), max(width, 1))
    with (
        scope.block() as body,
        task_rows(scope, loops) as (outer, (start, stop)),
        scope.loop(start, stop) as name,
    ):
        place = (*outer, scope.dim(width, name)) if shape else ()
        _put(group, scope, node.output, place, group.elements(scope).at(node.inputs[0], place))
    return Phase(loops.tasks if rows else 0, tuple(body))


def _folded(group: Group, scope: Scope, node: Node, place: Index, update: Expr) -> None:
    buffer = group.stored[node.output].buffer
    where = scope.place(group.storages[node.output].at(scope.space, place))
    fold = node["reduction"]
    if fold != "none":
        old = Load(buffer, where, update.kind)
        update = Apply(fold, (old, update), update.kind)
    scope.emit(Store(buffer, where, update))


def _scatter_elements(group: Group, scope: Scope, node: Node) -> list[Phase]:
    copy = _copied(group, scope, node)
    shape, indices = (group.body.types[name].shape for name in node.inputs[:2])
    axis = node["axis"] % len(shape)
    with scope.block() as body, ExitStack() as loops:
        dims = tuple(loops.enter_context(scope.axis(extent)) for extent in indices)
        elements = group.elements(scope)
        found = elements.dynamic(elements.at(node.inputs[1], dims), shape[axis])
        update = elements.at(node.inputs[2], dims)
        _folded(group, scope, node, (*dims[:axis], found, *dims[axis + 1 :]), update)
    return [copy, Phase(1, tuple(body))]


def _scatter_nd(group: Group, scope: Scope, node: Node) -> list[Phase]:
    copy = _copied(group, scope, node)
    shape, indices, updates = (group.body.types[name].shape for name in node.inputs)
    rank, depth = len(indices) - 1, indices[-1]
    with scope.block() as body, ExitStack() as loops:
        dims = tuple(loops.enter_context(scope.axis(extent)) for extent in updates)
        elements: Elements = group.elements(scope)
        found = [
            elements.dynamic(elements.at(node.inputs[1], (*dims[:rank], constant(number))), shape[number])
            for number in range(depth)
        ]
        _folded(group, scope, node, (*found, *dims[rank:]), elements.at(node.inputs[2], dims))
    return [copy, Phase(1, tuple(body))]


LOWERINGS: Mapping[str, Callable[[Group, Scope, Node], list[Phase]]] = {
    "CumSum": _running,
    "CumProd": _running,
    "TopK": _top,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
}
"""Operators that go one element at a time."""
