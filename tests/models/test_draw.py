"""The drawn bits are pinned: a change of any number here changes every published table."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.draw import draw_inputs, draw_piece, unit_normal_table, unit_uniform_table
from models.model import InputSpec, Model
from models.recipe import Recipe, TensorRecipe
from models.weights import draw_weights

COUNT = 1_000_000
NORMAL = TensorRecipe("n", "normal", (COUNT,), "float32", 0, mean=0.1, std=0.02, stream=3)
UNIFORM = TensorRecipe("u", "uniform", (COUNT,), "float32", 0, mean=0.5, std=0.02, stream=4)
CONSTANT = TensorRecipe("c", "constant", (COUNT,), "float32", 0, value=1.5)


@pytest.mark.parametrize(
    ("table", "first", "sha256"),
    [
        (
            unit_normal_table,
            -4.324963092803955,
            "8babbcaf96568f10165a1eab530c0e5c92d04de96761b6dbb3dadfa94baba37f",
        ),
        (
            unit_uniform_table,
            -1.7320244312286377,
            "466d9848fb9d7b05ceba11f0a71b73b167f163f6dc0c31dd6d23b35e9fdd798c",
        ),
    ],
)
def test_unit_tables(table: Callable[[], np.ndarray], first: float, sha256: str) -> None:
    values = table()
    assert values.shape == (65_536,)
    assert float(values[0]) == first
    np.testing.assert_array_equal(values, -values[::-1])
    assert np.var(values.astype(np.float64)) == pytest.approx(1, abs=1e-7)
    assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest() == sha256


def test_first_values_are_pinned() -> None:
    unit = TensorRecipe("n", "normal", (6,), "float32", 0, mean=0.0, std=1.0, stream=3)
    assert draw_piece(unit, 18, 0, 6).tolist() == [
        0.03908078745007515,
        -0.24056941270828247,
        0.16899877786636353,
        -0.17210347950458527,
        -2.77752685546875,
        0.000286863767541945,
    ]
    assert draw_piece(UNIFORM, 18, 16, 6).tolist() == [
        0.48092830181121826,
        0.519278883934021,
        0.5109283924102783,
        0.4797506332397461,
        0.5258333086967468,
        0.5093373656272888,
    ]
    million = draw_piece(NORMAL, 18, 0, COUNT).astype("<f4").tobytes()
    assert (
        hashlib.sha256(million).hexdigest()
        == "036471da062af56d37e9fb9f068d2c5efc1593cefbe89e1cca745ff618d99065"
    )


def test_a_value_is_mean_plus_std_times_unit_in_float32() -> None:
    unit = TensorRecipe("n", "normal", (1000,), "float32", 0, mean=0.0, std=1.0, stream=3)
    expected = np.float32(0.1) + np.float32(0.02) * draw_piece(unit, 18, 0, 1000)
    np.testing.assert_array_equal(draw_piece(NORMAL, 18, 0, 1000), expected)


@pytest.mark.parametrize("tensor", [NORMAL, UNIFORM, CONSTANT], ids=lambda tensor: tensor.kind)
@pytest.mark.parametrize("start", [16, 262_144, 262_160, 999_984])
def test_a_piece_is_the_same_drawn_alone(tensor: TensorRecipe, start: int) -> None:
    whole = draw_piece(tensor, 18, 0, COUNT)
    for count in (0, 1, 15, 16, 17, COUNT - start):
        if start + count <= COUNT:
            np.testing.assert_array_equal(draw_piece(tensor, 18, start, count), whole[start : start + count])


def test_seeds_and_streams_differ() -> None:
    other_stream = TensorRecipe("n", "normal", (COUNT,), "float32", 0, mean=0.1, std=0.02, stream=5)
    first = draw_piece(NORMAL, 18, 0, 1000)
    assert abs(np.corrcoef(first, draw_piece(NORMAL, 19, 0, 1000))[0, 1]) < 0.1
    assert abs(np.corrcoef(first, draw_piece(other_stream, 18, 0, 1000))[0, 1]) < 0.1


@pytest.mark.parametrize(("tensor", "kurtosis"), [(NORMAL, 3.0), (UNIFORM, 1.8)], ids=["normal", "uniform"])
def test_statistics(tensor: TensorRecipe, kurtosis: float) -> None:
    values = draw_piece(tensor, 18, 0, COUNT).astype(np.float64)
    unit = (values - tensor.mean) / tensor.std
    assert abs(unit.mean()) < 5 / np.sqrt(COUNT)
    assert abs(unit.var() - 1) < 5 * np.sqrt((kurtosis - 1) / COUNT)
    assert abs((unit**3).mean()) < 0.02
    assert abs((unit**4).mean() - kurtosis) < 0.03
    assert abs(np.corrcoef(unit[:-1], unit[1:])[0, 1]) < 5 / np.sqrt(COUNT)


def test_weights_do_not_depend_on_pieces_or_threads() -> None:
    tensors, offset = [], 0
    for index, size in enumerate([1, 64, 1000, 70_000, 3]):
        tensor = TensorRecipe(f"t{index}", "normal", (size,), "float32", offset, std=1.0, stream=index)
        tensors.append(tensor)
        offset = -(-tensor.end // 64) * 64
    recipe = Recipe(5, offset, "", tuple(reversed(tensors)))
    whole = b"".join(draw_weights(recipe, {}))
    assert len(whole) == offset
    for thread_count, piece_values in [(1, 4096), (2, 1008), (3, 65_536), (8, 16_384)]:
        pieces = draw_weights(recipe, {}, thread_count=thread_count, piece_values=piece_values)
        assert b"".join(pieces) == whole
    for tensor in tensors:
        drawn = np.frombuffer(whole[tensor.offset : tensor.end], "<f4")
        np.testing.assert_array_equal(drawn, draw_piece(tensor, 5, 0, tensor.element_count))
    assert not any(whole[4:64])


INPUTS = (
    InputSpec("x", (1, 6), "float32"),
    InputSpec("i", (1, 6), "int64", "integers", 0, 49_408),
    InputSpec("h", (2, 2), "float16"),
    InputSpec("b", (8,), "bool", "integers", 0, 2),
    InputSpec("t", (1,), "int64", "constant", value=500),
)


def network(*inputs: InputSpec) -> Model:
    return Model("m", "M", inputs, Path("m.onnx"), "0" * 16, 0)


def test_inputs_are_pinned() -> None:
    drawn = draw_inputs(network(*INPUTS), 1)
    assert {name: (str(value.dtype), value.shape) for name, value in drawn.items()} == {
        spec.name: (spec.dtype, spec.shape) for spec in INPUTS
    }
    assert drawn["x"][0, :3].tolist() == [-0.8440139889717102, 0.8027847409248352, 0.034181687980890274]
    assert drawn["i"].tolist() == [[6755, 30055, 41591, 45417, 13859, 19534]]
    assert drawn["h"].tolist() == [[-0.303955078125, -0.07525634765625], [0.595703125, -0.293701171875]]
    assert drawn["b"].tolist() == [True, False, True, False, True, False, False, True]
    assert drawn["t"].tolist() == [500]


def test_integers_fill_their_range() -> None:
    drawn = draw_inputs(network(InputSpec("i", (100_000,), "int32", "integers", -3, 4)), 2)["i"]
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert counts.min() > 100_000 / 7 * 0.95


def test_inputs_change_with_the_seed() -> None:
    model = network(InputSpec("x", (1000,), "float32"))
    assert not np.array_equal(draw_inputs(model, 1)["x"], draw_inputs(model, 2)["x"])
    np.testing.assert_array_equal(draw_inputs(model, 1)["x"], draw_inputs(model, 1)["x"])
