"""Every row of the zoo: its facts, and its pinned graph against the published figures and the size limits."""

from pathlib import Path

import onnx
import pytest

from models.count import count_model
from models.errors import ModelError
from models.model import ZooRow
from models.onnx_external import external_spans
from models.recipe import read_recipe
from models.zoo import GRAPHS, ZOO_FILE, pinned_model, zoo_row, zoo_rows

every_row = pytest.mark.parametrize("row", zoo_rows(), ids=lambda row: row.name)
TOLERANCE = 0.05
MEGABYTE = 1_000_000


@every_row
def test_the_facts_of_a_row(row: ZooRow) -> None:
    assert row.name == row.name.lower()
    assert "," not in row.name
    assert row.kind in ("transformer", "hybrid", "convnet")
    assert row.modality in ("image", "audio", "text")
    assert "smartmem18" in row.sets
    assert all((row.title, row.paper_row, row.task, row.architecture, row.licence, row.reference))
    assert row.parameters > 1e6
    assert row.macs > 1e9
    assert all(spec.shape[0] == 1 for spec in row.inputs)


def test_eighteen_networks_of_every_kind() -> None:
    assert len(zoo_rows()) == 18
    assert {row.kind for row in zoo_rows() if "quick" in row.sets} == {"transformer", "hybrid", "convnet"}
    assert {row.modality for row in zoo_rows() if "quick" in row.sets} == {"image", "text"}


@every_row
def test_the_pinned_graph_is_what_the_row_says(row: ZooRow) -> None:
    model = pinned_model(row)
    graph = onnx.load(model.graph, load_external_data=False).graph
    declared = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim) for value in graph.input
    }
    assert declared == {spec.name: spec.shape for spec in row.inputs}
    assert sum(path.stat().st_size for path in model.graph.parent.iterdir()) < MEGABYTE


@every_row
def test_the_recipe_fills_exactly_the_external_data_of_the_graph(row: ZooRow) -> None:
    model = pinned_model(row)
    recipe = read_recipe(model.graph.parent / "weights.toml")
    spans = external_spans(onnx.load(model.graph, load_external_data=False), row.name)
    assert {(span.tensor, span.offset, span.length) for span in spans} == {
        (tensor.name, tensor.offset, tensor.byte_count) for tensor in recipe.tensors
    }
    assert {span.location for span in spans} == {"weights.bin"}
    assert model.weight_byte_count == recipe.byte_count


@every_row
def test_counts_are_near_the_published_figures_or_the_row_says_why(row: ZooRow) -> None:
    counts = count_model(pinned_model(row))
    assert counts.macs is not None
    near = (
        abs(counts.parameters / row.parameters - 1) <= TOLERANCE
        and abs(counts.macs / row.macs - 1) <= TOLERANCE
    )
    said = f"{counts.parameters / 1e6:.2f} M parameters, {counts.macs / 1e9:.2f} GMACs"
    assert near != bool(row.deviation), f"{row.name} has {said}; its row says {row.deviation!r}"


def test_all_pinned_graphs_are_small() -> None:
    assert sum(path.stat().st_size for path in GRAPHS.rglob("*") if path.is_file()) < 8 * MEGABYTE


def test_a_row_by_name() -> None:
    assert zoo_row("pythia").title == "Pythia-1B"


DAMAGES = [
    ('kind = "transformer"\n', "", "missing or unexpected fields: kind"),
    ('title = "', 'titel = "', "missing or unexpected fields: titel, title"),
    ('draw = "normal"', 'drow = "normal"', "missing or unexpected fields of an input: drow"),
    ('draw = "normal"', "", "missing or unexpected fields of an input: draw"),
    ('draw = "normal"', 'draw = "gamma"', "input 'x': unknown dtype 'float32' or draw 'gamma'"),
    ('dtype = "float32"', 'dtype = "float31"', "input 'x': unknown dtype 'float31' or draw 'normal'"),
    ("high = 49408", "high = 0", "input 'input_ids': no integer from 0 below 0"),
    ('name = "biformer"', 'name = "autoformer"', "two rows, or a row and a set, share a name"),
    ('name = "biformer"', 'name = "quick"', "two rows, or a row and a set, share a name"),
]


@pytest.mark.parametrize(("old", "damaged", "message"), DAMAGES, ids=[row[2] for row in DAMAGES])
def test_a_damaged_row_is_told(tmp_path: Path, old: str, damaged: str, message: str) -> None:
    path = tmp_path / "zoo.toml"
    path.write_text(ZOO_FILE.read_text().replace(old, damaged, 1))
    with pytest.raises(ModelError) as caught:
        zoo_rows(path)
    assert caught.value.what.startswith(message)
