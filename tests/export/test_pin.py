"""The files of a pinned network: made, read back, compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.export.pin import Pinned, differences, pin, write
from models.export.traced import Traced
from models.materialize import materialize
from models.model import ZooRow
from models.recipe import read_recipe
from models.zoo import pinned_model


@pytest.fixture
def with_tables(traced: Traced) -> Traced:
    """A mask too large for the graph, and a table whose elements are all equal."""
    mask = (np.arange(80 * 64) % 3 == 0).reshape(80, 64)
    constants = dict(traced.constants) | {"mask": mask, "table": np.full((1, 80), -0.1, dtype=np.float32)}
    return replace(traced, constants=constants)


@pytest.fixture
def pinned(with_tables: Traced) -> Pinned:
    return pin(with_tables, "tiny", seed=4)


def test_what_is_drawn_and_what_is_kept(pinned: Pinned) -> None:
    kinds = [(t.name, t.kind, t.stream, t.mean, t.std, t.value) for t in pinned.recipe.tensors]
    assert kinds == [
        ("block.fc.weight", "normal", 0, 0.0, 0.02, 0),
        ("block.fc.bias", "normal", 1, 1.0, 0.02, 0),
        ("block.mask", "exact", 2, 0.0, 0.0, 0),
        ("table", "constant", 2, 0.0, 0.0, -0.1),
    ]
    assert list(pinned.constants) == ["block.mask"]
    assert pinned.recipe.byte_count == pinned.recipe.tensors[-1].end


def test_the_files_are_those_the_zoo_reads(pinned: Pinned, row: ZooRow, tmp_path: Path) -> None:
    write(pinned, tmp_path / "tiny")
    model = pinned_model(row, tmp_path)
    assert read_recipe(tmp_path / "tiny" / "weights.toml").sha256 == pinned.recipe.sha256
    # Drawing checks the hash in the recipe.
    assert materialize(model, tmp_path / "cache").parent.joinpath("weights.bin").stat().st_size > 0


def test_writing_again_gives_the_same_bytes_and_no_other_file(pinned: Pinned, tmp_path: Path) -> None:
    write(pinned, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write(pinned, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert sorted(first) == ["constants.npz", "model.onnx", "weights.toml"]
    assert differences(pinned, tmp_path) == ()


def test_constants_that_are_no_more_are_removed(pinned: Pinned, traced: Traced, tmp_path: Path) -> None:
    write(pinned, tmp_path)
    without = pin(traced, "tiny", seed=4)
    write(without, tmp_path)
    assert not (tmp_path / "constants.npz").exists()
    assert differences(without, tmp_path) == ()


def test_the_first_difference_of_each_file_is_told(with_tables: Traced, tmp_path: Path) -> None:
    changed = dict(with_tables.constants)
    changed["mask"] = changed["mask"].copy()
    changed["mask"][0, 5] = True
    changed["val_3"] = changed["val_3"] * 2
    graph = type(with_tables.graph)()
    graph.CopyFrom(with_tables.graph)
    graph.graph.node[2].op_type = "Xor"
    write(pin(with_tables, "tiny", seed=4), tmp_path)
    found = differences(pin(replace(with_tables, graph=graph, constants=changed), "tiny", seed=4), tmp_path)
    assert [text.partition(":")[0] for text in found] == ["model.onnx", "weights.toml", "constants.npz"]
    assert 'op_type: "Where" became ' in found[0]
    assert found[0].endswith('op_type: "Xor"')
    assert "std = 0.02," in found[1]
    assert "std = 0.04," in found[1]
    assert found[2] == "constants.npz: element 5 of block.mask was False, became True"


def test_what_cannot_be_compared_is_told(pinned: Pinned, tmp_path: Path) -> None:
    assert differences(pinned, tmp_path) == ("model.onnx: missing",)
    write(pinned, tmp_path)
    (tmp_path / "constants.npz").write_bytes(b"no archive")
    (text,) = differences(pinned, tmp_path)
    assert "the exact constants cannot be read" in text
    (tmp_path / "weights.toml").write_text("schema = 1\n")
    (text,) = differences(pinned, tmp_path)
    assert "sha256" in text


def test_another_hash_alone_is_a_difference(pinned: Pinned, tmp_path: Path) -> None:
    write(pinned, tmp_path)
    other = replace(pinned, recipe=replace(pinned.recipe, sha256="0" * 64))
    (text,) = differences(other, tmp_path)
    assert text.startswith("weights.toml: sha256 = ")
