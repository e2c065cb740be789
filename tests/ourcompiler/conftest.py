"""Networks of one node, for tests of the importer."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ourcompiler.onnx_in.load import import_model
from ourcompiler.reference import run

Arrays = Mapping[str, Any]


def network(
    op: str, inputs: Arrays, weights: Arrays | None = None, outputs: Sequence[str] = ("y",), **attributes: Any
) -> onnx.ModelProto:
    """One node that reads its inputs, then its weights, or both by name in the `order` given.

    A None stands for an operand that is not given. `opset` and `domain` may be among the attributes.
    """
    opset, domain = attributes.pop("opset", 24), attributes.pop("domain", "")
    every = {**inputs, **(weights or {})}
    names = [name if every[name] is not None else "" for name in attributes.pop("order", every)]
    node = helper.make_node(op, names, list(outputs), name=f"the {op}", domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [_value(name, one) for name, one in inputs.items() if one is not None],
        [helper.make_empty_tensor_value_info(name) for name in outputs if name],
        [
            numpy_helper.from_array(np.asarray(one), name)
            for name, one in (weights or {}).items()
            if one is not None
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def _value(name: str, array: Any) -> onnx.ValueInfoProto:
    one = np.asarray(array)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(one.dtype), one.shape)


@pytest.fixture
def single() -> Callable[..., onnx.ModelProto]:
    return network


@pytest.fixture
def computed() -> Callable[[onnx.ModelProto, Arrays], dict[str, np.ndarray]]:
    """What the reference of the compiler makes of a network."""

    def compute(model: onnx.ModelProto, inputs: Arrays) -> dict[str, np.ndarray]:
        graph = import_model(model, Path(), {})
        return run(graph, {name: np.asarray(one) for name, one in inputs.items() if one is not None})

    return compute
