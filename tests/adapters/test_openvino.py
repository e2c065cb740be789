"""OpenVINO: what it computes equals ONNX Runtime in the class that was asked for, its profile names the
network's nodes, and what cannot be is refused by name.
"""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from adapters.openvino import OPENVINO, OpenvinoAdapter
from adapters.ort import ORT_NOOPT
from adapters.protocol import Prepared, Session, Setting, Unsupported
from models.tiny import write_convolutions
from models.tiny_graphs import Ends, normal, write_attention_block, write_five_axes, write_graph

ROOT = Path(__file__).parents[2]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
GENERATOR = np.random.default_rng(0)
Arrays = Mapping[str, np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version("openvino")
    except PackageNotFoundError:
        pytest.skip("pip install .[openvino]")


def write_image(path: Path) -> Path:
    """Two images in, NCHW with unequal sizes, and a feature map out."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"], name="add"),
        helper.make_node("Conv", ["sum", "weight"], ["features"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["y"], name="relu"),
    ]
    inputs: Ends = [("a", FLOAT, [1, 16, 7, 5]), ("b", FLOAT, [1, 16, 7, 5])]
    return write_graph(path, nodes, inputs, [("y", FLOAT, [1, 16, 7, 5])], {"weight": normal(16, 16, 3, 3)})


def write_large_block(path: Path) -> Path:
    """Large enough for each node to take more than 1 µs: OpenVINO says that shorter ones did not run."""
    return write_attention_block(path, width=256, length=128, features=64)


NETWORKS = {"image": write_image, "block": write_large_block, "five-axes": write_five_axes}


def draw(source: Path) -> dict[str, np.ndarray]:
    drawn = {}
    for value in onnx.load(source).graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        is_float = value.type.tensor_type.elem_type == FLOAT
        drawn[value.name] = normal(*shape) if is_float else GENERATOR.integers(0, 11, shape)
    return drawn


def load(path: Path, setting: Setting | None = None, adapter: OpenvinoAdapter | Any = OPENVINO) -> Session:
    session: Session = adapter.load(Prepared(path), setting or Setting(1, "fp32"))
    return session


def run(session: Session, inputs: Arrays) -> Arrays:
    session.feed(inputs)
    session.run()
    return session.outputs()


def assert_equals_onnx_runtime(source: Path, session: Session) -> None:
    inputs = draw(source)
    outputs, expected = run(session, inputs), run(load(source, adapter=ORT_NOOPT), inputs)
    assert set(outputs) == set(expected)
    for key, value in expected.items():
        assert (outputs[key].shape, outputs[key].dtype) == (value.shape, value.dtype)
        np.testing.assert_allclose(outputs[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_onnx_runtime_computes(name: str, threads: int, tmp_path: Path) -> None:
    source = NETWORKS[name](tmp_path / "net.onnx")
    assert_equals_onnx_runtime(source, load(source, Setting(threads, "fp32")))


@pytest.mark.parametrize("variant", OPENVINO.variants)
def test_every_variant_computes_the_same(variant: str, tmp_path: Path) -> None:
    source = write_large_block(tmp_path / "net.onnx")
    assert_equals_onnx_runtime(source, load(source, adapter=OPENVINO.variant(variant)))


def test_outputs_follow_the_inputs_and_stay_valid(tmp_path: Path) -> None:
    write_convolutions(tmp_path / "net.onnx", channels=8, pixels=6, layers=2)
    session, values = load(tmp_path / "net.onnx"), normal(1, 8, 6, 6)
    first = run(session, {"x": values})["y"]
    kept = first.copy()
    np.testing.assert_allclose(run(session, {"x": 2 * values})["y"], 2 * kept, rtol=1e-5)
    np.testing.assert_array_equal(first, kept)


def test_the_inputs_are_copied(tmp_path: Path) -> None:
    source = write_image(tmp_path / "net.onnx")
    inputs, session = draw(source), load(source)
    session.feed(inputs)
    inputs["a"][:] = np.nan
    session.run()
    assert np.isfinite(session.outputs()["y"]).all()


def test_it_tells_how_it_runs(tmp_path: Path) -> None:
    facts = load(write_image(tmp_path / "net.onnx"), Setting(2, "fp32")).describe()
    assert (facts["threads"], facts["precision"]) == ("2", "fp32")
    assert facts["version"][0].isdigit()
    assert set(OPENVINO.options) <= set(facts)


@pytest.mark.parametrize(("precision", "least", "most"), [("fp32", 0.0, 1e-6), ("bf16", 1e-4, 3e-2)])
def test_a_class_is_computed_in_and_reported(
    precision: str, least: float, most: float, tmp_path: Path
) -> None:
    """Left alone, OpenVINO takes bf16 where the processor has it: the error tells which it really was."""
    source = write_image(tmp_path / "net.onnx")
    session, inputs = load(source, Setting(1, precision)), draw(source)
    reported = session.describe()["precision"]
    if precision == "bf16" and reported == "fp32":
        pytest.skip("this processor has no bf16")
    exact, value = run(load(source, adapter=ORT_NOOPT), inputs)["y"], run(session, inputs)["y"]
    assert reported == precision
    assert least <= np.linalg.norm(value - exact) / np.linalg.norm(exact) <= most


def test_other_classes_are_refused() -> None:
    assert OPENVINO.refuse(Setting(1, "fp32")) is None
    assert "fp16" in str(OPENVINO.refuse(Setting(1, "fp16")))


def test_an_unsupported_operator_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Det", ["x"], ["y"], name="determinant")]
    source = write_graph(tmp_path / "net.onnx", nodes, [("x", FLOAT, [3, 3])], [("y", FLOAT, [])])
    with pytest.raises(Unsupported, match=r"operator Det \(node 'determinant'\)"):
        load(source)


def test_a_dynamic_shape_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    source = write_graph(tmp_path / "net.onnx", nodes, [("x", FLOAT, ["n", 3])], [("y", FLOAT, ["n", 3])])
    with pytest.raises(Unsupported, match="input 'x' has the dynamic shape"):
        load(source)


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x0a broken")
    with pytest.raises(RuntimeError, match="Unable to read the model"):
        load(tmp_path / "net.onnx")


def test_the_profile_names_the_networks_nodes(tmp_path: Path) -> None:
    source = write_large_block(tmp_path / "net.onnx")
    profile = load(source, Setting(1, "fp32", profile=True)).profile(draw(source), 5)
    operators = {node: entry.operator for entry in profile.entries for node in entry.nodes}
    assert operators["scores_matmul"] == "MatMul"
    assert operators["embed"] == "Gather"
    assert {"mix", "norm", "project"} <= set(operators)
    assert {node: entry.layout for entry in profile.entries for node in entry.nodes}["turn"] == "explicit"
    assert 0 < sum(entry.duration_ns for entry in profile.entries) < 2 * profile.total_ns


def test_nodes_that_write_the_networks_outputs_are_named_too(tmp_path: Path) -> None:
    """OpenVINO calls them after the output's tensor, not after the node."""
    source = write_large_block(tmp_path / "net.onnx")
    profile = load(source, Setting(1, "fp32", profile=True)).profile(draw(source), 2)
    covered = {node: set(entry.nodes) for entry in profile.entries for node in entry.nodes}
    assert covered["softmax"] == {"softmax"}
    assert covered["gelu"] == {"project", "gelu"}


def test_own_reorders_are_implicit_and_cover_nothing(tmp_path: Path) -> None:
    source = write_image(tmp_path / "net.onnx")
    profile = load(source, Setting(1, "fp32", profile=True)).profile(draw(source), 2)
    reorders = [entry for entry in profile.entries if entry.operator == "Reorder"]
    assert reorders
    assert {(entry.layout, entry.nodes) for entry in reorders} == {("implicit", ())}


def test_profiling_must_be_asked_for_when_loading(tmp_path: Path) -> None:
    source = write_image(tmp_path / "net.onnx")
    with pytest.raises(Unsupported, match="loaded for profiling"):
        load(source).profile(draw(source), 1)


TELEMETRY_PROGRAM = """
import sys
from adapters.openvino import import_openvino
import_openvino()
found = sys.modules["openvino_telemetry"]
parts = [name for name in sys.modules if name.startswith("openvino_telemetry.")]
print(getattr(found, "__file__", None), parts)
"""


def test_the_telemetry_is_never_imported() -> None:
    """In a fresh process; `test_network.py` watches that nothing reaches for the network either."""
    command = [sys.executable, "-c", TELEMETRY_PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["None", "[]\n"]


def test_an_idle_session_takes_no_processor_time(tmp_path: Path) -> None:
    source = write_image(tmp_path / "net.onnx")
    inputs, session = draw(source), load(source, Setting(2, "fp32"))
    for _ in range(20):
        run(session, inputs)
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05
