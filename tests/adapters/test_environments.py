"""Environments of their own: made once, pinned, whole or not at all, with errors that help."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from adapters import environments as module
from adapters.environments import (
    COMPLETE,
    Environment,
    environment,
    environments,
    folder_of,
    interpreter,
    is_made,
    make,
    packages_of,
    why_unmakeable,
)
from adapters.protocol import MAIN_ENVIRONMENT
from models.errors import BenchError

EMPTY = Environment("empty", "only for this test", steps=())
PINNED = ("==", "--no-deps", "--ignore-requires-python")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Put other rows into the table, and their folders into the test's."""
    monkeypatch.setenv("BENCH_ENVIRONMENTS", str(tmp_path / "environments"))

    def put(*given: Environment) -> None:
        monkeypatch.setattr(module, "environments", lambda: {row.name: row for row in given})

    return put


@pytest.mark.parametrize("name", environments())
def test_every_package_of_a_row_is_pinned(name: str) -> None:
    row = environment(name)
    assert row.why
    for step in row.steps:
        assert all(any(mark in part for mark in PINNED) for part in step), step


def test_an_environment_is_made_once_and_runs(rows: Callable[..., None]) -> None:
    rows(EMPTY)
    said: list[str] = []
    assert not is_made(EMPTY)
    make("empty", said.append)
    make("empty", said.append)
    assert is_made(EMPTY)
    assert said == ["making the environment empty (only for this test): once"]
    packages = packages_of("empty")
    assert packages is not None
    assert packages.is_dir()
    program = "import sys; print(sys.prefix)"
    done = subprocess.run([interpreter("empty"), "-c", program], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == folder_of(EMPTY)


def test_another_content_is_another_folder(rows: Callable[..., None]) -> None:
    rows(EMPTY)
    changed = replace(EMPTY, steps=(("numpy==1.26.4",),))
    assert folder_of(changed) != folder_of(EMPTY)
    assert folder_of(replace(EMPTY, why="another reason")) == folder_of(EMPTY)


def test_what_pip_refuses_is_told_and_not_used(rows: Callable[..., None]) -> None:
    broken = replace(EMPTY, steps=(("--no-index", "no-such-package==1"),))
    rows(broken)
    with pytest.raises(BenchError, match="no-such-package") as caught:
        make("empty")
    assert caught.value.where == "environment empty"
    assert "bench frameworks install empty" in caught.value.hint
    assert not is_made(broken)
    assert "no-such-package" in (folder_of(broken) / "pip.log").read_text()


def test_a_half_made_environment_is_made_anew(rows: Callable[..., None]) -> None:
    rows(EMPTY)
    (folder_of(EMPTY) / "bin").mkdir(parents=True)
    (folder_of(EMPTY) / "bin" / "python").write_text("left by a killed process")
    make("empty")
    assert (folder_of(EMPTY) / COMPLETE).is_file()
    subprocess.run([interpreter("empty"), "-c", ""], check=True)


def test_a_python_that_is_not_there_is_a_reason(rows: Callable[..., None]) -> None:
    row = replace(EMPTY, python="2.1")
    rows(row)
    assert why_unmakeable("empty") == (
        "only for this test: there is no python2.1 on this machine (put one on the PATH)"
    )
    with pytest.raises(BenchError, match=r"there is no python2\.1"):
        make("empty")


def test_the_main_environment_is_this_one() -> None:
    assert interpreter(MAIN_ENVIRONMENT) == Path(sys.executable)
    assert packages_of(MAIN_ENVIRONMENT) is None
    assert why_unmakeable(MAIN_ENVIRONMENT) is None
    make(MAIN_ENVIRONMENT)


def test_an_unknown_environment_suggests_the_nearest() -> None:
    with pytest.raises(BenchError, match="no environment is called 'tflite-runtim'") as caught:
        environment("tflite-runtim")
    assert "did you mean tflite-runtime" in caught.value.hint
