"""What follows a product row by row: a normalisation of its rows, or parts of a row that meet (gated units).

A block of the product's rows is finished before anything follows: it stays in the thread's memory as whole
rows, and what comes after goes over each of them while it is in the cache.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ourcompiler.codegen.asked import asked, index_over
from ourcompiler.codegen.contraction import Contraction, Place, contraction
from ourcompiler.codegen.element import Elements, Index, Lane, Ready
from ourcompiler.codegen.gemm import is_packed, lower_panels, plan
from ourcompiler.codegen.gemm_parts import Gemm, tiles_in_block, whole_rows
from ourcompiler.codegen.gemm_right import pack_right_phase
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.lanes import sweep
from ourcompiler.codegen.nest import lanes_for, store, vector_end
from ourcompiler.codegen.role import Role, role
from ourcompiler.codegen.row_passes import PASSES
from ourcompiler.codegen.rows import write_row
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.ir.graph import Graph, Node
from ourcompiler.ir.index import ZERO, Affine, Space
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    TASK,
    Expr,
    Kernel,
    Phase,
    apply,
    index,
    plus,
    times,
)

F32 = DType.F32


@dataclass(frozen=True, slots=True)
class Finish:
    """`middle` is what is kept of the product's rows, which lie along `axis`; `rows` the normalisation that
    goes over them, if there is one.
    """

    product: Node
    middle: str
    axis: int
    rows: Node | None


def finish(body: Graph, product: Node) -> Finish | None:
    """What follows a body's last product row by row; None if everything is element by element."""
    beside = _element_by_element(body, product)
    middles = {
        name
        for node in body.nodes
        if not beside & set(node.outputs)
        for name in node.operands
        if name in beside
    }
    if len(middles) != 1:
        return None
    found = [node for node in body.nodes[body.nodes.index(product) :] if role(body, node) is Role.ROWS]
    axis = 1 if product.op == "Conv" else body.types[product.output].rank - 1
    return Finish(product, middles.pop(), axis, found[0] if found else None)


def _element_by_element(body: Graph, product: Node) -> set[str]:
    """The values that are computed from each element of the product at its own index."""
    found = {product.output}
    shape = body.types[product.output].shape
    for node in body.nodes:
        is_after = found & set(node.operands) and body.types[node.output].shape == shape
        if is_after and role(body, node) is Role.POINTWISE and node.op not in ("Concat", "Gather"):
            found.add(node.output)
    return found


def fits(body: Graph, found: Finish) -> bool:
    """Whether one row of the product is all that each row of the results needs."""
    product, shape = found.product, body.types[found.middle].shape
    if body.types[found.middle].dtype is not F32 or product.get("group", 1) != 1:
        return False
    if found.rows is not None and not _goes_over_rows(body, found, found.rows):
        return False
    written = [value for _, value in body.outputs]
    if (_element_by_element(body, product) - {found.middle}) & set(written):
        return False
    others = body.nodes[body.nodes.index(product) + 1 :]
    if any(role(body, one) not in (Role.VIEW, Role.POINTWISE) and one != found.rows for one in others):
        return False
    return all(_needs_one_row(body, found, name, shape) for name in written)


def _goes_over_rows(body: Graph, found: Finish, rows: Node) -> bool:
    """Whether the normalisation's rows are the product's, and nothing else of its shape is in between."""
    shape = body.types[rows.output].shape
    along = rows.op != "GroupNorm" and rows["axis"] % len(shape) == found.axis
    is_last = rows.op == "Softmax" or found.axis == len(shape) - 1
    return rows.inputs[0] == found.middle and rows.op in PASSES and rows.op != "Hardmax" and along and is_last


def _needs_one_row(body: Graph, found: Finish, name: str, shape: tuple[int, ...]) -> bool:
    """Whether an element of a result asks only for the row of the same index, by elements side by side."""
    own, axis = body.types[name].shape, found.axis
    if len(own) != len(shape) or own[:axis] + own[axis + 1 :] != shape[:axis] + shape[axis + 1 :]:
        return False
    scope = Scope()
    place = tuple(index_over(scope, own))
    watched = [found.middle, *([found.rows.output] if found.rows else [])]
    seen = asked(scope, body, name, place, watched)
    if found.rows is not None:
        return all(one == place for places in seen.values() for one in places)
    within = place[axis].dims
    return all(
        one[:axis] + one[axis + 1 :] == place[:axis] + place[axis + 1 :] and one[axis].dims <= within
        for one in seen[found.middle]
    )


LEAST_ROWS = 128
"""Rows of one batch and more, so that blocks of whole rows are enough tasks."""


def pays(body: Graph, found: Finish, l2_bytes: int) -> bool:
    """Whether whole rows are worth keeping: they fit into half of the second cache with what they are packed
    from, and there are enough of them to share out.
    """
    what = contraction(body, found.product)
    row_bytes = 4 * (what.columns + what.depth_count)
    return is_written(body) and what.row_count >= LEAST_ROWS and 32 * row_bytes <= l2_bytes


def is_written(body: Graph) -> bool:
    """Whether there is code for it: after one product, or after a chain of two without a softmax."""
    products = sum(role(body, node) is Role.PRODUCT for node in body.nodes)
    return products == 1 or (products == 2 and all(node.op != "Softmax" for node in body.nodes))


@dataclass(frozen=True, slots=True)
class Block:
    """A block of whole rows in the thread's memory: the batch, its first row, rows from and to, and how far
    apart rows lie there.
    """

    group: Group
    found: Finish
    scope: Scope
    buffer: str
    width: int
    batch: Place
    start: Affine
    span: tuple[Expr, Expr]

    @property
    def what(self) -> Contraction:
        """The product."""
        return contraction(self.group.body, self.found.product)

    def place(self, row: Affine, column: Affine) -> Affine:
        """Where an element lies."""
        space = self.scope.space
        relative = space.add(row, space.multiply(self.start, -1))
        return space.add(space.multiply(relative, self.width), column)

    def sink(self, at: Index) -> Affine:
        """The same for an index of the value that is kept."""
        axis, batch = self.found.axis, len(self.batch)
        rows = (at[:axis] + at[axis + 1 :])[batch:]
        return self.place(self.scope.space.linear(rows, self.what.rows), at[axis])


def finish_rows(block: Block) -> None:
    """Row after row of the block, everything that follows the product."""
    scope, found, what = block.scope, block.found, block.what
    first, last = block.span
    with scope.loop(first, last, 1, "r") as name:
        row = scope.dim(what.row_count, name)
        rows = tuple(
            scope.dim(extent, scope.let(scope.place(one), "o")) if one.terms else one
            for one, extent in zip(scope.space.delinear(row, what.rows), what.rows, strict=True)
        )

        def kept(elements: Elements, at: Index) -> Expr:
            return elements.load(block.buffer, block.place(row, at[found.axis]), F32)

        if found.rows is not None:
            index_of = what.out(scope.space, block.batch, rows, ZERO)
            outer = index_of[: found.axis] + index_of[found.axis + 1 :]
            write_row(block.group, found.rows, scope, outer, kept={found.middle: kept})
            return
        by_width: dict[int, list[str]] = {}
        for value in block.group.written:
            by_width.setdefault(block.group.body.types[value].shape[found.axis], []).append(value)
        for width, values in by_width.items():
            _along(block, values, width, lambda space, at: what.out(space, block.batch, rows, at), kept)


def _along(
    block: Block, values: Sequence[str], width: int, to: Callable[[Space, Affine], Index], kept: Ready
) -> None:
    """The values of one row, in lanes as far as whole vectors go."""
    scope, group = block.scope, block.group
    lanes = lanes_for(group.target.lanes, width)

    def one(column: Affine, lane: Lane | None) -> None:
        elements = group.elements(scope, lane=lane)
        elements.ready = {block.found.middle: kept}
        place = to(scope.space, column)
        for value in values:
            found = elements.at(value, place)
            where = group.storages[value].at(scope.space, place)
            store(scope, group.stored[value].buffer, where, found, elements.step(where), lane)

    whole = vector_end(scope, index(0), index(width), lanes)
    sweep(scope, (index(0), whole, index(width)), width, lanes, one)


def width_of(what: Contraction, lanes: int) -> int:
    """How far apart rows lie in the thread's memory: whole vectors."""
    return -(-what.columns // lanes) * lanes


def lower(group: Group, found: Finish, name: str, right: str) -> Kernel:
    """The kernel of one product and what goes over its rows; `right` is its name for the packed right
    side.
    """
    what, tile, packed_left = plan(group, found.product)
    scope, width = Scope(), width_of(what, group.target.lanes)
    row_bytes = 4 * (width + (what.depth_count if packed_left else 0))
    tiles = -(-what.row_count // tile.rows)
    count = tile.rows * tiles_in_block(
        tiles, what.batch_count, group.target.l2_bytes // 2 // (tile.rows * row_bytes)
    )
    gemm = Gemm(group, found.product, scope, what, tile, whole_rows(count), packed_left, right)
    gemm.left_stride = what.depth_count
    gemm.result = scope.local(F32, tile.rows * tile.columns)
    if packed_left:
        gemm.left = scope.local(F32, count * what.depth_count)
    buffer = scope.local(F32, count * width)
    phases = [] if is_packed(group, found.product) else [pack_right_phase(group, scope, what, tile, right)]
    blocks = -(-what.row_count // count)
    with scope.block() as body:
        *batch, number = delinear_names(scope, TASK, (*what.batch, blocks))
        first = scope.let(times(scope.place(number), count), "p")
        last = scope.let(apply("min", plus(first, index(count)), index(what.row_count)), "p")
        start = scope.dim(what.row_count, first) if blocks > 1 else ZERO
        block = Block(group, found, scope, buffer, width, tuple(batch), start, (first, last))
        gemm.sinks = {found.middle: (buffer, block.sink)}
        lower_panels(gemm, block.batch, block.span)
        finish_rows(block)
    phases.append(Phase(what.batch_count * blocks, tuple(body)))
    return group.kernel(name, [scope], phases)
