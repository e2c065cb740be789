"""The door to rewriting: all rules, or some of them, until none fits."""

from collections.abc import Collection, Sequence

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Graph
from ourcompiler.rewrite.catalogue import RULES
from ourcompiler.rewrite.engine import Trace, apply_rules
from ourcompiler.rewrite.rule import Family, Rule


def rewrite(graph: Graph, rules: Sequence[Rule] = RULES, *, trace: Trace | None = None) -> Graph:
    """A cheaper network of the same meaning, inputs, results and types; deterministic.

    First without the rules for attention, which would part what belongs to weights, then with them. What was
    applied is added to `trace`.
    """
    before = [rule for rule in rules if rule.family is not Family.ATTENTION]
    graph = apply_rules(graph, before, trace)
    return apply_rules(graph, rules, trace) if len(before) < len(rules) else graph


def without(names: Collection[str]) -> tuple[Rule, ...]:
    """All rules but those of these names or families.

    Raises `CompileError` for a name that there is not.
    """
    known = {rule.name for rule in RULES} | {family.value for family in Family}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CompileError(
            f"no rule or family is called {unknown[0]!r}", hint="the names are in a rule trace"
        )
    return tuple(rule for rule in RULES if rule.name not in names and rule.family.value not in names)
