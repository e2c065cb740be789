"""What a network is to the rest of the suite: a graph, its inputs, and an identity."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

Draw = Literal["normal", "integers", "constant"]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a network, with its full shape and the way its values are drawn.

    `normal` has mean 0 and variance 1, `integers` is uniform in `low` … `high` - 1, `constant` is `value`
    everywhere.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    draw: Draw = "normal"
    low: int = 0
    high: int = 0
    value: int | float = 0

    @property
    def element_count(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class ZooRow:
    """One row of `zoo.toml`: facts of a pinned network; `parameters` and `macs` are the published figures."""

    name: str
    title: str
    paper_row: str
    task: str
    kind: str
    modality: str
    sets: tuple[str, ...]
    architecture: str
    licence: str
    reference: str
    parameters: float
    macs: float
    deviation: str
    inputs: tuple[InputSpec, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """A network that can be run: pinned (it has a `row`) or a user's ONNX file (it has none).

    `graph` is the ONNX file as it lies in the zoo or at the user's; `models.materialize` makes the one to
    run. `digest` is 16 hex digits over everything that decides what is computed. `dims` binds the symbolic
    dimensions of a user's file, as sorted (name, size) pairs. `has_own_names` is False for a user's file in
    which nodes have no name or the same one: what is run is a copy with names (`models.onnx_names`).
    """

    name: str
    title: str
    inputs: tuple[InputSpec, ...]
    graph: Path
    digest: str
    weight_byte_count: int
    row: ZooRow | None = None
    dims: tuple[tuple[str, int], ...] = ()
    has_own_names: bool = True

    @property
    def is_pinned(self) -> bool:
        """Whether the weights are drawn from a recipe, rather than lying in the user's file."""
        return self.row is not None
