"""What is to become one kernel: a body, the layouts of what it reads and writes, and the target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ourcompiler.codegen.band import Band
from ourcompiler.codegen.element import Elements, Lane, Ready, Stored
from ourcompiler.codegen.fold import FOLDS
from ourcompiler.codegen.scope import Scope
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.types import DType
from ourcompiler.kernel.ir import Buffer, Kernel, Phase
from ourcompiler.storage import Storage
from ourcompiler.targets import Target


@dataclass(frozen=True, slots=True)
class Group:
    """`storages` has the layout of every input and output of the body, by their names in the body;
    `constant_inputs` are the inputs that are known when compiling; `winograd` says whether convolutions may
    be computed by Winograd's method; of results in `bands` nobody reads the rest.
    """

    body: Graph
    storages: Mapping[str, Storage]
    target: Target
    constant_inputs: frozenset[str] = frozenset()
    winograd: bool = True
    bands: Mapping[str, Band] = field(default_factory=dict)

    @property
    def read(self) -> tuple[str, ...]:
        """Values that lie in memory before the kernel runs."""
        return self.body.inputs

    @property
    def written(self) -> tuple[str, ...]:
        """Values that lie in memory afterwards."""
        return tuple(dict.fromkeys(value for _, value in self.body.outputs))

    @property
    def stored(self) -> dict[str, Stored]:
        """The kernel's name of each buffer."""
        return {
            name: Stored(f"b{number}", self.storages[name])
            for number, name in enumerate(dict.fromkeys((*self.read, *self.written)))
        }

    def elements(
        self, scope: Scope, ready: Mapping[str, Ready] | None = None, lane: Lane | None = None
    ) -> Elements:
        """Elements of the body's values; what the kernel writes is computed, not read."""
        stored = {name: one for name, one in self.stored.items() if name in self.body.inputs}
        return Elements(scope, self.body, stored, ready or {}, FOLDS, self.target.lanes, lane)

    def kernel(
        self, name: str, scopes: Sequence[Scope], phases: Sequence[Phase], extra: Sequence[Buffer] = ()
    ) -> Kernel:
        """The kernel of these phases; scratch and tables are those of the scopes, which share their names."""
        buffers = [
            Buffer(one.buffer, self.body.types[value].dtype, value in self.written)
            for value, one in self.stored.items()
        ]
        scope = scopes[-1]
        return Kernel(name, (*buffers, *extra), tuple(phases), tuple(scope.scratch), scope.written_tables())

    def dtype(self, name: str) -> DType:
        """The element type of a value."""
        return self.body.types[name].dtype
