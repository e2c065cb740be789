"""`bench compile`: what is dumped can be gone on from, what is explained adds up, mistakes are told."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from models.tiny_graphs import write_attention_block, write_graph
from ourcompiler import tilings
from ourcompiler.ir.parse import parse
from ourcompiler.onnx_in.load import load
from ourcompiler.passes.layout import choose, storages
from ourcompiler.pipeline import IMPORTED, PIPELINE, optimize
from ourcompiler.products import products
from ourcompiler.targets import chip, target
from ourcompiler.tilings import TEMPLATE, Found, Key, Tiling

STEPS = [IMPORTED, *(step.name for step in PIPELINE)]
ENTRIES = [
    *("schema", "network", "target", "steps", "kernels_left", "kernels_in_paper", "distinct_kernels"),
    *("copies", "kernels", "views", "layouts", "fusion", "arena_bytes", "weights_bytes"),
    *("combinations", "memory", "memory_layouts", "memory_copies", "tilings", "tilings_ignored"),
]


@pytest.fixture
def block(place: Path) -> str:
    """Embedding, norm, heads, softmax, a product and GELU."""
    return str(write_attention_block(place / "block.onnx"))


@pytest.fixture
def gelu(place: Path) -> str:
    """GELU written out, which rules put together."""
    node = helper.make_node
    nodes = [
        node("Div", ["x", "root"], ["small"], name="div"),
        node("Erf", ["small"], ["bent"], name="erf"),
        node("Add", ["bent", "one"], ["gate"], name="add"),
        node("Mul", ["x", "gate"], ["twice"], name="mul"),
        node("Mul", ["twice", "half"], ["y"], name="half"),
    ]
    ends = [[(name, TensorProto.FLOAT, [1, 24])] for name in "xy"]
    known = {"root": 2**0.5, "one": 1, "half": 0.5}
    weights = {name: np.float32(value) for name, value in known.items()}
    return str(write_graph(place / "gelu.onnx", nodes, *ends, weights))


def test_a_package_is_written(bench: Callable, block: str, place: Path) -> None:
    done = bench("compile", block, "--out", "package")
    assert (done.code, done.out) == (0, "")
    assert re.search(r"block: \d+ kernels for \w+, [\d.]+ MB in package", done.err)
    assert {one.name for one in (place / "package").iterdir()} == {"manifest.json", "model.so", "weights.bin"}


def test_without_a_folder_it_goes_to_the_cache(bench: Callable, block: str, place: Path) -> None:
    bench("compile", block, "--target", "avx2")
    assert (place / "cache/packages/block-avx2/model.so").exists()


def test_every_step_and_kernel_is_dumped(bench: Callable, block: str, place: Path) -> None:
    assert bench("compile", block, "--dump-ir", "dump", "--explain").code == 0
    names = sorted(one.name for one in (place / "dump").glob("*.graph"))
    assert names == [f"{number:02}-{step}.graph" for number, step in enumerate(STEPS)]
    suffixes = [{one.stem for one in (place / "dump/kernels").glob(f"*{end}")} for end in (".kernel", ".c")]
    assert suffixes[0] == suffixes[1] != set()


@pytest.mark.parametrize("number", range(len(STEPS)), ids=STEPS)
def test_from_any_dump_on_the_end_is_the_same(bench: Callable, block: str, place: Path, number: int) -> None:
    bench("compile", block, "--dump-ir", "dump", "--explain")
    source = f"dump/{number:02}-{STEPS[number]}.graph"
    assert bench("compile", "--from", source, "--dump-ir", "again", "--explain").code == 0
    (last,) = (place / "again").glob(f"*-{STEPS[-1]}.graph")
    assert last.read_text() == (place / f"dump/{len(STEPS) - 1:02}-{STEPS[-1]}.graph").read_text()
    kernels = [
        {one.name: one.read_text() for one in (place / folder / "kernels").iterdir()}
        for folder in ("dump", "again")
    ]
    assert kernels[0] == kernels[1]


@pytest.mark.parametrize("step", STEPS)
def test_it_stops_after_a_step_and_prints_the_graph(
    bench: Callable, block: str, place: Path, step: str
) -> None:
    done = bench("compile", block, "--stop-after", step, "--dump-ir", "dump")
    assert done.code == 0
    assert len(list((place / "dump").glob("*.graph"))) == STEPS.index(step) + 1
    (dumped,) = (place / "dump").glob(f"*-{step}.graph")
    assert done.out == dumped.read_text()
    assert parse(done.out, place / "dump").nodes
    assert not (place / "cache/packages").exists()


def test_the_explanation_for_people(bench: Callable, block: str) -> None:
    done = bench("compile", block, "--explain", "--target", "avx2")
    assert done.code == 0
    assert "block for avx2" in done.out
    assert all(re.search(rf"│ {step} +│ \d+ +│", done.out) for step in STEPS)
    assert re.search(r"\d+ kernels, \d+ distinct, \d+ copies", done.out)
    assert re.search(r"\d+ maps on edges; arena [\d.]+ MB, weights [\d.]+ MB", done.out)


def test_the_explanation_for_programs(bench: Callable, block: str) -> None:
    found = bench("compile", block, "--explain", "--format", "json").document
    assert list(found) == ENTRIES
    assert (found["schema"], found["network"]) == ("bench.compile/1", "block")
    assert [step["step"] for step in found["steps"]] == STEPS
    assert set(found["steps"][0]) == {"step", "operators", "moving", "intermediate_bytes", "seconds"}
    assert found["steps"][0]["operators"] == 10
    assert found["kernels_left"] == found["steps"][-1]["operators"] == sum(found["kernels"].values())
    assert found["steps"][-1]["moving"] == 0
    assert found["kernels_in_paper"] is None
    assert all(len(row) == 3 for row in found["layouts"])


def test_what_is_left_out_is_left_out(bench: Callable, block: str) -> None:
    found = bench(
        "compile", block, "--without", "rewrite,sink,layout", "--explain", "--format", "json"
    ).document
    assert [step["step"] for step in found["steps"]] == ["import", "views", "fuse"]
    assert found["layouts"] == []


def test_how_long_each_step_took(bench: Callable, block: str) -> None:
    done = bench("compile", block, "--explain", "--time-passes")
    assert "time of the passes" in done.out
    assert all(re.search(rf"│ {step} +│ \d+\.\d\d +│", done.out) for step in STEPS)


def test_rules_are_told_as_they_are_applied(bench: Callable, gelu: str) -> None:
    quiet = bench("compile", gelu, "--stop-after", "rewrite")
    done = bench("compile", gelu, "--stop-after", "rewrite", "--trace-rules")
    assert quiet.err == ""
    assert quiet.out == done.out
    assert "Gelu(%x)" in done.out
    assert re.search(r"^[\w -]+: .*\berf\b.*\n    .+\n  → .*Gelu\(%x\)", done.err, re.MULTILINE)


def test_a_dump_that_was_edited_is_compiled_as_it_stands(bench: Callable, gelu: str, place: Path) -> None:
    bench("compile", gelu, "--stop-after", "rewrite", "--dump-ir", "dump")
    path = place / "dump/01-rewrite.graph"
    path.write_text(re.sub(r"Gelu\(%x\) \{.*?\}", "Tanh(%x)", path.read_text()))
    done = bench("compile", "--from", str(path), "--stop-after", "fuse")
    assert "Tanh(%x)" in done.out


MISTAKES = {
    "unknown step": ("block.onnx --stop-after nowhere", "no step 'nowhere'", "one of import, rewrite"),
    "unknown optimisation": (
        "block.onnx --without magic",
        "'magic' cannot be switched off",
        "one of rewrite",
    ),
    "what must not be left out": ("block.onnx --without views", "'views' cannot be switched off", "sink"),
    "unknown target": ("block.onnx --target z80", "no target 'z80'", "avx2"),
    "unknown network": ("swni", "'swni'", "did you mean swin"),
    "missing file": ("nothing.onnx", "nothing.onnx: no such file", ".onnx"),
    "several networks": ("all", "'all' is 18 networks", "one at a time"),
    "no network": ("", "which network?", "--from FILE"),
    "missing dump": ("--from nothing.graph", "nothing.graph: the graph cannot be read", "--dump-ir"),
    "dump that is no text": ("--from bytes.graph", "bytes.graph: the graph cannot be read", "--dump-ir"),
    "dump without its constants": ("--from dump/00-import.graph", "is missing", "the folder constants"),
    "dump of another kind": ("--from words.graph", "hello"),
    "dump of an unknown step": ("--from 07-magic.graph", "no step 'magic'", "one of import"),
    "file that is no network": ("words.onnx", "words.onnx"),
    "unknown format": ("block.onnx --format xml", "--format", "rich"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told(bench: Callable, block: str, place: Path, name: str) -> None:
    (place / "bytes.graph").write_bytes(b"\xff\xfe\x00")
    (place / "words.graph").write_text("hello\n")
    (place / "words.onnx").write_text("hello\n")
    done = bench("compile", block, "--stop-after", "import", "--dump-ir", ".")
    (place / "07-magic.graph").write_text(done.out)
    (place / "dump").mkdir()
    (place / "dump/00-import.graph").write_text(done.out)
    line, *parts = MISTAKES[name]
    done = bench("compile", *line.split())
    assert (done.code, done.out) == (2, "")
    text = " ".join(done.err.split())
    assert all(part in text for part in parts), text
    assert "Traceback" not in done.err


def test_a_folder_that_cannot_be_written_is_told(bench: Callable, block: str, place: Path) -> None:
    (place / "file").write_text("here")
    for option in ("--out", "--dump-ir"):
        done = bench("compile", block, option, os.path.join("file", "folder"))
        assert done.code == 2, done.err
        assert "file" in done.err


def test_the_plan_says_what_it_was_decided_by(bench: Callable, block: str, place: Path) -> None:
    found = bench("compile", block, "--explain", "--format", "json").document
    assert found["combinations"]["table"] == "fusion.toml"
    assert found["combinations"]["overridden"] == []
    assert all(len(row) == 7 for row in found["fusion"])
    rows = {(row[4], row[5], row[6]) for row in found["fusion"] if row[2]}
    assert ("one-to-many > many-to-many", "red", "past the paper: read-once") in rows
    (place / "mine.toml").write_text(
        'order = "seeds"\n[cells.many-to-many]\none-to-one = { colour = "red" }\n'
        '[past.read-once]\nfirst = []\nsecond = "many-to-many"\nreason = "off"\n'
    )
    other = bench("compile", block, "--explain", "--format", "json", "--fusion-table", "mine.toml").document
    assert other["combinations"]["overridden"] == ["many-to-many > one-to-one: red"]
    assert other["combinations"]["order"] == "seeds"
    assert other["combinations"]["seeds"] != []
    assert other["kernels_left"] > found["kernels_left"]


def test_layouts_for_a_texture(bench: Callable, block: str) -> None:
    found = bench("compile", block, "--explain", "--format", "json", "--memory", "texture").document
    assert found["memory"] == "texture"
    assert any(len(one["serves"]) == 2 for one in found["memory_layouts"])
    drawn = bench("compile", block, "--explain", "--memory", "texture")
    assert "layouts in texture memory: 0 copies" in drawn.out
    assert "pairs of mapping types" in drawn.out
    wrong = bench("compile", block, "--explain", "--memory", "tape")
    assert wrong.code == 2
    assert "no memory 'tape'" in wrong.err


def test_pairs_are_measured_used_merged_and_shown(bench: Callable, block: str, place: Path) -> None:
    (place / "mine.toml").write_text('[cells.many-to-many]\none-to-one = { colour = "yellow" }\n')
    mine = ("--fusion-table", "mine.toml")
    done = bench("compile", block, *mine, "--profile-fusion", "one.json", "--profile-seconds", "60")
    assert done.code == 0
    assert re.search(r"\d+ yellow pairs: 0 known, [1-9] measured", done.out)
    again = bench("compile", block, *mine, "--profile-fusion", "one.json")
    assert " 0 measured" in again.out
    assert bench("fusion", "merge", "two.json", "one.json", "one.json").code == 0
    assert (place / "one.json").read_text() == (place / "two.json").read_text()
    shown = bench("fusion", "show", "two.json", "--format", "json").document
    assert (shown["schema"], shown["damaged"]) == ("bench.fusion/1", 0)
    assert f"{len(shown['entries'])} entries" in bench("fusion", "show", "two.json").out
    typed = ("compile", block, *mine, "--profile-database", "two.json", "--explain", "--format", "json")
    found = bench(*typed).document
    assert found["combinations"]["profile_entries"] == len(shown["entries"])
    yellow = [row[6] for row in found["fusion"] if row[5] == "yellow"]
    assert yellow != []
    assert all(ground.startswith("measured") for ground in yellow)


def test_a_database_that_is_none_is_told(bench: Callable, block: str, place: Path) -> None:
    (place / "one.json").write_text("{")
    for typed in (("compile", block, "--profile-database", "one.json"), ("fusion", "show", "one.json")):
        done = bench(*typed)
        assert done.code == 2
        assert "no profile database" in done.err


def test_tilings_are_searched_kept_used_merged_and_shown(bench: Callable, block: str, place: Path) -> None:
    done = bench("compile", block, "--tune", "60s", "--tilings", "one.toml", "--out", "package")
    assert done.code == 0
    assert re.search(r"\d+ products: 0 known, [1-9]\d* searched, 0 failed", done.err)
    assert (place / "package" / "manifest.json").exists()
    again = bench("compile", block, "--tune", "60s", "--tilings", "one.toml", "--out", "package")
    assert re.search(r"[1-9]\d* known, 0 searched", again.err)
    assert bench("tilings", "merge", "two.toml", "one.toml", "one.toml").code == 0
    text = (place / "one.toml").read_text()
    assert text == (place / "two.toml").read_text()
    entries = bench("tilings", "show", "two.toml", "--format", "json").document["entries"]
    assert f"{len(entries)} entries" in bench("tilings", "show", "two.toml").out
    assert bench("tilings", "show").code == 0, "what is shipped"


def test_an_entry_is_seen_in_the_explanation(bench: Callable, block: str, place: Path) -> None:
    graph = optimize(load(Path(block)))
    small = Tiling(2, 1, 1 << 15, 1 << 20, fetches=False)
    keys = [
        Key(chip(), target().name, TEMPLATE, one.problem)
        for one in products(graph, target(), storages(choose(graph)))
    ]
    tilings.write({key: Found(small, 0.5, 5) for key in keys}, place / "own.toml")
    typed = ("compile", block, "--explain", "--tilings", "own.toml")
    rows = bench(*typed, "--format", "json").document["tilings"]
    searched = [row for row in rows if row["decided_by"] == "search"]
    assert searched != []
    assert all(row["tiling"].startswith("2 × 1, ") for row in searched)
    large = replace(small, tile_rows=99)
    tilings.write({key: Found(large, 0.5, 5) for key in keys}, place / "own.toml")
    found = bench(*typed, "--format", "json").document
    assert {row["decided_by"] for row in found["tilings"]} == {"model"}
    assert "registers" in found["tilings_ignored"][0]
    assert "not used: " in bench(*typed).out


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--tune 5m", "where is the result to be kept?"),
        ("--tune soon --tilings own.toml", "'soon' is not a time"),
        ("--tilings none.toml", "the tilings cannot be read"),
        ("--tilings broken.toml", "this is no file of tilings"),
        ("--tilings good.toml --target aarch64", "'aarch64' does not tell which"),
        ("--tune 1s --tilings own.toml --chip X", "this machine is"),
    ],
)
def test_mistakes_about_tilings_are_told(
    bench: Callable, block: str, place: Path, typed: str, message: str
) -> None:
    (place / "broken.toml").write_text("{")
    (place / "good.toml").write_text('schema = "ourcompiler.tilings/1"\nentries = []\n')
    done = bench("compile", block, *typed.split())
    assert done.code == 2
    assert message in done.err
    assert "try:" in done.err
