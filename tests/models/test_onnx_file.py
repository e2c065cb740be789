"""A user's ONNX file: what is read from it, and a message for everything that can be wrong with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.errors import ModelError
from models.model import InputSpec
from models.onnx_file import external_files, read_user_model, write_bound

Save = Callable[..., Path]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
value = helper.make_tensor_value_info


def external(**entries: str) -> TensorProto:
    tensor = TensorProto(name="weight", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


def message(path: Path, **dims: int) -> str:
    """The whole message, with FILE for the path."""
    with pytest.raises(ModelError) as caught:
        read_user_model(path, dims)
    return str(caught.value).replace(str(path), "FILE").replace(onnx.__version__, "1.2.3")


def test_a_good_file(save: Save) -> None:
    path = save("My Net (v2).onnx")
    model = read_user_model(path, {})
    assert (model.name, model.title, model.graph) == ("my-net-v2", "My Net (v2).onnx", path)
    assert model.inputs == (InputSpec("x", (1, 4), "float32", "normal"),)
    assert (model.weight_byte_count, model.row, model.dims) == (16, None, ())
    assert len(model.digest) == 16
    assert set(model.digest) <= set("0123456789abcdef")


def test_the_digest_covers_graph_weights_and_dimensions(save: Save, tmp_path: Path) -> None:
    path = save(tensors=[external(location="w.bin")], inputs=[value("x", FLOAT, ["batch", 4])])
    (tmp_path / "w.bin").write_bytes(bytes(16))
    digests = {read_user_model(path, {"batch": size}).digest for size in (1, 2)}
    (tmp_path / "w.bin").write_bytes(bytes(15) + b"\1")
    digests.add(read_user_model(path, {"batch": 1}).digest)
    save(tensors=[external(location="w.bin")], inputs=[value("x", FLOAT, ["batch", 4])], opset=19)
    digests.add(read_user_model(path, {"batch": 1}).digest)
    assert len(digests) == 4


def test_no_such_file(tmp_path: Path) -> None:
    assert message(tmp_path / "net.onnx") == "FILE: no such file\n  try: give the path of an .onnx file"


def test_a_folder(tmp_path: Path) -> None:
    assert message(tmp_path) == "FILE: is a folder, not a file\n  try: give the path of an .onnx file"


AGAIN = "download or export it again"
NOT_ONNX = "FILE: not an ONNX file\n  try: export the network to ONNX; other formats are not read"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", f"FILE: the file is empty\n  try: {AGAIN}"),
        (b"PK\x03\x04 a zip file, as PyTorch writes", NOT_ONNX),
        (b"<html>404 not found</html>", NOT_ONNX),
        (bytes(1000), NOT_ONNX),
        (b"\x08\x0a", "FILE: no graph inside\n  try: " + AGAIN),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n",
            "FILE: only a pointer of Git LFS, not the network itself\n"
            "  try: run `git lfs pull` where it came from",
        ),
    ],
    ids=["empty", "zip", "page", "zeros", "no graph", "git-lfs"],
)
def test_not_onnx(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    assert message(tmp_path / "net.onnx") == expected


def test_a_file_cut_short(save: Save) -> None:
    path = save()
    whole = path.read_bytes()
    graph_end = whole.rindex(b"\x42")  # the opset table follows the graph
    path.write_bytes(whole[: graph_end - 10])
    assert message(path) == f"FILE: the file is cut short: 10 bytes or more are missing\n  try: {AGAIN}"


def test_every_shortened_file_is_told(save: Save) -> None:
    path = save()
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert message(path).startswith("FILE: ")


def test_a_file_damaged_inside(save: Save) -> None:
    path = save()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\x0a\x01x\x0a\x06weight", b"\x0a\x7fx\x0a\x06weight"))
    assert message(path) == f"FILE: the file is damaged inside\n  try: {AGAIN}"


def test_a_file_beyond_protobuf(tmp_path: Path) -> None:
    with (tmp_path / "net.onnx").open("wb") as file:
        file.truncate(2**31)
    assert message(tmp_path / "net.onnx") == (
        "FILE: 2 GB or more in one file, which ONNX does not allow\n"
        "  try: save it with external data: `onnx.save(model, path, save_as_external_data=True)`"
    )


def test_a_missing_weights_file(save: Save, tmp_path: Path) -> None:
    path = save(tensors=[external(location="w.bin")])
    assert message(path) == f"FILE: the weights file 'w.bin' is missing\n  try: put w.bin into {tmp_path}"


@pytest.mark.parametrize("entries", [{}, {"length": "16"}, {"offset": "8", "length": "16"}])
def test_a_weights_file_that_is_too_short(save: Save, tmp_path: Path, entries: dict[str, str]) -> None:
    path = save(tensors=[external(location="w.bin", **entries)])
    (tmp_path / "w.bin").write_bytes(bytes(15))
    needed = 16 + int(entries.get("offset", 0))
    assert message(path) == (
        f"FILE: the weights file 'w.bin' is too short: 15 bytes of {needed}\n  try: {AGAIN}"
    )


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "link.bin", "folder/w.bin"])
def test_weights_outside_the_folder(save: Save, tmp_path: Path, location: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    path = save("inner/net.onnx", tensors=[external(location=location)])
    (path.parent / "link.bin").symlink_to(tmp_path / "w.bin")
    (path.parent / "folder").symlink_to(tmp_path)
    assert message(path) == (
        f"FILE: the weights file '{location}' is outside the folder of the network\n"
        "  try: only files beside the network are read: put the weights there, and export it again if need be"
    )


@pytest.mark.parametrize(
    "entries",
    [{}, {"location": "w.bin", "offset": "-8"}, {"location": "w.bin", "length": "x"}],
    ids=["no location", "negative offset", "length no number"],
)
def test_external_data_that_makes_no_sense(save: Save, entries: dict[str, str]) -> None:
    path = save(tensors=[external(**entries)])
    expected = f"FILE: tensor 'weight' says no sensible place for its external data: {entries}"
    assert message(path) == f"{expected}\n  try: export the network again"


def test_external_data_in_subgraphs_is_checked(save: Save) -> None:
    branch = helper.make_graph(
        [helper.make_node("Add", ["x", "weight"], ["z"])],
        "branch",
        [],
        [value("z", FLOAT, [1, 4])],
        [external(location="../w.bin")],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    path = save(
        nodes=[node], inputs=[value("x", FLOAT, [1, 4]), value("c", TensorProto.BOOL, [])], tensors=[]
    )
    assert "is outside the folder of the network" in message(path)


def test_unbound_dimensions(save: Save) -> None:
    inputs = [value("x", FLOAT, ["batch", 4]), value("other", FLOAT, ["batch", None])]
    assert message(save(inputs=inputs), seq=3) == (
        "FILE: dimensions without a size: 'batch' (of input 'x'), 'other.1' (of input 'other')\n"
        "  try: add --dim batch=1 --dim other.1=1"
    )


def test_bound_dimensions(save: Save, tmp_path: Path) -> None:
    path = save(inputs=[value("x", FLOAT, ["rows", 4]), value("other", FLOAT, [None])])
    model = read_user_model(path, {"rows": 3, "other.0": 2, "unused": 9})
    assert [spec.shape for spec in model.inputs] == [(3, 4), (2,)]
    assert model.dims == (("other.0", 2), ("rows", 3))
    write_bound(path, dict(model.dims), tmp_path / "bound.onnx")
    again = read_user_model(tmp_path / "bound.onnx", {})
    assert again.inputs == model.inputs
    output = onnx.load(tmp_path / "bound.onnx").graph.output[0]
    assert [dim.dim_value for dim in output.type.tensor_type.shape.dim] == [3, 4]


def test_a_dimension_of_nothing(save: Save) -> None:
    path = save(inputs=[value("x", FLOAT, ["rows", 4])])
    assert message(path, rows=0) == "FILE: dimension rows=0 is not at least 1"


KNOWN = "float32, float16, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64, bool"


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (value("s", TensorProto.STRING, [1]), "string"),
        (value("s", TensorProto.BFLOAT16, [1]), "bfloat16"),
        (value("s", 85, [1]), "number 85"),
        (helper.make_tensor_sequence_value_info("s", FLOAT, [1]), "sequence"),
        (
            helper.make_value_info(
                "s", helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, [1]))
            ),
            "map",
        ),
    ],
    ids=["string", "bfloat16", "unheard of", "sequence", "map"],
)
def test_inputs_that_cannot_be_drawn(save: Save, made: onnx.ValueInfoProto, kind: str) -> None:
    path = save(inputs=[value("x", FLOAT, [1, 4]), made])
    assert message(path) == (
        f"FILE: input 's' is of type {kind}, for which no values can be drawn\n"
        f"  try: export a network whose inputs are tensors of {KNOWN}"
    )


def test_onnx_checker(save: Save) -> None:
    path = save(nodes=[helper.make_node("Add", ["x", "nowhere"], ["y"])])
    text = message(path)
    assert text.startswith("FILE: not valid ONNX: Nodes in a graph must be topologically sorted")
    assert text.endswith(
        "\n  try: export the network again; `python -m onnx.bin.checker` gives the whole message"
    )


def test_no_outputs(save: Save) -> None:
    assert message(save(outputs=[])) == (
        "FILE: the network has no outputs\n  try: export it again with its outputs"
    )


def test_no_shape(save: Save) -> None:
    assert message(save(inputs=[value("x", FLOAT, None)])) == (
        "FILE: 'x' has no shape, not even a number of axes\n"
        "  try: export the network with shapes of inputs and outputs"
    )


def test_a_later_ir_version(save: Save) -> None:
    assert message(save(ir_version=99)) == (
        f"FILE: written in ONNX IR version 99; onnx 1.2.3 knows {onnx.IR_VERSION}\n"
        "  try: install a later onnx, or export the network for an earlier version"
    )


def test_a_later_opset(save: Save) -> None:
    newest = onnx.defs.onnx_opset_version()
    assert message(save(opset=newest + 1)) == (
        f"FILE: written for opset {newest + 1}; onnx 1.2.3 knows opset {newest}\n"
        "  try: install a later onnx, or export the network for an earlier version"
    )


def test_weights_listed_as_inputs_are_no_inputs(save: Save) -> None:
    path = save(inputs=[value("x", FLOAT, [1, 4]), value("weight", FLOAT, [4])], ir_version=3, opset=8)
    assert [spec.name for spec in read_user_model(path, {}).inputs] == ["x"]


def test_indices_are_drawn_below_the_number_of_rows(save: Save) -> None:
    nodes = [
        helper.make_node("Identity", ["ids"], ["same"]),
        helper.make_node("Gather", ["table", "same"], ["first"], axis=0),
        helper.make_node("Gather", ["wide", "ids"], ["second"], axis=1),
        helper.make_node("Cast", ["mask"], ["y"], to=FLOAT),
    ]
    tensors = [
        helper.make_tensor("table", FLOAT, [9, 2], np.zeros(18)),
        helper.make_tensor("wide", FLOAT, [2, 7], np.zeros(14)),
    ]
    inputs = [
        value("ids", INT64, [1, 5]),
        value("mask", INT64, [1, 5]),
        value("pixels", TensorProto.UINT8, [3]),
    ]
    model = read_user_model(save(nodes=nodes, tensors=tensors, inputs=inputs), {})
    assert [(spec.draw, spec.low, spec.high) for spec in model.inputs] == [
        ("integers", 0, 7),
        ("integers", 0, 2),
        ("integers", 0, 256),
    ]


def test_weights_are_not_read(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tensors=[external(location="w.bin")])
    (tmp_path / "w.bin").write_bytes(bytes(16))

    def fail(*arguments: Any) -> None:
        pytest.fail("weights were read")

    monkeypatch.setattr(onnx.external_data_helper, "load_external_data_for_tensor", fail)
    assert read_user_model(path, {}).weight_byte_count == 16
    assert external_files(path) == ("w.bin",)
