"""DNNFusion's table of combinations: 25 cells, two red, types by the most complex pair; single cells
overridden.
"""

from pathlib import Path

import pytest

from ourcompiler.errors import CompileError
from ourcompiler.ops.table import Mapping5
from ourcompiler.passes.combination import (
    Colour,
    Order,
    combinations,
    most_complex,
    recoloured,
    standard,
)

ONE, REORGANIZE, SHUFFLE, SPREAD, MANY = Mapping5
RED = {(SPREAD, MANY), (MANY, MANY)}


def test_there_are_25_cells_and_exactly_two_are_red() -> None:
    cells = standard().cells
    assert set(cells) == {(first, second) for first in Mapping5 for second in Mapping5}
    assert {pair for pair, cell in cells.items() if cell.colour is Colour.RED} == RED
    assert {pair for pair, cell in cells.items() if cell.result is None} == RED


def test_one_to_one_is_green_with_everything_in_either_order() -> None:
    """The paper's prose, against a port that says otherwise: `source` tells."""
    for kind in Mapping5:
        for pair in ((ONE, kind), (kind, ONE)):
            cell = standard().cell(*pair)
            assert (cell.colour, cell.result, cell.source) == (Colour.GREEN, kind, "prose")


@pytest.mark.parametrize("first", [REORGANIZE, SHUFFLE])
@pytest.mark.parametrize("second", [SPREAD, MANY])
def test_moved_elements_before_something_dear_are_yellow(first: Mapping5, second: Mapping5) -> None:
    assert standard().cell(first, second).colour is Colour.YELLOW
    assert standard().result(first, second) is second


def test_colours_that_only_a_port_has_say_so() -> None:
    found = {pair for pair, cell in standard().cells.items() if cell.source == "port"}
    moving = {(first, second) for first in (REORGANIZE, SHUFFLE) for second in (REORGANIZE, SHUFFLE)}
    assert found == {(SPREAD, SPREAD), *moving}


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ([], ONE),
        ([ONE, ONE], ONE),
        ([ONE, MANY, ONE, ONE], MANY),
        ([SHUFFLE, REORGANIZE], REORGANIZE),
        ([REORGANIZE, SHUFFLE], REORGANIZE),
        ([SHUFFLE, SHUFFLE], SHUFFLE),
        ([REORGANIZE, ONE, SPREAD], SPREAD),
        ([SPREAD, MANY], MANY),
    ],
)
def test_the_type_of_a_group(kinds: list[Mapping5], wanted: Mapping5) -> None:
    assert standard().type_of(kinds) is wanted


def test_the_most_complex_operand_decides() -> None:
    assert most_complex([REORGANIZE, SPREAD, SHUFFLE]) is SPREAD
    assert most_complex([]) is ONE


def test_a_file_overrides_single_cells(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'order = "seeds"\n[cells.one-to-one]\nmany-to-many = { colour = "yellow" }\n'
        '[cells.many-to-many]\nmany-to-many = { colour = "green", result = "many-to-many" }\n'
        '[past.attention]\nfirst = []\nsecond = "many-to-many"\nreason = "switched off"\n'
    )
    found = combinations(file)
    assert found.order is Order.SEEDS
    assert (found.cell(ONE, MANY).colour, found.cell(ONE, MANY).result) == (Colour.YELLOW, MANY)
    assert found.cell(MANY, MANY).colour is Colour.GREEN
    assert found.exception("attention", MANY, MANY) is None
    assert found.exception("packed-rows", MANY, MANY) is not None
    changed = {pair for pair, cell in found.cells.items() if cell != standard().cells[pair]}
    assert changed == {(ONE, MANY), (MANY, MANY)}
    assert found.text != standard().text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("order = ", "cannot be read"),
        ('order = "largest"', "largest"),
        ('[cells.one-to-two]\nshuffle = { colour = "green" }', "one-to-two"),
        ('[cells.shuffle]\nshuffle = { colour = "blue" }', "blue"),
        ('[cells.shuffle]\nshuffle = "green"', "no fusion table"),
        ('[cells.shuffle]\nshuffle = { result = "shuffle" }', "colour"),
        ("[colours]", "colours"),
    ],
)
def test_a_file_that_is_no_table_is_told(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(CompileError, match=told):
        combinations(file)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="cannot be read"):
        combinations(tmp_path / "none.toml")


def test_exceptions_are_made_for_red_pairs_only() -> None:
    assert {pair for one in standard().past.values() for pair in one.pairs} == RED
    assert all(one.reason for one in standard().past.values())


def test_a_recoloured_cell_has_a_type_unless_it_is_red() -> None:
    found = recoloured(standard(), {(MANY, MANY): Colour.GREEN, (ONE, ONE): Colour.RED})
    assert found.cell(MANY, MANY).result is MANY
    assert found.cell(ONE, ONE).result is None
    assert found.result(ONE, ONE) is ONE
