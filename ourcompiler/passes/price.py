"""The cost model of the fusion plan: bytes over bandwidth, operations over peak, and the start of a kernel.

One thread, one roofline a kernel. It is meant to compare a group as one kernel with the same group as two,
where most of what it does not know is the same on both sides.
"""

from dataclasses import dataclass
from math import prod

from ourcompiler.codegen.contraction import choose_tile, contraction
from ourcompiler.codegen.gemm_parts import make_cut, packs_ahead
from ourcompiler.ir.graph import Graph, Node
from ourcompiler.rewrite.cost import total
from ourcompiler.targets import Target

NS = 1e9


@dataclass(frozen=True, slots=True)
class Price:
    """Nanoseconds as one kernel and as two."""

    fused_ns: float
    separate_ns: float

    @property
    def pays(self) -> bool:
        """Whether one kernel is not dearer."""
        return self.fused_ns <= self.separate_ns


def operations(body: Graph) -> int:
    """Operations of a body, functions by their price."""
    computing = [node for node in body.nodes if node.op != "View"]
    found = total(computing, body.types, body.constants)
    return found.flops + found.price


def traffic(body: Graph) -> int:
    """Bytes that a kernel reads and writes: each value once."""
    names = dict.fromkeys((*body.inputs, *(value for _, value in body.outputs)))
    return sum(body.types[name].byte_count for name in names)


def kernel_ns(target: Target, count: float, byte_count: float) -> float:
    """One kernel that does so many operations and moves so many bytes."""
    work = max(count / target.flops_per_second, byte_count / target.bytes_per_second)
    return target.start_ns + NS * work


def price(first: Graph, second: Graph, both: Graph, repeats: float, target: Target) -> Price:
    """Two bodies, and both as one where the first is computed `repeats` times: each time it reads again what
    it reads.
    """
    again = max(repeats - 1.0, 0.0)
    read_again = again * sum(first.types[name].byte_count for name in first.inputs)
    fused = kernel_ns(target, operations(both) + again * operations(first), traffic(both) + read_again)
    separate = sum(kernel_ns(target, operations(one), traffic(one)) for one in (first, second))
    return Price(fused, separate)


def packing_repeats(body: Graph, product: Node, target: Target) -> int:
    """How often a row of a product's left side is packed: by each block of columns for itself."""
    what = contraction(body, product)
    tile = choose_tile(what.row_count, what.columns, target.lanes, target.registers)
    if packs_ahead(what, tile, target):
        return 1
    return make_cut(what, tile, True, target).panel_blocks


def growth(small: tuple[int, ...], large: tuple[int, ...]) -> float:
    """How many elements are computed from one."""
    return prod(large) / max(prod(small), 1)
