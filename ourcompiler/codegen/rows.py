"""Softmax and normalisation: every row is gone over several times, and what follows them rides along.

The lanes run along the row where its innermost axis is the fastest in memory, else over neighbouring rows.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod

from ourcompiler.codegen.asked import asked, index_over
from ourcompiler.codegen.element import Elements, Index, Lane, NotInLanesError, Ready
from ourcompiler.codegen.fold import FOLDS
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.nest import (
    cut,
    lanes_for,
    merged,
    store,
    task_rows,
    vector_end,
)
from ourcompiler.codegen.role import ANCHORS, role
from ourcompiler.codegen.row import Rows, RowSpace, Spot, row_space
from ourcompiler.codegen.row_passes import PASSES
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.graph import ABSENT, Graph, Node
from ourcompiler.ir.index import ZERO, Affine, Dim, Space
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    Expr,
    Kernel,
    Kind,
    Load,
    Name,
    Number,
    Phase,
    index,
)

PASS_WORK = 12


def folds_row(body: Graph, node: Node) -> bool:
    """Whether the results are folds of rows that the operator makes, and of nothing else that needs them: the
    expectation under a softmax.
    """
    shape = body.types[node.output].shape
    if len(row_space(node, shape).inner) != 1 or body.types[node.output].dtype is not DType.F32:
        return False
    if sorted(role(body, one).value for one in body.nodes if role(body, one) in ANCHORS) != ["fold", "rows"]:
        return False
    return all(
        body.types[name].shape in _folded_shapes(shape, _axis(node, shape))
        and _asks_for_its_row(body, node, name)
        for _, name in body.outputs
    )


def _axis(node: Node, shape: tuple[int, ...]) -> int:
    return int(node["axis"]) % len(shape)


def _folded_shapes(shape: tuple[int, ...], axis: int) -> tuple[tuple[int, ...], ...]:
    before, after = shape[:axis], shape[axis + 1 :]
    return ((*before, 1, *after), (*before, *after))


def _folded_index(body: Graph, name: str, place: Index, axis: int) -> Index:
    """The index of a folded value, from one in the row's operand."""
    rank = len(body.types[name].shape)
    return place if rank == len(place) else (*place[:axis], *place[axis + 1 :])


def _asks_for_its_row(body: Graph, node: Node, name: str) -> bool:
    """Whether a value needs elements of the row of its own index only."""
    shape = body.types[node.output].shape
    axis, scope = _axis(node, shape), Scope()
    dims = index_over(scope, shape)
    dims[axis] = ZERO
    place = _folded_index(body, name, tuple(dims), axis)
    seen = asked(scope, body, name, place, [node.output])[node.output]
    return bool(seen) and all((*at[:axis], ZERO, *at[axis + 1 :]) == tuple(dims) for at in seen)


def write_row(
    group: Group,
    node: Node,
    scope: Scope,
    outer: Sequence[Affine],
    sink: Callable[[Spot, Expr], None] | None = None,
    kept: Mapping[str, Ready] | None = None,
) -> None:
    """One row inside of another kernel, to a sink or to the group's results."""
    shape = group.body.types[node.inputs[0]].shape
    order = [[axis] for axis in range(len(shape))]
    space = row_space(node, shape)
    for in_lanes in (True, False):
        lanes = lanes_for(group.target.lanes, space.inner[-1]) if in_lanes else 1
        rows = Rows(group, node, scope, space, order, lanes, along=True, sink=sink, kept=kept or {})
        keeps = node.op == "Softmax" or not rows.is_stored
        rows.scratch = scope.local(rows.dtype, rows.length) if keeps else ""
        try:
            with scope.attempt():
                PASSES[node.op](rows, outer)
            return
        except NotInLanesError:
            if lanes == 1:
                raise


def lower(group: Group, node: Node, name: str) -> Kernel:
    """The kernel: in lanes where that can be done, else one by one."""
    for in_lanes in (True, False):
        try:
            return _lowered(group, node, name, in_lanes)
        except NotInLanesError:
            if not in_lanes:
                raise
    raise AssertionError("unreachable")


def _lowered(group: Group, node: Node, name: str, in_lanes: bool) -> Kernel:
    shape = group.body.types[node.inputs[0]].shape
    space = row_space(node, shape)
    outer_count = len(space.outer)
    extents = (*space.outer, *space.inner)
    places, dims = _dry_run(group, node, space)
    order = _loop_order(group, node, space, dims)
    outer = [axis for axis in order if axis < outer_count]
    inner = [axis for axis in order if axis >= outer_count]
    groups = [
        *(merged(places, dims, extents, outer) or []),
        *merged(places, dims, extents, inner),
    ]
    scope = Scope()
    along = not outer or order[-1] >= outer_count or extents[order[-1]] < 4
    rows = Rows(group, node, scope, space, groups, 1, along, folds=_folds(group.body, node))
    is_f32 = group.dtype(node.inputs[0]) is DType.F32 and node.op != "Hardmax"
    if in_lanes and is_f32:
        axis_extent = (
            rows.inner_extents[-1]
            if along
            else prod(extents[axis] for axis in groups[-1 - len(rows.inner_extents)])
        )
        rows.lanes = lanes_for(group.target.lanes, axis_extent)
    rows.scratch = scope.local(rows.dtype, rows.length * (1 if along else rows.lanes))
    with scope.block() as body:
        tasks = _write(rows)
    return group.kernel(name, [scope], [Phase(tasks, tuple(body))])


def _dry_run(group: Group, node: Node, space: RowSpace) -> tuple[list[Affine], list[Affine]]:
    """Places of the operand and of all that follows."""
    stand_in = Number(0.0, Kind(group.dtype(node.output)))
    scope = Scope()
    extents = (*space.outer, *space.inner)
    dims = [scope.dim(extent, Name(f"d{axis}", index(0).kind)) for axis, extent in enumerate(extents)]
    place = space.spread(scope.space, dims)
    group.elements(scope).at(node.inputs[0], place)
    after = group.elements(scope, {node.output: lambda elements, place: stand_in})
    for value in group.written:
        own = place
        if _folds(group.body, node):
            axis = _axis(node, group.body.types[node.output].shape)
            own = _folded_index(group.body, value, (*place[:axis], ZERO, *place[axis + 1 :]), axis)
        after.at(value, own)
        scope.place(group.storages[value].at(scope.space, own))
    for number in (1, 2):
        name = node.inputs[number] if number < len(node.inputs) else ABSENT
        if name != ABSENT:
            after.at(name, (place[1],) if node.op == "GroupNorm" else after.aligned(name, place))
    return scope.places, dims


def _loop_order(group: Group, node: Node, space: RowSpace, dims: Sequence[Affine]) -> list[int]:
    """The dimensions from the slowest to the fastest in the result's memory; where results are folds of the
    row, in that of the operand.
    """
    extents = (*space.outer, *space.inner)
    name = node.inputs[0] if _folds(group.body, node) else group.written[0]
    if name not in group.storages:
        return list(range(len(extents)))
    whole = Space(tuple(extent for extent in extents if extent > 1))
    place = group.storages[name].at(whole, space.spread(whole, dims))
    if any(not isinstance(atom, Dim) for atom, _ in place.terms):
        return list(range(len(extents)))
    steps = [abs(place.coefficient(next(iter(dim.terms))[0])) if dim.terms else 0 for dim in dims]
    return sorted(range(len(extents)), key=lambda axis: (extents[axis] > 1, -steps[axis]))


def _folds(body: Graph, node: Node) -> bool:
    """Whether something after the operator folds its rows."""
    after = body.nodes[body.nodes.index(node) + 1 :]
    return any(one.op in FOLDS for one in after)


def _store_folds(rows: Rows, dims: Sequence[Affine]) -> None:
    """The results at the row's index, from the row in the thread's memory."""
    scope, group, node = rows.scope, rows.group, rows.node
    place = rows.place((*dims, *[ZERO] * len(rows.inner_groups)))
    axis = _axis(node, group.body.types[node.output].shape)
    lanes = rows.lane.count if rows.lane else 1

    def kept(elements: Elements, at: Index) -> Expr:
        if rows.along:
            return elements.load(rows.scratch, at[axis], rows.dtype)
        where = scope.place(scope.space.multiply(at[axis], lanes))
        return Load(rows.scratch, where, Kind(rows.dtype, lanes))

    elements = group.elements(scope, {node.output: kept}, rows.lane)
    for name in group.written:
        own = _folded_index(group.body, name, place, axis)
        found = elements.at(name, own)
        where = group.storages[name].at(scope.space, own)
        store(scope, group.stored[name].buffer, where, found, elements.step(where), rows.lane)


def _write(rows: Rows) -> int:
    """The loops over the rows; returns the number of tasks."""
    outer_groups = rows.order[: len(rows.order) - len(rows.inner_groups)]
    extents = (*rows.space.outer, *rows.space.inner)
    outer = [prod(extents[axis] for axis in axes) for axes in outer_groups]
    work = rows.length * PASS_WORK

    def code(rows: Rows, dims: Sequence[Affine]) -> None:
        PASSES[rows.node.op](rows, dims)
        if rows.folds:
            _store_folds(rows, dims)

    if rows.along or rows.lanes == 1:
        loops = cut([*outer, 1], work, 1)
        with task_rows(rows.scope, loops) as (dims, _):
            code(rows, dims)
        return loops.tasks
    loops = cut(outer, work, rows.lanes)
    with task_rows(rows.scope, loops) as (dims, (start, stop)):
        whole = vector_end(rows.scope, start, stop, rows.lanes)
        with rows.scope.loop(start, whole, rows.lanes) as name:
            dim = rows.scope.dim(outer[-1], name)
            rows.lane = Lane(len(rows.scope.extents) - 1, rows.lanes)
            code(rows, (*dims, dim))
        rows.lane = None
        if whole != stop:
            with rows.scope.loop(whole, stop, 1) as name:
                code(rows, (*dims, rows.scope.dim(outer[-1], name)))
    return loops.tasks
