"""The loop form: kernels of loops over numbers and short vectors. Frozen; a change is another kernel.

A kernel has phases. The tasks of a phase are independent of one another, and all of them end before the next
phase begins. Vectors are values of a kind with lanes; how a target holds them is the printer's affair.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ourcompiler.ir.types import DType


@dataclass(frozen=True, slots=True)
class Kind:
    """The type of a value: elements of a type, one or `lanes` of them side by side."""

    dtype: DType
    lanes: int = 1

    def __str__(self) -> str:
        return self.dtype.value if self.lanes == 1 else f"{self.dtype.value}x{self.lanes}"


INDEX = Kind(DType.I64)
FLAG = Kind(DType.BOOL)


@dataclass(frozen=True, slots=True)
class Number:
    """A number that is known."""

    value: float | int | bool
    kind: Kind


@dataclass(frozen=True, slots=True)
class Name:
    """A value that a statement named."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of values: those of `ir.scalar` and of `FUNCTIONS`."""

    function: str
    arguments: "tuple[Expr, ...]"
    kind: Kind


@dataclass(frozen=True, slots=True)
class Load:
    """The element of a buffer at a place; lane `i` is `step` times `i` elements further on."""

    buffer: str
    place: "Expr"
    kind: Kind
    step: int = 1


Expr = Number | Name | Apply | Load

FUNCTIONS = frozenset(
    {
        "splat",  # a number in every lane
        "fma",  # first × second + third, rounded once where the target can
        "quotient",  # of two numbers that are not negative
        "remainder",
        "within",  # an index that the data says, of a size: from the back if negative, an error outside
        "floor_quotient",  # rounded down, whatever the signs
        "floor_remainder",
        "spread",  # in groups of a size: one lane of each group, by its number, in all of the group
        "lanes_add",  # one number from all lanes
        "lanes_max",
        "lanes_min",
        "lanes_mul",
        "cast",
        "bit_cast",  # the same bits as another type
    }
)
"""What kernels can compute beside the scalar functions."""


@dataclass(frozen=True, slots=True)
class Let:
    """Name a value for the rest of the block."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Variable:
    """Name a place for a value that `Assign` may change."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Assign:
    """Change a variable."""

    name: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Store:
    """Write a value to a buffer; lanes side by side."""

    buffer: str
    place: Expr
    value: Expr


@dataclass(frozen=True, slots=True)
class For:
    """Count from `start` to below `stop`."""

    name: str
    start: Expr
    stop: Expr
    step: int
    body: "tuple[Statement, ...]"


@dataclass(frozen=True, slots=True)
class If:
    """One block or the other."""

    condition: Expr
    body: "tuple[Statement, ...]"
    otherwise: "tuple[Statement, ...]" = ()


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask for an element of a buffer to be near soon, in the second cache or, if `is_next`, in the first; it
    may lie beyond the end.
    """

    buffer: str
    place: Expr
    is_next: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """Write a square block transposed: `rows` loads the first element of each of its rows, and lane `j` of
    what is written at `place + i * step` is element `i` of row `j`.
    """

    buffer: str
    place: Expr
    step: int
    rows: Load


Statement = Let | Variable | Assign | Store | Turn | Fetch | For | If


@dataclass(frozen=True, slots=True)
class Buffer:
    """A parameter: an array of elements that does not overlap with any that is written."""

    name: str
    dtype: DType
    is_written: bool = False


@dataclass(frozen=True, slots=True)
class Scratch:
    """An array that every thread has for itself, without meaning between tasks."""

    name: str
    dtype: DType
    count: int


@dataclass(frozen=True, slots=True)
class Table:
    """Whole numbers that are known; they fit into 32 bits."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Phase:
    """Independent tasks, numbered from 0; the number is `task` in the body."""

    tasks: int
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One unit of work: phases over buffers."""

    name: str
    buffers: tuple[Buffer, ...]
    phases: tuple[Phase, ...]
    scratch: tuple[Scratch, ...] = ()
    tables: tuple[Table, ...] = ()


TASK = Name("task", INDEX)


def index(value: int) -> Number:
    """A place or a count."""
    return Number(value, INDEX)


def children(expr: Expr) -> tuple[Expr, ...]:
    """The values that it is computed from."""
    match expr:
        case Apply(_, arguments, _):
            return arguments
        case Load(_, place, _, _):
            return (place,)
    return ()


def blocks(statement: Statement) -> tuple[tuple[Statement, ...], ...]:
    """The blocks inside a statement."""
    match statement:
        case For(_, _, _, _, body):
            return (body,)
        case If(_, body, otherwise):
            return (body, otherwise)
    return ()


def values(statement: Statement) -> tuple[Expr, ...]:
    """The values that a statement itself computes."""
    match statement:
        case Let(_, value) | Variable(_, value) | Assign(_, value):
            return (value,)
        case Store(_, place, value):
            return (place, value)
        case Turn(_, place, _, rows):
            return (place, rows)
        case Fetch(_, place, _):
            return (place,)
        case For(_, start, stop, _, _):
            return (start, stop)
        case If(condition, _, _):
            return (condition,)


def walk(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """Every statement, outer ones first."""
    for statement in body:
        yield statement
        for block in blocks(statement):
            yield from walk(block)


def apply(function: str, *arguments: Expr, kind: Kind | None = None) -> Apply:
    """A function of values; its kind is that of the first one unless it is given."""
    return Apply(function, arguments, kind or arguments[0].kind)


def plus(left: Expr, right: Expr) -> Expr:
    """The sum of two places; a zero is left out."""
    match left, right:
        case Number(0), _:
            return right
        case _, Number(0):
            return left
        case Number(a), Number(b):
            return index(int(a + b))
    return apply("add", left, right)


def times(left: Expr, factor: int) -> Expr:
    """A place times a number."""
    match left:
        case Number(value):
            return index(int(value) * factor)
    return left if factor == 1 else apply("mul", left, index(factor))


def splat(value: Expr, lanes: int) -> Expr:
    """The same number in every lane."""
    if value.kind.lanes == lanes:
        return value
    return Apply("splat", (value,), Kind(value.kind.dtype, lanes))
