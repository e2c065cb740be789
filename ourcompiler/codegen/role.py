"""What operators are to a kernel: something it is built around, or something that rides along."""

from enum import Enum

from ourcompiler.codegen.element import INLINE
from ourcompiler.codegen.fold import FOLDS
from ourcompiler.codegen.row_passes import PASSES
from ourcompiler.codegen.sequential import LOWERINGS
from ourcompiler.codegen.window import is_window
from ourcompiler.ir.graph import Graph, Node
from ourcompiler.ir.types import DType
from ourcompiler.ops.catalogue import OPS
from ourcompiler.ops.table import Pointwise


class Role(Enum):
    """What an operator is to a kernel."""

    VIEW = "view"
    POINTWISE = "pointwise"
    FOLD = "fold"
    ROWS = "rows"
    PRODUCT = "product"
    WINDOW = "window"
    SEQUENTIAL = "sequential"


ANCHORS = frozenset({Role.FOLD, Role.ROWS, Role.PRODUCT, Role.WINDOW, Role.SEQUENTIAL})


def role(graph: Graph, node: Node) -> Role:
    """The role of a node."""
    if node.op == "View":
        return Role.VIEW
    if node.op in LOWERINGS:
        return Role.SEQUENTIAL
    if node.op in PASSES:
        return Role.ROWS
    if node.op == "Conv" and is_window(graph, node):
        return Role.WINDOW
    if node.op in ("MatMul", "Conv") and is_product(graph, node):
        return Role.PRODUCT
    if node.op in FOLDS:
        return Role.FOLD
    if node.op in INLINE or isinstance(OPS[node.op].code, Pointwise):
        return Role.POINTWISE
    raise AssertionError(f"{node.op} has no role")


def is_product(graph: Graph, node: Node) -> bool:
    """Whether tiles in registers pay: float32, and more than a column or two (of a convolution, which reads
    its image for each, colours are enough).
    """
    types = [graph.types[name] for name in node.inputs[:2]]
    if any(one.dtype is not DType.F32 for one in types):
        return False
    if node.op == "Conv":
        per_group: int = types[1].shape[0] // node["group"]
        return per_group >= 3
    return types[1].shape[-1] >= 4
