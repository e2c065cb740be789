"""The table of frameworks: every row leads to an adapter that tells what it is without importing anything."""

import subprocess
import sys
from dataclasses import replace

import pytest

from adapters.catalogue import ADAPTERS, REFERENCE, adapter, installed_version
from adapters.ort import ORT
from adapters.protocol import Setting
from models.errors import BenchError

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
    "executorch",
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
def test_every_framework_says_which_precision_it_refuses(name: str) -> None:
    row = adapter(name)
    assert row.refuse(Setting(1, "fp32")) is None
    assert "fp4" in (row.refuse(Setting(1, "fp4")) or "")


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_conversion_is_told_apart_by_what_decides_it(name: str) -> None:
    row = adapter(name)
    conversion = row.conversion(Setting(1, "fp32"))
    if conversion is None:
        return
    assert conversion == row.conversion(Setting(1, "fp32"))
    assert conversion.per_threads == (conversion != row.conversion(Setting(2, "fp32")))
    assert conversion.distributions
    assert all(path.is_file() for path in conversion.files)


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_variant_is_another_name_and_other_options(name: str) -> None:
    row = adapter(name)
    for variant, changes in row.variants.items():
        found = adapter(f"{name}:{variant}")
        assert found.name == f"{name}:{variant}"
        assert found.options == {**row.options, **changes}
        assert found.options != row.options, f"{variant} changes nothing"
        assert "a variant with" in found.notes[-1]


def test_an_unknown_variant_suggests_the_nearest() -> None:
    with pytest.raises(BenchError, match="ort has no variant 'no-arenas'") as caught:
        adapter("ort:no-arenas")
    assert "no-arena" in caught.value.hint


def test_names_are_found_in_any_case() -> None:
    assert adapter("ORT") is ORT


@pytest.mark.parametrize(
    ("name", "hint"), [("rot", "'ort'"), ("ort-nopt", "ort-noopt"), ("zzzzzz", "one of ours, ort, ort-noopt")]
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
    "adapters.executorch",
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
