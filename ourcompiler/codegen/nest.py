"""The general loop nest: one element of the outputs after another, whatever they are computed from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import prod

from ourcompiler.codegen.element import Elements, Index, Inline, Lane, NotInLanesError, Ready
from ourcompiler.codegen.fold import FOLDS
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.lanes import sweep
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.ir.graph import Graph, Node
from ourcompiler.ir.index import ZERO, Affine, Dim, Space
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    INDEX,
    TASK,
    Apply,
    Expr,
    Kernel,
    Name,
    Phase,
    Store,
    apply,
    index,
    plus,
    times,
)
from ourcompiler.storage import Storage

TASK_WORK = 16_384
"""Scalar steps that are worth a task: some microseconds, against the half that handing it over takes."""
LARGEST_TASKS = 512
LANE_CHOICES = (16, 8, 4)


def lower(group: Group, name: str) -> Kernel:
    """A phase for each shape among the outputs."""
    scope = Scope()
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for value in group.written:
        by_shape.setdefault(group.body.types[value].shape, []).append(value)
    phases = [_phase(group, scope, values) for values in by_shape.values()]
    return group.kernel(name, [scope], phases)


def axis_order(storage: Storage) -> tuple[int, ...]:
    """The axes from the slowest to the fastest in memory; axes of one element stay in front."""
    steps = [abs(storage.place.coefficient(Dim(axis))) for axis in range(len(storage.shape))]
    tangled = any(not isinstance(atom, Dim) for atom, _ in storage.place.terms)
    if tangled:
        return tuple(range(len(storage.shape)))
    return tuple(sorted(range(len(steps)), key=lambda axis: (storage.shape[axis] > 1, -steps[axis])))


def merged(
    places: Sequence[Affine], dims: Sequence[Affine], extents: Sequence[int], order: Sequence[int]
) -> list[list[int]]:
    """Dimensions that all places go through as if they were one, in the order of the loops."""
    number_of = {axis: next(iter(dim.dims), None) for axis, dim in enumerate(dims)}
    found: list[list[int]] = []
    for axis in order:
        if found and _as_one(places, number_of, extents, found[-1][-1], axis):
            found[-1].append(axis)
        else:
            found.append([axis])
    return found


@dataclass(frozen=True, slots=True)
class Trial:
    """What computing and storing values at one index asks for, over dimensions that are all apart: every
    place in memory, and every fold with its index, inner ones first.
    """

    dims: tuple[Affine, ...]
    places: tuple[Affine, ...]
    folds: tuple[tuple[str, Index], ...]


def trial(group: Group, values: Sequence[str], extents: Sequence[int]) -> Trial:
    """Compute the values once, for nobody."""
    scope = Scope()
    dims = tuple(scope.dim(extent, Name(f"d{axis}", INDEX)) for axis, extent in enumerate(extents))
    folds: list[tuple[str, Index]] = []

    def noted(key: str) -> Inline:
        def made(elements: Elements, node: Node, place: Index) -> Expr:
            found = FOLDS[key](elements, node, place)
            number = int(key.rpartition(".")[2]) if "." in key else 0
            folds.append((node.outputs[number], place))
            return found

        return made

    elements = replace(group.elements(scope), folds={key: noted(key) for key in FOLDS})
    for value in values:
        elements.at(value, dims)
        scope.place(group.storages[value].at(scope.space, dims))
    return Trial(dims, tuple(scope.places), tuple(folds))


Spread = Callable[[Space, Sequence[Affine]], Index]
"""From dimensions of loops to an index of a value."""


def _as_one(
    places: Sequence[Affine], number_of: dict[int, int | None], extents: Sequence[int], outer: int, inner: int
) -> bool:
    first, second = number_of[outer], number_of[inner]
    if first is None or second is None:
        return True  # one of them has a single element
    for place in places:
        for atom, _ in place.terms:
            if not isinstance(atom, Dim) and {first, second} & Affine(0, ((atom, 1),)).dims:
                return False
        if place.coefficient(Dim(first)) != place.coefficient(Dim(second)) * extents[inner]:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Loops:
    """How a nest is cut: `outer` axes in groups of one loop each, the innermost one, and tasks over both."""

    outer: tuple[int, ...]
    inner: int
    rows_in_task: int
    inner_in_task: int

    @property
    def rows(self) -> int:
        """Iterations of all outer loops."""
        return prod(self.outer)

    @property
    def pieces(self) -> int:
        """Into how many parts the innermost loop is cut."""
        return -(-self.inner // self.inner_in_task) if self.inner else 0

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return -(-self.rows // self.rows_in_task) * self.pieces


def cut(extents: Sequence[int], work: int, lanes: int) -> Loops:
    """Tasks of about `TASK_WORK` steps; an element takes `work` of them."""
    *outer, inner = extents if extents else (1,)
    rows = prod(outer)
    wanted = max(1, TASK_WORK // max(work, 1))  # elements in a task
    wanted = max(wanted, -(-rows * inner // LARGEST_TASKS))
    if inner > 2 * wanted and rows < 8:
        piece = -(-wanted // lanes) * lanes
        return Loops(tuple(outer), inner, 1, piece)
    return Loops(tuple(outer), inner, max(1, wanted // max(inner, 1)), max(inner, 1))


def work_of(body: Graph) -> int:
    """Scalar steps of one element, about: folds count with the axes that they fold."""
    total = 1
    for node in body.nodes:
        total += 8 if node.op in COSTLY else 1
        types = [body.types[name] for name in node.operands]
        out = max(body.types[node.output].element_count, 1)
        match node.op:
            case "MatMul":
                total += types[0].shape[-1]
            case "Conv" | "ConvTranspose":
                total += types[1].element_count // max(types[1].shape[0], 1)
            case "MaxPool" | "AveragePool" | "LpPool":
                total += prod(node["kernel"])
            case op if op.startswith(("Reduce", "Arg")):
                total += types[0].element_count // out
    return total


COSTLY = frozenset(
    {"Exp", "Tanh", "Erf", "Gelu", "Sigmoid", "Swish", "Mish", "Softplus", "Log", "Pow", "Sin", "Cos"}
)


def _phase(group: Group, scope: Scope, values: Sequence[str]) -> Phase:
    shape = group.body.types[values[0]].shape
    order = axis_order(group.storages[values[0]])
    seen = trial(group, values, shape)
    groups = merged(seen.places, seen.dims, shape, order) or [[]]
    extents = [prod(shape[axis] for axis in axes) for axes in groups]
    lanes = lanes_for(group.target.lanes, extents[-1])
    loops = cut(extents, work_of(group.body), lanes)
    with scope.block() as body:
        _rows(group, scope, values, groups, loops, lanes, seen)
    return Phase(loops.tasks, tuple(body))


def lanes_for(widest: int, extent: int) -> int:
    """The most lanes that an axis fills at least once; 1 for none."""
    return next((one for one in LANE_CHOICES if one <= min(widest, extent)), 1)


def _rows(
    group: Group,
    scope: Scope,
    values: Sequence[str],
    groups: list[list[int]],
    loops: Loops,
    lanes: int,
    seen: Trial,
) -> None:
    """The loop over the task's rows, folds of a whole row in it, and the innermost loop."""
    with task_rows(scope, loops) as (outer, span):
        ready = _row_folds(group, scope, values, groups, outer, seen)
        _innermost(group, scope, values, groups, outer, loops.inner, span, lanes, ready)


def _row_folds(
    group: Group,
    scope: Scope,
    values: Sequence[str],
    groups: list[list[int]],
    outer: Sequence[Affine],
    seen: Trial,
) -> dict[str, Ready]:
    """The folds whose index does not change along the innermost loop, computed once before it."""
    shape = group.body.types[values[0]].shape
    place = spread(scope, shape, groups, (*outer, ZERO))
    inner = frozenset().union(*(seen.dims[axis].dims for axis in groups[-1]))
    by_number = [one for one, dim in zip(place, seen.dims, strict=True) if dim.terms]
    ready: dict[str, Ready] = {}
    for name, index_seen in seen.folds:
        if any(one.dims & inner for one in index_seen) or len(by_number) <= max(
            _numbers(index_seen), default=-1
        ):
            continue
        where = tuple(scope.space.substitute(one, by_number) for one in index_seen)
        found = group.elements(scope, ready).at(name, where)
        ready[name] = _always(found)
    return ready


def _numbers(place: Index) -> list[int]:
    """The dimensions that an index is over; those of a fold's own loops are beyond the nest's."""
    return [number for one in place for number in one.dims]


def _always(value: Expr) -> Ready:
    return lambda elements, place: value


@contextmanager
def task_rows(scope: Scope, loops: Loops) -> Iterator[tuple[list[Affine], tuple[Expr, Expr]]]:
    """The loop over the rows of a task: the outer dimensions, and the task's part of the innermost one."""
    piece: Expr = index(0)
    block: Expr = TASK
    if loops.pieces > 1:
        block = apply("quotient", TASK, index(loops.pieces))
        piece = scope.let(times(apply("remainder", TASK, index(loops.pieces)), loops.inner_in_task), "p")
    first = scope.let(times(block, loops.rows_in_task), "p")
    with ExitStack() as stack:
        if loops.rows_in_task == 1:
            row: Expr = first
        else:
            last = apply("min", plus(first, index(loops.rows_in_task)), index(loops.rows))
            row = stack.enter_context(scope.loop(first, scope.let(last, "p"), 1, "row"))
        outer = delinear_names(scope, row, loops.outer)
        stop: Expr = index(loops.inner)
        if loops.pieces > 1:
            stop = scope.let(apply("min", plus(piece, index(loops.inner_in_task)), stop), "p")
        yield outer, (piece, stop)


def _innermost(
    group: Group,
    scope: Scope,
    values: Sequence[str],
    groups: list[list[int]],
    outer: Sequence[Affine],
    extent: int,
    span: tuple[Expr, Expr],
    lanes: int,
    ready: Mapping[str, Ready],
) -> None:
    """In lanes as far as whole vectors go, the rest one by one; or all of it one by one."""
    start, stop = span
    whole = vector_end(scope, start, stop, lanes) if lanes > 1 else start

    def visit(inner: Affine, lane: Lane | None) -> None:
        _element(group, scope, values, groups, (*outer, inner), lane, ready)

    sweep(scope, (start, whole, stop), extent, lanes, visit, "i")


def vector_end(scope: Scope, start: Expr, stop: Expr, lanes: int) -> Expr:
    """Where whole vectors from `start` on end."""
    if start == index(0) and isinstance(stop, type(index(0))):
        return index(int(stop.value) - int(stop.value) % lanes)
    count = apply("sub", stop, start)
    return scope.let(apply("sub", stop, apply("remainder", count, index(lanes))), "p")


def _element(
    group: Group,
    scope: Scope,
    values: Sequence[str],
    groups: list[list[int]],
    dims: Sequence[Affine],
    lane: Lane | None,
    ready: Mapping[str, Ready],
) -> None:
    """Compute and store the outputs at one index."""
    shape = group.body.types[values[0]].shape
    place = spread(scope, shape, groups, dims)
    elements = group.elements(scope, ready, lane)
    for value in values:
        found = elements.at(value, place)
        where = group.storages[value].at(scope.space, place)
        store(scope, group.stored[value].buffer, where, found, elements.step(where), lane)


def spread(scope: Scope, shape: tuple[int, ...], groups: list[list[int]], dims: Sequence[Affine]) -> Index:
    """The index along each axis, from the counters of merged ones."""
    place: dict[int, Affine] = {}
    for axes, dim in zip(groups, dims, strict=True):
        place.update(zip(axes, scope.space.delinear(dim, [shape[axis] for axis in axes]), strict=True))
    return tuple(place[axis] for axis in range(len(shape)))


def store(scope: Scope, buffer: str, where: Affine, value: Expr, step: int, lane: Lane | None) -> None:
    """Write one element, or one a lane; raises `NotInLanesError` when lanes do not lie side by side."""
    if lane is None:
        scope.emit(Store(buffer, scope.place(where), value))
        return
    if step != 1 or value.kind.dtype not in (DType.F32, DType.BOOL):
        raise NotInLanesError
    if value.kind.lanes == 1:
        value = Apply("splat", (value,), type(value.kind)(value.kind.dtype, lane.count))
    scope.emit(Store(buffer, scope.place(where), value))
