"""Installing by name: what an extra asks for, what is still missing, and what pip says when it fails."""

import subprocess
from dataclasses import replace

import pytest

from adapters import install as module
from adapters.catalogue import ADAPTERS, adapter
from adapters.install import environments_of, install, missing_parts, requirements_of
from adapters.ort import ORT
from models.errors import BenchError

LINES = [
    "click<9,>=8.2",
    'MNN<3.7,>=3.6.1; extra == "mnn"',
    "apache-tvm-ffi==0.1.14.post1 ; extra == 'tvm'",
    'apache-tvm==0.27.0.post1; (python_version >= "3.11") and extra == "tvm"',
]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What would be called as pip, with success."""
    calls: list[list[str]] = []

    def run(command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(module, "requires", lambda name: LINES)
    monkeypatch.setattr(module.subprocess, "run", run)
    return calls


def test_an_extra_is_read_from_our_own_metadata(called: list[list[str]]) -> None:
    assert requirements_of("mnn") == ("MNN<3.7,>=3.6.1",)
    assert requirements_of("tvm") == ("apache-tvm-ffi==0.1.14.post1", "apache-tvm==0.27.0.post1")
    assert requirements_of("nothing") == ()


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_extra_of_a_framework_exists(name: str) -> None:
    extra = adapter(name).extra
    assert not extra or requirements_of(extra)


def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(ORT, distribution="no-such-distribution", extra="mnn")
    monkeypatch.setattr(module, "adapter", lambda name: row)


def test_it_is_installed_with_the_tested_versions(
    called: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing(monkeypatch)
    said: list[str] = []
    install("ort", said.append)
    (command,) = called
    assert command[-1] == "MNN<3.7,>=3.6.1"
    assert "-c" in command
    assert said == ["installing MNN<3.7,>=3.6.1"]


def test_nothing_is_called_for_what_is_there(called: list[list[str]]) -> None:
    install("ort", lambda text: None)
    assert called == []
    assert missing_parts(ORT) == ()
    assert environments_of(ORT) == ()


def test_what_pip_says_is_told(called: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    missing(monkeypatch)
    failed = subprocess.CompletedProcess([], 1, "", "no matching distribution")
    monkeypatch.setattr(module.subprocess, "run", lambda *command, **how: failed)
    with pytest.raises(BenchError, match="no matching distribution") as caught:
        install("ort", lambda text: None)
    assert caught.value.hint == "pip install MNN<3.7,>=3.6.1"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(BenchError, match="no framework or environment is called 'ortt'") as caught:
        install("ortt", lambda text: None)
    assert "did you mean ort" in caught.value.hint
