"""A small network as the exporter would hand it over, made without PyTorch."""

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from models.export.traced import Traced
from models.model import InputSpec, ZooRow

SCOPES = "pkg.torch.onnx.name_scopes"
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


def normal(*shape: int, mean: float = 0.0, std: float = 0.02) -> NDArray[np.float32]:
    values = np.random.default_rng(3).normal(mean, std, shape)
    return values.astype(np.float32)


def exported_graph() -> ModelProto:
    """y = reshape(where(mask, x @ weight + bias, other)), with all the noise of the exporter."""
    nodes = [
        helper.make_node("MatMul", ["x", "val_3"], ["val_4"], name="node_1", doc_string="noise"),
        helper.make_node("Add", ["val_4", "block.fc.bias"], ["linear"], name="node_2"),
        helper.make_node("Where", ["mask", "linear", "table"], ["chosen"], name="node_3"),
        helper.make_node("Add", ["chosen", "same_table"], ["sum"], name="node_4"),
        helper.make_node("Reshape", ["sum", "val_7"], ["y"], name="node_5"),
    ]
    scopes = ["['', 'block', 'block.fc', 'linear']"] * 2 + ["['', 'where']", "['', 'add']", "['', 'view']"]
    for node, scope in zip(nodes, scopes, strict=True):
        node.metadata_props.add(key=SCOPES, value=scope)
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="File /somewhere/else.py")
    shapes = {"sum": [1, 64], "val_4": [1, 64], "linear": [1, 64], "chosen": [1, 64], "val_3": [8, 64]}
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 8])]
    graph = helper.make_graph(nodes, "main_graph", inputs, outputs, value_info=infos, doc_string="noise")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model.producer_name, model.producer_version = "pytorch", "2.13"
    model.metadata_props.add(key="noise", value="noise")
    return model


@pytest.fixture
def traced() -> Traced:
    """A weight, a bias, a mask, a table that occurs twice, a shape; and a constant that nothing reads."""
    table = np.linspace(-1, 1, 80, dtype=np.float32).reshape(1, 80)[:, :64]
    return Traced(
        graph=exported_graph(),
        constants={
            "unread": normal(1000),
            "table": table,
            "same_table": table.copy(),
            "val_7": np.array([1, 8, 8]),
            "val_3": normal(8, 64),
            "block.fc.bias": normal(64, mean=1.0),
            "mask": np.arange(64) % 3 == 0,
        },
        origins={
            "val_3": ("block.fc.weight",),
            "block.fc.bias": ("block.fc.bias",),
            "mask": ("block.mask",),
            "table": ("block.sines", "block.steps"),
            "same_table": (),
        },
        weights=frozenset({"block.fc.weight", "block.fc.bias"}),
    )


@pytest.fixture
def row() -> ZooRow:
    """The zoo's row of that network."""
    return ROW
