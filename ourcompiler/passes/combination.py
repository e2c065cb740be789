"""Which pairs of operators may become one kernel: DNNFusion's 5x5 table, read from `fusion.toml`.

A green pair is fused when the code generator can, a red one is not, a yellow one is measured or estimated.
The exceptions, "past the paper", are rows of the same file: a red pair is fused for no other reason.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from ourcompiler.errors import CompileError
from ourcompiler.ops.table import Mapping5

FILE = "fusion.toml"
HINT = "look at ourcompiler/fusion.toml for the form"
COMPLEXITY = tuple(Mapping5)
"""Least complex first (DNNFusion section 3.1)."""


class Colour(Enum):
    """What the table says about a pair."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


class Order(Enum):
    """In which order groups grow."""

    FIRST_TO_LAST = "first-to-last"
    SEEDS = "seeds"
    FEWEST = "fewest"


Pair = tuple[Mapping5, Mapping5]


@dataclass(frozen=True, slots=True)
class Cell:
    """A colour, the type of the fused operator (None: there is none), and where the colour is from."""

    colour: Colour
    result: Mapping5 | None
    source: str = "override"


@dataclass(frozen=True, slots=True)
class Exemption:
    """A form of kernel in which these red pairs are one, and why that pays."""

    name: str
    pairs: frozenset[Pair]
    reason: str


@dataclass(frozen=True)
class Combinations:
    """The table in force: 25 cells, the exceptions by name, the order in which groups grow."""

    cells: Mapping[Pair, Cell]
    past: Mapping[str, Exemption]
    order: Order = Order.FIRST_TO_LAST
    name: str = FILE

    def cell(self, first: Mapping5, second: Mapping5) -> Cell:
        """What the table says about a pair."""
        return self.cells[first, second]

    def result(self, first: Mapping5, second: Mapping5) -> Mapping5:
        """The type of both as one. A red pair has none in the table; one that an exception joins is of the
        more complex type.
        """
        return self.cells[first, second].result or most_complex((first, second))

    def type_of(self, kinds: Iterable[Mapping5]) -> Mapping5:
        """The type of a chain, pair by pair from its first operator on."""
        found = Mapping5.ONE_TO_ONE
        for kind in kinds:
            found = self.result(found, kind)
        return found

    def exception(self, name: str, first: Mapping5, second: Mapping5) -> Exemption | None:
        """The exception of that name, when it is in force and made for the pair."""
        found = self.past.get(name)
        return found if found is not None and (first, second) in found.pairs else None

    @property
    def text(self) -> str:
        """Everything that decides, in a fixed order: part of a package's key."""
        cells = (f"{a.value}>{b.value} {cell.colour.value}" for (a, b), cell in self.cells.items())
        results = (cell.result.value if cell.result else "-" for cell in self.cells.values())
        past = (f"{one.name} {_sorted(one.pairs)}" for one in self.past.values())
        return "\n".join(sorted([*map(" ".join, zip(cells, results, strict=True)), *past, self.order.value]))


def _sorted(pairs: Iterable[Pair]) -> list[str]:
    return sorted(f"{a.value}>{b.value}" for a, b in pairs)


def most_complex(kinds: Iterable[Mapping5]) -> Mapping5:
    """The type that decides when operands differ (DNNFusion section 3.1)."""
    return max(kinds, key=COMPLEXITY.index, default=Mapping5.ONE_TO_ONE)


@cache
def standard() -> Combinations:
    """The table as it comes."""
    text = files("ourcompiler").joinpath(FILE).read_text(encoding="utf-8")
    return _read(tomllib.loads(text), Combinations({}, {}), FILE)


def combinations(path: Path | None = None) -> Combinations:
    """The table, single cells overridden by a file. Raises `CompileError` for a file that is none, and for
    names that there are not.
    """
    if path is None:
        return standard()
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
        return _read(facts, standard(), path.name)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CompileError(f"the fusion table cannot be read: {error}", where=str(path), hint=HINT) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompileError(f"this is no fusion table: {error}", where=str(path), hint=HINT) from error


def _read(facts: Mapping[str, Any], base: Combinations, name: str) -> Combinations:
    unknown = sorted(set(facts) - {"cells", "past", "order"})
    if unknown:
        raise ValueError(f"there is nothing called {unknown[0]!r}; cells, past, order")
    cells = dict(base.cells)
    for first, row in facts.get("cells", {}).items():
        for second, cell in row.items():
            pair = (Mapping5(first), Mapping5(second))
            cells[pair] = _cell(cell, base.cells.get(pair))
    past = dict(base.past)
    for key, row in facts.get("past", {}).items():
        pairs = frozenset((Mapping5(first), Mapping5(row["second"])) for first in row["first"])
        past[key] = Exemption(key, pairs, str(row["reason"]))
    order = Order(facts.get("order", base.order.value))
    return Combinations(cells, {key: one for key, one in past.items() if one.pairs}, order, name)


def _cell(facts: Mapping[str, Any], before: Cell | None) -> Cell:
    colour = Colour(facts["colour"])
    result = facts.get("result") or (before.result.value if before and before.result else None)
    if colour is Colour.RED:
        result = None
    return Cell(colour, Mapping5(result) if result else None, str(facts.get("source", "override")))


def recoloured(table: Combinations, colours: Mapping[Pair, Colour]) -> Combinations:
    """The table with other colours in some cells; a cell that was red gets the more complex of both types."""
    cells = dict(table.cells)
    for pair, colour in colours.items():
        result = None if colour is Colour.RED else cells[pair].result or most_complex(pair)
        cells[pair] = Cell(colour, result)
    return replace(table, cells=cells, name=f"{table.name}, recoloured")


def steps(kinds: Iterable[Mapping5]) -> Iterable[Pair]:
    """The pairs of a chain."""
    return pairwise(kinds)
