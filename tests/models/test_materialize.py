"""A network in the cache is complete or absent, whoever is killed, and every refusal of the disk is told."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from filelock import FileLock

import models
from models.draw import draw_inputs, draw_piece
from models.errors import ModelError
from models.materialize import materialize
from models.model import Model
from models.onnx_file import load_graph, read_user_model
from models.recipe import read_recipe
from models.zoo import pinned_model

ROOT = Path(models.__file__).parents[1]
# Draws the pinned network of a graphs folder slowly, telling each piece.
SCRIPT = """
import sys, time
from dataclasses import replace
from pathlib import Path
from models.materialize import materialize
from models.zoo import pinned_model, zoo_rows
graphs, cache = map(Path, sys.argv[1:])
def tell(done, total):
    print("drew", done, flush=True)
    time.sleep(0.02)
model = pinned_model(replace(zoo_rows()[0], name="slow"), graphs)
print("made", materialize(model, cache, tell), flush=True)
"""


def start(graphs: Path, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(graphs), str(cache)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_the_weights_are_those_of_the_recipe(tiny: Model, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = materialize(tiny, tmp_path / "cache", lambda done, total: told.append((done, total)))
    assert path == tmp_path / "cache" / "models" / f"tiny-{tiny.digest}" / "model.onnx"
    assert files(path.parent) == ["files.json", "model.onnx", "weights.bin"]
    recipe = read_recipe(tiny.graph.parent / "weights.toml")
    weights = path.with_name("weights.bin").read_bytes()
    assert len(weights) == tiny.weight_byte_count == 656
    for tensor in recipe.tensors[:3]:
        expected = draw_piece(tensor, recipe.seed, 0, tensor.element_count).astype("<f4")
        assert weights[tensor.offset : tensor.end] == expected.tobytes()
    assert told[-1] == (656, 656)


def test_onnx_runtime_runs_it(tiny: Model, tmp_path: Path) -> None:
    session = onnxruntime.InferenceSession(
        str(materialize(tiny, tmp_path)), providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, draw_inputs(tiny, 1))
    assert result.shape == (1, 16)
    np.testing.assert_array_equal(result[0, 1::2], 0)
    assert np.all(result[0, ::2] != 0)


def test_the_second_call_draws_nothing(tiny: Model, tmp_path: Path) -> None:
    first = materialize(tiny, tmp_path)
    stamp = first.stat().st_mtime_ns

    def fail(done: int, total: int) -> None:
        pytest.fail("drawn again")

    assert materialize(tiny, tmp_path, fail) == first
    assert first.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("name", ["weights.bin", "model.onnx", "files.json"])
def test_a_damaged_folder_is_made_again(tiny: Model, tmp_path: Path, name: str) -> None:
    path = materialize(tiny, tmp_path)
    whole = path.with_name(name).read_bytes()
    path.with_name(name).write_bytes(whole[:-4])
    materialize(tiny, tmp_path)
    assert path.with_name(name).read_bytes() == whole


def test_other_weights_than_the_pinned_are_an_error(tiny: Model, tmp_path: Path) -> None:
    recipe_path = tiny.graph.parent / "weights.toml"
    recipe = read_recipe(recipe_path)
    recipe_path.write_text(replace(recipe, sha256="0" * 64).to_toml())
    with pytest.raises(ModelError) as caught:
        materialize(tiny, tmp_path)
    assert str(caught.value) == (
        f"tiny: the drawn weights are not the pinned ones: sha256 {recipe.sha256[:16]}…, "
        "expected 0000000000000000…\n"
        "  try: reinstall bench and numpy; if that does not help, please report this machine"
    )
    assert files(tmp_path / "models") == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "the exact constants are missing"),
        (lambda path: path.write_bytes(b"PK not really"), "the exact constants cannot be read: "),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "the exact constants cannot be read: "),
        (lambda path: np.savez(path, other=np.zeros(3)), "the exact constants cannot be read: "),
        (lambda path: np.savez(path, mask=np.zeros(3)), "constant 'mask' is float64 (3,), not bool (16,)"),
    ],
)
def test_damaged_constants_are_told(tiny: Model, tmp_path: Path, damage: Any, message: str) -> None:
    damage(tiny.graph.parent / "constants.npz")
    with pytest.raises(ModelError) as caught:
        materialize(tiny, tmp_path)
    assert caught.value.what.startswith(message)


def test_two_processes_at_once_draw_once(slow: Model, tmp_path: Path) -> None:
    processes = [start(tmp_path / "graphs", tmp_path / "cache") for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted("drew" in output for output in outputs) == [False, True]
    paths = {output.splitlines()[-1] for output in outputs}
    assert len(paths) == 1
    assert files(tmp_path / "cache" / "models") == [f"slow-{slow.digest}"]


def test_a_killed_process_leaves_nothing_that_is_trusted(slow: Model, tmp_path: Path) -> None:
    process = start(tmp_path / "graphs", tmp_path / "cache")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("drew")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    folder = tmp_path / "cache" / "models"
    assert files(folder) == [f"slow-{slow.digest}.partial-{process.pid}"]
    path = materialize(slow, tmp_path / "cache")
    assert path.with_name("weights.bin").stat().st_size == slow.weight_byte_count
    assert files(folder) == [f"slow-{slow.digest}"]


def test_leftovers_of_the_dead_are_removed_and_of_the_living_kept(tiny: Model, tmp_path: Path) -> None:
    for name in ("dead-01.partial-1", "alive-02.partial-2"):
        (tmp_path / "models" / name).mkdir(parents=True)
    with FileLock(tmp_path / "models" / ".alive-02.lock"):
        materialize(tiny, tmp_path)
    assert files(tmp_path / "models") == ["alive-02.partial-2", f"tiny-{tiny.digest}"]


def test_too_little_space_is_told_before_drawing(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ModelError) as caught:
        materialize(replace(tiny, weight_byte_count=3_438_000_000), tmp_path)
    assert str(caught.value) == (
        f"cache {tmp_path}/models: the disk is full: 3,438 MB are needed, 2 MB are free\n"
        "  try: free some space there, or choose another folder with `--cache DIR`"
    )


@pytest.mark.parametrize("failing", ["write", "fsync", "rename"])
def test_a_disk_that_fills_up_meanwhile_is_told(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refuse)
        with pytest.raises(ModelError, match=r"the disk is full: 0 MB are needed, .* are free"):
            materialize(tiny, tmp_path)
    assert files(tmp_path / "models") == []
    assert materialize(tiny, tmp_path).is_file()


def test_a_read_only_cache_is_told(tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    cache = tmp_path / "cache"
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(ModelError) as caught:
        materialize(tiny, cache)
    assert str(caught.value) == (
        f"cache {cache}/models: the cache cannot be written (Read-only file system)\n"
        "  try: make it writable, or choose another folder with `--cache DIR`"
    )


def test_a_complete_read_only_cache_is_enough(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = materialize(tiny, tmp_path)
    monkeypatch.setattr(os, "mkdir", None)
    monkeypatch.setattr(os, "open", None)
    assert materialize(tiny, tmp_path) == path


def test_a_file_in_place_of_the_cache_is_told(tiny: Model, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ModelError) as caught:
        materialize(tiny, tmp_path / "cache")
    assert str(caught.value) == (
        f"cache {tmp_path}/cache/models: the cache is not a folder: {tmp_path}/cache is a file\n"
        "  try: remove that file, or choose another folder with `--cache DIR`"
    )


def test_a_changed_recipe_is_another_network(tiny: Model, tmp_path: Path) -> None:
    recipe_path = tiny.graph.parent / "weights.toml"
    recipe_path.write_text(recipe_path.read_text().replace("seed = 5", "seed = 6"))
    assert tiny.row is not None
    assert pinned_model(tiny.row, tmp_path / "graphs").digest != tiny.digest


def test_a_users_file_is_used_where_it_lies(save: Any, tmp_path: Path) -> None:
    path = save()
    assert materialize(read_user_model(path, {}), tmp_path / "cache") == path
    assert not (tmp_path / "cache").exists()


def test_nodes_without_names_get_some_before_anything_is_run(save: Any, tmp_path: Path) -> None:
    from onnx import helper

    path = save(
        nodes=[helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Add", ["r", "weight"], ["y"])]
    )
    model = read_user_model(path, {})
    named = materialize(model, tmp_path / "cache")
    assert named == tmp_path / "cache" / "models" / f"net-{model.digest}" / "model.onnx"
    assert [node.name for node in load_graph(named).graph.node] == ["r", "y"]
    session = onnxruntime.InferenceSession(str(named), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": np.zeros((1, 4), np.float32)})
    np.testing.assert_array_equal(result, [[1, 2, 3, 4]])
    assert read_user_model(named, {}).digest != model.digest, "another file"


@pytest.mark.parametrize("can_link", [True, False])
def test_a_users_file_with_bound_dimensions_is_copied_with_its_weights(
    save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_link: bool
) -> None:
    from onnx import TensorProto, helper

    weight = TensorProto(name="weight", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="parts/weights.bin")
    path = save(inputs=[helper.make_tensor_value_info("x", 1, ["batch", 4])], tensors=[weight])
    (path.parent / "parts").mkdir()
    np.arange(4, dtype=np.float32).tofile(path.parent / "parts" / "weights.bin")
    model = read_user_model(path, {"batch": 3})

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    if not can_link:
        monkeypatch.setattr(os, "link", refuse)
    bound = materialize(model, tmp_path / "cache")
    assert bound.parent.name == f"net-{model.digest}"
    session = onnxruntime.InferenceSession(str(bound), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [3, 4]
    (result,) = session.run(None, {"x": np.zeros((3, 4), np.float32)})
    np.testing.assert_array_equal(result, np.tile(np.arange(4, dtype=np.float32), (3, 1)))
