"""What holds the house together and no other tool checks: sizes, names, and what importing costs."""

import ast
import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from models.zoo import GRAPHS, zoo_rows

ROOT = Path(__file__).parent.parent
PACKAGES = ("models", "ourcompiler", "adapters", "benchsuite", "reports")
SOURCES = sorted(path for name in (*PACKAGES, "tests", "benchmarks") for path in (ROOT / name).rglob("*.py"))
MOST_LINES_IN_FILE = 500
MOST_LINES_IN_FUNCTION = 60
MEGABYTE = 1_000_000
FRAMEWORKS = {"onnxruntime", "torch", "onnx", "pandas"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES_IN_FILE
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES_IN_FUNCTION} == {}


def test_no_script_hides_a_package() -> None:
    """Python looks in a script's own folder first: `benchmarks/reports.py` would be taken for `reports`."""
    hiding = [path.name for path in (ROOT / "benchmarks").glob("*.py") if path.stem in PACKAGES]
    assert hiding == []


def test_no_drawer_for_everything() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert [name_of(path) for path in SOURCES if path.name in drawers] == []


@pytest.mark.parametrize(
    "path",
    [path for path in SOURCES if path.name == "__init__.py" and path.parts[-3] != "tests"],
    ids=name_of,
)
def test_a_package_is_only_its_docstring(path: Path) -> None:
    """Importing one module must not import its neighbours."""
    (only,) = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)


@pytest.mark.parametrize(
    "module", ["adapters.catalogue", "models.catalogue", "benchsuite.plan", "adapters.ort"]
)
def test_catalogues_import_no_framework(module: str) -> None:
    program = f"import {module}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert set(done.stdout.split()) & FRAMEWORKS == set()


def test_nothing_large_is_in_git() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT)
    tracked = [ROOT / name for name in listing.stdout.split("\0") if name]
    sizes = {name_of(path): path.stat().st_size for path in tracked if path.is_file()}
    assert {name: size for name, size in sizes.items() if size > MEGABYTE} == {}


def test_every_network_is_pinned_and_small() -> None:
    """What git and a wheel store is compressed."""
    sizes = {}
    for row in zoo_rows():
        files = [path for path in (GRAPHS / row.name).glob("*") if path.is_file()]
        assert {"model.onnx", "weights.toml"} <= {path.name for path in files}, row.name
        sizes[row.name] = sum(len(gzip.compress(path.read_bytes(), 6)) for path in files)
    assert len(sizes) == 18
    assert {name: size for name, size in sizes.items() if size > MEGABYTE} == {}
    assert sum(sizes.values()) < 8 * MEGABYTE
    assert {path.name for path in GRAPHS.iterdir()} == set(sizes), "a folder of no network"
