"""Associative rules (DNNFusion section 4.2): a chain of one operator, whatever its grouping, is taken as the
bag of its operands; a law says which of them belong together.

Two of the printed rules are instances: Abs(A) ⊙ B ⊙ Abs(C), and (A ⊙ ReduceSum(B)) ⊙ (ReduceSum(B) ⊙ C),
whose small factors are multiplied first. (A ⊙ √B) ⊙ (√B ⊙ C) = A ⊙ B ⊙ C, as printed, is wrong where B is
negative: the left side is NaN there. Here B must be known to be 0 or more. Recip(A) ⊙ Recip(A ⊙ B), printed
with 4mn on both sides, becomes Recip(A ⊙ A ⊙ B) with 3mn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ourcompiler.rewrite.ranges import interval
from ourcompiler.rewrite.rule import (
    ALWAYS,
    POSITIVE,
    SQUARE,
    UP_TO_ROUNDING,
    Example,
    Family,
    Replaced,
    Rule,
)
from ourcompiler.rewrite.site import Site

LONGEST = 12
"""Operands of one chain that are looked at together."""
LEAST_FACTOR = 1e-3

Operands = list[str]
Merge = Callable[[Site, Operands], Operands | None]
"""The operands of a chain with some of them put together; None when there is nothing to do."""


def chain(site: Site) -> Operands:
    """The operands of the chain that ends in the node, through values that nobody else reads."""
    found: Operands = []
    waiting = list(reversed(site.node.inputs))
    while waiting:
        value = waiting.pop()
        inner = site.made_by(value, site.node.op)
        if inner is not None and len(found) + len(waiting) < LONGEST:
            waiting += reversed(inner.inputs)
        else:
            found.append(value)
    return found


def joined(site: Site, op: str, operands: Sequence[str]) -> str:
    """The operands in one chain, small ones first."""
    ordered = sorted(operands, key=lambda one: site.type(one).element_count)
    whole = ordered[0]
    for one in ordered[1:]:
        whole = site.one(op, one, whole)
    return whole


def _gathered(site: Site, merge: Merge) -> Replaced | None:
    if not site.dtype.is_float:
        return None
    operands = chain(site)
    merged = merge(site, operands)
    return None if merged is None else {site.node.output: joined(site, site.node.op, merged)}


def _under(site: Site, operands: Operands, function: str, inner: str) -> Operands | None:
    """f(a) ∘ f(b) is f(a • b): those of one shape are put under one f."""
    made = {one: node.inputs[0] for one in operands if (node := site.made_by(one, function)) is not None}
    shapes = [site.shape(one) for one in operands if one in made]
    shape = max(shapes, key=shapes.count, default=())
    chosen = [one for one in operands if one in made and site.shape(one) == shape]
    if len(chosen) < 2:
        return None
    whole = site.one(function, joined(site, inner, [made[one] for one in chosen]))
    return [whole, *(one for one in operands if one not in chosen)]


def _logarithms(site: Site, operands: Operands) -> Operands | None:
    """Only where the product can neither overflow nor vanish."""
    for one in operands:
        node = site.made_by(one, "Log")
        if node is not None:
            low, high = interval(site.network, node.inputs[0])
            if low < LEAST_FACTOR or high > 1 / LEAST_FACTOR:
                return None
    return _under(site, operands, "Log", "Mul")


def _roots(site: Site, operands: Operands) -> Operands | None:
    """√b ⊙ √b is b, for b ≥ 0."""
    for one in operands:
        node = site.maker(one)
        if node is None or node.op != "Sqrt" or operands.count(one) < 2:
            continue
        if interval(site.network, node.inputs[0])[0] >= 0:
            rest = list(operands)
            rest.remove(one)
            rest.remove(one)
            return [*rest, node.inputs[0]]
    return None


def _small(site: Site, operands: Operands) -> Operands | None:
    """Two operands that are smaller than the result are combined before they are broadcast."""
    whole = site.type(site.node.output).element_count
    small = [one for one in operands if site.type(one).element_count < whole]
    return operands if len(operands) > 2 and len(small) > 1 else None


def _repeated(site: Site, operands: Operands) -> Operands | None:
    once = list(dict.fromkeys(operands))
    return once if len(once) < len(operands) else None


@dataclass(frozen=True)
class Law:
    """Which operands of a chain belong together, and formulas to try it on."""

    name: str
    op: str
    merge: Merge
    examples: tuple[Example, ...]
    refuses: tuple[Example, ...]
    precondition: str = UP_TO_ROUNDING

    def rule(self) -> Rule:
        """The law as a rule."""
        return Rule(
            self.name,
            Family.ASSOCIATIVE,
            "DNNFusion section 4.2, Table 4",
            self.precondition,
            frozenset({self.op}),
            partial(_gathered, merge=self.merge),
            self.examples,
            self.refuses,
            4,
        )


def _functions(name: str, op: str, function: str, inner: str, **more: str) -> Law:
    """f(a) ∘ f(b) = f(a • b)."""
    domain = POSITIVE if function == "Reciprocal" else SQUARE

    def text(form: str) -> str:
        return form.replace("f(", f"{function}(").replace("∘", f"{op}")

    return Law(
        name,
        op,
        partial(_under, function=function, inner=inner),
        (
            Example(text("∘(∘(f(a), b), f(c))"), domain=domain),
            Example(text("∘(f(a), ∘(f(c), f(b)))"), domain=domain),
            Example(text("∘(f(a), f(∘(a, b)))") if op == inner else text("∘(f(a), f(c))"), domain=domain),
        ),
        (
            Example(text("∘(∘(f(a), b), c)"), domain=domain),
            Example("x * y; x; y", {}, {"x": f"{function}(a)", "y": f"{function}(b)"}, domain),
        ),
        **more,
    )


REDUCED = {"r": "ReduceSum(b, axes=(1,), keepdims=True)"}
FLAT = {"a": (3, 4), "b": (3, 4), "c": (3, 4)}

LAWS = (
    _functions("absolute values of a product are one", "Mul", "Abs", "Mul", precondition=ALWAYS),
    _functions(
        "powers of e in a product are one",
        "Mul",
        "Exp",
        "Add",
        precondition="up to the rounding of the sum; where a power overflows or vanishes, the sum is right",
    ),
    _functions("reciprocals in a product are one", "Mul", "Reciprocal", "Mul"),
    Law(
        "logarithms in a sum are one",
        "Add",
        _logarithms,
        (Example("Log(Sigmoid(a) + 1) + b + Log(Exp(Tanh(c)))"),),
        (Example("Log(a) + Log(c)", domain=POSITIVE), Example("Log(Exp(a)) + Log(Exp(c))")),
        "operands are known to be from 1e-3 to 1e3, so that their product does not overflow or vanish",
    ),
    Law(
        "√b · √b is b",
        "Mul",
        _roots,
        (
            Example("Mul(Mul(a, s), Mul(s, c))", {}, {"s": "Sqrt(Exp(b))"}),
            Example("s * s", {}, {"s": "Sqrt(Abs(b))"}),
        ),
        (
            Example("Mul(Mul(a, s), Mul(s, c))", {}, {"s": "Sqrt(b)"}, POSITIVE),
            Example("Sqrt(Abs(a)) * Sqrt(Abs(b))"),
        ),
        "b is known to be 0 or more (as printed, without it, the rule is wrong: the left side is NaN)",
    ),
    *(
        Law(
            f"small operands of {op} first",
            op,
            _small,
            (
                Example(f"{op}({op}(a, r), {op}(r, c))", FLAT, REDUCED),
                Example(f"{op}({op}(a, s), t)", {"a": (2, 3, 4), "s": (3, 1), "t": (3, 1)}),
            ),
            (
                Example(f"{op}({op}(a, b), c)"),
                Example(f"{op}({op}(a, s), t)", {"a": (3, 4), "s": (3, 1), "t": (1, 4)}),
            ),
        )
        for op in ("Mul", "Add", "Max", "Min")
    ),
    *(
        Law(
            f"what is repeated in {op} counts once",
            op,
            _repeated,
            (Example(f"{op}({op}(a, b), {op}(b, c))"), Example(f"{op}(a, {op}(a, b))")),
            (Example(f"{op}({op}(a, b), c)"),),
            ALWAYS,
        )
        for op in ("Max", "Min")
    ),
)

ROWS: tuple[Rule, ...] = tuple(law.rule() for law in LAWS)
