"""What is printed can be read back, and what cannot be read says where."""

from pathlib import Path

import numpy as np
import pytest

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Graph, Node, attributes
from ourcompiler.ir.index_map import compose, gather, pad, reshape, roll, transpose
from ourcompiler.ir.parse import parse
from ourcompiler.ir.text import show, write_graph
from ourcompiler.ir.types import DType, TensorType


def f32(*shape: int) -> TensorType:
    return TensorType(DType.F32, shape)


MAPS = {
    "turned": transpose((2, 3), (1, 0)),
    "windows": compose(transpose((8, 7, 8, 7), (0, 2, 1, 3)), reshape((56, 56), (8, 7, 8, 7))),
    "rolled": roll((8, 8), 1, -3),
    "padded": pad((2, 3), (0, 1), (1, 2), -1.5),
    "padded with whole numbers": pad((2, 3), (0, 1), (1, 2), 7),
    "looked up": gather((5, 2), 0, (4, 0, 0, 1), (2, 2)),
    "of a scalar": reshape((), (1, 1)),
}
BODY = Graph(("p",), (("q", "q"),), (Node("Relu", ("p",), ("q",)),), {"p": f32(2), "q": f32(2)}, {}, "inner")
SMALL = Graph(
    ("x", "an odd name, %"),
    (("result", "y"), ("again: x", "x")),
    (
        Node("Odd", ("x", "", "w"), ("y", "z"), origin=("block/0.add", 'a "quoted" node')),
        Node("Fused", ("y",), ("f",), attributes({"name": "k"}), (), BODY),
        Node(
            "All",
            ("f", "large"),
            ("a",),
            attributes(
                {
                    "yes": True,
                    "count": -3,
                    "scale": 0.1,
                    "least": float("-inf"),
                    "tiny": 1e-30,
                    "text": 'with "quotes", commas\n',
                    "axes": (0, -1),
                    "floats": (0.5, 2.0),
                    "words": ("a", "b"),
                    "none": (),
                }
            ),
        ),
    ),
    {
        "x": f32(2),
        "an odd name, %": TensorType(DType.I64, ()),
        **{name: f32(2) for name in "yzfaw"},
        "large": f32(40),
    },
    {"w": np.array([1, -0.0], np.float32), "large": np.arange(40, dtype=np.float32)},
)


def test_a_graph_survives_being_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "00-import.ir"
    write_graph(SMALL, path)
    text = path.read_text()
    assert parse(text, tmp_path) == SMALL
    assert show(parse(text, tmp_path)) == text == show(SMALL)


@pytest.mark.parametrize("name", MAPS)
def test_a_map_survives_being_written_and_read(name: str) -> None:
    view = MAPS[name]
    assert view is not None
    types = {"x": f32(*view.source), "y": f32(*view.shape)}
    graph = Graph(("x",), (("y", "y"),), (Node("View", ("x",), ("y",), attributes({"map": view})),), types)
    assert parse(show(graph)) == graph


def test_graphs_differ_by_a_bit_of_a_constant() -> None:
    other = Graph(
        SMALL.inputs,
        SMALL.outputs,
        SMALL.nodes,
        SMALL.types,
        {**SMALL.constants, "w": np.array([1, 0.0], np.float32)},
    )
    assert other != SMALL
    assert SMALL != "a text"


HEAD = "graph g(%x: f32[2]) -> (y = %y)\n"
BROKEN = {
    "": "an empty file where a graph was expected",
    "graph g(%x: f33[2]) -> (y = %x)": "line 1: 'f33' is no element type",
    "graph g(%x: f32[2]) -> (y = %x": "line 1: ends where ) was expected",
    f"{HEAD}  %x: f32[2] = Relu(%x)": "line 2: %x is made twice",
    f"{HEAD}  %y: f32[2] = Relu(%x) {{a=b}}": "line 2: 'b' where a number was expected",
    f"{HEAD}  %y: f32[2] = Relu(%x) more": "line 2: 'more' where the line should end",
    f"{HEAD}  %y: f32[2xx] = Relu(%x)": "line 2: '2xx' is no shape",
    f"{HEAD}  %y: f32[2] = Relu(%x)\n\ngraph h() -> ()": "line 4: stands after the end of the graph",
    f"{HEAD}  constant %y: f32[2] = 0x00": "a constant of 1 bytes where f32[2] has 8",
    f"{HEAD}  %y: f32[2] = Relu(§x)": "line 2: cannot be read from '§x)' on",
}


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_graph_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(CompileError) as caught:
        parse(text)
    assert str(caught.value) == BROKEN[text]


def test_a_constant_that_is_missing_or_altered_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.ir"
    write_graph(SMALL, path)
    (file,) = (tmp_path / "constants").iterdir()
    file.write_bytes(bytes(160))
    with pytest.raises(CompileError, match="altered after the dump"):
        parse(path.read_text(), tmp_path)
    file.unlink()
    with pytest.raises(CompileError, match="is missing"):
        parse(path.read_text(), tmp_path)
