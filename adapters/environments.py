"""Environments beside the main one: made on first use from `environments.toml`, pinned, kept until that
changes.

They lie in the user's data folder (or in `BENCH_ENVIRONMENTS`), one folder a name and content, and hold only
packages: the code of bench reaches them by its path.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock
from platformdirs import user_data_path

from adapters.protocol import MAIN_ENVIRONMENT
from models.errors import BenchError
from models.suggest import nearest

TABLE = Path(__file__).parent / "environments.toml"
FOLDER_VARIABLE = "BENCH_ENVIRONMENTS"
COMPLETE = "complete"
LOG = "pip.log"
LOG_LINES_SHOWN = 8
DIGEST_DIGITS = 12

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Environment:
    """One row: `steps` are the arguments of one `pip install` each; `python` is "" or a version like 3.11."""

    name: str
    why: str
    steps: tuple[tuple[str, ...], ...]
    python: str = ""


@cache
def environments(table: Path = TABLE) -> dict[str, Environment]:
    """All rows by name."""
    rows = tomllib.loads(table.read_text(encoding="utf-8"))["environment"]
    return {
        row["name"]: Environment(**{**row, "steps": tuple(tuple(step) for step in row["steps"])})
        for row in rows
    }


def environment(name: str) -> Environment:
    """The row of that name; raises `BenchError` when there is none."""
    rows = environments()
    if name not in rows:
        raise BenchError(
            f"no environment is called {name!r}",
            hint=nearest(name, rows, otherwise=f"one of {', '.join(rows)}"),
        )
    return rows[name]


def folder_of(row: Environment) -> Path:
    """Where the environment lies, made or not; another content is another folder."""
    base = os.environ.get(FOLDER_VARIABLE)
    root = Path(base) if base else user_data_path("bench") / "environments"
    content = json.dumps([row.steps, row.python or _own_version()])
    return root / f"{row.name}-{hashlib.sha256(content.encode()).hexdigest()[:DIGEST_DIGITS]}"


def is_made(row: Environment) -> bool:
    """Whether the environment is there and complete."""
    return (folder_of(row) / COMPLETE).is_file()


def interpreter(name: str) -> Path:
    """The Python that runs code of an environment; of `main` it is this one. The environment must be made."""
    if name == MAIN_ENVIRONMENT:
        return Path(sys.executable)
    return folder_of(environment(name)) / "bin" / "python"


def packages_of(name: str) -> Path | None:
    """The folder of an environment's packages; None for `main`, which is searched as Python does."""
    if name == MAIN_ENVIRONMENT:
        return None
    row = environment(name)
    return folder_of(row) / "lib" / f"python{row.python or _own_version()}" / "site-packages"


def why_unmakeable(name: str) -> str | None:
    """Why an environment cannot be made on this machine, or None; quick, asks no network."""
    if name == MAIN_ENVIRONMENT:
        return None
    row = environment(name)
    if is_made(row) or _base_python(row) is not None:
        return None
    return f"{row.why}: there is no python{row.python} on this machine (put one on the PATH)"


def make(name: str, say: Say = lambda text: None) -> None:
    """Make an environment unless it is there; others that make it meanwhile are waited for.

    Raises `BenchError` when Python or pip cannot do it, with pip's last lines; nothing half-made is used.
    """
    if name == MAIN_ENVIRONMENT or is_made(environment(name)):
        return
    row, folder = environment(name), folder_of(environment(name))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if is_made(row):
            return
        shutil.rmtree(folder, ignore_errors=True)
        _create(row, folder, say)
        (folder / COMPLETE).touch()


def _create(row: Environment, folder: Path, say: Say) -> None:
    python = _base_python(row)
    if python is None:
        raise BenchError(why_unmakeable(row.name) or "", where=f"environment {row.name}")
    say(f"making the environment {row.name} ({row.why}): once")
    _call(row, folder, [python, "-m", "venv", str(folder)])
    for step in row.steps:
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
        _call(row, folder, [*pip, "--no-input", *step])


def _call(row: Environment, folder: Path, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    output = done.stdout + done.stderr
    if (folder / "bin").is_dir():
        with (folder / LOG).open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n{output}\n")
    if done.returncode:
        tail = "\n  ".join(output.strip().splitlines()[-LOG_LINES_SHOWN:])
        raise BenchError(
            f"cannot be made; the last lines of `{' '.join(command[1:4])}`:\n  {tail}",
            where=f"environment {row.name}",
            hint=f"check the network, then `bench frameworks install {row.name}`",
        )


def _base_python(row: Environment) -> str | None:
    """A Python of the version that the row needs: this one, or one on the PATH."""
    if row.python in ("", _own_version()):
        return sys.executable
    return shutil.which(f"python{row.python}")


def _own_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
