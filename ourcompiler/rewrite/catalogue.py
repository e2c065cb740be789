"""All rules added up. Nothing registers itself: a family exports `ROWS`, and this is their list."""

from ourcompiler.rewrite import (
    activations,
    algebra,
    attention_prep,
    canonical,
    fold,
    gather,
    movement,
    norms,
    parts,
    reductions,
    through,
    weights,
)
from ourcompiler.rewrite.rule import Rule

FAMILIES = (
    fold,
    movement,
    parts,
    canonical,
    weights,
    norms,
    activations,
    gather,
    algebra,
    reductions,
    through,
    attention_prep,
)
"""In the order in which their rules are tried at a node."""

RULES: tuple[Rule, ...] = tuple(row for family in FAMILIES for row in family.ROWS)
"""Every rule."""
