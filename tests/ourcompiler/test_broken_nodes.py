"""Nodes of the standard's cases, broken at random: the compiler takes them or refuses them; no crash."""

import random
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ourcompiler.errors import CompileError
from ourcompiler.onnx_in.load import import_model
from ourcompiler.reference import run

BROKEN_PER_SEED = 150
TYPES = (np.float32, np.float16, np.int64, np.uint8, np.bool_)


@cache
def cases() -> list[tuple[onnx.ModelProto, list[np.ndarray]]]:
    """Those whose operands are all tensors of numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        found = []
        for case in collect_testcases(None):
            inputs = case.data_sets[0][0]
            if not all(isinstance(one, np.ndarray | np.generic | onnx.TensorProto) for one in inputs):
                continue
            arrays = [_array(one) for one in inputs]
            if arrays and all(one.dtype.kind not in "OSU" for one in arrays):
                found.append((case.model, arrays))
        return found


def _array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def other_shape(model: onnx.ModelProto, inputs: list[np.ndarray], chance: random.Random) -> None:
    number = chance.randrange(len(inputs))
    shape = list(inputs[number].shape)
    if not shape:
        return
    axis = chance.randrange(len(shape))
    shape[axis] = chance.choice([0, 1, shape[axis] + 1, max(shape[axis] - 1, 0)])
    shape = shape[chance.choice([0, 0, 1]) :]
    inputs[number] = np.resize(inputs[number], shape).astype(inputs[number].dtype)


def other_type(model: onnx.ModelProto, inputs: list[np.ndarray], chance: random.Random) -> None:
    number = chance.randrange(len(inputs))
    inputs[number] = inputs[number].astype(chance.choice(TYPES))


def other_value(model: onnx.ModelProto, inputs: list[np.ndarray], chance: random.Random) -> None:
    number = chance.randrange(len(inputs))
    one = inputs[number].copy()
    if one.size and one.dtype.kind in "if":
        one.reshape(-1)[chance.randrange(one.size)] = chance.choice([-100, -1, 0, 1, 2, 100])
    inputs[number] = one


def no_operand(model: onnx.ModelProto, inputs: list[np.ndarray], chance: random.Random) -> None:
    node = chance.choice(model.graph.node)
    if node.input:
        node.input[chance.randrange(len(node.input))] = ""


def other_attribute(model: onnx.ModelProto, inputs: list[np.ndarray], chance: random.Random) -> None:
    node = chance.choice(model.graph.node)
    if not node.attribute:
        return
    one = chance.choice(node.attribute)
    old = helper.get_attribute_value(one)
    values: list[Any] = [3, -1, 0, 0.5, float("nan"), "odd", [1, 2], [0.5]]
    if isinstance(old, list):
        values += [old[1:], [*old, 1], [-5, *old[1:]], [0, *old[1:]]] * 2
    new = chance.choice([value for value in values if value != []])
    one.CopyFrom(helper.make_attribute(one.name, new))


BREAKS: tuple[Callable[[onnx.ModelProto, list[np.ndarray], random.Random], None], ...] = (
    other_shape,
    other_type,
    other_value,
    no_operand,
    other_attribute,
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("seed", range(2))
def test_a_broken_node_is_taken_or_refused(how: Callable[..., None], seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(BROKEN_PER_SEED):
        whole, operands = chance.choice(cases())
        model = onnx.ModelProto()
        model.CopyFrom(whole)
        inputs = list(operands)
        how(model, inputs, chance)
        for value, one in zip(model.graph.input, inputs, strict=False):
            element = helper.np_dtype_to_tensor_dtype(one.dtype)
            value.CopyFrom(helper.make_tensor_value_info(value.name, element, one.shape))
        with suppress(CompileError):
            graph = import_model(model, Path(), {})
            given = {value.name: one for value, one in zip(model.graph.input, inputs, strict=False)}
            run(graph, {name: given[name] for name in graph.inputs})
