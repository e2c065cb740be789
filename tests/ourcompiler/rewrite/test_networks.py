"""Networks of the zoo: fewer nodes, every ONNX node still stands behind one, and nothing is left to do.

Weights are drawn here and not as the zoo draws them: what is looked at does not depend on them.
"""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.recipe import read_recipe
from models.weights import read_constants
from models.zoo import GRAPHS
from ourcompiler.ir.graph import Graph
from ourcompiler.onnx_in.load import load
from ourcompiler.rewrite.cost import graph_cost
from ourcompiler.rewrite.engine import Trace
from ourcompiler.rewrite.passes import rewrite

MOST_NODES = {"swin": 453, "convnext": 201, "resnext": 123}
ABSENT_AFTER = {
    "swin": ("Slice", "Concat", "Pad", "Mul"),
    "convnext": ("Mul",),
    "resnext": ("Identity",),
}
"""Rolls are views, windows need no border, scales are in weights."""


def imported(name: str, folder: Path) -> Graph:
    source = GRAPHS / name
    recipe = read_recipe(source / "weights.toml")
    constants = read_constants(source, recipe)
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(recipe.byte_count)  # holes on the disk
        for tensor in recipe.tensors:
            if tensor.kind == "exact":
                file.seek(tensor.offset)
                file.write(constants[tensor.name].tobytes())
    graph = load(Path(shutil.copyfile(source / "model.onnx", folder / "model.onnx")))
    random = np.random.default_rng(18)
    filled = {
        name: random.random(one.shape, np.float32) if one.dtype == np.float32 and not one.any() else one
        for name, one in graph.constants.items()
    }
    return replace(graph, constants=filled)


@pytest.mark.parametrize("name", MOST_NODES)
def test_a_network_is_smaller_and_done(name: str, tmp_path: Path) -> None:
    graph = imported(name, tmp_path)
    after = rewrite(graph)
    assert len(after.nodes) <= MOST_NODES[name]
    assert graph_cost(after) < graph_cost(graph)
    ops = Counter(node.op for node in after.nodes)
    assert [op for op in ABSENT_AFTER[name] if ops[op]] == []
    origins = [{one for node in each.nodes for one in node.origin} for each in (graph, after)]
    assert origins[0] == origins[1]
    assert [(name, after.types[value]) for name, value in after.outputs] == [
        (name, graph.types[value]) for name, value in graph.outputs
    ]
    trace: Trace = []
    rewrite(after, trace=trace)
    assert trace == []
