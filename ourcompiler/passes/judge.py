"""Who decides about a pair: the table of combinations first; for a yellow pair the profile database, or the
cost model where the database has no entry.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ourcompiler.ir.graph import Graph, Node
from ourcompiler.ops.table import Mapping5
from ourcompiler.passes.combination import Colour, Combinations, standard
from ourcompiler.passes.price import Price, price
from ourcompiler.profiles import EMPTY, Database, Key
from ourcompiler.targets import Target, targets

USUAL_TARGET = "avx2"
"""Whose figures the model takes when nobody says which machine the plan is for."""
DECIDING = (
    *("codegen", "kernel", "runtime", "ops", "ir"),
    *("passes/layout.py", "passes/concat.py", "storage.py", "program.py", "chips.toml"),
)
"""Folders and files that decide what code a group becomes: other changes leave measurements as good as
before.
"""


@dataclass(frozen=True, slots=True)
class Ruling:
    """About a pair: its types, colour, whether it may be one kernel, and on what ground.

    `past` names the exception by which a red pair is one kernel. `fused_ns` and `separate_ns` are measured or
    estimated (0 where nothing had to be), `measured` says which.
    """

    first: Mapping5
    second: Mapping5
    colour: Colour
    allowed: bool
    past: str = ""
    fused_ns: float = 0.0
    separate_ns: float = 0.0
    measured: bool = False

    @property
    def pair(self) -> str:
        """Both types."""
        return f"{self.first.value} > {self.second.value}"

    @property
    def ground(self) -> str:
        """In words, what decided."""
        if self.colour is Colour.RED:
            return f"past the paper: {self.past}" if self.past else "the table"
        if self.colour is Colour.GREEN:
            return "the table"
        what = "measured" if self.measured else "model"
        sizes = f"{self.fused_ns / 1e3:.1f} µs as one, {self.separate_ns / 1e3:.1f} µs as two"
        return f"{what}: {sizes}"


@dataclass(frozen=True)
class Judge:
    """The table, the database and the machine that a plan is made with."""

    table: Combinations = field(default_factory=standard)
    database: Database = EMPTY
    target: Target = field(default_factory=lambda: targets()[USUAL_TARGET])
    threads: int = 1

    def colour(self, first: Mapping5, second: Mapping5) -> Colour:
        """What the table says."""
        return self.table.cell(first, second).colour

    def is_exempt(self, name: str, first: Mapping5, second: Mapping5) -> bool:
        """Whether an exception lets a red pair pass."""
        return self.table.exception(name, first, second) is not None

    def yellow(
        self, kinds: tuple[Mapping5, Mapping5], bodies: tuple[Graph, Graph, Graph], repeats: float
    ) -> Ruling:
        """About a yellow pair: the first body, the second, and both as one."""
        first, second, both = bodies
        found = self.database.entries.get(self.key(kinds, first, second)) if self.database.entries else None
        figures = found or price(first, second, both, repeats, self.target)
        return Ruling(
            *kinds,
            Colour.YELLOW,
            figures.pays,
            fused_ns=figures.fused_ns,
            separate_ns=figures.separate_ns,
            measured=not isinstance(figures, Price),
        )

    def key(self, kinds: tuple[Mapping5, Mapping5], first: Graph, second: Graph) -> Key:
        """Under which the database has a pair."""
        pair = f"{kinds[0].value} > {kinds[1].value}"
        return Key(
            canonical(first), canonical(second), pair, self.target.name, self.threads, compiler_version()
        )

    @property
    def text(self) -> str:
        """Everything that decides, as a part of a package's key."""
        relevant = self.database.digest(self.target.name, self.threads, compiler_version())
        return f"{self.table.text}\n{self.target}\n{relevant}\n"


def canonical(body: Graph) -> str:
    """A body without names: operators with attributes, what they read by number, types."""
    numbers: dict[str, str] = {}
    for name in body.inputs:
        numbers[name] = f"%{len(numbers)}:{body.types[name]}"
    for name in sorted(set(body.constants) - set(numbers)):
        array = body.constants[name]
        shown = (
            array.reshape(-1)[0].item() if array.size == 1 else hashlib.sha256(array.tobytes()).hexdigest()
        )
        numbers[name] = f"{shown}:{body.types[name]}"
    rows = [_row(node, body, numbers) for node in body.nodes]
    results = " ".join(_short(numbers[value]) for _, value in body.outputs)
    return f"{'; '.join(rows)} -> {results}"


def _row(node: Node, body: Graph, numbers: dict[str, str]) -> str:
    read = ", ".join(numbers[name] if name else "-" for name in node.inputs)
    for name in node.inputs:
        if name:
            numbers[name] = _short(numbers[name])
    facts = " ".join(f"{name}={value}" for name, value in node.attributes)
    made: Sequence[str] = [f"%{len(numbers) + place}" for place in range(len(node.outputs))]
    types = ", ".join(f"{one}:{body.types[name]}" for one, name in zip(made, node.outputs, strict=True))
    numbers.update(zip(node.outputs, made, strict=True))
    return f"{types} = {node.op}({read})" + (f" {{{facts}}}" if facts else "")


def _short(number: str) -> str:
    """A value that was told before, without its type."""
    return number.partition(":")[0] if number.startswith("%") else number


@cache
def compiler_version() -> str:
    """A digest of what makes code of a group, with the C compiler's version."""
    digest = hashlib.sha256(version("ziglang").encode())
    home = Path(__file__).parents[1]
    for name in DECIDING:
        place = home / name
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if file.suffix in (".py", ".c", ".h", ".toml"):
                digest.update(str(file.relative_to(home)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
