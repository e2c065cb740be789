"""`weights.toml`: what is written is read back, and damage is told."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ModelError
from models.recipe import KIND_FIELDS, Recipe, TensorRecipe, parse_recipe, read_byte_count, read_recipe

finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(codec="utf-8"), min_size=1)
shapes = st.lists(st.integers(0, 50), max_size=4).map(tuple)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    tensors, offset = [], 0
    for name in draw(st.lists(names, unique=True, max_size=5)):
        kind = draw(st.sampled_from(sorted(KIND_FIELDS)))
        is_drawn = kind in ("normal", "uniform")
        tensor = TensorRecipe(
            name=name,
            kind=kind,
            shape=draw(shapes),
            dtype="float32" if is_drawn else draw(st.sampled_from(["float32", "int64", "bool"])),
            offset=offset,
            mean=draw(finite) if is_drawn else 0.0,
            std=draw(finite) if is_drawn else 0.0,
            stream=draw(st.integers(0, 2**40)) if is_drawn else 0,
            value=draw(finite | st.integers(-(2**63), 2**63 - 1)) if kind == "constant" else 0,
        )
        tensors.append(tensor)
        offset = -(-tensor.end // 64) * 64
    sha256 = draw(st.text("0123456789abcdef", min_size=64, max_size=64))
    return Recipe(draw(st.integers(0, 2**63 - 1)), offset, sha256, tuple(tensors))


@given(recipes())
def test_what_is_written_is_read_back(recipe: Recipe) -> None:
    assert parse_recipe(recipe.to_toml()) == recipe
    assert parse_recipe(recipe.to_toml()).to_toml() == recipe.to_toml()


RECIPE = Recipe(
    seed=7,
    byte_count=256,
    sha256="ab" * 32,
    tensors=(
        TensorRecipe("w", "normal", (4, 8), "float32", 0, mean=0.0, std=0.02, stream=3),
        TensorRecipe("b", "constant", (16,), "float32", 128, value=1.0),
        TensorRecipe("i", "exact", (8,), "int64", 192),
    ),
)


def test_the_text_is_one_line_a_tensor() -> None:
    assert RECIPE.to_toml() == (
        "schema = 1\n"
        "seed = 7\n"
        "byte_count = 256\n"
        f'sha256 = "{"ab" * 32}"\n'
        "tensors = [\n"
        '  {name = "w", kind = "normal", mean = 0.0, std = 0.02, stream = 3, shape = [4, 8], '
        'dtype = "float32", offset = 0},\n'
        '  {name = "b", kind = "constant", value = 1.0, shape = [16], dtype = "float32", offset = 128},\n'
        '  {name = "i", kind = "exact", shape = [8], dtype = "int64", offset = 192},\n'
        "]\n"
    )


DAMAGES = [
    ("schema = 1", "schema = 2", "schema 2 of the weight recipe is not 1"),
    ("seed = 7", "seed = -7", "seed = -7 is not a whole number from 0"),
    ("seed = 7", "seed = true", "seed = True is not a whole number from 0"),
    ("byte_count = 256\n", "", "byte_count = None is not a whole number from 0"),
    ("abab", "xyzw", "sha256 is not 64 hexadecimal digits"),
    ("tensors = [", "others = [", "the list of tensors is missing"),
    ('"normal"', '"gamma"', "not a tensor of kind normal, uniform, constant, exact"),
    ("stream = 3, ", "", "tensor 0: missing or unexpected fields: stream"),
    ("stream = 3", "stream = 0.5", "tensor 0 'w': stream = 0.5 is not a whole number from 0"),
    ("std = 0.02", "std = nan", "tensor 0 'w': std = nan is not a finite number"),
    ('name = "w"', 'name = ""', "tensor 0: '' is not a tensor's name"),
    ('name = "w"', 'name = "b"', "two tensors have the same name"),
    ("[4, 8]", "[4, -8]", "tensor 0 'w': [4, -8] is not a shape"),
    ("[4, 8]", "[5, 8]", "tensor 'b' at 128 overlaps, is unaligned or ends after the file"),
    ("offset = 192", "offset = 200", "tensor 'i' at 200 overlaps, is unaligned or ends after the file"),
    ("offset = 192", "offset = 256", "tensor 'i' at 256 overlaps, is unaligned or ends after the file"),
    ('[4, 8], dtype = "float32"', '[4, 8], dtype = "int64"', "a normal tensor cannot have dtype 'int64'"),
    ("]\n", "", "the weight recipe is not TOML: "),
]


@pytest.mark.parametrize(("old", "damaged", "message"), DAMAGES, ids=[row[2] for row in DAMAGES])
def test_damage_is_told(old: str, damaged: str, message: str) -> None:
    text = RECIPE.to_toml().replace(old, damaged, 1)
    with pytest.raises(ModelError) as caught:
        parse_recipe(text, "w.toml")
    assert message in str(caught.value)
    assert caught.value.where.startswith("w.toml")
    assert caught.value.hint == "the file is damaged: reinstall bench, or restore it with `git checkout`"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the weight recipe is missing"):
        read_recipe(tmp_path / "weights.toml")


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "weights.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="the weight recipe cannot be read: "):
        read_recipe(tmp_path / "weights.toml")


def test_the_size_is_read_from_the_head(tmp_path: Path) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(RECIPE.to_toml().replace("kind", "not even parsed"))
    assert read_byte_count(path) == 256
