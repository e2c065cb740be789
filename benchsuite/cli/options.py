"""Options that several commands share, and how their values are read."""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from platformdirs import user_cache_path, user_data_path

from adapters.runners import FILE_VARIABLE
from models.errors import BenchError

Command = TypeVar("Command", bound=Callable[..., Any])

MOST_THREADS = 4096
UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def journal_option(command: Command) -> Command:
    """`--journal FILE`: where results are kept."""
    return click.option(
        "--journal",
        type=click.Path(dir_okay=False, path_type=Path),
        default=lambda: user_data_path("bench") / "journal.db",
        envvar="BENCH_JOURNAL",
        show_default="bench/journal.db in your data folder",
        help="The journal: one SQLite file with every raw sample.",
    )(command)


def cache_option(command: Command) -> Command:
    """`--cache DIR`: where weights and references are kept."""
    return click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        default=lambda: user_cache_path("bench"),
        envvar="BENCH_CACHE",
        show_default="bench in your cache folder",
        help="Folder for drawn weights and references; safe to delete.",
    )(command)


def _keep_runners(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is not None:  # absolute: workers live in other folders, and read it too
        os.environ[FILE_VARIABLE] = str(path.absolute())


runners_option = click.option(
    "--runners",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar=FILE_VARIABLE,
    expose_value=False,
    callback=_keep_runners,
    show_default="bench/runners.toml in your configuration folder",
    help="Programs of your own that are frameworks by name; see docs/runners.md.",
)
"""`--runners FILE`: wherever frameworks are looked up by name."""


def format_option(*formats: str) -> Callable[[Command], Command]:
    """`--format`: rich for people, json for programs."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(formats, case_sensitive=False),
        default=formats[0],
        show_default=True,
        help="How to print; json has a versioned schema (docs/json.md).",
    )


def print_json(schema: str, **document: object) -> None:
    """Print one JSON document with its schema's name and version."""
    click.echo(json.dumps({"schema": schema, **document}, indent=1, ensure_ascii=False))


def seconds(text: str | None, option: str) -> float | None:
    """`90`, `90s`, `20m`, `1.5h` to seconds; raises `BenchError`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    if not match or float(match[1]) <= 0:
        raise BenchError(f"{text!r} is not a time", where=option, hint="such as 90s, 20m or 1.5h")
    return float(match[1]) * UNITS[match[2]]


DETECTABLE_HELP = (
    "How large a difference must be, such as 2%.  [default: what `bench doctor` kept in the journal about"
    " this machine, at least 2%]"
)
detectable_option = click.option("--detectable", metavar="SHARE", help=DETECTABLE_HELP)


def byte_count(text: str | None, option: str) -> int | None:
    """`800m`, `6g` to bytes; raises `BenchError`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", text.strip().lower())
    if not match or float(match[1]) <= 0:
        raise BenchError(f"{text!r} is not an amount of memory", where=option, hint="such as 800m or 6g")
    return int(float(match[1]) * BYTES[match[2]])


def names(text: str) -> tuple[str, ...]:
    """A comma list to lower-case names without repetition."""
    return tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))


def counts(text: str, option: str) -> tuple[int, ...]:
    """`1,2` to integers from 1 to `MOST_THREADS`; raises `BenchError`."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and 1 <= int(part) <= MOST_THREADS for part in parts):
        raise BenchError(f"{text!r} is not a list of thread counts", where=option, hint="such as 1 or 1,2")
    return tuple(dict.fromkeys(int(part) for part in parts))


def assignments(pairs: Sequence[str], option: str) -> dict[str, str]:
    """`("batch=1", …)` to a mapping; raises `BenchError`."""
    split = [pair.partition("=") for pair in pairs]
    for name, equals, value in split:
        if not (name and equals and value):
            raise BenchError(
                f"{name + equals + value!r} is not NAME=VALUE",
                where=option,
                hint=f"such as {option} {name or 'NAME'}=1",
            )
    return {name.strip(): value.strip() for name, _, value in split}


def dimensions(pairs: Sequence[str]) -> dict[str, int]:
    """`--dim batch=1` to sizes; raises `BenchError`."""
    found = assignments(pairs, "--dim")
    for name, value in found.items():
        if not value.isdecimal() or int(value) < 1:
            raise BenchError(
                f"{name}={value}: the size must be a positive integer",
                where="--dim",
                hint=f"such as --dim {name}=1",
            )
    return {name: int(value) for name, value in found.items()}


def write_text(text: str, out: Path | None) -> None:
    """Write to the file `out`, or to the terminal for None; raises `BenchError`."""
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BenchError(
            f"cannot be written: {error.strerror}", where=str(out), hint="choose another --out"
        ) from error


def share(text: str, option: str) -> float:
    """`2%` or `0.02` to a fraction between 0 and 1; raises `BenchError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%?)", text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else 1.0
    if not 0 <= value < 1:
        raise BenchError(f"{text!r} is not a share below 100 %", where=option, hint="such as 2% or 0.02")
    return value
