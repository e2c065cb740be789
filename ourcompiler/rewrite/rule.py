"""A rule: what it looks for, what it gives, when it holds, and graphs to try it on. Rules are rows; their
tests walk the rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any

import numpy as np

from ourcompiler.build import Builder
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import FLOATS, DType, TensorType
from ourcompiler.rewrite.expression import Call, Expression, Name, make, parse, patterns
from ourcompiler.rewrite.pattern import Found, matches
from ourcompiler.rewrite.ranges import interval
from ourcompiler.rewrite.site import MisfitError, Site

ALWAYS = "always"
UP_TO_ROUNDING = "holds up to rounding"
SQUARE = (-2.0, 2.0)
POSITIVE = (0.25, 2.0)


class Family(Enum):
    """What a rule is about; the first three are DNNFusion's, section 4.2."""

    ASSOCIATIVE = "associative"
    DISTRIBUTIVE = "distributive"
    COMMUTATIVE = "commutative"
    FOLD = "fold"
    IDENTITY = "identity"
    CANONICAL = "canonical"
    NORM = "norm"
    ACTIVATION = "activation"
    MOVEMENT = "movement"
    ATTENTION = "attention"


Replaced = Mapping[str, str]
"""Values of the graph and the values that stand for them from now on."""
Apply = Callable[[Site], Replaced | None]


@dataclass(frozen=True)
class Example:
    """A small graph, as formulas with ; between them: `given` has the shapes (tuples), types or elements of
    its names, and its attributes; other names in small letters are inputs of one drawn shape, those in
    capitals drawn constants.
    """

    text: str
    given: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)
    domain: tuple[float, float] = SQUARE
    dtype: DType = DType.F32

    def graph(self, generator: np.random.Generator) -> Graph:
        """The graph with drawn shapes and constants, an output for each formula."""
        builder = Builder("example")
        parts: dict[str, Expression] = {}
        for name, inner in self.where.items():
            one = parse(inner, parts)
            parts[name] = replace(one, label=name) if isinstance(one, Call) else one
        wanted = [parse(text, parts) for text in self.text.split(";")]
        found = dict(self.given)
        shape = tuple(int(one) for one in generator.integers(2, 6, generator.integers(1, 4)))
        for name in dict.fromkeys(name for one in wanted for name in _names(one)):
            found[name] = self._value(builder, name, found.get(name, shape), generator)
        values = [make(_Origins(builder), one, found, self.dtype.numpy) for one in wanted]
        return builder.graph([(f"y{number}", value) for number, value in enumerate(values)])

    def feeds(self, graph: Graph, generator: np.random.Generator) -> dict[str, Array]:
        """Inputs for the graph, from the domain."""
        return {name: drawn(graph.types[name], self.domain, generator) for name in graph.inputs}

    def _value(self, builder: Builder, name: str, given: Any, generator: np.random.Generator) -> str:
        if isinstance(given, tuple):
            given = TensorType(self.dtype, given)
        if not isinstance(given, TensorType):
            is_exact = isinstance(given, np.ndarray) and given.dtype.kind != "f"
            array = given if is_exact else np.asarray(given, self.dtype.numpy)
            return builder.constant(array, name)
        if name.isupper():
            return builder.constant(drawn(given, self.domain, generator), name)
        return builder.input(name, given)


@dataclass
class _Origins:
    """Gives every node of an example an ONNX node that it comes from."""

    builder: Builder

    def add(self, op: str, inputs: Sequence[str], **facts: Any) -> tuple[str, ...]:
        """A new node."""
        return self.builder.add(op, inputs, origin=(f"{op}.{len(self.builder.nodes)}",), **facts)

    def constant(self, value: Any) -> str:
        """A value that is known."""
        return self.builder.constant(value)


def _names(one: Expression) -> Iterator[str]:
    if isinstance(one, Name):
        yield one.name
    if isinstance(one, Call):
        for operand in one.operands:
            yield from _names(operand)


def drawn(one: TensorType, domain: tuple[float, float], generator: np.random.Generator) -> Array:
    """Elements of a type, from a domain."""
    low, high = domain
    if one.dtype is DType.BOOL:
        return generator.random(one.shape) < 0.5
    if one.dtype.is_float:
        return generator.uniform(low, high, one.shape).astype(one.dtype.numpy)
    return generator.integers(
        int(low) if one.dtype.is_signed else max(int(low), 0), int(high) + 1, one.shape
    ).astype(one.dtype.numpy)


Drawn = tuple[Graph, dict[str, Array]]
"""A graph and its inputs."""


def _drawn(examples: Iterable[Example], generator: np.random.Generator) -> Iterator[Drawn]:
    for example in examples:
        graph = example.graph(generator)
        yield graph, example.feeds(graph, generator)


@dataclass(frozen=True)
class Rule:
    """One rewriting rule.

    `source` says where it comes from, `precondition` when it holds; `roots` are the operators at which it can
    start (None: any), `depth` how many nodes it looks up from there. `apply` drafts the new nodes at a site
    and says which values they replace, or gives None. The engine refuses what does not lower the cost, so a
    rule need not ask whether somebody else reads a value between: then the value stays, and is paid for.
    `examples` are graphs on which it fires, `refuses` those on which its precondition is broken.
    """

    name: str
    family: Family
    source: str
    precondition: str
    roots: frozenset[str] | None
    apply: Apply
    examples: tuple[Example, ...]
    refuses: tuple[Example, ...]
    depth: int = 2

    def draw(self, generator: np.random.Generator) -> Iterator[Drawn]:
        """Small graphs on which it must fire, with inputs."""
        yield from _drawn(self.examples, generator)

    def draw_refused(self, generator: np.random.Generator) -> Iterator[Drawn]:
        """Small graphs on which it must not fire, with inputs."""
        yield from _drawn(self.refuses, generator)


@dataclass(frozen=True)
class Match:
    """A formula that was found: what its names stand for, and questions about them."""

    site: Site
    found: Found

    def __getitem__(self, name: str) -> Any:
        return self.found[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the value of that name."""
        return self.site.shape(self.found[name])

    def number(self, name: str) -> float | None:
        """The number that all its elements are."""
        return self.site.number(self.found[name])

    def known(self, name: str) -> Array:
        """The elements of a name in capitals."""
        found = self.site.known(self.found[name])
        assert found is not None
        return found

    def is_within(self, name: str, low: float, high: float = np.inf) -> bool:
        """Whether every element that is a number is known to be from `low` to `high`."""
        least, most = interval(self.site.network, self.found[name])
        return low <= least and most <= high


When = Callable[[Match], Mapping[str, Any] | bool]
"""Whether a rule holds, or what further names of what it gives stand for."""


def formula(
    name: str,
    family: Family,
    find: str | Sequence[str],
    give: str,
    *,
    source: str,
    precondition: str = ALWAYS,
    where: Mapping[str, str] | None = None,
    when: When = lambda match: True,
    given: Mapping[str, Any] | None = None,
    domain: tuple[float, float] = SQUARE,
    examples: Iterable[Example] = (),
    refuses: Iterable[Example] = (),
    kinds: frozenset[DType] = FLOATS,
    is_example: bool = True,
) -> Rule:
    """A rule that replaces any of some formulas by another, for element types of `kinds`.

    The formulas themselves, with `given` for their names, are its first examples, unless they say too little
    for it to hold (`is_example`).
    """
    texts = (find,) if isinstance(find, str) else tuple(find)
    forms = tuple(Form(one) for text in texts for one in patterns(text, where))
    wanted = parse(give)

    def apply(site: Site) -> Replaced | None:
        if site.dtype not in kinds:
            return None
        ops = frozenset(node.op for one in site.node.operands if (node := site.maker(one)) is not None)
        for form in forms:
            for found in form.matches(site, ops):
                value = _given(site, found, wanted, when)
                if value is not None:
                    return {site.node.output: value}
        return None

    own = [Example(one, given or {}, where or {}, domain, usual(kinds)) for one in texts if is_example]
    return Rule(
        name,
        family,
        source,
        precondition,
        frozenset(form.one.op for form in forms),
        apply,
        (*own, *examples),
        tuple(refuses),
        max(_depth(form.one) for form in forms),
    )


@dataclass(frozen=True)
class Form:
    """One form of a formula, and the operators that must make the operands of its last one."""

    one: Call

    @cached_property
    def needs(self) -> frozenset[str]:
        """Operators without which it is not there: asked first, since it is cheap."""
        return frozenset(operand.op for operand in self.one.operands if isinstance(operand, Call))

    def matches(self, site: Site, ops: frozenset[str]) -> Iterator[Found]:
        """Every way in which it is what the node of the site computes, whose operands are made by `ops`."""
        if self.one.op == site.node.op and self.needs <= ops:
            yield from matches(site, self.one, site.node.output, {})


def usual(kinds: frozenset[DType]) -> DType:
    """The element type to try a rule on."""
    return DType.F32 if DType.F32 in kinds else min(kinds, key=lambda one: one.value)


def _given(site: Site, found: Found, wanted: Expression, when: When) -> str | None:
    answer = when(Match(site, found))
    if answer is False:
        return None
    names = {**found, **answer} if isinstance(answer, Mapping) else dict(found)
    try:
        return make(site, wanted, names, site.dtype.numpy)
    except MisfitError:
        site.forget()
        return None


def _depth(one: Expression) -> int:
    return 1 + max(map(_depth, one.operands), default=0) if isinstance(one, Call) else 0
