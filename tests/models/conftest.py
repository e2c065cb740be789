"""A tiny pinned network, and tiny ONNX files, made afresh for each test."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.model import InputSpec, Model, ZooRow
from models.recipe import Recipe, TensorRecipe
from models.weights import weights_sha256
from models.zoo import pinned_model, zoo_rows

ROW = ZooRow(
    name="tiny",
    title="Tiny",
    paper_row="Tiny",
    task="testing",
    kind="convnet",
    modality="image",
    sets=("smallest",),
    architecture="ours",
    licence="Apache-2.0",
    reference="none",
    parameters=600,
    macs=600,
    deviation="",
    inputs=(InputSpec("x", (1, 8), "float32", "normal"),),
)
MASK = np.array([True, False] * 8)
TENSORS = (
    TensorRecipe("weight", "normal", (8, 16), "float32", 0, mean=0.0, std=0.25, stream=0),
    TensorRecipe("bias", "uniform", (16,), "float32", 512, mean=0.5, std=0.125, stream=1),
    TensorRecipe("scale", "constant", (16,), "float32", 576, value=2.0),
    TensorRecipe("mask", "exact", (16,), "bool", 640),
)


def external(name: str, shape: Sequence[int], element_type: int, offset: int, length: int) -> TensorProto:
    """A tensor whose bytes are in weights.bin."""
    tensor = TensorProto(name=name, data_type=element_type, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "weights.bin", "offset": str(offset), "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def tiny_graph() -> onnx.ModelProto:
    """y = where(mask, (x @ weight + bias) * scale, 0)."""
    nodes = [
        helper.make_node("Gemm", ["x", "weight", "bias"], ["linear"]),
        helper.make_node("Mul", ["linear", "scale"], ["scaled"]),
        helper.make_node("Where", ["mask", "scaled", "zero"], ["y"]),
    ]
    tensors = [
        external("weight", (8, 16), TensorProto.FLOAT, 0, 512),
        external("bias", (16,), TensorProto.FLOAT, 512, 64),
        external("scale", (16,), TensorProto.FLOAT, 576, 64),
        external("mask", (16,), TensorProto.BOOL, 640, 16),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def write_pinned(folder: Path, tensors: tuple[TensorRecipe, ...] = TENSORS) -> Recipe:
    """Write the three files of a pinned network into `folder`."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(tiny_graph().SerializeToString(deterministic=True))
    constants = {"mask": MASK}
    np.savez_compressed(folder / "constants.npz", **constants)
    recipe = Recipe(seed=5, byte_count=tensors[-1].end, sha256="", tensors=tensors)
    recipe = replace(recipe, sha256=weights_sha256(recipe, constants))
    (folder / "weights.toml").write_text(recipe.to_toml())
    return recipe


@pytest.fixture
def tiny(tmp_path: Path) -> Model:
    """A pinned network of 656 bytes of weights."""
    write_pinned(tmp_path / "graphs" / "tiny")
    return pinned_model(ROW, tmp_path / "graphs")


@pytest.fixture
def slow(tmp_path: Path) -> Model:
    """A pinned network that is drawn in some 50 pieces."""
    more = tuple(
        TensorRecipe(
            f"more{index}", "normal", (1024,), "float32", 704 + 4096 * index, std=1.0, stream=2 + index
        )
        for index in range(50)
    )
    write_pinned(tmp_path / "graphs" / "slow", (*TENSORS, *more))
    return pinned_model(replace(ROW, name="slow"), tmp_path / "graphs")


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    """A graphs folder in which every network of the zoo is the tiny one."""
    for row in zoo_rows():
        write_pinned(tmp_path / "graphs" / row.name)
    return tmp_path / "graphs"


Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write an ONNX file y = x + weight, with inputs, tensors, nodes, outputs, versions as asked."""

    def save_network(
        name: str = "net.onnx", *, ir_version: int = 10, opset: int = 20, **parts: object
    ) -> Path:
        float_value = helper.make_tensor_value_info
        graph = helper.make_graph(
            parts.get("nodes", [helper.make_node("Add", ["x", "weight"], ["y"], name="sum")]),
            "net",
            parts.get("inputs", [float_value("x", TensorProto.FLOAT, [1, 4])]),
            parts.get("outputs", [float_value("y", TensorProto.FLOAT, ["rows", 4])]),
            parts.get(
                "tensors", [helper.make_tensor("weight", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])]
            ),
        )
        opsets = [helper.make_opsetid("", opset)]
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            helper.make_model(graph, opset_imports=opsets, ir_version=ir_version).SerializeToString()
        )
        return path

    return save_network
