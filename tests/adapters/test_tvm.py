"""TVM: what our kernels compute equals ONNX Runtime, each kernel knows its nodes, and what cannot be is
refused by name.
"""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from adapters.ort import ORT_NOOPT
from adapters.protocol import Prepared, Session, Setting, Unsupported
from adapters.tvm import TVM, TVM_DEFAULT, TvmAdapter
from models.tiny import write_convolutions
from models.tiny_graphs import Ends, normal, write_graph

pytest.importorskip("tvm", reason="pip install .[tvm]")
ROOT = Path(__file__).parents[2]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
GENERATOR = np.random.default_rng(0)
ONE = Setting(1, "fp32")
Arrays = Mapping[str, np.ndarray]


def write_block(path: Path) -> Path:
    """Token ids and a sequence in, attention with an odd length, outputs of rank 4 and of rank 3."""
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "ids"], ["tokens"], name="embed"),
        node("Add", ["tokens", "context"], ["mixed"], name="mix"),
        node("LayerNormalization", ["mixed", "scale", "bias"], ["normed"], name="norm"),
        node("Reshape", ["normed", "heads_shape"], ["split"], name="heads"),
        node("Transpose", ["split"], ["q"], name="turn", perm=[0, 2, 1, 3]),
        node("Transpose", ["q"], ["k"], name="turn_k", perm=[0, 1, 3, 2]),
        node("MatMul", ["q", "k"], ["scores"], name="scores_matmul"),
        node("Softmax", ["scores"], ["attention"], name="softmax", axis=-1),
        node("MatMul", ["attention", "q"], ["heads"], name="mix_heads"),
        node("Transpose", ["heads"], ["turned"], name="turn_back", perm=[0, 2, 1, 3]),
        node("Reshape", ["turned", "flat_shape"], ["flat"], name="flatten"),
        node("MatMul", ["flat", "weight"], ["projected"], name="project"),
        node("Gelu", ["projected"], ["y"], name="gelu"),
    ]
    weights = {"table": normal(11, 24), "scale": normal(24), "bias": normal(24), "weight": normal(24, 50)}
    shapes = {"heads_shape": np.array([1, 7, 2, 12]), "flat_shape": np.array([1, 7, 24])}
    inputs: Ends = [("ids", INT64, [1, 7]), ("context", FLOAT, [1, 7, 24])]
    outputs: Ends = [("attention", FLOAT, [1, 2, 7, 7]), ("y", FLOAT, [1, 7, 50])]
    return write_graph(path, nodes, inputs, outputs, {**weights, **shapes})


def write_one(path: Path, operator: str, shapes: list[list[int]], output: list[int], **more: Any) -> Path:
    """One node `it`; its first operand is the input `x`, the others are weights."""
    weights = {f"w{index}": normal(*shape) for index, shape in enumerate(shapes[1:])}
    node = helper.make_node(operator, ["x", *weights], ["y"], name="it", **more)
    return write_graph(path, [node], [("x", FLOAT, shapes[0])], [("y", FLOAT, output)], weights)


def converted(adapter: TvmAdapter, source: Path, folder: Path) -> Prepared:
    folder.mkdir()
    made = adapter.convert(source, folder, ONE)
    return Prepared(folder / made.file, options=made.options)


def run(session: Session, inputs: Arrays) -> Arrays:
    session.feed(inputs)
    session.run()
    return session.outputs()


def assert_equal_to_reference(source: Path, session: Session, inputs: Arrays) -> None:
    expected = run(ORT_NOOPT.load(Prepared(source), ONE), inputs)
    found = run(session, inputs)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def block(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Session]:
    folder = tmp_path_factory.mktemp("tvm-block")
    source = write_block(folder / "net.onnx")
    return source, TVM.load(converted(TVM, source, folder / "out"), ONE)


def block_inputs() -> Arrays:
    return {"ids": GENERATOR.integers(0, 11, (1, 7)), "context": normal(1, 7, 24)}


def test_a_transformer_block_with_two_inputs_and_two_outputs(block: tuple[Path, Session]) -> None:
    assert_equal_to_reference(*block, block_inputs())


def test_outputs_follow_the_inputs_and_stay_valid(block: tuple[Path, Session]) -> None:
    first, second = block_inputs(), block_inputs()
    found = run(block[1], first)["y"]
    kept = found.copy()
    assert not np.array_equal(run(block[1], second)["y"], kept)
    np.testing.assert_array_equal(found, kept)
    np.testing.assert_array_equal(run(block[1], first)["y"], kept)


def test_the_inputs_are_copied(block: tuple[Path, Session]) -> None:
    inputs = dict(block_inputs())
    block[1].feed(inputs)
    inputs["context"][:] = np.nan
    block[1].run()
    assert np.isfinite(block[1].outputs()["y"]).all()


def test_every_kernel_of_the_profile_knows_its_nodes(block: tuple[Path, Session]) -> None:
    run(block[1], block_inputs())
    profile = block[1].profile(block_inputs(), 3)
    covered = {node for entry in profile.entries for node in entry.nodes}
    assert covered >= {"embed", "norm", "turn", "scores_matmul", "softmax", "mix_heads", "project", "gelu"}
    fused = next(entry for entry in profile.entries if "gelu" in entry.nodes)
    assert set(fused.nodes) == {"project", "gelu"}
    turned = [entry for entry in profile.entries if entry.nodes == ("turn",)]
    assert [entry.layout for entry in turned] == ["explicit"]
    assert 0 < sum(entry.duration_ns for entry in profile.entries) <= 1.2 * profile.total_ns


CONVOLUTIONS = {
    "dense": ([[1, 5, 9, 11], [20, 5, 3, 3], [20]], [1, 20, 9, 11], {"pads": [1, 1, 1, 1]}),
    "strided": ([[1, 3, 17, 15], [32, 3, 7, 7]], [1, 32, 9, 8], {"pads": [3, 3, 3, 3], "strides": [2, 2]}),
    "uneven pads": ([[1, 3, 8, 8], [16, 3, 2, 3]], [1, 16, 8, 8], {"pads": [0, 1, 1, 1]}),
    "dilated": ([[1, 4, 12, 12], [8, 4, 3, 3]], [1, 8, 8, 8], {"dilations": [2, 2]}),
    "narrow groups": ([[1, 32, 6, 6], [32, 4, 3, 3]], [1, 32, 6, 6], {"group": 8, "pads": [1, 1, 1, 1]}),
    "groups of 24": ([[1, 72, 5, 5], [72, 24, 3, 3]], [1, 72, 5, 5], {"group": 3, "pads": [1, 1, 1, 1]}),
    "groups of 5": ([[1, 15, 5, 5], [15, 5, 1, 1]], [1, 15, 5, 5], {"group": 3}),
    "depthwise": ([[1, 48, 10, 9], [48, 1, 7, 7]], [1, 48, 10, 9], {"group": 48, "pads": [3, 3, 3, 3]}),
    "depthwise, odd": ([[1, 7, 6, 6], [7, 1, 3, 3]], [1, 7, 6, 6], {"group": 7, "pads": [1, 1, 1, 1]}),
    "one axis": ([[1, 32, 21], [32, 1, 5]], [1, 32, 21], {"group": 32, "pads": [2, 2]}),
    "batch of two": ([[2, 6, 5, 5], [16, 6, 3, 3]], [2, 16, 3, 3], {}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution(name: str, tmp_path: Path) -> None:
    shapes, output, attributes = CONVOLUTIONS[name]
    source = write_one(tmp_path / "net.onnx", "Conv", shapes, output, **attributes)
    session = TVM.load(converted(TVM, source, tmp_path / "out"), ONE)
    assert_equal_to_reference(source, session, {"x": normal(*shapes[0])})


OTHERS = {
    "MatMul": ([[3, 2, 13, 9], [9, 37]], [3, 2, 13, 37], {}),
    "Softmax": ([[2, 16, 3, 40]], [2, 16, 3, 40], {"axis": 1}),
    "InstanceNormalization": ([[1, 6, 50], [6], [6]], [1, 6, 50], {}),
    "MaxPool": ([[1, 8, 9, 9]], [1, 8, 4, 4], {"kernel_shape": [3, 3], "strides": [2, 2]}),
    "ReduceMax": ([[4, 33]], [1, 1], {}),
}


@pytest.mark.parametrize("operator", OTHERS)
def test_another_operator(operator: str, tmp_path: Path) -> None:
    shapes, output, attributes = OTHERS[operator]
    source = write_one(tmp_path / "net.onnx", operator, shapes, output, **attributes)
    session = TVM.load(converted(TVM, source, tmp_path / "out"), ONE)
    assert_equal_to_reference(source, session, {"x": normal(*shapes[0])})


FUNCTIONS: dict[str, Any] = {
    "Exp": np.exp,
    "Erf": np.vectorize(math.erf),
    "Tanh": np.tanh,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.mark.parametrize("operator", FUNCTIONS)
def test_a_polynomial_is_right_to_the_last_places(operator: str, tmp_path: Path) -> None:
    values = np.concatenate([np.linspace(-20, 20, 4000), [-600, -100, -1e-20, 0, 1e-20, 80]]).astype(
        np.float32
    )
    source = write_one(tmp_path / "net.onnx", operator, [list(values.shape)], list(values.shape))
    session = TVM.load(converted(TVM, source, tmp_path / "out"), ONE)
    expected = FUNCTIONS[operator](values.astype(np.float64))
    np.testing.assert_allclose(run(session, {"x": values})["y"], expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("variant", TVM.variants)
def test_a_variant_computes_the_same(variant: str, tmp_path: Path) -> None:
    adapter = TVM.variant(variant)
    write_convolutions(tmp_path / "net.onnx", channels=20, pixels=9, layers=1)
    session = adapter.load(converted(adapter, tmp_path / "net.onnx", tmp_path / "out"), ONE)
    assert_equal_to_reference(tmp_path / "net.onnx", session, {"x": normal(1, 20, 9, 9)})
    assert session.describe().items() >= adapter.options.items()


def test_the_default_pipeline_runs_too(tmp_path: Path) -> None:
    write_convolutions(tmp_path / "net.onnx", channels=4, pixels=8, layers=2)
    session = TVM_DEFAULT.load(converted(TVM_DEFAULT, tmp_path / "net.onnx", tmp_path / "out"), ONE)
    assert_equal_to_reference(tmp_path / "net.onnx", session, {"x": normal(1, 4, 8, 8)})
    assert "no schedules" in TVM_DEFAULT.notes[0]


def test_it_tells_how_it_runs(block: tuple[Path, Session]) -> None:
    facts = block[1].describe()
    assert facts["version"].startswith("0.")
    assert int(facts["build"].removeprefix("LLVM ")) > 0
    assert facts["precision"] == "fp32"
    assert "mcpu" in facts["target"]


def test_an_unknown_operator_is_refused_by_name(tmp_path: Path) -> None:
    source = write_one(tmp_path / "net.onnx", "Det", [[3, 4, 4]], [3])
    with pytest.raises(Unsupported, match=r"operator Det \(node 'it'\)"):
        converted(TVM, source, tmp_path / "out")


def test_a_dynamic_shape_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="it")
    ends: list[Ends] = [[(name, FLOAT, ["length", 4])] for name in ("x", "y")]
    source = write_graph(tmp_path / "net.onnx", [node], *ends, {})
    with pytest.raises(Unsupported, match=r"known only when|dynamic"):
        converted(TVM, source, tmp_path / "out")


def test_a_broken_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x0a broken")
    with pytest.raises(Exception, match=r"(?i)onnx|damaged|truncated"):
        converted(TVM, tmp_path / "net.onnx", tmp_path / "out")


THREADS = """
import json, sys, time
from pathlib import Path
import numpy as np
from adapters.placement import threads_now
from adapters.protocol import Prepared, Setting
from adapters.tvm import TVM
before = threads_now()
session = TVM.load(Prepared(Path(sys.argv[1])), Setting(int(sys.argv[2]), "fp32"))
session.feed({"x": np.zeros((1, 16, 40, 40), np.float32)})
session.run()
own = len(threads_now() - before)
busy = time.process_time()
time.sleep(1.0)
print(json.dumps([session.describe()["threads"], own, time.process_time() - busy]))
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_it_computes_with_so_many_threads_and_rests_between_runs(threads: int, tmp_path: Path) -> None:
    write_convolutions(tmp_path / "net.onnx", channels=16, pixels=40, layers=1)
    prepared = converted(TVM, tmp_path / "net.onnx", tmp_path / "out")
    command = [sys.executable, "-c", THREADS, str(prepared.path), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    told, own, busy_seconds = json.loads(done.stdout.splitlines()[-1])
    assert told == str(threads)
    assert own == threads - 1  # the calling thread computes too
    assert busy_seconds < 0.05
