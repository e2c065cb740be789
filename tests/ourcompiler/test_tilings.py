"""Files about how products are cut; that an entry changes the code, that every tiling gives right results."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ourcompiler import package, tilings
from ourcompiler.build import Builder
from ourcompiler.codegen.contraction import choose_tile, tiles_by_cycles
from ourcompiler.compile import judge_of, package_key, program_of, tuned_target
from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.passes.layout import choose, storages
from ourcompiler.pipeline import optimize
from ourcompiler.products import Product, products
from ourcompiler.program import Program
from ourcompiler.reference import run
from ourcompiler.runtime.session import Session
from ourcompiler.targets import Target, chip, target
from ourcompiler.tilings import TEMPLATE, Found, Key, Problem, Tiling, Tilings, merged, parse, text_of
from ourcompiler.tune import search, tune, upper_end

PROBLEMS = st.builds(
    Problem,
    batch=st.integers(1, 9),
    rows=st.integers(1, 1 << 30),
    columns=st.integers(1, 9),
    depth=st.sampled_from(["1", "64", "3x3x64"]),
    left=st.sampled_from(tilings.LEFTS),
    right=st.sampled_from(tilings.RIGHTS),
)
KEYS = st.builds(
    Key,
    chip=st.sampled_from(["GenuineIntel 6.143", 'arm "41.d05"']),
    target=st.sampled_from(["avx2", "avx512"]),
    template=st.sampled_from([TEMPLATE, "gemm/0"]),
    problem=PROBLEMS,
)
TILINGS = st.builds(
    Tiling,
    tile_rows=st.integers(1, 40),
    tile_vectors=st.integers(1, 9),
    panel_bytes=st.integers(1, 1 << 24),
    cache_bytes=st.integers(1, 1 << 24),
    fetches=st.booleans(),
)
FOUND = st.builds(
    Found,
    tiling=TILINGS,
    ratio=st.integers(1, 10_000).map(lambda one: one / 10_000),
    runs=st.integers(1, 99),
)
ENTRIES = st.dictionaries(KEYS, FOUND, max_size=5)
PROBLEM = Problem(1, 37, 50, "70", "direct", "known")
USUAL = Tiling(6, 2, 1 << 15, 1 << 19, fetches=False)
KEY = Key("some chip", "avx2", TEMPLATE, PROBLEM)


@given(ENTRIES)
def test_what_is_written_is_read_again(entries: dict[Key, Found]) -> None:
    assert parse(text_of(entries), "a file") == entries


@given(ENTRIES, ENTRIES, ENTRIES)
def test_merging_knows_no_order(
    first: dict[Key, Found], second: dict[Key, Found], third: dict[Key, Found]
) -> None:
    assert merged([first, second, third]) == merged([third, merged([second, first])])
    assert text_of(merged([first, second])) == text_of(merged([second, first]))


def test_of_two_entries_the_one_of_more_runs_is_kept_then_the_faster() -> None:
    few, many, faster = Found(USUAL, 0.5, 5), Found(USUAL, 0.9, 6), Found(USUAL, 0.8, 6)
    assert merged([{KEY: few}, {KEY: many}, {KEY: faster}]) == {KEY: faster}


def test_a_file_is_written_as_a_whole_and_read(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "own.toml"
    tilings.write({KEY: Found(USUAL, 0.5, 5)}, file)
    assert [one.name for one in file.parent.iterdir()] == ["own.toml"]
    assert tilings.read(file) == {KEY: Found(USUAL, 0.5, 5)}
    assert tilings.read(tmp_path / "none.toml", missing_is_empty=True) == {}


GOOD = text_of({KEY: Found(USUAL, 0.5, 5)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("entries = [", "this is no file of tilings"),
        ("", "schema None is not"),
        (GOOD.replace("tilings/1", "tilings/9"), "schema 'ourcompiler.tilings/9' is not"),
        (f'schema = "{tilings.SCHEMA}"\nentries = 3', "more than a schema and a list"),
        (GOOD + "more = 1\n", "more than a schema and a list"),
        (GOOD.replace(", runs = 5", ""), "entry 0: missing or unexpected: runs"),
        (GOOD.replace("runs = 5", "runs = 5, walks = 6"), "missing or unexpected: walks"),
        (GOOD.replace("runs = 5", "runs = 0"), "runs = 0 makes no sense"),
        (GOOD.replace("tile_rows = 6", 'tile_rows = "6"'), "tile_rows = '6' makes no sense"),
        (GOOD.replace("panel_bytes = 32768", "panel_bytes = -1"), "panel_bytes = -1 makes no sense"),
        (GOOD.replace('depth = "70"', 'depth = "70x"'), "depth = '70x' makes no sense"),
        (GOOD.replace('left = "direct"', 'left = "near"'), "left = 'near' makes no sense"),
        (GOOD.replace("fetches = false", "fetches = 0"), "fetches = 0 makes no sense"),
        (GOOD.replace("ratio = 0.5", "ratio = nan"), "ratio = nan makes no sense"),
        (GOOD.replace("ratio = 0.5", "ratio = true"), "ratio = True makes no sense"),
        (GOOD.replace("entries = [\n", "entries = [ 3,\n"), "entry 0: missing or unexpected: 3"),
        (GOOD.replace("]\n", GOOD.splitlines()[2] + "\n]\n"), "two entries for 1 × 37 × 50"),
    ],
)
def test_damaged_files_are_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(CompileError) as raised:
        tilings.read(file)
    assert message in str(raised.value)
    assert "own.toml" in str(raised.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="cannot be read"):
        tilings.read(tmp_path / "none.toml")
    (tmp_path / "own.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CompileError, match="cannot be read"):
        tilings.read(tmp_path / "own.toml")
    with pytest.raises(CompileError, match="cannot be written"):
        tilings.write({}, tmp_path / "own.toml" / "inside.toml")


@pytest.mark.parametrize(
    ("key", "found", "reason"),
    [
        (KEY, Found(replace(USUAL, tile_rows=7), 0.5, 5), "a tile of 7 × 2 takes 17 of 16 registers"),
        (KEY, Found(replace(USUAL, tile_rows=1, tile_vectors=9), 0.5, 5), "takes 19 of 16 registers"),
        (KEY, Found(replace(USUAL, cache_bytes=8), 0.5, 5), "a cache of 8 bytes holds no block"),
        (replace(KEY, template="gemm/0"), Found(USUAL, 0.5, 5), "it is for template gemm/0"),
        (
            replace(KEY, problem=replace(PROBLEM, right="made")),
            Found(replace(USUAL, fetches=True), 0.5, 5),
            "made at run time is not fetched ahead",
        ),
    ],
)
def test_an_entry_that_does_not_fit_is_ignored_with_the_reason(key: Key, found: Found, reason: str) -> None:
    chosen = tilings.select({key: found}, "some chip", "avx2", 16)
    assert chosen.rows == ()
    (text,) = chosen.ignored
    assert reason in text
    assert str(key.problem) in text


def test_only_entries_for_the_chip_and_target_that_gain_are_used() -> None:
    found = Found(USUAL, 0.5, 5)
    assert tilings.select({KEY: found}, "some chip", "avx2", 16).get(PROBLEM) == USUAL
    for chip_name, name in (("another chip", "avx2"), ("some chip", "avx512")):
        assert tilings.select({KEY: found}, chip_name, name, 32) == Tilings()
    assert tilings.select({KEY: replace(found, ratio=1.0)}, "some chip", "avx2", 16) == Tilings()


HOST = target()


def network(cases: Mapping[int, str]) -> Graph:
    """Products of different numbers of rows: read in place, packed, with a right side made at run time, and
    as a convolution.
    """
    builder = Builder()
    draw = np.random.default_rng(0).standard_normal
    outputs = []
    for rows, kind in cases.items():
        if kind == "conv":
            image = builder.input("x", TensorType(DType.F32, (1, 24, rows, 5)))
            weight = builder.constant(draw((50, 24, 3, 3)).astype(np.float32))
            facts = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": 1}
            (made,) = builder.add("Conv", (image, weight), **facts)
        else:
            left = builder.input("x", TensorType(DType.F32, (rows, 70)))
            if kind == "packed":
                (left,) = builder.add("Exp", (left,))
            right = (
                builder.input("r", TensorType(DType.F32, (70, 50)))
                if kind == "made"
                else builder.constant(draw((70, 50)).astype(np.float32))
            )
            (made,) = builder.add("MatMul", (left, right))
        outputs.append((f"y{rows}", made))
    return optimize(builder.graph(outputs))


def found_in(graph: Graph, wanted: Target = HOST) -> list[Product]:
    return products(graph, wanted, storages(choose(graph)))


def with_tilings(graph: Graph, chosen: Mapping[Problem, Tiling]) -> Program:
    return program_of(graph, replace(HOST, tilings=Tilings(tuple(sorted(chosen.items())))))


def every_tiling() -> list[Tiling]:
    """All tiles that fit, with everything else that can be varied."""
    tiles = tiles_by_cycles(64, 50, HOST.lanes, HOST.registers)
    panels, caches = (1 << 20, 1 << 12, 1 << 13), (1 << 12, 1 << 20)
    return [
        Tiling(tile.rows, tile.vectors, panels[number % 3], caches[number % 2], number % 5 == 0)
        for number, tile in enumerate(tiles)
    ]


def test_results_are_right_with_every_tiling(tmp_path: Path) -> None:
    every = every_tiling()
    kinds = ("direct", "packed", "conv", "direct", "packed", "made")
    graph = network({number + 10: kinds[number % len(kinds)] for number in range(len(every))})
    mine = found_in(graph)
    assert {one.problem.left for one in mine if one.problem.right == "known"} == {"direct", "packed"}
    assert {one.problem.right for one in mine} == {"known", "made"}
    assert len(mine) == len(every)
    chosen = {
        one.problem: replace(how, fetches=how.fetches and one.problem.right == "known")
        for one, how in zip(mine, every, strict=True)
    }
    assert all(not how.why_not(problem, HOST.registers) for problem, how in chosen.items())
    built = package.write(with_tilings(graph, chosen), tmp_path / "package")
    draw = np.random.default_rng(1).standard_normal
    inputs = {name: (draw(graph.types[name].shape) / 4).astype(np.float32) for name in graph.inputs}
    expected = run(graph, inputs)
    with Session(built, threads=2) as session:
        results = {name: value.copy() for name, value in session.run(inputs).items()}
    for name, value in expected.items():
        np.testing.assert_allclose(results[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_an_entry_changes_the_tile_and_the_kernel() -> None:
    graph = network({37: "direct"})
    (product,) = found_in(graph)
    other = replace(product.tiling, tile_rows=2, tile_vectors=1)
    (tuned,) = found_in(graph, replace(HOST, tilings=Tilings(((product.problem, other),))))
    assert (tuned.problem, tuned.tiling) == (product.problem, other)
    usual, changed = with_tilings(graph, {}), with_tilings(graph, {product.problem: other})
    assert usual.kernels.keys() != changed.kernels.keys()
    elsewhere = replace(product.problem, rows=38)
    assert with_tilings(graph, {elsewhere: other}).kernels.keys() == usual.kernels.keys()
    same = with_tilings(graph, {product.problem: product.tiling})
    assert same.kernels == usual.kernels, "said, not changed"


def test_a_search_tries_tiles_that_the_model_leaves_out() -> None:
    usual = {choose_tile(rows, columns, 8, 16) for rows in range(1, 64) for columns in range(8, 99, 8)}
    assert (4, 3) not in {(tile.rows, tile.vectors) for tile in usual}
    assert (4, 3) in {(tile.rows, tile.vectors) for tile in tiles_by_cycles(64, 96, 8, 16)[:3]}


def test_the_host_has_the_tilings_of_its_chip_and_no_other_target_has_any(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    key = replace(KEY, chip=chip(), target=HOST.name)
    tilings.write({key: Found(replace(USUAL, tile_rows=1), 0.5, 5)}, file)
    assert tuned_target("host", file, shipped=False).tilings.get(PROBLEM) == replace(USUAL, tile_rows=1)
    assert tuned_target("aarch64").tilings == Tilings()
    with pytest.raises(CompileError, match="tilings are for a chip, and 'aarch64' does not tell which"):
        tuned_target("aarch64", file)
    assert tuned_target("aarch64", file, chip_name=chip()).tilings == Tilings(), "entries name their target"


def test_tilings_are_part_of_what_a_package_is_made_from(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"a network")
    keys = {
        package_key(tmp_path / "net.onnx", wanted, {}, (), judge_of(wanted))
        for wanted in (HOST, replace(HOST, tilings=Tilings(((PROBLEM, USUAL),))))
    }
    assert len(keys) == 2


def test_what_is_shipped_can_be_used() -> None:
    for key, found in tilings.shipped().items():
        assert found.tiling.why_not(key.problem, target(key.target).registers) == ""
        assert key.template == TEMPLATE
        assert found.ratio < 1, "a file that is shipped has no rows without an effect"


def test_a_search_keeps_what_it_knew_and_the_usual_way_where_nothing_is_better() -> None:
    graph = network({9: "direct", 11: "made"})
    layouts = storages(choose(graph))
    known = {Key(chip(), HOST.name, TEMPLATE, found_in(graph)[0].problem): Found(USUAL, 0.5, 5)}
    said: list[str] = []
    result = tune(graph, HOST, layouts, chip=chip(), seconds=60.0, known=known, say=said.append)
    assert (result.products, result.known, result.searched, result.failed) == (2, 1, 1, 0)
    assert known.items() <= result.entries.items()
    assert len(result.entries) == 2
    assert len(said) == 1
    again = tune(graph, HOST, layouts, chip=chip(), seconds=60.0, known=result.entries)
    assert (again.known, again.searched, again.entries) == (2, 0, result.entries)


def test_without_time_nothing_is_searched() -> None:
    graph = network({9: "direct"})
    result = tune(graph, HOST, storages(choose(graph)), chip=chip(), seconds=0.0, known={})
    assert (result.products, result.searched, result.entries) == (1, 0, {})
    (product,) = found_in(graph)
    assert search(graph, product, HOST, storages(choose(graph)), seconds=0.0) is None


def test_a_search_needs_the_machine_itself() -> None:
    graph = network({9: "direct"})
    with pytest.raises(CompileError, match="code for aarch64-static cannot be measured here"):
        tune(graph, target("aarch64-static"), {}, chip=chip(), seconds=1.0, known={})


def test_the_upper_end_of_a_median() -> None:
    assert upper_end([1.0] * 9) == 1.0
    assert 0.5 < upper_end([0.5 + number / 100 for number in range(50)]) < 1.0
    assert upper_end([0.5, 2.0]) == 2.0, "two rounds prove nothing"
