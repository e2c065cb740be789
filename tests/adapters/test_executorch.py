"""ExecuTorch: names of ONNX nodes through to a profile; and, where it is installed, whole networks.

How to run all of it is said in `test_onnx_to_torch.py`.
"""

import importlib.util
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adapters.executorch import EXECUTORCH, PROGRAM_NAME
from adapters.executorch_names import Instruction, Part, read_names, write_names
from adapters.executorch_profile import DELEGATE_CALL, Event, align, events_of, summarise
from adapters.interface import INTERFACE_NAME
from adapters.ort import ORT_NOOPT
from adapters.protocol import Prepared, Session, Setting, Unsupported
from models.tiny import write_convolutions

INSTALLED = importlib.util.find_spec("executorch") is not None
needs_executorch = pytest.mark.skipif(
    not INSTALLED, reason="needs ExecuTorch: bench frameworks install executorch"
)
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch's and ExecuTorch's own
SETTING = Setting(1, "fp32")


def part(operator: str, *nodes: str, moves: bool = False) -> Part:
    return Part(operator, nodes, moves)


PARTS = (
    part("XNNStaticTranspose"),
    part("XNNConv2d", "conv"),
    part("XNNClamp", "relu"),
    part("XNNStaticReshape", "flat", moves=True),
    part("XNNFullyConnected", "fc", "bias"),
    part("XNNSquareRoot", "root"),
)


def test_fused_operators_belong_to_the_one_before() -> None:
    """XNNPACK ran the activation inside the convolution, and put in a copy that nobody asked for."""
    ran = [
        "Transpose (ND, X32)",
        "Convolution (NHWC, F32) IGEMM",
        "Copy (NC, X32)",
        "Static Reshape (NC)",
        "Fully Connected (NC, F32) GEMM",
        "Square Root (NC)",
    ]
    names = [tuple(name for part in parts for name in part.nodes) for parts in align(ran, PARTS)]
    assert names == [(), ("conv", "relu"), (), ("flat",), ("fc", "bias"), ("root",)]


def test_nothing_ran_and_nothing_was_asked() -> None:
    assert align([], PARTS) == []
    assert align(["Add (ND)"], ()) == [()]


INSTRUCTIONS = {
    0: Instruction(0, "executorch_call_delegate", ("conv", "relu", "flat", "fc", "bias", "root"), PARTS[:4]),
    1: Instruction(1, "native_layer_norm", ("norm",)),
    2: Instruction(2, "permute_copy", ("turn",), (), True),
    3: Instruction(3, "clone", ("turn",)),
}


def run_of(scale: int) -> list[Event]:
    return [
        Event(0, "Transpose (ND, X32) #1", "Transpose (ND, X32)", 10 * scale),
        Event(0, "Convolution (NHWC, F32) IGEMM #1", "Convolution (NHWC, F32) IGEMM", 100 * scale),
        Event(0, "Static Reshape (NC) #1", "Static Reshape (NC)", 5 * scale),
        Event(0, DELEGATE_CALL, DELEGATE_CALL, 122 * scale),
        Event(1, "OPERATOR_CALL", "OPERATOR_CALL", 40 * scale),
        Event(2, "OPERATOR_CALL", "OPERATOR_CALL", 6 * scale),
        Event(3, "OPERATOR_CALL", "OPERATOR_CALL", 7 * scale),
    ]


def test_a_profile_is_medians_in_order_of_execution() -> None:
    profile = summarise([run_of(1), run_of(9), run_of(2)], INSTRUCTIONS, 400)
    rows = [(entry.operator, entry.duration_ns, entry.nodes, entry.layout) for entry in profile.entries]
    assert rows == [
        ("Transpose (ND, X32)", 20, (), "implicit"),
        ("Convolution (NHWC, F32) IGEMM", 200, ("conv", "relu"), ""),
        ("Static Reshape (NC)", 10, ("flat",), "explicit"),
        ("delegate call, less its operators", 14, (), ""),
        ("native_layer_norm", 80, ("norm",), ""),
        ("permute_copy", 12, ("turn",), "explicit"),
        ("clone", 14, ("turn",), "implicit"),
    ]
    assert profile.total_ns == 400
    assert len({entry.name for entry in profile.entries}) == len(rows)


def test_an_instruction_without_a_name_is_shown_all_the_same() -> None:
    profile = summarise([[Event(7, "OPERATOR_CALL", "OPERATOR_CALL", 5)]], {}, 5)
    assert [(entry.operator, entry.nodes) for entry in profile.entries] == [("instruction 7", ())]


def test_only_calls_and_what_delegates_say_are_events() -> None:
    """A kernel's own event lies inside the call's and would count twice."""

    def event(name: str | None, number: int, inner: str = "") -> SimpleNamespace:
        return SimpleNamespace(
            profile_event=SimpleNamespace(
                name=name, instruction_id=number, delegate_debug_id_str=inner, start_time=10, end_time=17
            )
        )

    rows = [
        event("Method::execute", -1),
        event("native_call_add.out", 0),
        event("OPERATOR_CALL", 0),
        event(None, 1, "Add (ND) #12"),
        event("DELEGATE_CALL", 1),
        SimpleNamespace(profile_event=None),
    ]
    assert list(events_of(SimpleNamespace(events=rows))) == [
        Event(0, "OPERATOR_CALL", "OPERATOR_CALL", 7),
        Event(1, "Add (ND) #12", "Add (ND)", 7),
        Event(1, "DELEGATE_CALL", "DELEGATE_CALL", 7),
    ]


def test_names_are_kept_in_a_file(tmp_path: Path) -> None:
    write_names(tmp_path, INSTRUCTIONS.values())
    assert read_names(tmp_path) == INSTRUCTIONS


def test_the_importers_files_are_part_of_the_key() -> None:
    conversion = EXECUTORCH.conversion(SETTING)
    assert conversion is not None
    names = {path.name for path in conversion.files}
    assert {"executorch_export.py", "onnx_to_torch.py", "onnx_to_torch_layers.py"} <= names
    assert conversion.environment == EXECUTORCH.environment == "executorch"


# --- whole networks ----------------------------------------------------------------------------------------


def weights(*shape: int) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


def save(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[int]]],
    outputs: list[str],
    constants: dict[str, np.ndarray],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, *row) for name, row in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    path = folder / "net.onnx"
    path.write_bytes(onnx.shape_inference.infer_shapes(built).SerializeToString())
    return path


def block(folder: Path) -> Path:
    """Ids to an embedding, attention with one head, a norm; two inputs and two outputs, one of them 2-D."""
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "ids"], ["e"], name="embed"),
        node("Add", ["e", "extra"], ["x"], name="add"),
        node("LayerNormalization", ["x", "scale", "shift"], ["n"], name="norm"),
        node("MatMul", ["n", "wq"], ["q"], name="query"),
        node("Transpose", ["n"], ["k"], name="turn", perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["s"], name="scores"),
        node("Softmax", ["s"], ["p"], name="softmax"),
        node("MatMul", ["p", "n"], ["a"], name="mix"),
        node("Add", ["a", "x"], ["y"], name="skip"),
        node("ReduceMean", ["y", "axes"], ["z"], name="pool", keepdims=0),
    ]
    constants = {
        "table": weights(10, 8), "scale": weights(8), "shift": weights(8), "wq": weights(8, 8),
        "axes": np.array([1]),
    }  # fmt: skip
    inputs = {"ids": (TensorProto.INT64, [1, 6]), "extra": (TensorProto.FLOAT, [1, 6, 8])}
    return save(folder, nodes, inputs, ["z", "y"], constants)


def converted(path: Path, folder: Path, variant: str = "", setting: Setting = SETTING) -> Session:
    row = EXECUTORCH.variant(variant) if variant else EXECUTORCH
    folder.mkdir()
    made = row.convert(path, folder, setting)
    assert (folder / INTERFACE_NAME).is_file()
    return row.load(Prepared(folder / made.file, options=made.options), setting)


def outputs_of(session: Session, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session.feed(inputs)
    session.run()
    return dict(session.outputs())


def agree(session: Session, path: Path, inputs: dict[str, np.ndarray]) -> None:
    expected = outputs_of(ORT_NOOPT.load(Prepared(path), SETTING), inputs)
    found = outputs_of(session, inputs)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


IMAGE = np.random.default_rng(0).standard_normal((1, 4, 8, 8)).astype(np.float32)
BLOCK_INPUTS = {"ids": np.array([[1, 9, 0, 3, 3, 5]]), "extra": weights(1, 6, 8)}


@needs_executorch
@pytest.mark.parametrize("variant", ["", *EXECUTORCH.variants])
def test_convolutions_agree_in_every_variant(variant: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_convolutions(path, channels=4, pixels=8, layers=2)
    session = converted(path, tmp_path / "out", variant)
    agree(session, path, {"x": IMAGE})
    agree(session, path, {"x": -2 * IMAGE})


@needs_executorch
def test_a_block_with_ids_and_two_outputs_agrees(tmp_path: Path) -> None:
    path = block(tmp_path)
    session = converted(path, tmp_path / "out", setting=Setting(2, "fp32"))
    agree(session, path, BLOCK_INPUTS)
    facts = session.describe()
    assert facts["threads"] == "2"
    assert facts["version"][0].isdigit()
    assert "embedding × 1" in facts["left to ExecuTorch's kernels"]
    assert "native_layer_norm" not in facts["left to ExecuTorch's kernels"]
    assert int(facts["delegates"]) >= 1


@needs_executorch
@pytest.mark.parametrize("variant", EXECUTORCH.variants)
def test_a_block_agrees_in_every_variant(variant: str, tmp_path: Path) -> None:
    path = block(tmp_path)
    session = converted(path, tmp_path / "out", variant)
    agree(session, path, BLOCK_INPUTS)
    left = session.describe()["left to ExecuTorch's kernels"]
    assert ("native_layer_norm × 1" in left) == (variant in ("layer-norm-kernel", "plain", "portable"))


@needs_executorch
def test_inputs_are_copied_and_outputs_stay_valid(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_convolutions(path, channels=4, pixels=8, layers=1)
    session = converted(path, tmp_path / "out")
    values = IMAGE.copy()
    session.feed({"x": values})
    values[:] = np.nan
    session.run()
    first = session.outputs()["y"]
    kept = first.copy()
    assert np.isfinite(first).all()
    outputs_of(session, {"x": 3 * IMAGE})
    np.testing.assert_array_equal(first, kept)


@needs_executorch
def test_a_profile_names_the_onnx_nodes(tmp_path: Path) -> None:
    path = block(tmp_path)
    setting = Setting(1, "fp32", profile=True)
    session = converted(path, tmp_path / "out", setting=setting)
    session.feed(BLOCK_INPUTS)
    session.run()  # as the worker does before: it must not be in the medians
    profile = session.profile(BLOCK_INPUTS, 3)
    named = {name for entry in profile.entries for name in entry.nodes}
    assert named == {"embed", "add", "norm", "query", "turn", "scores", "softmax", "mix", "skip", "pool"}
    assert 0 < sum(entry.duration_ns for entry in profile.entries) <= 1.5 * profile.total_ns
    explicit = [name for entry in profile.entries if entry.layout == "explicit" for name in entry.nodes]
    assert "embed" in explicit
    assert "ExecuTorch" in profile.source


@needs_executorch
def test_an_idle_session_burns_no_processor_time(tmp_path: Path) -> None:
    path = block(tmp_path)
    session = converted(path, tmp_path / "out", setting=Setting(2, "fp32"))
    outputs_of(session, BLOCK_INPUTS)
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


@needs_executorch
def test_an_unknown_operator_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Det", ["x"], ["y"], name="the-node")
    path = save(tmp_path, [node], {"x": (TensorProto.FLOAT, [1, 3, 3])}, ["y"], {})
    with pytest.raises(Unsupported, match=r"^Det .* \(node 'the-node'\)$"):
        converted(path, tmp_path / "out")


@needs_executorch
def test_a_dynamic_shape_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = save(tmp_path, nodes, {"x": (TensorProto.FLOAT, ["n", 3])}, ["y"], {})  # type: ignore[dict-item]
    with pytest.raises(Unsupported, match="input 'x' has a dimension without a size"):
        converted(path, tmp_path / "out")


@needs_executorch
def test_a_broken_program_is_the_frameworks_own_error(tmp_path: Path) -> None:
    path = tmp_path / PROGRAM_NAME
    path.write_bytes(b"no program")
    with pytest.raises(RuntimeError):
        EXECUTORCH.load(Prepared(path), SETTING)
