"""The one door: an ONNX file in, a package out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ourcompiler import package
from ourcompiler.ir.graph import Graph
from ourcompiler.onnx_in.load import load
from ourcompiler.package import Package
from ourcompiler.passes.layout import choose, storages
from ourcompiler.pipeline import LAYOUT, optimize
from ourcompiler.program import Program, make_program
from ourcompiler.targets import Target, target


def program_of(graph: Graph, wanted: Target, without: Sequence[str] = ()) -> Program:
    """Lower an optimised graph."""
    layouts = {} if LAYOUT in without else storages(choose(graph))
    return make_program(graph, wanted, layouts)


def compile_network(
    path: Path,
    folder: Path,
    *,
    target_name: str = "host",
    dimensions: Mapping[str, int] | None = None,
    without: Sequence[str] = (),
) -> Package:
    """Compile an ONNX file to a package in `folder`; raises `CompileError`."""
    wanted = target(target_name)
    graph = optimize(load(path, dimensions or {}), without)
    return package.write(program_of(graph, wanted, without), folder)
