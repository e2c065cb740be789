"""MNN: what comes out equals ONNX Runtime, and what cannot be is refused by name."""

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from adapters.mnn import ACCURATE_LEVEL, MNN, MnnAdapter
from adapters.mnn_convert import converter_arguments, write_out_reductions
from adapters.mnn_profile import read_spans
from adapters.ort import ORT_NOOPT
from adapters.protocol import Prepared, Profile, Session, Setting, Unsupported
from models.tiny import write_convolutions
from models.tiny_graphs import Ends, normal, write_attention_block, write_graph

pytest.importorskip("_mnncengine", reason="pip install .[mnn]")
ROOT = Path(__file__).parents[2]
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node = helper.make_node


def write_unequal_convolution(path: Path) -> Path:
    """NCHW in and out with unequal sizes, channels that fill no pack of four or eight; an unused input."""
    nodes = [
        node("Add", ["a", "b"], ["sum"], name="add"),
        node("Conv", ["sum", "weight"], ["y"], name="conv", pads=[1, 1, 1, 1]),
    ]
    inputs: Ends = [("a", FLOAT, [1, 3, 7, 5]), ("b", FLOAT, [1, 3, 7, 5]), ("unused", FLOAT, [1, 2])]
    return write_graph(path, nodes, inputs, [("y", FLOAT, [1, 6, 7, 5])], {"weight": normal(6, 3, 3, 3)})


def write_chain(path: Path) -> Path:
    write_convolutions(path, channels=8, pixels=12, layers=3)
    return path


def write_norm(path: Path) -> Path:
    """Axes as an input and no `keepdims`: MNN's converter would make one number of the tensor."""
    nodes = [node("ReduceL2", ["x", "axes"], ["length"], name="length"), node("Div", ["x", "length"], ["y"])]
    ends: tuple[Ends, Ends] = ([("x", FLOAT, [3, 4, 5])], [("y", FLOAT, [3, 4, 5])])
    return write_graph(path, nodes, *ends, {"axes": np.array([-1])})


def write_ids(path: Path) -> Path:
    """int64 in and out, and a bool output."""
    nodes = [node("Add", ["ids", "one"], ["next"]), node("Greater", ["next", "five"], ["large"])]
    outputs: Ends = [("next", INT64, [2, 5]), ("large", BOOL, [2, 5])]
    return write_graph(
        path, nodes, [("ids", INT64, [2, 5])], outputs, {"one": np.int64(1), "five": np.int64(5)}
    )


def write_gelu(path: Path) -> Path:
    ends: tuple[Ends, Ends] = ([("x", FLOAT, [4, 50])], [("y", FLOAT, [4, 50])])
    return write_graph(path, [node("Gelu", ["x"], ["y"], name="gelu")], *ends, {})


NETWORKS = {
    "convolution": write_unequal_convolution,
    "chain": write_chain,
    "block": partial(write_attention_block, with_gelu=False),
    "norm": write_norm,
    "ids": write_ids,
}


def converted(source: Path, adapter: MnnAdapter = MNN) -> Prepared:
    folder = source.parent / adapter.name.replace(":", "-")
    folder.mkdir(exist_ok=True)
    made = adapter.convert(source, folder, Setting(1, "fp32"))
    return Prepared(folder / made.file, options=made.options)


def session(source: Path, adapter: MnnAdapter = MNN, *, threads: int = 1, profile: bool = False) -> Session:
    return adapter.load(converted(source, adapter), Setting(threads, "fp32", profile))


def drawn(source: Path, seed: int = 1) -> dict[str, np.ndarray]:
    """Values for every input of the network; integers are valid as ids."""
    generator = np.random.default_rng(seed)
    values = {}
    for value in onnx.load(str(source)).graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        integer = value.type.tensor_type.elem_type == INT64
        values[value.name] = (
            generator.integers(0, 11, shape) if integer else generator.standard_normal(shape).astype("f4")
        )
    return values


def run(loaded: Session, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    loaded.feed(inputs)
    loaded.run()
    return loaded.outputs()


def reference(source: Path, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    return run(ORT_NOOPT.load(Prepared(source), Setting(1, "fp32")), inputs)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    wide = expected.astype(np.float64)
    return float(np.linalg.norm(found - wide) / np.linalg.norm(wide))


@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    """The second run too: MNN writes intermediate values into its input buffers, so each run is fed."""
    source = NETWORKS[name](tmp_path / "net.onnx")
    loaded = session(source)
    first, second = drawn(source, 1), drawn(source, 2)
    for inputs in (first, second, first):
        found, expected = run(loaded, inputs), reference(source, inputs)
        assert list(found) == list(expected)
        for output, value in expected.items():
            assert (found[output].shape, found[output].dtype) == (value.shape, value.dtype)
            assert relative_error(found[output], value) < 1e-5


def test_outputs_stay_valid_and_inputs_are_copied(tmp_path: Path) -> None:
    source = write_chain(tmp_path / "net.onnx")
    loaded, inputs = session(source), drawn(source)
    loaded.feed(inputs)
    kept = inputs["x"].copy()
    inputs["x"][:] = np.nan
    loaded.run()
    first = loaded.outputs()["y"]
    assert np.isfinite(first).all()
    copy = first.copy()
    run(loaded, {"x": 2 * kept})
    np.testing.assert_array_equal(first, copy)


@pytest.mark.parametrize(
    ("variant", "least", "most"), [("", 1e-6, 1e-3), ("exact-gelu", 1e-6, 1e-3), ("gelu-as-erf", 0, 1e-6)]
)
def test_gelu_is_approximated_unless_it_is_written_as_erf(
    variant: str, least: float, most: float, tmp_path: Path
) -> None:
    """MNN's kernel is the tanh approximation; the gate of bench prints such errors."""
    source, inputs = write_gelu(tmp_path / "net.onnx"), {"x": 3 * normal(4, 50)}
    adapter = MNN.variant(variant) if variant else MNN
    error = relative_error(run(session(source, adapter), inputs)["y"], reference(source, inputs)["y"])
    assert least <= error < most


@pytest.mark.parametrize("variant", MNN.variants)
def test_every_variant_computes_the_same(variant: str, tmp_path: Path) -> None:
    source = write_attention_block(tmp_path / "net.onnx", with_gelu=False)
    inputs = drawn(source)
    found = run(session(source, MNN.variant(variant)), inputs)
    for name, value in reference(source, inputs).items():
        assert relative_error(found[name], value) < 1e-5


def test_options_of_the_converter_reach_its_command_line() -> None:
    options = {**MNN.options, "transformer_fuse": "1", "matmul_to_convolution": "0"}
    arguments = converter_arguments(Path("a.onnx"), Path("b.mnn"), options)
    assert "--transformerFuse" in arguments
    assert arguments[arguments.index("--convertMatmulToConv") + 1] == "0"
    assert "--groupConvNative" not in arguments


def test_it_tells_how_it_runs(tmp_path: Path) -> None:
    facts = session(write_chain(tmp_path / "net.onnx"), threads=2).describe()
    assert facts.items() >= {"threads": "2", "precision": "fp32", "winograd_memory_level": "3"}.items()
    assert facts["backend"].startswith("CPU")
    assert facts["version"].startswith("3.")


def test_the_accurate_winograd_level_is_what_conversion_found(tmp_path: Path) -> None:
    prepared = converted(write_chain(tmp_path / "net.onnx"))
    assert prepared.options == {ACCURATE_LEVEL: "3"}
    small = Prepared(prepared.path, options={ACCURATE_LEVEL: "1"})
    assert MNN.load(small, Setting(1, "fp32")).describe()["winograd_memory_level"] == "1"
    forced = MNN.variant("large-winograd").load(small, Setting(1, "fp32"))
    assert forced.describe()["winograd_memory_level"] == "3"


def test_a_missing_operator_is_named(tmp_path: Path) -> None:
    nodes = [node("IsNaN", ["x"], ["is_nan"], name="probe"), node("Where", ["is_nan", "x", "x"], ["y"])]
    source = write_graph(tmp_path / "net.onnx", nodes, [("x", FLOAT, [2, 3])], [("y", FLOAT, [2, 3])], {})
    with pytest.raises(Unsupported, match=r"operator IsNaN \(node 'probe'\): MNN's converter does not have"):
        converted(source)


def test_axes_that_are_no_constant_are_refused(tmp_path: Path) -> None:
    length = node("ReduceL2", ["x", "axes"], ["y"], name="length", keepdims=1)
    inputs: Ends = [("x", FLOAT, [2, 3]), ("axes", INT64, [1])]
    source = write_graph(tmp_path / "net.onnx", [length], inputs, [("y", FLOAT, [2, 1])], {})
    with pytest.raises(Unsupported, match=r"operator ReduceL2 \(node 'length'\)"):
        write_out_reductions(onnx.load(str(source)))


@pytest.mark.parametrize(("dtype", "word"), [(TensorProto.DOUBLE, "float64"), (TensorProto.INT16, "int16")])
def test_a_dtype_without_a_border_is_refused(dtype: int, word: str, tmp_path: Path) -> None:
    nodes = [node("Cast", ["x"], ["y"], to=FLOAT)]
    source = write_graph(tmp_path / "net.onnx", nodes, [("x", dtype, [2])], [("y", FLOAT, [2])], {})
    with pytest.raises(Unsupported, match=f"no tensor of {word} at its border: 'x'"):
        converted(source)


def test_an_open_shape_is_refused(tmp_path: Path) -> None:
    nodes, open_ends = [node("Relu", ["x"], ["y"])], [("x", FLOAT, ["batch", 3]), ("y", FLOAT, ["batch", 3])]
    source = write_graph(tmp_path / "net.onnx", nodes, open_ends[:1], open_ends[1:], {})
    with pytest.raises(Unsupported, match="known only when the network runs"):
        converted(source)


def test_a_broken_onnx_file_fails(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"rubbish" * 10)
    with pytest.raises(Exception, match="cut short"):
        converted(tmp_path / "net.onnx")


def test_a_broken_mnn_file_is_told(tmp_path: Path) -> None:
    prepared = converted(write_chain(tmp_path / "net.onnx"))
    prepared.path.write_bytes(b"rubbish" * 10)
    with pytest.raises(Exception, match=r".+") as caught:
        MNN.load(prepared, Setting(1, "fp32"))
    assert not isinstance(caught.value, Unsupported)


def test_the_profile_covers_the_network(tmp_path: Path) -> None:
    source = write_attention_block(tmp_path / "net.onnx", with_gelu=False)
    profile: Profile = session(source, profile=True).profile(drawn(source), 5)
    assert 0 < sum(entry.duration_ns for entry in profile.entries) <= 1.2 * profile.total_ns
    covered = {name for entry in profile.entries for name in entry.nodes}
    assert covered >= {"embed", "mix", "norm", "scores_matmul", "softmax", "project"}
    assert covered <= {one.name for one in onnx.load(str(source)).graph.node}
    assert {entry.layout for entry in profile.entries if entry.operator == "Raster"} <= {
        "explicit",
        "implicit",
    }


def test_a_fused_activation_belongs_to_its_convolution(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    nodes = [
        node("Conv", ["x", "weight"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["y"], name="relu"),
    ]
    ends: tuple[Ends, Ends] = ([("x", FLOAT, [1, 4, 8, 8])], [("y", FLOAT, [1, 4, 8, 8])])
    write_graph(source, nodes, *ends, {"weight": normal(4, 4, 3, 3)})
    profile = session(source, profile=True).profile(drawn(source), 2)
    assert [
        entry.nodes for entry in profile.entries if entry.operator.startswith("Conv") and entry.nodes
    ] == [("conv", "relu")]


def test_spans_are_medians_and_rasters_are_led_back() -> None:
    rows = [
        {"name": "turn", "operator": "Transpose", "reads": ["x"], "writes": ["turned"]},
        {"name": "product", "operator": "MatMul", "reads": ["turned", "w"], "writes": ["y"]},
    ]
    runs = [
        [("y_raster_0", "Raster", 10 * scale), ("w_raster_0", "Raster", scale), ("y", "MatMul", 100 * scale)]
        for scale in (1, 3, 2)
    ]
    raster, foreign, product = read_spans(runs, rows)
    assert (raster.nodes, raster.layout, raster.duration_ns) == (("turn",), "explicit", 20)
    assert (foreign.nodes, foreign.layout) == ((), "implicit")
    assert (product.nodes, product.layout, product.duration_ns) == (("product",), "", 200)


QUIET_WORKER = """
import json, os, sys, time
from adapters.worker import Worker
worker = Worker()
request = json.loads(sys.argv[1])
made = worker.convert(request)
path = os.path.join(request["folder"], made["file"])
worker.load({**request, "path": path, "options": made["options"]})
worker.run({"iterations": 20})
loud = ("MNN.tools", "aliyun", "urllib.request")
modules = [name for name in sys.modules if name.startswith(loud)]
before = time.process_time()
time.sleep(1)
print(json.dumps({"modules": modules, "loaded": "MNN" in sys.modules, "idle": time.process_time() - before}))
"""


@pytest.fixture(scope="module")
def worker_report(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What a process that converted, loaded and ran with two threads has in memory, and does when idle."""
    folder = tmp_path_factory.mktemp("worker")
    source = write_chain(folder / "net.onnx")
    np.savez(folder / "inputs.npz", **drawn(source))
    (folder / "made").mkdir()
    request = {
        "framework": "mnn",
        "source": str(source),
        "folder": str(folder / "made"),
        "inputs": str(folder / "inputs.npz"),
        "threads": 2,
        "precision": "fp32",
    }
    command = [sys.executable, "-c", QUIET_WORKER, json.dumps(request)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_part_that_phones_home_is_never_imported(worker_report: Mapping[str, Any]) -> None:
    """`MNN.tools` calls pip and reports to a server of Aliyun. `createSession` imports the rest."""
    assert worker_report["modules"] == []
    assert worker_report["loaded"]


def test_idle_threads_do_not_spin(worker_report: Mapping[str, Any]) -> None:
    assert worker_report["idle"] < 0.1
