"""The profile database: what is written is read, merging knows no order, damage is counted, entries rule."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tiny_graphs import write_attention_block
from ourcompiler import profiles
from ourcompiler.build import Builder
from ourcompiler.compile import judge_of, package_key
from ourcompiler.errors import CompileError
from ourcompiler.fusion_profile import candidates, measure
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.passes.fuse import fuse, planned
from ourcompiler.passes.groups import fused
from ourcompiler.passes.judge import Judge, canonical
from ourcompiler.passes.price import kernel_ns, price
from ourcompiler.profiles import Database, Key, Timing, merged
from ourcompiler.targets import target

KEYS = st.builds(
    Key,
    first=st.sampled_from(["a", "b"]),
    second=st.sampled_from(["c", "µ → x"]),
    pair=st.sampled_from(["one > two", "two > one"]),
    target=st.sampled_from(["avx2", "avx512"]),
    threads=st.integers(1, 2),
    compiler=st.just("0123"),
)
NS = st.floats(1e-3, 1e12)
TIMINGS = st.builds(Timing, fused_ns=NS, separate_ns=NS, runs=st.integers(1, 9))
DATABASES = st.builds(Database, st.dictionaries(KEYS, TIMINGS, max_size=6))


@given(DATABASES)
def test_what_is_written_is_read_again(database: Database) -> None:
    document = json.loads(json.dumps(database.document()))
    rows = [profiles._entry(row) for row in document["entries"]]
    assert dict(filter(None, rows)) == database.entries
    assert None not in rows


@given(DATABASES, DATABASES, DATABASES)
def test_merging_knows_no_order(first: Database, second: Database, third: Database) -> None:
    assert merged([first, second, third]) == merged([third, first, second])
    assert merged([merged([first, second]), third]) == merged([first, merged([second, third])])
    assert merged([first, first]) == first
    assert merged([first, second]).entries.keys() == first.entries.keys() | second.entries.keys()


def test_of_two_entries_the_one_of_more_runs_is_kept() -> None:
    key = Key("a", "b", "one > two", "avx2", 1, "c")
    few, many = Timing(1.0, 2.0, 5), Timing(3.0, 2.0, 6)
    assert merged([Database({key: few}), Database({key: many})]).entries[key] == many
    assert merged([Database({key: few}), Database({key: Timing(0.5, 2.0, 5)})]).entries[key].fused_ns == 0.5


def test_a_file_comes_back_and_is_text(tmp_path: Path) -> None:
    key = Key("a", "b → c", "one > two", "avx2", 1, "c")
    file = tmp_path / "folder" / "one.json"
    profiles.write(Database({key: Timing(1.5, 2.5, 7)}), file)
    assert profiles.read(file) == Database({key: Timing(1.5, 2.5, 7)})
    assert "b → c" in file.read_text(encoding="utf-8")
    assert [one.name for one in file.parent.iterdir()] == ["one.json"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"schema": "other/1", "entries": []}', "\x00\xff", "[" * 100_000),
        json.dumps({"schema": profiles.SCHEMA, "entries": {}}),
    ],
)
def test_a_file_that_is_no_database_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "one.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(CompileError, match="no profile database"):
        profiles.read(file)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="no profile database"):
        profiles.read(tmp_path / "none.json")
    assert profiles.read(tmp_path / "none.json", missing_is_empty=True) == profiles.EMPTY


@pytest.mark.parametrize("name", ["first", "pair", "threads", "fused_ns", "separate_ns", "runs"])
@pytest.mark.parametrize(
    "value",
    [None, "", -1, 0, math.nan, math.inf, True, [], "xxx", 10**400],
    ids=["null", "empty", "negative", "zero", "nan", "infinite", "true", "list", "text", "huge"],
)
def test_damaged_rows_are_left_out_and_counted(tmp_path: Path, name: str, value: object) -> None:
    if isinstance(value, str) and value and name in ("first", "pair"):
        pytest.skip("a text is what belongs there")
    good = Database({Key("a", "b", "one > two", "avx2", 1, "c"): Timing(1.0, 2.0, 3)})
    document = good.document()
    document["entries"] += [{**document["entries"][0], "target": "avx512", name: value}, "row"]
    file = tmp_path / "one.json"
    file.write_text(json.dumps(document))
    assert profiles.read(file) == replace(good, damaged=2)


def gated() -> Graph:
    """A product times a gate that is broadcast: many-to-many before one-to-many is yellow."""
    builder = Builder("gated")
    x = builder.input("x", TensorType(DType.F32, (32, 64)))
    gate = builder.input("gate", TensorType(DType.F32, (1, 48)))
    weight = builder.constant(np.ones((64, 48), np.float32), "w")
    (product,) = builder.add("MatMul", (x, weight))
    return builder.graph([("y", builder.add("Mul", (product, gate))[0])])


def test_an_entry_decides_and_the_model_where_there_is_none() -> None:
    (pair,) = candidates(gated(), Judge())
    assert pair.key.pair == "many-to-many > one-to-many"
    assert len(fuse(gated(), Judge()).nodes) == 1
    for timing, kernels in ((Timing(2.0, 1.0, 9), 2), (Timing(1.0, 2.0, 9), 1)):
        judge = Judge(database=Database({pair.key: timing}))
        assert len(fuse(gated(), judge).nodes) == kernels
        ruling = planned(gated(), judge).verdicts[0].ruling
        assert ruling is not None
        assert ruling.ground.startswith("measured")


@pytest.mark.parametrize(
    "change", [{"target": "avx512"}, {"threads": 2}, {"compiler": "older"}, {"first": "another"}]
)
def test_an_entry_of_something_else_decides_nothing(change: dict[str, object]) -> None:
    (pair,) = candidates(gated(), Judge())
    key = replace(pair.key, **change)  # type: ignore[arg-type]
    database = Database({key: Timing(2.0, 1.0, 9)})
    assert len(fuse(gated(), Judge(database=database)).nodes) == 1


def test_names_do_not_matter_to_a_key_but_shapes_do() -> None:
    def body(name: str, size: int) -> Graph:
        builder = Builder("one")
        x = builder.input(name, TensorType(DType.F32, (size,)))
        graph = builder.graph([("y", builder.add("Relu", (x,), hints=[f"{name}.out"])[0])])
        found = fused(graph, graph.nodes).body
        assert found is not None
        return found

    assert canonical(body("x", 4)) == canonical(body("other", 4))
    assert canonical(body("x", 4)) != canonical(body("x", 5))


def test_pairs_are_measured_and_known_afterwards() -> None:
    judge = Judge(target=target("host"))
    said: list[str] = []
    found = measure(gated(), judge, 60.0, said.append)
    assert (found.candidates, found.known, found.measured, found.failed) == (1, 0, 1, 0)
    (timing,) = found.database.entries.values()
    assert timing.runs >= 5
    assert timing.fused_ns > 0 < timing.separate_ns
    assert "as one" in said[0]
    again = measure(gated(), replace(judge, database=found.database), 60.0)
    assert (again.known, again.measured, again.database) == (1, 0, found.database)


def test_without_time_nothing_is_measured() -> None:
    found = measure(gated(), Judge(target=target("host")), 0.0)
    assert (found.candidates, found.measured, found.database.entries) == (1, 0, {})


def test_the_packages_key_has_what_is_relevant_of_a_database(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    path = write_attention_block(tmp_path / "network" / "block.onnx")
    wanted = target("host")
    (pair,) = candidates(gated(), Judge(target=wanted))

    def key(entries: dict[Key, Timing], threads: int = 1) -> str:
        profiles.write(Database(entries), tmp_path / "one.json")
        judge = judge_of(wanted, profile=tmp_path / "one.json", threads=threads)
        return package_key(path, wanted, {}, (), judge)

    none = package_key(path, wanted, {}, (), judge_of(wanted))
    slower, faster = Timing(2.0, 1.0, 9), Timing(1.0, 2.0, 9)
    assert key({}) == none
    assert key({replace(pair.key, compiler="older"): slower}) == none
    assert len({none, key({pair.key: slower}), key({pair.key: faster})}) == 3
    assert key({pair.key: slower}) == key({pair.key: Timing(2.5, 1.0, 3)})
    file = tmp_path / "mine.toml"
    file.write_text('[cells.shuffle]\nshuffle = { colour = "red" }')
    assert package_key(path, wanted, {}, (), judge_of(wanted, table=file)) != none


def test_the_model_is_a_roofline_and_the_start_of_a_kernel() -> None:
    chip = target("avx2")
    assert kernel_ns(chip, 0, 0) == chip.start_ns
    assert kernel_ns(chip, chip.flops_per_second, 0) == pytest.approx(1e9 + chip.start_ns)
    assert kernel_ns(chip, chip.flops_per_second, 3 * chip.bytes_per_second) == pytest.approx(
        3e9 + chip.start_ns
    )


def test_what_is_computed_often_again_does_not_pay() -> None:
    (pair,) = candidates(gated(), Judge())
    chip = target("avx2")
    once = price(pair.first, pair.second, pair.both, 1.0, chip)
    often = price(pair.first, pair.second, pair.both, 1000.0, chip)
    assert once.pays
    assert not often.pays
    assert once.separate_ns == often.separate_ns


@pytest.mark.parametrize("place", ["file/one.json", "file/folder/one.json", "folder"])
def test_a_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        CompileError, match=r"the database cannot be written: .*\n  try: name a file"
    ) as error:
        profiles.write(Database(), tmp_path / place)
    assert error.value.where == str(tmp_path / place)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder"]
