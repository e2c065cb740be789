"""Private folders, and what a killed process leaves."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from benchsuite.device.scratch import PREFIX, make_scratch, scratch_folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_scratch_folder_is_gone_afterwards(elsewhere: Path) -> None:
    with scratch_folder() as folder:
        (folder / "file").write_text("x")
        assert list(elsewhere.iterdir()) == [folder]
    assert list(elsewhere.iterdir()) == []


def test_what_a_dead_process_left_is_removed_and_a_living_one_keeps_its_own(elsewhere: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left, living, foreign = (
        elsewhere / name for name in (f"{PREFIX}{dead.pid}-a", f"{PREFIX}{os.getpid()}-b", f"{PREFIX}other")
    )
    for folder in (left, living, foreign):
        folder.mkdir()
    made = make_scratch()
    assert sorted(elsewhere.iterdir()) == sorted((living, foreign, made))
