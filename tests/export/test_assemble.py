"""What becomes of the constants of a graph: names, places, and which are kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models.errors import ModelError
from models.export.assemble import assemble, external, write_complete
from models.export.traced import Traced
from models.recipe import ALIGNMENT_BYTES


def test_constants_in_order_of_first_use_under_the_names_of_the_module(traced: Traced) -> None:
    _, constants = assemble(traced, "tiny")
    # The table has two sources, so it keeps the exporter's name. Its twin is gone, and what nothing reads.
    assert [(constant.name, constant.is_weight) for constant in constants] == [
        ("block.fc.weight", True),
        ("block.fc.bias", True),
        ("block.mask", False),
        ("table", False),
        ("val_7", False),
    ]


def test_only_weights_and_large_tables_leave_the_graph(traced: Traced) -> None:
    _, constants = assemble(traced, "tiny")
    assert {constant.name: constant.offset for constant in constants} == {
        "block.fc.weight": 0,
        "block.fc.bias": 2048,  # 256 bytes, but a weight
        "block.mask": -1,
        "table": -1,
        "val_7": -1,
    }
    assert all(constant.offset % ALIGNMENT_BYTES == 0 for constant in external(constants))


def test_a_large_table_is_placed_after_the_weights_before_it(traced: Traced) -> None:
    constants = dict(traced.constants) | {"table": np.ones((1, 65), dtype=np.float32)}
    placed = external(assemble(replace(traced, constants=constants), "tiny")[1])
    assert {constant.name: constant.offset for constant in placed} == {
        "block.fc.weight": 0,
        "block.fc.bias": 2048,
        "table": 2304,
    }


def test_equal_weights_are_not_merged(traced: Traced) -> None:
    equal = np.zeros(64, dtype=np.float32)
    constants = dict(traced.constants) | {"block.fc.bias": equal, "table": equal}
    origins = dict(traced.origins) | {"table": ("other.bias",)}
    both = replace(traced, constants=constants, origins=origins, weights=traced.weights | {"other.bias"})
    assert {"block.fc.bias", "other.bias"} <= {constant.name for constant in assemble(both, "tiny")[1]}


def test_a_bias_made_by_folding_a_batch_norm_is_a_weight(traced: Traced) -> None:
    traced.graph.graph.node[1].input[1] = "block.conv.weight_bias"
    constants = dict(traced.constants) | {"block.conv.weight_bias": traced.constants["block.fc.bias"]}
    folded = replace(traced, constants=constants, weights=traced.weights | {"block.conv.weight"})
    graph, constants_of_it = assemble(folded, "tiny")
    assert (constants_of_it[1].name, constants_of_it[1].is_weight) == ("block.conv.bias", True)
    assert graph.graph.node[1].input[1] == "block.conv.bias"


def test_two_constants_of_one_source_have_names_of_their_own(traced: Traced) -> None:
    constants = dict(traced.constants) | {"same_table": np.ones(64, dtype=np.float32)}
    origins = dict(traced.origins) | {"table": ("angles",), "same_table": ("angles",)}
    names = [c.name for c in assemble(replace(traced, constants=constants, origins=origins), "tiny")[1]]
    assert names[3:5] == ["angles", "angles_1"]


def test_a_large_constant_from_nowhere_is_refused(traced: Traced) -> None:
    origins = {name: sources for name, sources in traced.origins.items() if name != "val_3"}
    with pytest.raises(ModelError) as caught:
        assemble(replace(traced, origins=origins), "tiny")
    assert str(caught.value) == "tiny: val_3: cannot tell whether this constant is a weight"


def test_a_complete_file_runs_with_the_values_of_the_constants(traced: Traced, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_complete(*assemble(traced, "tiny"), path)
    onnx.checker.check_model(path, full_check=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    x = np.linspace(-2, 2, 8, dtype=np.float32).reshape(1, 8)
    (y,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    of = traced.constants
    expected = np.where(of["mask"], x @ of["val_3"] + of["block.fc.bias"], of["table"]) + of["table"]
    np.testing.assert_allclose(y.reshape(1, 64), expected, rtol=1e-5, atol=1e-6)
