"""From a fused node to its kernel, and what the kernel is called with."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ourcompiler.codegen import (
    attention,
    finish,
    gemm,
    group_norm,
    nest,
    rows,
    sequential,
    window,
    winograd,
    winograd_plan,
)
from ourcompiler.codegen.contraction import Contraction, Tile, goes_by_channel, panel_count
from ourcompiler.codegen.gemm_right import right_array_shape
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.role import Role, role
from ourcompiler.ir.graph import Array, Node
from ourcompiler.ir.types import DType
from ourcompiler.kernel import text
from ourcompiler.kernel.ir import Buffer, Kernel, Load, Store, children, values, walk


@dataclass(frozen=True, slots=True)
class Value:
    """A kernel works on a value of the graph, where the plan of memory puts it."""

    name: str


@dataclass(frozen=True, slots=True)
class Packed:
    """A kernel works on a constant in a form of its own; `make` computes it from the constant."""

    name: str
    form: str
    byte_count: int
    make: Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A kernel works on memory that means nothing before and after it."""

    dtype: DType
    count: int


Argument = Value | Packed | Workspace


@dataclass(frozen=True, slots=True)
class Lowered:
    """A kernel, and what each of its buffers is."""

    kernel: Kernel
    arguments: tuple[Argument, ...]
    node: Node


def lower(group: Group, node: Node) -> Lowered:
    """The kernel of a fused node; kernels that are the same text have the same name."""
    anchor, kind = anchor_of(group)
    extra: list[Argument] = []
    whole = attention.parts(group.body)
    if whole is not None:
        kernel, extra = _attention(group, whole)
        anchor = whole.mixed
    else:
        kernel, extra = _around(group, anchor, kind)
    arguments: list[Argument] = [Value(name) for name in group.stored]
    kernel, kept = _without_unused(kernel, [*arguments, *extra])
    named = replace(kernel, name=_name(kind, anchor, group, kernel, _whole_name(whole)))
    return Lowered(named, tuple(kept), node)


def _whole_name(found: attention.Parts | None) -> str:
    return "" if found is None else "attention" if found.softmax else "chain"


def _around(group: Group, anchor: Node | None, kind: Role) -> tuple[Kernel, list[Argument]]:
    """The kernel around one anchor, or none."""
    match kind:
        case Role.PRODUCT:
            assert anchor is not None
            return _product(group, anchor)
        case Role.WINDOW:
            assert anchor is not None
            return _window(group, anchor)
        case Role.ROWS:
            assert anchor is not None
            return _rows(group, anchor)
        case Role.SEQUENTIAL:
            assert anchor is not None
            return sequential.lower(group, anchor, "kernel"), []
    return nest.lower(group, "kernel"), []


def _rows(group: Group, anchor: Node) -> tuple[Kernel, list[Argument]]:
    what = group_norm.plan(group, anchor)
    if what is None:
        return rows.lower(group, anchor, "kernel"), []
    extra: list[Argument] = [Workspace(DType.F32, count) for count in (what.statistics, what.factors)]
    names = (f"b{len(group.stored)}", f"b{len(group.stored) + 1}")
    kernel = group_norm.lower(group, anchor, "kernel", what, names)
    buffers = tuple(Buffer(name, DType.F32, True) for name in names)
    return replace(kernel, buffers=(*kernel.buffers, *buffers)), extra


def _attention(group: Group, found: attention.Parts) -> tuple[Kernel, list[Argument]]:
    """Right sides are packed into memory of the kernel's own, unless each task packs its own."""
    what = attention.plan(group, found)
    names = ["", ""]
    extra: list[Argument] = []
    owns = attention.owned(group, found, what)
    for side, (node, (one, tile)) in enumerate(zip((found.scores, found.mixed), what.sides, strict=True)):
        if not owns[side]:
            names[side] = f"b{len(group.stored) + len(extra)}"
            extra.append(_right_side(group, node, one, tile))
    kernel = attention.lower(group, found, "kernel", (names[0], names[1]))
    buffers = tuple(
        Buffer(name, DType.F32, isinstance(one, Workspace))
        for name, one in zip(filter(None, names), extra, strict=True)
    )
    return replace(kernel, buffers=(*kernel.buffers, *buffers)), extra


def _right_side(group: Group, node: Node, what: Contraction, tile: Tile) -> Argument:
    """Panels that are known when compiling, or memory for those that are packed at run time."""
    shape = right_array_shape(what, tile)
    count = int(np.prod(shape))
    if not gemm.is_packed(group, node):
        return Workspace(DType.F32, count)
    form = f"panels {'x'.join(map(str, shape))}"
    return Packed(node.inputs[1], form, 4 * count, _packer(node, what, tile))


def anchor_of(group: Group) -> tuple[Node | None, Role]:
    """The node around which the group was formed, and what it is."""
    kinds = [(node, role(group.body, node)) for node in group.body.nodes]
    anchors = [(node, kind) for node, kind in kinds if kind not in (Role.VIEW, Role.POINTWISE)]
    products = [(node, kind) for node, kind in anchors if kind is Role.PRODUCT]
    return next(iter([*products, *anchors]), (None, Role.POINTWISE))


def _window(group: Group, anchor: Node) -> tuple[Kernel, list[Argument]]:
    what, weights = window.plan(group, anchor), f"b{len(group.stored)}"
    shape = what.weights_shape
    count = int(np.prod(shape))
    form = f"channels {'x'.join(map(str, shape))}"
    is_known = anchor.inputs[1] in group.constant_inputs
    extra: Argument = (
        Packed(anchor.inputs[1], form, 4 * count, window.packer(what))
        if is_known
        else Workspace(DType.F32, count)
    )
    kernel = window.lower(group, anchor, "kernel", weights)
    return replace(kernel, buffers=(*kernel.buffers, Buffer(weights, DType.F32, not is_known))), [extra]


def _winograd(group: Group, anchor: Node, what: winograd_plan.Plan) -> tuple[Kernel, list[Argument]]:
    shape = what.weights_shape
    form = f"filters {'x'.join(map(str, shape))}"
    packed = Packed(anchor.inputs[1], form, 4 * int(np.prod(shape)), winograd_plan.packer(what))
    names = (f"b{len(group.stored)}", f"b{len(group.stored) + 1}")
    kernel = winograd.lower(group, anchor, "kernel", what, names)
    extra: list[Argument] = [packed]
    buffers = [Buffer(names[0], DType.F32)]
    if what.shared is not None:
        extra.append(Workspace(DType.F32, what.shared_count))
        buffers.append(Buffer(names[1], DType.F32, True))
    return replace(kernel, buffers=(*kernel.buffers, *buffers)), extra


def _product(group: Group, anchor: Node) -> tuple[Kernel, list[Argument]]:
    by_tiles = winograd_plan.plan(group, anchor)
    after = finish.finish(group.body, anchor)
    if by_tiles is not None and after is None:
        return _winograd(group, anchor, by_tiles)
    what, tile, _ = gemm.plan(group, anchor)
    right = f"b{len(group.stored)}"
    extra: list[Argument] = [_right_side(group, anchor, what, tile)]
    if after is None:
        count = gemm.left_count(group, anchor)
        left = f"b{len(group.stored) + 1}" if count else ""
        kernel = gemm.lower(group, anchor, "kernel", right, left)
        if count:
            extra.append(Workspace(DType.F32, count))
    else:
        kernel = finish.lower(group, after, "kernel", right)
    buffers = tuple(
        Buffer(f"b{number}", DType.F32, isinstance(one, Workspace))
        for number, one in enumerate(extra, len(group.stored))
    )
    return replace(kernel, buffers=(*kernel.buffers, *buffers)), extra


def _packer(anchor: Node, what: Contraction, tile: Tile) -> Callable[[Array], Array]:
    """Panels of the right side: batches, panels, depth, columns; beyond the last column are zeros."""
    groups = anchor.get("group", 1)

    def make(array: Array) -> Array:
        if anchor.op == "Conv":
            split = array.reshape(groups, array.shape[0] // groups, array.shape[1], -1)
            order = (0, 2, 3, 1) if goes_by_channel(array.shape) else (0, 3, 2, 1)
            matrix = split.transpose(order).reshape(groups, what.depth_count, what.columns)
        else:
            matrix = array.reshape(what.batch_count, what.depth_count, what.columns)
        panels = panel_count(what.columns, tile)
        found = np.zeros(right_array_shape(what, tile), np.float32)
        for panel in range(panels):
            part = matrix[:, :, panel * tile.columns : (panel + 1) * tile.columns]
            found[:, panel, :, : part.shape[2]] = part
        return found

    return make


def _without_unused(kernel: Kernel, arguments: list[Argument]) -> tuple[Kernel, list[Argument]]:
    """Without buffers that nothing loads from or stores to; the rest keep their names."""
    used = buffers_used(kernel)
    kept = [
        (one, argument) for one, argument in zip(kernel.buffers, arguments, strict=True) if one.name in used
    ]
    return replace(kernel, buffers=tuple(one for one, _ in kept)), [argument for _, argument in kept]


def buffers_used(kernel: Kernel) -> set[str]:
    """Every array that the kernel touches."""
    found: set[str] = set()
    for phase in kernel.phases:
        for statement in walk(phase.body):
            if isinstance(statement, Store):
                found.add(statement.buffer)
            waiting = list(values(statement))
            while waiting:
                expr = waiting.pop()
                if isinstance(expr, Load):
                    found.add(expr.buffer)
                waiting.extend(children(expr))
    return found


def _name(kind: Role, anchor: Node | None, group: Group, kernel: Kernel, otherwise: str) -> str:
    """`<anchor>_<shape of the result>_<digest>`: see docs/kernels.md for the grammar."""
    only_moves = all(node.op in ("View", "Concat") for node in group.body.nodes)
    what = otherwise or ("copy" if only_moves else anchor.op if anchor else kind.value)
    shape = "x".join(map(str, group.body.types[group.written[0]].shape)) or "1"
    digest = hashlib.sha256(text.show(replace(kernel, name="kernel")).encode()).hexdigest()[:10]
    return f"{what.lower()}_{shape}_{digest}"
