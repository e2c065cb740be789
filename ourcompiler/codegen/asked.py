"""Which elements of some values another value needs: found by computing one element of it for nobody."""

from collections.abc import Sequence

from ourcompiler.codegen.element import Elements, Index, Ready, Stored
from ourcompiler.codegen.fold import FOLDS
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.index import Affine
from ourcompiler.kernel.ir import INDEX, Expr, Kind, Name, Number
from ourcompiler.storage import dense


def index_over(scope: Scope, shape: Sequence[int]) -> list[Affine]:
    """A dimension for each axis; nothing is computed with what it stands for."""
    return [scope.dim(extent, Name(f"d{axis}", INDEX)) for axis, extent in enumerate(shape)]


def asked(
    scope: Scope, body: Graph, name: str, place: Index, watched: Sequence[str]
) -> dict[str, list[Index]]:
    """The indices at which each of the watched values is read for the element of `name` at a place of the
    scope's dimensions. What is watched is not followed further.
    """
    seen: dict[str, list[Index]] = {one: [] for one in watched}

    def noting(one: str) -> Ready:
        def ready(elements: Elements, at: Index) -> Expr:
            seen[one].append(at)
            return Number(0.0, Kind(body.types[one].dtype))

        return ready

    stored = {one: Stored("b", dense(body.types[one].shape)) for one in body.inputs}
    Elements(scope, body, stored, {one: noting(one) for one in watched}, FOLDS).at(name, place)
    return seen
