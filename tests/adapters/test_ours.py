"""Our own compiler behind the same interface as its peers: what it computes equals ONNX Runtime, its profile
covers the network's nodes, and what cannot be is refused by name.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from adapters.ort import ORT_NOOPT
from adapters.ours import OPTIMISATIONS, OURS, OursAdapter
from adapters.protocol import Prepared, Session, Setting, Unsupported
from models.tiny import write_convolutions
from models.tiny_graphs import Ends, normal, write_attention_block, write_five_axes, write_graph
from ourcompiler.errors import CompileError
from ourcompiler.pipeline import SWITCHES

FLOAT = TensorProto.FLOAT
ONE = Setting(1, "fp32")
GENERATOR = np.random.default_rng(0)
Arrays = Mapping[str, np.ndarray]


def write_image(path: Path) -> Path:
    """Two images in, NCHW with unequal sizes, and a feature map out."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"], name="add"),
        helper.make_node("Conv", ["sum", "weight"], ["features"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["y"], name="relu"),
    ]
    inputs: Ends = [("a", FLOAT, [1, 16, 7, 5]), ("b", FLOAT, [1, 16, 7, 5])]
    return write_graph(path, nodes, inputs, [("y", FLOAT, [1, 16, 7, 5])], {"weight": normal(16, 16, 3, 3)})


def write_twice(path: Path) -> Path:
    """The same value as two results, and an input that is a result."""
    nodes = [
        helper.make_node("Tanh", ["x"], ["first"], name="tanh"),
        helper.make_node("Identity", ["first"], ["second"], name="same"),
        helper.make_node("Identity", ["x"], ["third"], name="through"),
    ]
    outputs: Ends = [(name, FLOAT, [2, 9]) for name in ("first", "second", "third")]
    return write_graph(path, nodes, [("x", FLOAT, [2, 9])], outputs)


NETWORKS = {
    "image": write_image,
    "block": write_attention_block,
    "five-axes": write_five_axes,
    "twice": write_twice,
}


def draw(source: Path) -> dict[str, np.ndarray]:
    drawn = {}
    for value in onnx.load(source).graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        is_float = value.type.tensor_type.elem_type == FLOAT
        drawn[value.name] = normal(*shape) if is_float else GENERATOR.integers(0, 11, shape)
    return drawn


def load(source: Path, setting: Setting = ONE, adapter: OursAdapter = OURS) -> Session:
    folder = source.parent / "converted"
    folder.mkdir(exist_ok=True)
    converted = adapter.convert(source, folder, setting)
    return adapter.load(Prepared(folder / converted.file, options=converted.options), setting)


def run(session: Session, inputs: Arrays) -> Arrays:
    session.feed(inputs)
    session.run()
    return session.outputs()


def assert_equals_onnx_runtime(source: Path, session: Session) -> None:
    inputs = draw(source)
    outputs = run(session, inputs)
    expected = run(ORT_NOOPT.load(Prepared(source), ONE), inputs)
    assert set(outputs) == set(expected)
    for key, value in expected.items():
        assert (outputs[key].shape, outputs[key].dtype) == (value.shape, value.dtype)
        np.testing.assert_allclose(outputs[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_computes_what_onnx_runtime_computes(name: str, threads: int, tmp_path: Path) -> None:
    source = NETWORKS[name](tmp_path / "net.onnx")
    assert_equals_onnx_runtime(source, load(source, Setting(threads, "fp32")))


def test_so_it_does_without_its_optimisations(tmp_path: Path) -> None:
    source = write_attention_block(tmp_path / "net.onnx")
    adapter = replace(OURS, options={"without": "rewrite,sink,layout"})
    session = load(source, adapter=adapter)
    assert_equals_onnx_runtime(source, session)
    assert session.describe()["without"] == "rewrite,sink,layout"


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
    assert facts["build"].startswith("ziglang ")
    assert int(facts["kernels"]) in (1, 2)
    assert int(facts["arena_bytes"]) >= 0


def test_only_fp32() -> None:
    assert OURS.refuse(ONE) is None
    assert "not bf16" in (OURS.refuse(Setting(1, "bf16")) or "")


def test_the_conversion_tells_what_decides_the_result() -> None:
    """A change of the compiler, its runtime, or the kind of machine compiles again."""
    conversion = OURS.conversion(ONE)
    assert conversion is not None
    names = {"/".join(one.parts[-2:]) for one in conversion.files}
    assert {"ourcompiler/pipeline.py", "runtime/kernels.h", "runtime/runtime.c"} <= names
    assert "ziglang" in conversion.distributions
    assert conversion.options["target"] in ("avx2", "avx512", "aarch64")
    assert not conversion.per_threads
    other = replace(OURS, options={"without": "sink"}).conversion(ONE)
    assert other is not None
    assert other.options != conversion.options


def test_what_is_converted_is_a_package(tmp_path: Path) -> None:
    source = write_image(tmp_path / "net.onnx")
    converted = OURS.convert(source, tmp_path, ONE)
    facts = json.loads((tmp_path / converted.file).read_text())
    assert [name for name, *_ in facts["inputs"]] == ["a", "b"]
    assert [name for name, *_ in facts["outputs"]] == ["y"]


def test_an_unsupported_operator_is_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("Det", ["x"], ["y"], name="determinant")]
    source = write_graph(tmp_path / "net.onnx", nodes, [("x", FLOAT, [3, 3])], [("y", FLOAT, [])])
    with pytest.raises(Unsupported, match=r"(?s)determinant.*Det|Det.*determinant"):
        load(source)


def test_a_dynamic_shape_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    source = write_graph(tmp_path / "net.onnx", nodes, [("x", FLOAT, ["n", 3])], [("y", FLOAT, ["n", 3])])
    with pytest.raises(Unsupported, match=r"x.*n"):
        load(source)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\x08\x0a broken")
    with pytest.raises(Unsupported, match=r"net\.onnx"):
        load(tmp_path / "net.onnx")


def test_a_damaged_package_is_an_error(tmp_path: Path) -> None:
    source = write_image(tmp_path / "net.onnx")
    converted = OURS.convert(source, tmp_path, ONE)
    (tmp_path / converted.file).write_text("{}")
    with pytest.raises(CompileError, match="compile it again"):
        OURS.load(Prepared(tmp_path / converted.file), ONE)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_profile_covers_the_networks_nodes(threads: int, tmp_path: Path) -> None:
    source = write_attention_block(tmp_path / "net.onnx", width=256, length=128, features=64)
    profile = load(source, Setting(threads, "fp32", profile=True)).profile(draw(source), 5)
    covered = {node for entry in profile.entries for node in entry.nodes}
    work = {"embed", "mix", "norm", "scores_matmul", "softmax", "project", "gelu"}
    assert work <= covered <= {node.name for node in onnx.load(source).graph.node}
    operators = {node: entry.operator for entry in profile.entries for node in entry.nodes}
    assert operators["project"] == operators["gelu"] == "matmul"
    assert 0 < sum(entry.duration_ns for entry in profile.entries) <= 1.5 * profile.total_ns
    assert "clock" in profile.source


def test_profiling_computes_the_same(tmp_path: Path) -> None:
    source = write_image(tmp_path / "net.onnx")
    inputs, session = draw(source), load(source)
    expected = run(session, inputs)["y"]
    session.profile(inputs, 2)
    np.testing.assert_array_equal(session.outputs()["y"], expected)


def test_an_idle_session_takes_no_processor_time(tmp_path: Path) -> None:
    source = write_image(tmp_path / "net.onnx")
    inputs, session = draw(source), load(source, Setting(2, "fp32"))
    for _ in range(20):
        run(session, inputs)
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def test_copies_are_marked_as_layout_transformations(tmp_path: Path) -> None:
    source = write_five_axes(tmp_path / "net.onnx")
    profile = load(source, Setting(1, "fp32", profile=True)).profile(draw(source), 2)
    assert all(entry.layout for entry in profile.entries)


def test_every_optimisation_can_be_switched_off_by_name() -> None:
    """Alone, and the last of them, the last two …: the ladder of an ablation."""
    assert OPTIMISATIONS == SWITCHES
    assert not [name for name in OPTIMISATIONS if "-" in name or "," in name], "a variant's name joins them"
    for name in OPTIMISATIONS:
        assert OURS.variants[f"without-{name}"] == {"without": name}
    for start in range(len(OPTIMISATIONS)):
        tail = OPTIMISATIONS[start:]
        assert OURS.variants[f"without-{'-'.join(tail)}"] == {"without": ",".join(tail)}
    assert OURS.variant("without-layout-winograd").conversion(ONE) != OURS.conversion(ONE)
