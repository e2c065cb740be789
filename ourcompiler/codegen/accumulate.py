"""Accumulators of folds along a row."""

from dataclasses import dataclass

from ourcompiler.codegen.scope import Scope
from ourcompiler.kernel.ir import Apply, Assign, Expr, Kind, Name, Number, splat


@dataclass
class Total:
    """A fold along the row, in lanes and for what they leave over."""

    scope: Scope
    function: str
    start: Number
    name: Name | None
    rest: Name | None

    def add(self, value: Expr) -> None:
        """One more element, or one for each lane."""
        assert self.name is not None
        into = self.name if value.kind.lanes == self.name.kind.lanes else self.rest
        assert into is not None
        self.scope.emit(Assign(into.name, Apply(self.function, (into, value), into.kind)))

    def begin(self) -> "Total":
        """A fold of a part of the row, with accumulators of its own."""
        fresh = [
            None if one is None else self.scope.variable(splat(self.start, one.kind.lanes))
            for one in (self.name, self.rest)
        ]
        return Total(self.scope, self.function, self.start, fresh[0], fresh[1])

    def end(self, part: "Total") -> None:
        """What the part came to is one more element."""
        for into, one in ((self.name, part.name), (self.rest, part.rest)):
            if into is not None and one is not None:
                self.scope.emit(Assign(into.name, Apply(self.function, (into, one), into.kind)))

    def result(self, along: bool) -> Expr:
        """The fold of all; one for each lane where lanes are rows."""
        assert self.name is not None
        found: Expr = self.name
        if along and found.kind.lanes > 1:
            found = Apply(f"lanes_{self.function}", (found,), Kind(found.kind.dtype))
        if self.rest is not None:
            found = Apply(self.function, (found, self.rest), found.kind)
        return self.scope.let(found, "t")
