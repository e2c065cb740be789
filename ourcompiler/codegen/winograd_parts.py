"""What the code of one convolution by Winograd's method is written from."""

from collections.abc import Callable
from dataclasses import dataclass

from ourcompiler.codegen.contraction import Place
from ourcompiler.codegen.gemm_parts import F32
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.scope import Scope, delinear_names
from ourcompiler.codegen.winograd_plan import Plan
from ourcompiler.ir.graph import Node
from ourcompiler.ir.index import Affine
from ourcompiler.kernel.ir import Expr, Kind, Load, Store, apply, index, plus


@dataclass(frozen=True, slots=True)
class Winograd:
    """`weights` are the packed filters; `filters`, `image` and `result` the transformed ones, the transformed
    image and the products: for each point a matrix. `held` and `made` are one tile between passes, and one
    tile's results.
    """

    group: Group
    node: Node
    scope: Scope
    what: Plan
    weights: str
    filters: str
    image: str
    result: str
    held: str
    made: str

    @property
    def source(self) -> str:
        """The operand that is transformed."""
        return self.node.inputs[0]


@dataclass(frozen=True, slots=True)
class Run:
    """Tiles, panels of filters or input channels, `first` to before `last`; `start` is the first one in
    memory.
    """

    first: Expr
    last: Expr
    start: Expr

    def place(self, number: Expr) -> Expr:
        """How many lie before it in memory."""
        if number == self.start:
            return index(0)
        return number if self.start == index(0) else apply("sub", number, self.start)


@dataclass(frozen=True, slots=True)
class Block:
    """Tiles of one group of channels."""

    channels: Affine
    tiles: Run


def matrix_start(winograd: Winograd, what: str, channels: Affine, point: Affine) -> Expr:
    """Where the matrix of a point begins; in memory of the task's own there is one group of channels."""
    plan, scope = winograd.what, winograd.scope
    if what == plan.shared:
        point = scope.space.linear((channels, point), (plan.shape.groups, plan.point_count))
    return scope.let(scope.place(scope.space.multiply(point, plan.steps[what])), "x")


def each_tile(winograd: Winograd, block: Block, visit: Callable[[Place, Expr], None]) -> None:
    """Visit tiles by image, row and column of tiles, and by their number in memory."""
    scope, what = winograd.scope, winograd.what
    with scope.loop(block.tiles.first, block.tiles.last, 1, "t") as name:
        place = tuple(delinear_names(scope, name, what.tiles))
        visit(place, scope.let(block.tiles.place(name), "t"))


def scaled(scope: Scope, place: Affine, factor: int, more: Affine) -> Affine:
    """A place times a number and more."""
    return scope.space.add(scope.space.multiply(place, factor), more)


def hold(winograd: Winograd, values: list[Expr], column: Affine, lanes: int) -> None:
    """Keep a column of the tile between the passes."""
    points, scope = winograd.what.transform.points, winograd.scope
    for row, value in enumerate(values):
        place = scope.space.multiply(scope.space.add(column, Affine(row * points)), lanes)
        scope.emit(Store(winograd.held, scope.place(place), value))


def held(winograd: Winograd, row: Affine, count: int, lanes: int) -> list[Expr]:
    """The first elements of a row of the tile that was kept."""
    points, scope = winograd.what.transform.points, winograd.scope
    start = scope.let(scope.place(scope.space.multiply(row, points * lanes)), "x")
    return [
        scope.let(Load(winograd.held, plus(start, index(number * lanes)), Kind(F32, lanes)), "d")
        for number in range(count)
    ]
