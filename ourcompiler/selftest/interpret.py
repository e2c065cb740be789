"""A whole graph by its kernels, run in Python (`kernel/check.py`): slow, and every access is looked at."""

from collections.abc import Mapping, Sequence

import numpy as np

from ourcompiler.codegen.band import bands
from ourcompiler.codegen.group import Group
from ourcompiler.codegen.lower import Packed, Value, Workspace, lower
from ourcompiler.ir.graph import Array, Graph
from ourcompiler.ir.types import DType
from ourcompiler.kernel.check import execute, poison
from ourcompiler.passes.concat import place
from ourcompiler.passes.layout import choose, storages
from ourcompiler.pipeline import LAYOUT, WINOGRAD, optimize
from ourcompiler.program import laid_out
from ourcompiler.storage import Storage, dense
from ourcompiler.targets import Target


def interpret(
    graph: Graph, inputs: Mapping[str, Array], target: Target, without: Sequence[str] = ()
) -> dict[str, Array]:
    """The results by their public names; raises `AccessError` for a kernel that touches what it must not."""
    whole = optimize(graph, without)
    placement = place(whole, {} if LAYOUT in without else storages(choose(whole)))
    layouts, read = placement.storages, bands(whole)
    types = dict(whole.types)
    held = {name: laid_out(array, _storage(whole, layouts, name)) for name, array in whole.constants.items()}
    held |= {name: np.asarray(inputs[name]).reshape(-1) for name in whole.inputs}
    for node in (placement.left.get(one.output, one) for one in whole.nodes):
        if node is None:
            continue
        assert node.body is not None
        types |= {name: node.body.types[name] for name in node.outputs}
        names = (*node.inputs, *node.outputs)
        own = {name: layouts.get(name) or dense(types[name].shape) for name in names}
        known = frozenset(whole.constants) & set(node.inputs)
        parts = {name: read[name] for name in node.outputs if name in read}
        lowered = lower(Group(node.body, own, target, known, WINOGRAD not in without, parts), node)
        arrays = []
        for one in lowered.arguments:
            match one:
                case Value(name):
                    owner = placement.owner(name)
                    if owner not in held:
                        count = (layouts.get(owner) or dense(types[owner].shape)).count
                        held[owner] = _empty(types[owner].dtype, count)
                    arrays.append(held[owner])
                case Packed(name):
                    arrays.append(np.asarray(one.make(whole.constants[name])).reshape(-1))
                case Workspace(dtype, count):
                    arrays.append(_empty(dtype, count))
        after = execute(lowered.kernel, arrays)
        for one, buffer, array in zip(lowered.arguments, lowered.kernel.buffers, after, strict=True):
            if isinstance(one, Value) and buffer.is_written:
                held[placement.owner(one.name)] = array
    return {
        public: held[value][: whole.types[value].element_count].reshape(whole.types[value].shape)
        for public, value in whole.outputs
    }


def _storage(graph: Graph, layouts: Mapping[str, Storage], name: str) -> Storage:
    return layouts.get(name) or dense(graph.types[name].shape)


def _empty(dtype: DType, count: int) -> Array:
    return np.full(count, poison(dtype), dtype.numpy)
