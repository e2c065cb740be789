"""Every network of the zoo becomes a graph. Drawn weights are holes in a file here: none is read."""

import shutil
from pathlib import Path

import pytest

from models.recipe import read_recipe
from models.weights import read_constants
from models.zoo import GRAPHS, pinned_model, zoo_row, zoo_rows
from ourcompiler.onnx_in.load import load
from ourcompiler.ops.catalogue import OPS


def hollow(name: str, folder: Path) -> Path:
    """The network with its exact constants, everything else 0."""
    source = GRAPHS / name
    recipe = read_recipe(source / "weights.toml")
    constants = read_constants(source, recipe)
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(recipe.byte_count)
        for tensor in recipe.tensors:
            if tensor.kind == "exact":
                file.seek(tensor.offset)
                file.write(constants[tensor.name].tobytes())
    return Path(shutil.copyfile(source / "model.onnx", folder / "model.onnx"))


@pytest.mark.parametrize("name", [row.name for row in zoo_rows()])
def test_a_network_of_the_zoo_becomes_a_graph(name: str, tmp_path: Path) -> None:
    graph = load(hollow(name, tmp_path))
    assert {node.op for node in graph.nodes} <= set(OPS)
    given = {one.name: one.shape for one in pinned_model(zoo_row(name)).inputs}
    assert {one: graph.types[one].shape for one in graph.inputs} == given
