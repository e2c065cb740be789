"""The table of layers knows every framework, and names no layer that there is not."""

import pytest

from adapters.catalogue import ADAPTERS, adapter
from benchsuite.device.runtime.provision import TRIALS, Runtime
from benchsuite.device.runtime.table import BASE, CODE, layer_table, layers_of, refusal, wheel_version

TABLE = layer_table()


@pytest.mark.parametrize("framework", ADAPTERS)
def test_every_framework_runs_there_or_says_why(framework: str) -> None:
    assert (framework in TABLE.frameworks) != (framework in TABLE.refused)
    assert (refusal(framework) is None) == (framework in TABLE.frameworks)


def test_layers_exist_and_are_tried() -> None:
    named = {layer for layers in TABLE.frameworks.values() for layer in layers}
    assert named == set(TABLE.wheels) == set(TRIALS)


def test_variants_need_what_the_framework_needs() -> None:
    assert layers_of(["mnn:no-winograd"]) == (BASE, "numpy", "mnn", CODE)
    assert layers_of(["ours", "ort", "ort-noopt"]) == (BASE, "numpy", "onnxruntime", CODE)


def test_versions_are_those_that_are_tested_here() -> None:
    """Host and phone run the same release of a framework: a number is of one version."""
    with open("constraints.txt", encoding="utf-8") as file:
        pinned = dict(line.strip().lower().split("==") for line in file if "==" in line and line[0] != "#")
    for wheels in TABLE.wheels.values():
        for wheel in wheels:
            own = pinned.get(wheel.name.replace("-", "_"), pinned.get(wheel.name, wheel.version))
            if wheel.name not in ("filelock", "platformdirs"):
                assert own == wheel.version, wheel.name


def test_words_are_quoted() -> None:
    words = Runtime(("/b", "/n", "/c")).command(["-c", "print('a b; $(id)')"])
    assert words.startswith("PYTHONHOME=/b/py PYTHONPATH=/c:/n ")
    assert words.endswith("""/b/py/bin/python3.13 -c 'print('"'"'a b; $(id)'"'"')'""")


@pytest.mark.parametrize("name", [name for name in layer_table().frameworks if name != "ours"])
def test_a_layer_tells_its_framework_s_version(name: str) -> None:
    version = wheel_version(adapter(name).distribution, layers_of([name]))
    assert version is not None
    assert version[0].isdecimal()
    assert wheel_version("nothing", layers_of([name])) is None
