"""All rows added up. Nothing registers itself: a family exports `ROWS`, and this is their list."""

from collections.abc import Mapping
from types import MappingProxyType

from ourcompiler.ops import bits, conv, elementwise, indexed, matmul, movement, norm, pool, reduce
from ourcompiler.ops.table import OpDef

FAMILIES = (elementwise, bits, movement, indexed, reduce, matmul, conv, pool, norm)

OPS: Mapping[str, OpDef] = MappingProxyType({row.name: row for family in FAMILIES for row in family.ROWS})
"""Every operator by its name."""
