"""A kernel in the making: statements, the dimensions of its loops, and places as values."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ourcompiler.ir.index import ZERO, Affine, Atom, Dim, Entry, Quotient, Remainder, Space
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import (
    FLAG,
    Apply,
    Expr,
    For,
    If,
    Kind,
    Let,
    Load,
    Name,
    Number,
    Scratch,
    Statement,
    Table,
    Variable,
    apply,
    index,
    plus,
    times,
)

LARGEST_PLACE = 1 << 31


class Scope:
    """The block that is being written, inside its loops.

    A dimension is a loop's counter, or any other value whose range is known: `exprs[n]` is what
    `Dim(n)` stands for.
    """

    def __init__(self) -> None:
        self.extents: list[int] = []
        self.exprs: list[Expr] = []
        self.blocks: list[list[Statement]] = [[]]
        self.tables: dict[tuple[int, ...], str] = {}
        self.scratch: list[Scratch] = []
        self.places: list[Affine] = []
        self._names: dict[str, int] = {}

    @property
    def space(self) -> Space:
        """All dimensions so far."""
        return Space(tuple(self.extents))

    def fresh(self, hint: str) -> str:
        """A name that nothing has yet."""
        number = self._names.get(hint, 0)
        self._names[hint] = number + 1
        return f"{hint}{number}"

    def dim(self, extent: int, value: Expr) -> Affine:
        """A new dimension, from 0 to `extent` − 1."""
        if extent <= 1:
            return ZERO
        self.extents.append(extent)
        self.exprs.append(value)
        return Affine(0, ((Dim(len(self.extents) - 1), 1),))

    def emit(self, statement: Statement) -> None:
        """Add a statement to the block."""
        self.blocks[-1].append(statement)

    def let(self, value: Expr, hint: str = "v") -> Expr:
        """The value by name; numbers and names stay as they are."""
        if isinstance(value, Name | Number):
            return value
        name = Name(self.fresh(hint), value.kind)
        self.emit(Let(name.name, value))
        return name

    def variable(self, value: Expr, hint: str = "a") -> Name:
        """A variable with a first value."""
        name = Name(self.fresh(hint), value.kind)
        self.emit(Variable(name.name, value))
        return name

    def local(self, dtype: DType, count: int) -> str:
        """A scratch array of the thread."""
        one = Scratch(self.fresh("s"), dtype, count)
        self.scratch.append(one)
        return one.name

    @contextmanager
    def block(self) -> Iterator[list[Statement]]:
        """Statements of a block of their own; the caller puts it somewhere."""
        inner: list[Statement] = []
        self.blocks.append(inner)
        try:
            yield inner
        finally:
            self.blocks.pop()

    @contextmanager
    def loop(self, start: Expr, stop: Expr, step: int = 1, hint: str = "i") -> Iterator[Name]:
        """A loop around what follows; a counter that takes one value only is no loop."""
        name = Name(self.fresh(hint), start.kind)
        with self.block() as inner:
            yield name
        self.emit(For(name.name, start, stop, step, tuple(inner)))

    @contextmanager
    def axis(self, extent: int, hint: str = "i") -> Iterator[Affine]:
        """A loop over a whole dimension."""
        if extent == 1:
            yield ZERO
            return
        with self.loop(index(0), index(extent), hint=hint) as name:
            yield self.dim(extent, name)

    @contextmanager
    def when(self, condition: Expr) -> Iterator[None]:
        """What follows, only if the condition holds."""
        if condition == Number(True, FLAG):
            yield
            return
        with self.block() as inner:
            yield
        self.emit(If(condition, tuple(inner)))

    def choose(
        self, condition: Expr | None, body: tuple[Statement, ...] | None, otherwise: tuple[Statement, ...]
    ) -> None:
        """The one block where the condition holds, else the other; only the other if there is none."""
        if condition is None or body is None:
            self.blocks[-1] += otherwise
        elif condition == Number(True, FLAG):
            self.blocks[-1] += body
        else:
            self.emit(If(condition, body, otherwise))

    def place(self, affine: Affine) -> Expr:
        """The value of an expression over the dimensions."""
        self.places.append(affine)
        total: Expr = index(0)
        for atom, factor in affine.terms:
            total = plus(total, times(self._atom(atom), factor))
        return plus(total, index(affine.constant))

    def _atom(self, atom: Atom) -> Expr:
        match atom:
            case Dim(number):
                return self.exprs[number]
            case Quotient(of, by):
                return self._divided("quotient", of, by)
            case Remainder(of, by):
                return self._divided("remainder", of, by)
            case Entry(table, at):
                name = self.tables.setdefault(table, f"table{len(self.tables)}")
                kind = Kind(DType.I64)
                return Apply("cast", (Load(name, self.place(at), Kind(DType.I32)),), kind)

    def _divided(self, function: str, of: Affine, by: int) -> Expr:
        low, high = self.space.bounds(of)
        small = low >= 0 and high < LARGEST_PLACE
        return apply(function if small else f"floor_{function}", self.place(of), index(by))

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What follows may be given up by an exception: then it leaves no statement behind."""
        count, tables = len(self.blocks[-1]), dict(self.tables)
        try:
            yield
        except BaseException:
            del self.blocks[-1][count:]
            self.tables = tables
            raise

    def written_tables(self) -> tuple[Table, ...]:
        """The tables that places needed."""
        return tuple(Table(name, values) for values, name in self.tables.items())


def delinear_names(scope: Scope, flat: Expr, extents: Sequence[int], hint: str = "o") -> list[Affine]:
    """Dimensions of these extents from one counter over all of them."""
    found, below = [], 1
    for number in reversed(range(len(extents))):
        extent = extents[number]
        outer = flat if below == 1 else apply("quotient", flat, index(below))
        if number and extent > 1:
            outer = apply("remainder", outer, index(extent))
        found.append(scope.dim(extent, scope.let(outer, hint)) if extent > 1 else ZERO)
        below *= extent
    return found[::-1]
