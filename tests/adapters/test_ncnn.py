"""ncnn: what pnnx and ncnn make of a network equals ONNX Runtime, and what cannot be is refused by name.

The converter runs in its own environment, one process for all tests.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from adapters import ncnn_convert
from adapters.environments import environment, interpreter, is_made
from adapters.interface import Interface, Port
from adapters.ncnn import NARROW, NCNN, NcnnAdapter
from adapters.ncnn_convert import first_layer, native_interface, with_weights_inside
from adapters.ort import ORT_NOOPT
from adapters.protocol import Prepared, Session, Setting, Unsupported
from models.tiny import write_convolutions
from models.tiny_graphs import Ends, normal, write_graph

pytest.importorskip("ncnn", reason="pip install .[ncnn]")
ROOT = Path(__file__).parents[2]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
node = helper.make_node


def write_unequal_convolution(path: Path) -> Path:
    """Two inputs, NCHW in and out with unequal sizes, channels that fill no pack; two outputs."""
    nodes = [
        node("Add", ["a", "b"], ["sum"], name="add"),
        node("Conv", ["sum", "weight"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["y"], name="relu"),
        node("Sigmoid", ["c"], ["z"], name="sigmoid"),
    ]
    inputs: Ends = [("a", FLOAT, [1, 3, 7, 5]), ("b", FLOAT, [1, 3, 7, 5])]
    outputs: Ends = [("y", FLOAT, [1, 6, 7, 5]), ("z", FLOAT, [1, 6, 7, 5])]
    return write_graph(path, nodes, inputs, outputs, {"weight": normal(6, 3, 3, 3)})


def write_chain(path: Path) -> Path:
    write_convolutions(path, channels=8, pixels=12, layers=3)
    return path


def write_sequence(path: Path) -> Path:
    """A sequence of rank 3: normalisation, a product with weights, softmax."""
    nodes = [
        node("LayerNormalization", ["x", "scale", "bias"], ["normed"], name="norm"),
        node("MatMul", ["normed", "weight"], ["projected"], name="project"),
        node("Softmax", ["projected"], ["y"], name="softmax", axis=-1),
    ]
    weights = {"scale": normal(8), "bias": normal(8), "weight": normal(8, 5)}
    return write_graph(path, nodes, [("x", FLOAT, [1, 6, 8])], [("y", FLOAT, [1, 6, 5])], weights)


def write_reductions(path: Path) -> Path:
    """Over one axis, with and without keeping it, negative too: pnnx alone would reduce nothing."""
    nodes = [
        node("ReduceL2", ["x", "last"], ["length"], name="length", keepdims=1),
        node("Div", ["x", "length"], ["unit"], name="unit"),
        node("ReduceMean", ["unit", "first"], ["mean"], name="mean", keepdims=0),
        node("MatMul", ["mean", "weight"], ["y"], name="head"),
    ]
    weights = {"last": np.array([-1]), "first": np.array([1]), "weight": normal(8, 5)}
    return write_graph(path, nodes, [("x", FLOAT, [1, 6, 8])], [("y", FLOAT, [1, 5])], weights)


def write_group_norm(path: Path) -> Path:
    """As PyTorch's exporter writes it: InstanceNormalization of rank 3, for which ncnn has no layer."""
    nodes = [
        node("Reshape", ["x", "groups"], ["grouped"], name="group"),
        node("InstanceNormalization", ["grouped", "ones", "zeros"], ["normed"], name="norm"),
        node("Reshape", ["normed", "back"], ["y"], name="ungroup"),
    ]
    weights = {"ones": np.ones(2, np.float32), "zeros": np.zeros(2, np.float32)}
    weights |= {"groups": np.array([1, 2, -1]), "back": np.array([1, 6, 5, 4])}
    ends: Ends = [("x", FLOAT, [1, 6, 5, 4])]
    return write_graph(path, nodes, ends, [("y", FLOAT, [1, 6, 5, 4])], weights)


def write_ids(path: Path) -> Path:
    """Token ids: pnnx makes an Embed of a Gather from a constant table."""
    gather = node("Gather", ["table", "ids"], ["y"], name="embed")
    return write_graph(
        path, [gather], [("ids", INT64, [1, 6])], [("y", FLOAT, [1, 6, 8])], {"table": normal(11, 8)}
    )


def write_unknown_operator(path: Path) -> Path:
    nodes = [node("IsNaN", ["x"], ["is_nan"], name="probe"), node("Where", ["is_nan", "x", "x"], ["y"])]
    return write_graph(path, nodes, [("x", FLOAT, [1, 6, 8])], [("y", FLOAT, [1, 6, 8])], {})


def write_batch(path: Path) -> Path:
    """A batch of two, which ncnn keeps apart from the axes of a tensor."""
    conv = node("Conv", ["x", "weight"], ["y"], name="conv", pads=[1, 1, 1, 1])
    ends: Ends = [("x", FLOAT, [2, 3, 7, 5])]
    return write_graph(path, [conv], ends, [("y", FLOAT, [2, 6, 7, 5])], {"weight": normal(6, 3, 3, 3)})


NETWORKS = {
    "batch": write_batch,
    "convolution": write_unequal_convolution,
    "chain": write_chain,
    "sequence": write_sequence,
    "reductions": write_reductions,
    "group-norm": write_group_norm,
}


class Converter:
    """One worker process in pnnx's environment."""

    def __init__(self) -> None:
        command = [str(interpreter("pnnx")), "-m", "adapters.worker"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def convert(self, source: Path, framework: str = "ncnn") -> dict[str, Any]:
        """The worker's reply; what it made lies in the folder `made` beside the source."""
        folder = source.parent / "made"
        folder.mkdir(exist_ok=True)
        request = {"do": "convert", "framework": framework, "source": str(source), "folder": str(folder)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**request, "threads": 1, "precision": "fp32"}) + "\n")
        self._process.stdin.flush()
        reply: dict[str, Any] = json.loads(self._process.stdout.readline())
        return reply

    def end(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def converter() -> Iterator[Converter]:
    if not is_made(environment("pnnx")):
        pytest.skip("bench frameworks install ncnn")
    one = Converter()
    yield one
    one.end()


def load(source: Path, converter: Converter, adapter: NcnnAdapter = NCNN, threads: int = 1) -> Session:
    reply = converter.convert(source)
    assert reply["ok"], reply
    prepared = Prepared(source.parent / "made" / reply["file"], options=reply["options"])
    return adapter.load(prepared, Setting(threads, "fp32"))


def drawn(source: Path, seed: int = 1) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        value.name: generator.standard_normal(
            [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for value in onnx.load(str(source)).graph.input
    }


def run(session: Session, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    session.feed(inputs)
    session.run()
    return session.outputs()


def assert_equals_reference(session: Session, source: Path, seed: int) -> None:
    inputs = drawn(source, seed)
    expected = run(ORT_NOOPT.load(Prepared(source), Setting(1, "fp32")), inputs)
    found = run(session, inputs)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
        assert np.linalg.norm(found[name] - value) < 1e-5 * np.linalg.norm(value)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_onnx_runtime_does(name: str, converter: Converter, tmp_path: Path) -> None:
    source = NETWORKS[name](tmp_path / "net.onnx")
    session = load(source, converter)
    for seed in (1, 2, 1):
        assert_equals_reference(session, source, seed)


@pytest.mark.parametrize("variant", NCNN.variants)
def test_every_variant_computes_the_same(variant: str, converter: Converter, tmp_path: Path) -> None:
    source = write_chain(tmp_path / "net.onnx")
    assert_equals_reference(load(source, converter, NCNN.variant(variant)), source, 1)


def test_weights_beside_the_file_are_found(converter: Converter, tmp_path: Path) -> None:
    inside = write_chain(tmp_path / "inside.onnx")
    source = tmp_path / "net.onnx"
    onnx.save(
        onnx.load(str(inside)), str(source), save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert all(not tensor.external_data for tensor in with_weights_inside(source).graph.initializer)
    assert_equals_reference(load(source, converter), source, 1)


def test_token_ids_go_in_as_int32(converter: Converter, tmp_path: Path) -> None:
    source, inputs = write_ids(tmp_path / "net.onnx"), {"ids": np.array([[1, 5, 0, 10, 3, 2]])}
    expected = run(ORT_NOOPT.load(Prepared(source), Setting(1, "fp32")), inputs)
    np.testing.assert_array_equal(run(load(source, converter), inputs)["y"], expected["y"])


def test_outputs_stay_valid_and_inputs_are_copied(converter: Converter, tmp_path: Path) -> None:
    source = write_chain(tmp_path / "net.onnx")
    session, inputs = load(source, converter), drawn(source)
    session.feed(inputs)
    kept = inputs["x"].copy()
    inputs["x"][:] = np.nan
    session.run()
    first = session.outputs()["y"]
    copy = first.copy()
    assert np.isfinite(first).all()
    run(session, {"x": 2 * kept})
    np.testing.assert_array_equal(first, copy)


def test_it_tells_how_it_runs(converter: Converter, tmp_path: Path) -> None:
    session = load(write_chain(tmp_path / "net.onnx"), converter, threads=2)
    facts = session.describe()
    assert facts.items() >= {"threads": "2", "precision": "fp32", "winograd": "1"}.items()
    assert facts["version"].startswith("1.")


def test_every_switch_that_narrows_is_one_of_ncnn() -> None:
    """pybind11 would take a misspelt member without a word."""
    import ncnn

    assert [member for member in NARROW if not hasattr(ncnn.Net().opt, member)] == []


def test_there_is_no_profiler(converter: Converter, tmp_path: Path) -> None:
    source = write_chain(tmp_path / "net.onnx")
    with pytest.raises(Unsupported, match="no profiler"):
        load(source, converter).profile(drawn(source), 1)


def test_a_layer_that_ncnn_does_not_have_is_named(converter: Converter, tmp_path: Path) -> None:
    reply = converter.convert(write_unknown_operator(tmp_path / "net.onnx"))
    assert reply["kind"] == "refused"
    assert "operator IsNaN (layer 'IsNaN_0', 1 in all): ncnn does not have it" in reply["error"]


@pytest.mark.parametrize("name", ["reductions", "group-norm"])
def test_rewriting_is_what_makes_it_right(name: str, converter: Converter, tmp_path: Path) -> None:
    """When pnnx learns it, this fails, and the rewriting can go."""
    source = NETWORKS[name](tmp_path / "net.onnx")
    plain = NCNN.variant("no-rewrites")
    reply = converter.convert(source, plain.name)
    if not reply["ok"]:
        assert reply["kind"] == "refused"
        return
    prepared = Prepared(tmp_path / "made" / reply["file"], options=reply["options"])
    session = plain.load(prepared, Setting(1, "fp32"))
    with np.errstate(all="ignore"), pytest.raises((AssertionError, Unsupported)):
        assert_equals_reference(session, source, 1)


def test_weights_beyond_2_gb_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ncnn_convert, "ONNX_LIMIT_BYTES", 100)
    with pytest.raises(Unsupported, match="which ends at 2 GB"):
        with_weights_inside(write_chain(tmp_path / "net.onnx"))


def test_a_broken_onnx_file_fails(converter: Converter, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"rubbish" * 10)
    reply = converter.convert(tmp_path / "net.onnx")
    assert (reply["ok"], reply["kind"]) == (False, "failed")
    assert "cut short" in reply["error"]


def test_a_broken_file_is_told(converter: Converter, tmp_path: Path) -> None:
    reply = converter.convert(write_chain(tmp_path / "net.onnx"))
    path = tmp_path / "made" / reply["file"]
    path.write_text("rubbish\n")
    with pytest.raises(RuntimeError, match=r"ncnn cannot read model\.ncnn\.param"):
        NCNN.load(Prepared(path), Setting(1, "fp32"))


@pytest.mark.parametrize(
    ("shape", "dtype", "what"),
    [
        ((1, 0), "float32", "a dimension without a size"),
        ((1, 3), "float64", "no tensor of float64"),
    ],
)
def test_what_has_no_place_at_the_border_is_refused(shape: tuple[int, ...], dtype: str, what: str) -> None:
    port = Port("x", shape, dtype, "x", dtype)
    with pytest.raises(Unsupported, match=what):
        native_interface(Interface((port,), ()))


def test_ports_are_named_as_pnnx_does() -> None:
    ids = Port("ids", (1, 7), "int64", "ids", "int64")
    interface = native_interface(Interface((ids, ids), (ids,)))
    assert [port.key for port in interface.inputs] == ["in0", "in1"]
    assert [(port.key, port.native_dtype) for port in interface.outputs] == [("out0", "int32")]


def test_layers_of_a_file_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "model.param"
    path.write_text("7767517\n3 3\nInput in0 0 1 in0\nGather g_0 1 1 in0 1\nGather g_1 1 1 1 out0\n")
    assert first_layer(path, "Gather") == ("g_0", 2)
    assert first_layer(path, "Tile") == ("?", 0)


IDLE = """
import sys, time
from pathlib import Path
import numpy as np
from adapters.ncnn import NCNN
from adapters.protocol import Prepared, Setting
prepared = Prepared(Path(sys.argv[1]), options={"in0": "0", "out0": "0"})
session = NCNN.load(prepared, Setting(2, "fp32"))
session.feed({"x": np.ones((1, 8, 12, 12), np.float32)})
for _ in range(20):
    session.run()
before = time.process_time()
time.sleep(1)
print(time.process_time() - before)
"""


def test_idle_threads_do_not_spin(converter: Converter, tmp_path: Path) -> None:
    reply = converter.convert(write_chain(tmp_path / "net.onnx"))
    command = [sys.executable, "-c", IDLE, str(tmp_path / "made" / reply["file"])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stdout.split()[-1]) < 0.1
