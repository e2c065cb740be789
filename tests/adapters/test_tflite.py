"""TFLite: what comes out of converter and runtime equals ONNX Runtime, and what cannot be is refused by name.

The converter runs in its own environment, one process for all tests.
"""

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from adapters.environments import environment, interpreter, is_made
from adapters.interface import read_interface
from adapters.ort import ORT_NOOPT
from adapters.protocol import Prepared, Session, Setting, Unsupported
from adapters.tflite import FILE_CACHE, TFLITE, TFLITE_RUNTIME, cpu_options
from adapters.tflite_convert import feeds_convolution, name_nodes
from adapters.tflite_library import Event
from adapters.tflite_profile import KERNEL_EVENT, OPERATOR_EVENT, align, execution_order
from models.tiny import write_convolutions
from models.tiny_graphs import Ends, normal, write_attention_block, write_five_axes, write_graph

pytest.importorskip("ai_edge_litert", reason="pip install .[tflite]")
ROOT = Path(__file__).parents[2]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
GENERATOR = np.random.default_rng(0)


def write_scaled_convolution(path: Path) -> Path:
    """Two inputs of rank 4, NCHW with unequal sizes, and the feature map itself as the output."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"], name="add"),
        helper.make_node("Conv", ["sum", "weight"], ["y"], name="conv", pads=[1, 1, 1, 1]),
    ]
    inputs: Ends = [("a", FLOAT, [1, 4, 7, 5]), ("b", FLOAT, [1, 4, 7, 5])]
    return write_graph(path, nodes, inputs, [("y", FLOAT, [1, 6, 7, 5])], {"weight": normal(6, 4, 3, 3)})


def write_square(path: Path) -> Path:
    """C = H = W: the shape does not tell the layout."""
    write_convolutions(path, channels=8, pixels=8, layers=2)
    return path


def write_gelus(path: Path) -> Path:
    """Exact and approximate differ by up to 5e-4; one of the nodes has no name."""
    nodes = [
        helper.make_node("Gelu", ["x"], ["exact"], name="exact_gelu"),
        helper.make_node("Gelu", ["x"], ["y"], approximate="tanh"),
    ]
    ends: tuple[Ends, Ends] = ([("x", FLOAT, [4, 50])], [("exact", FLOAT, [4, 50]), ("y", FLOAT, [4, 50])])
    return write_graph(path, nodes, *ends, {})


NETWORKS = {
    "gelus": write_gelus,
    "convolution": write_scaled_convolution,
    "square": write_square,
    "block": write_attention_block,
    "five-axes": write_five_axes,
}


class Converter:
    """One worker process in the converter's environment."""

    def __init__(self) -> None:
        command = [str(interpreter("onnx2tf")), "-m", "adapters.worker"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def convert(self, source: Path, folder: Path, framework: str = "tflite") -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        request = {"do": "convert", "framework": framework, "source": str(source), "folder": str(folder)}
        line = json.dumps({**request, "threads": 1, "precision": "fp32"})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    if not is_made(environment("onnx2tf")):
        pytest.skip("bench frameworks install onnx2tf")
    one = Converter()
    yield one
    one.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tflite")


def converted(name: str, converter: Converter, folder: Path, framework: str = "tflite") -> tuple[Path, Path]:
    """The ONNX file and the .tflite file of one of `NETWORKS`, made once."""
    source, target = folder / name / "net.onnx", folder / name / framework.replace(":", "-")
    if not source.exists():
        source.parent.mkdir()
        NETWORKS[name](source)
    if not (target / "model.tflite").exists():
        reply = converter.convert(source, target, framework)
        assert reply["ok"], reply
    return source, target / "model.tflite"


def draw(source: Path) -> dict[str, np.ndarray]:
    graph = onnx.load(source).graph
    drawn = {}
    for value in graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        is_float = value.type.tensor_type.elem_type == FLOAT
        drawn[value.name] = normal(*shape) if is_float else GENERATOR.integers(0, 11, shape)
    return drawn


def run(session: Session, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    session.feed(inputs)
    session.run()
    return session.outputs()


def load(path: Path, threads: int = 1, adapter: Any = TFLITE, *, profile: bool = False) -> Session:
    session: Session = adapter.load(Prepared(path), Setting(threads, "fp32", profile=profile))
    return session


def reference(source: Path, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    return run(ORT_NOOPT.load(Prepared(source), Setting(1, "fp32")), inputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_onnx_runtime_computes(name: str, converter: Converter, folder: Path) -> None:
    source, path = converted(name, converter, folder)
    inputs = draw(source)
    outputs, expected = run(load(path), inputs), reference(source, inputs)
    assert list(outputs) == list(expected)
    for key, value in expected.items():
        assert (outputs[key].shape, outputs[key].dtype) == (value.shape, value.dtype)
        np.testing.assert_allclose(outputs[key], value, rtol=1e-5, atol=1e-5)


def test_outputs_follow_the_inputs_and_stay_valid(converter: Converter, folder: Path) -> None:
    source, path = converted("square", converter, folder)
    values, session = draw(source)["x"], load(path)
    first = run(session, {"x": values})["y"]
    kept = first.copy()
    np.testing.assert_allclose(run(session, {"x": 2 * values})["y"], 2 * kept, rtol=1e-5)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(run(session, {"x": values})["y"], kept)


def test_the_inputs_are_copied(converter: Converter, folder: Path) -> None:
    source, path = converted("five-axes", converter, folder)
    inputs, session = draw(source), load(path)
    session.feed(inputs)
    inputs["x"][:] = np.nan
    session.run()
    assert np.isfinite(session.outputs()["y"]).all()


def test_an_image_is_channels_last_and_a_sequence_is_not(converter: Converter, folder: Path) -> None:
    """Turning a transformer's sequence would only cost a transposition back."""
    image = read_interface(converted("convolution", converter, folder)[1].parent).inputs[0]
    ids, sequence = read_interface(converted("block", converter, folder)[1].parent).inputs
    assert image.axes == (0, 2, 3, 1)
    assert sequence.axes == ids.axes == ()


@pytest.mark.parametrize("framework", ["tflite:onnx-layout", "tflite:channels-last"])
def test_other_input_layouts_compute_the_same(framework: str, converter: Converter, folder: Path) -> None:
    expected_axes = {"tflite:onnx-layout": (), "tflite:channels-last": (0, 2, 3, 1)}[framework]
    source, path = converted("convolution", converter, folder, framework)
    inputs = draw(source)
    assert read_interface(path.parent).inputs[0].axes == expected_axes
    np.testing.assert_allclose(
        run(load(path), inputs)["y"], reference(source, inputs)["y"], rtol=1e-4, atol=1e-5
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_source_is_left_alone_and_weights_beside_it_are_read(
    converter: Converter, tmp_path: Path
) -> None:
    """onnx2tf's own command writes node names into the file that it is given."""
    write_convolutions(tmp_path / "inside.onnx", channels=8, pixels=6, layers=2)
    source = tmp_path / "net.onnx"
    onnx.save(onnx.load(tmp_path / "inside.onnx"), str(source), save_as_external_data=True, location="w.bin")
    files = [source, tmp_path / "w.bin"]
    (tmp_path / "second-name").hardlink_to(files[1])  # onnx's own reader refuses such a file
    before = [digest(path) for path in files]
    assert converter.convert(source, tmp_path / "made")["ok"]
    assert [digest(path) for path in files] == before
    (tmp_path / "second-name").unlink()
    inputs = draw(source)
    outputs = run(load(tmp_path / "made" / "model.tflite"), inputs)
    np.testing.assert_allclose(outputs["y"], reference(source, inputs)["y"], rtol=1e-4, atol=1e-5)


def test_weights_lie_behind_the_flatbuffer(converter: Converter, folder: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    _, path = converted("square", converter, folder)
    data = path.read_bytes()
    model = schema.Model.GetRootAs(data, 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    outside = [one for one in buffers if one.Offset() > 1]
    assert len(outside) == 2
    assert all(one.DataLength() == 0 and one.Offset() % 64 == 0 for one in outside)
    assert {one.Size() for one in outside} == {8 * 8 * 3 * 3 * 4}


def test_static_networks_have_no_dynamic_marks(converter: Converter, tmp_path: Path) -> None:
    """onnx2tf marks what a Split makes; tflite-runtime then does without XNNPACK, 5 times slower."""
    from ai_edge_litert import schema_py_generated as schema

    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], name="split", axis=1, num_outputs=2),
        helper.make_node("Mul", ["a", "b"], ["y"], name="product"),
    ]
    ends: tuple[Ends, Ends] = ([("x", FLOAT, [1, 6, 5, 4])], [("y", FLOAT, [1, 3, 5, 4])])
    assert converter.convert(write_graph(tmp_path / "net.onnx", nodes, *ends, {}), tmp_path / "made")["ok"]
    graph = schema.Model.GetRootAs((tmp_path / "made" / "model.tflite").read_bytes(), 0).Subgraphs(0)
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    marked = [one.Name() for one in tensors if np.any(np.asarray(one.ShapeSignatureAsNumpy()) < 0)]
    assert marked == []


def test_nothing_permits_less_than_fp32(converter: Converter, folder: Path) -> None:
    """onnx2tf's file would allow float16 wherever the processor has it."""
    _, path = converted("square", converter, folder)
    assert b"reduced_precision_support" not in path.read_bytes()


def test_an_unsupported_operator_is_named(converter: Converter, tmp_path: Path) -> None:
    nodes = [helper.make_node("Mod", ["x", "z"], ["y"], name="remainder", fmod=1)]
    ends: tuple[Ends, Ends] = ([("x", FLOAT, [2, 3]), ("z", FLOAT, [2, 3])], [("y", FLOAT, [2, 3])])
    reply = converter.convert(write_graph(tmp_path / "net.onnx", nodes, *ends, {}), tmp_path / "made")
    assert (reply["ok"], reply["kind"]) == (False, "refused")
    assert "operator Mod (node 'remainder')" in reply["error"]


def test_a_dynamic_shape_is_refused(converter: Converter, tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    ends: Any = ([("x", FLOAT, ["n", 3])], [("y", FLOAT, ["n", 3])])
    reply = converter.convert(write_graph(tmp_path / "net.onnx", nodes, *ends, {}), tmp_path / "made")
    assert (reply["ok"], reply["kind"]) == (False, "refused")
    assert "shape" in reply["error"] or "without a size" in reply["error"]


def test_a_broken_network_fails_the_conversion_only(converter: Converter, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x0a broken")
    reply = converter.convert(tmp_path / "net.onnx", tmp_path / "made")
    assert (reply["ok"], reply["kind"]) == (False, "failed")


def test_a_broken_tflite_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"TFL3" * 8)
    with pytest.raises(RuntimeError, match="LiteRtCreateModelFromFile returned status"):
        load(tmp_path / "model.tflite")


def test_it_tells_how_it_runs(converter: Converter, folder: Path) -> None:
    facts = load(converted("square", converter, folder)[1], threads=2).describe()
    assert (facts["threads"], facts["precision"], facts["kernel_mode"]) == ("2", "fp32", "delegate")
    assert facts["version"][0].isdigit()


@pytest.mark.parametrize(
    "variant", sorted(set(TFLITE.variants) - {"onnx-layout", "channels-last", "single-delegate"})
)
def test_every_variant_computes_the_same(variant: str, converter: Converter, folder: Path) -> None:
    source, path = converted("block", converter, folder)
    inputs = draw(source)
    outputs = run(load(path, adapter=TFLITE.variant(variant)), inputs)
    np.testing.assert_allclose(outputs["y"], reference(source, inputs)["y"], rtol=1e-4, atol=1e-5)


def test_one_delegate_takes_all_or_refuses(converter: Converter, folder: Path) -> None:
    """The hint of LiteRT is a promise that XNNPACK runs everything; lookups by int64 stay outside."""
    adapter = TFLITE.variant("single-delegate")
    source, path = converted("square", converter, folder)
    inputs = draw(source)
    outputs = run(load(path, adapter=adapter), inputs)
    np.testing.assert_allclose(outputs["y"], reference(source, inputs)["y"], rtol=1e-4, atol=1e-5)
    with pytest.raises(Unsupported, match="XNNPACK"):
        load(converted("block", converter, folder)[1], adapter=adapter)


def test_options_reach_the_runtime(converter: Converter, folder: Path) -> None:
    """LiteRT ignores what it does not know: the profile shows whether XNNPACK was really left out."""
    source, path = converted("square", converter, folder)
    inputs = draw(source)
    names = {}
    for adapter in (TFLITE, TFLITE.variant("no-xnnpack")):
        profile = load(path, adapter=adapter, profile=True).profile(inputs, 2)
        names[adapter.name] = {entry.name for entry in profile.entries}
    assert "Convolution (NHWC, F32) IGEMM" in names["tflite"]
    assert {"CONV_2D"} <= names["tflite:no-xnnpack"]
    assert not any("F32" in name for name in names["tflite:no-xnnpack"])


def test_options_at_their_default_are_not_passed() -> None:
    assert cpu_options(TFLITE.options, 2, "") == {"num_threads": "2", "kernel_mode": '"delegate"'}
    changed = {**TFLITE.options, "xnnpack_flags": "latest-operators+no-reshaping", "weight_cache": FILE_CACHE}
    chosen = cpu_options(changed, 1, "/cache")
    assert (chosen["flags"], chosen["weight_cache_file_path"]) == ("1088", '"/cache/weights"')


def test_an_idle_session_takes_no_processor_time(converter: Converter, folder: Path) -> None:
    source, path = converted("square", converter, folder)
    inputs, session = draw(source), load(path, threads=2)
    for _ in range(20):
        run(session, inputs)
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def test_the_profile_names_the_networks_nodes(converter: Converter, folder: Path) -> None:
    source, path = converted("block", converter, folder)
    profile = load(path, profile=True).profile(draw(source), 3)
    operators = {node: entry.operator for entry in profile.entries for node in entry.nodes}
    assert operators["scores_matmul"] == "BATCH_MATMUL"
    assert operators["gelu"] == "GELU"
    assert operators["softmax"] == "SOFTMAX"
    assert {"embed", "mix", "norm", "turn", "project"} <= set(operators)
    layouts = {node: entry.layout for entry in profile.entries for node in entry.nodes}
    assert layouts["turn"] == "explicit"
    assert profile.total_ns > 0


def test_profiling_must_be_asked_for_when_loading(converter: Converter, folder: Path) -> None:
    source, path = converted("block", converter, folder)
    with pytest.raises(Unsupported, match="loaded for profiling"):
        load(path).profile(draw(source), 1)


def test_nodes_without_a_name_get_one_and_are_not_reported() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["y"], name="last")]
    graph = helper.make_graph(nodes, "g", [], [])
    assert name_nodes(graph) == {"last": "Relu"}
    assert [node.name for node in graph.node] == ["Relu_unnamed_0", "last"]


def test_an_input_feeds_a_convolution_through_what_keeps_its_shape() -> None:
    def graph(*operators: str) -> Any:
        names = ["x", *(f"v{index}" for index in range(len(operators)))]
        pairs = zip(operators, names, names[1:], strict=False)
        return helper.make_graph([helper.make_node(op, [a], [b]) for op, a, b in pairs], "g", [], [])

    assert feeds_convolution(graph("Mul", "Pad", "Conv"), "x")
    assert not feeds_convolution(graph("Reshape", "Conv"), "x")
    assert not feeds_convolution(graph("Add", "MatMul"), "x")


def row(kind: str, inputs: str = "", outputs: str = "") -> dict[str, Any]:
    return {"type": kind, "nodes": {}, "inputs": inputs.split(), "outputs": outputs.split()}


def kernel(tag: str) -> Event:
    return Event(tag, KERNEL_EVENT, 0, 1, 0)


def test_operators_run_in_the_order_of_the_parts() -> None:
    """1 is LiteRT's own and waits for 0; 2 does not need it and stays in the first part of the delegate."""
    rows = [row("ADD", "x", "a"), row("GATHER", "a", "b"), row("MUL", "x", "c"), row("SUB", "b c", "d")]
    assert execution_order(rows, {1}) == [0, 2, 1, 3]
    assert execution_order(rows, set()) == [0, 1, 2, 3]


def test_kernels_are_found_though_some_are_merged_dropped_and_doubled() -> None:
    kinds = ["CONV_2D", "RESHAPE", "MUL", "MEAN", "CONCATENATION", "ADD", "GATHER", "ADD"]
    tags = [
        "Convolution (NHWC, F32)",
        "Mean Squared (ND)",
        "Copy (NC)",
        "Copy (NC)",
        "Add (ND)",
        "Clamp (NC)",
    ]
    own = Event("GATHER", OPERATOR_EVENT, 0, 1, 6)
    events = [*map(kernel, tags), own, kernel("Add (ND)"), kernel("Unheard Of (NC)")]
    rows = [row(kind) for kind in kinds]
    assert align(events, rows, range(len(rows))) == [0, 3, 4, 4, 5, 5, 6, 7, None]


class TestRuntime:
    """tflite-runtime, in its own environment, reads the same files."""

    @pytest.fixture
    def worker(self) -> Iterator[Any]:
        if not is_made(environment("tflite-runtime")):
            pytest.skip("bench frameworks install tflite-runtime")
        pipe = subprocess.PIPE
        command = [str(interpreter("tflite-runtime")), "-m", "adapters.worker"]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        ) as process:

            def ask(**request: Any) -> dict[str, Any]:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                reply: dict[str, Any] = json.loads(process.stdout.readline())
                return reply

            yield ask

    @pytest.mark.parametrize("name", NETWORKS)
    def test_it_computes_the_same(
        self, name: str, worker: Any, converter: Converter, folder: Path, tmp_path: Path
    ) -> None:
        source, path = converted(name, converter, folder)
        inputs = draw(source)
        np.savez(tmp_path / "inputs.npz", **inputs)
        request = {"framework": TFLITE_RUNTIME.name, "path": str(path), "threads": 2, "precision": "fp32"}
        reply = worker(do="load", inputs=str(tmp_path / "inputs.npz"), **request)
        assert reply["ok"], reply
        assert reply["facts"]["version"] == "2.14.0"
        assert worker(do="run", iterations=2)["ok"]
        assert worker(do="outputs", path=str(tmp_path / "outputs.npz"))["ok"]
        outputs = np.load(tmp_path / "outputs.npz")
        for key, value in reference(source, inputs).items():
            np.testing.assert_allclose(outputs[key], value, rtol=1e-4, atol=1e-5)
        assert worker(do="profile", inferences=1)["kind"] == "refused"
