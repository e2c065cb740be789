"""The table of frameworks: every row leads to an adapter that tells what it is without importing anything."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.catalogue import ADAPTERS, REFERENCE, adapter, installed_version
from adapters.ort import ORT
from adapters.protocol import Prepared, Setting
from models.errors import BenchError
from models.tiny import write_convolutions

FRAMEWORKS = {
    "onnxruntime",
    "torch",
    "tensorflow",
    "ai_edge_litert",
    "MNN",
    "tvm",
    "openvino",
    "ncnn",
    "iree",
}
NOT_AT_IMPORT = FRAMEWORKS | {"pandas", "scipy", "onnx"}
"""What would make `bench --help` slow, or put a framework's memory into the harness's."""


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_row_leads_to_its_adapter(name: str) -> None:
    row = adapter(name)
    assert row.name == name
    assert row.title
    assert row.distribution
    assert all(note for note in row.notes)


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_framework_says_which_precision_it_refuses(name: str, tmp_path: Path) -> None:
    row = adapter(name)
    assert row.refuse(Setting(1, "fp32")) is None
    assert "fp4" in (row.refuse(Setting(1, "fp4")) or "")


@pytest.mark.parametrize("name", ADAPTERS)
def test_preparing_is_pure(name: str, tmp_path: Path) -> None:
    """The same for the same network: what the journal keeps as options is what the worker is given."""
    path = tmp_path / "net.onnx"
    write_convolutions(path, channels=2, pixels=2, layers=1)
    first, second = (adapter(name).prepare(path, Setting(1, "fp32"), tmp_path) for _ in range(2))
    assert isinstance(first, Prepared)
    assert first == second


def test_names_are_found_in_any_case() -> None:
    assert adapter("ORT") is ORT


@pytest.mark.parametrize(
    ("name", "hint"), [("rot", "'ort'"), ("ort-nopt", "ort-noopt"), ("zzzzzz", "one of ort, ort-noopt")]
)
def test_an_unknown_name_suggests_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(BenchError) as caught:
        adapter(name)
    assert caught.value.what == f"unknown framework {name!r}"
    assert caught.value.where == "--frameworks"
    assert hint.strip("'") in caught.value.hint


def test_the_reference_is_at_hand() -> None:
    assert installed_version(adapter(REFERENCE)) is not None


def test_a_missing_distribution_has_no_version() -> None:
    assert installed_version(replace(ORT, distribution="no-such-distribution")) is None


HARNESS = (
    "adapters.catalogue",
    "adapters.protocol",
    "adapters.ort",
    "adapters.worker",
    "benchsuite.run",
    "benchsuite.group",
    "benchsuite.doctor",
    "benchsuite.journal",
    "benchsuite.device.catalogue",
    "benchsuite.cli.main",
)


def imported_by(module: str) -> set[str]:
    """Top-level packages in memory after a fresh Python imported the module."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", HARNESS)
def test_no_framework_is_imported_early(module: str) -> None:
    assert imported_by(module) & NOT_AT_IMPORT == set()


def test_help_does_not_even_import_numpy() -> None:
    assert "numpy" not in imported_by("benchsuite.cli.main")
