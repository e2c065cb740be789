"""What the user types after `--models`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from models.catalogue import all_models, has_name, resolve, sets
from models.errors import ModelError
from models.tiny_set import TINY_NETWORKS, write_tiny
from models.zoo import zoo_rows

Save = Callable[..., Path]
QUICK = ["efficientvit", "swin", "sd-text-encoder", "resnext"]


def names(selection: str, graphs: Path, **dims: int) -> list[str]:
    return [model.name for model in resolve(selection, dims, graphs)]


def message(selection: str, graphs: Path, **dims: int) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(selection, dims, graphs)
    return str(caught.value)


def test_sets() -> None:
    assert sets() == {"smartmem18": tuple(row.name for row in zoo_rows()), "quick": tuple(QUICK)}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("all", [row.name for row in zoo_rows()]),
        ("smartmem18", [row.name for row in zoo_rows()]),
        ("quick", QUICK),
        ("swin", ["swin"]),
        (" VIT , Swin,vit", ["vit", "swin"]),
        ("resnext,QUICK,pythia,", ["resnext", "efficientvit", "swin", "sd-text-encoder", "pythia"]),
    ],
)
def test_names_and_sets(graphs: Path, selection: str, expected: list[str]) -> None:
    assert names(selection, graphs) == expected


def test_all_models(graphs: Path) -> None:
    assert [model.row for model in all_models(graphs)] == list(zoo_rows())


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("pythai", "no network or set is called 'pythai'\n  try: did you mean pythia?"),
        ("swin,qwick", "no network or set is called 'qwick'\n  try: did you mean quick?"),
        ("xyzzy", "no network or set is called 'xyzzy'\n  try: `bench models list` shows the names"),
        ("", "no network was named\n  try: `all`, or a name: `bench models list` shows the names"),
        (" , ", "no network was named\n  try: `all`, or a name: `bench models list` shows the names"),
    ],
)
def test_unknown_names(graphs: Path, selection: str, expected: str) -> None:
    assert message(selection, graphs) == expected


def test_a_file_with_another_ending(graphs: Path, tmp_path: Path) -> None:
    (tmp_path / "net.pb").write_bytes(b"x")
    path = str(tmp_path / "net.pb")
    assert (
        message(path, graphs) == f"{path}: not the name of a network\n  try: a file's name must end in .onnx"
    )


def test_a_missing_pinned_graph(graphs: Path) -> None:
    (graphs / "vit" / "model.onnx").unlink()
    assert message("vit", graphs) == (
        f"{graphs}/vit/model.onnx: the pinned graph cannot be read: No such file or directory\n"
        "  try: reinstall bench, or make it again with `bench models export vit`"
    )


def test_files_and_names_together(graphs: Path, save: Save) -> None:
    path = save("own.onnx")
    assert names(f"{path},swin,{path}", graphs) == ["own", "swin"]


def test_a_long_list(graphs: Path) -> None:
    assert names(",".join(["swin"] * 2000), graphs) == ["swin"]


def test_a_path_with_a_comma(graphs: Path, save: Save) -> None:
    assert names(str(save("a,b.onnx")), graphs) == ["a-b"]


def test_a_file_called_like_a_network_of_the_zoo(graphs: Path, save: Save) -> None:
    assert names(f"{save('swin.onnx')},swin", graphs) == ["swin.onnx", "swin"]


def test_files_of_the_same_name(graphs: Path, save: Save) -> None:
    first, second, copy = save("a/net.onnx"), save("b/net.onnx", opset=19), save("c/net.onnx")
    found = resolve(f"{first},{second},{copy}", {}, graphs)
    assert [model.name for model in found] == [f"net-{model.digest[:6]}" for model in found]
    assert [model.graph for model in found] == [first, second]


def test_dimensions(graphs: Path, save: Save) -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    free, fixed = save("free.onnx", inputs=inputs), save("fixed.onnx")
    assert [model.dims for model in resolve(f"{free},{fixed}", {"batch": 2}, graphs)] == [(("batch", 2),), ()]
    assert message(f"{free},{fixed}", graphs, batch=1, bacth=2) == (
        "--dim bacth=2: no dimension is called 'bacth'\n  try: did you mean batch?"
    )
    assert message(f"{free}", graphs, batch=1, xyzzy=2) == (
        "--dim xyzzy=2: no dimension is called 'xyzzy'\n  try: the dimensions without a size are: batch"
    )
    assert message(f"swin,{fixed}", graphs, batch=1) == (
        "--dim batch=1: no dimension is called 'batch'\n"
        "  try: leave --dim out: only ONNX files with symbolic dimensions take it, and here is none"
    )


def test_listing_imports_neither_numpy_nor_onnx() -> None:
    root = Path(__file__).parents[2]
    program = (
        "import sys; from models.catalogue import sets; sets();"
        "print([name for name in ('numpy', 'onnx', 'filelock') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_tiny_networks_have_names_of_their_own(graphs: Path) -> None:
    """They are no part of `all`, are the same bytes at every call, and a user's file gives way to them."""
    chosen = resolve("tiny", {}, graphs)
    assert [model.name for model in chosen] == list(TINY_NETWORKS)
    assert all(has_name(model) and not model.is_pinned for model in chosen)
    assert [model.digest for model in resolve("TINY", {}, graphs)] == [model.digest for model in chosen]
    assert not set(TINY_NETWORKS) & set(names("all", graphs))


def test_a_users_file_with_a_tiny_networks_name(graphs: Path, tmp_path: Path) -> None:
    name = next(iter(TINY_NETWORKS))
    path = write_tiny("tiny-grouped", tmp_path / f"{name}.onnx")
    assert names(f"{path},{name}", graphs) == [f"{name}.onnx", name]


def test_a_tiny_network_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="is not a folder"):
        write_tiny("tiny-grouped", tmp_path / "file" / "net.onnx")
