"""A user's own programs as frameworks: the rows of `runners.toml`, read with suspicion (docs/runners.md)."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from models.errors import BenchError
from models.suggest import nearest

FILE_VARIABLE = "BENCH_RUNNERS"
CONVERTERS: Mapping[str, str] = {"onnx": "ort", "tflite": "tflite", "mnn": "mnn", "ncnn": "ncnn"}
"""What `from` may say, and the framework whose file the program is given."""
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
"""Doubled braces stand for themselves."""
NUMBERED = re.compile(r"(input|output):(\d+)")
PLAIN = ("files", "model", "threads", "cores", "runs", "warmup", "input", "output")
UNITS_NS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
TIMES = {f"{kind}_{unit}": scale for kind in ("run", "average") for unit, scale in UNITS_NS.items()}
"""Names of the one group of `times`, and nanoseconds in one of its unit."""
AVERAGE = "average_"
FIXED = ("files", "model", "threads", "cores")
"""What does not change from start to start: all that the words of `version` and `environment` may hold."""
EXAMPLE = "docs/runners.md has one"
LINES = "lines"


@dataclass(frozen=True, slots=True)
class Program:
    """A row: how a program is started and read. `files` are here, and lie beside one another there; every
    word of `command`, `version` and `environment` may hold placeholders. `times` has one group of `TIMES`;
    None for a program that stays and answers lines.
    """

    name: str
    title: str
    made_from: str
    files: tuple[Path, ...]
    command: tuple[str, ...]
    times: re.Pattern[str] | None
    version: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    precisions: tuple[str, ...] = ("fp32",)
    notes: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The name of the group of `times`; "" without."""
        return next(iter(self.times.groupindex)) if self.times is not None else ""

    @property
    def tells_average(self) -> bool:
        """Whether it tells one average of many runs, and not each."""
        return self.group.startswith(AVERAGE)

    def placeholders(self) -> frozenset[str]:
        """What its command holds, without braces and numbers."""
        return frozenset(one.partition(":")[0] for word in self.command for one in placeholders_in(word))


def placeholders_in(word: str) -> tuple[str, ...]:
    """What stands between single braces."""
    return tuple(one[1] for one in PLACEHOLDER.finditer(word) if one[1] is not None)


def filled(word: str, values: Mapping[str, str]) -> str:
    """The word with its placeholders filled in."""

    def value(one: re.Match[str]) -> str:
        return one[0][0] if one[1] is None else values[one[1]]

    return PLACEHOLDER.sub(value, word)


def runners_file() -> Path | None:
    """The file with the user's programs, or None; raises `BenchError` when it is named and not there."""
    named = os.environ.get(FILE_VARIABLE)
    path = Path(named).expanduser().absolute() if named else user_config_path("bench") / "runners.toml"
    if named and not path.is_file():
        raise BenchError(
            "there is no such file", where=str(path), hint=f"{FILE_VARIABLE} or --runners names it"
        )
    return path if path.is_file() else None


def programs(reserved: Iterable[str]) -> dict[str, Program]:
    """All rows by name; `reserved` names are taken by frameworks of bench. Raises `BenchError`."""
    path = runners_file()
    return {} if path is None else read_programs(path, frozenset(reserved))


def read_programs(path: Path, reserved: frozenset[str]) -> dict[str, Program]:
    """The rows of one file; raises `BenchError` with the row and the key that is wrong."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"cannot be read: {error}", where=str(path), hint=EXAMPLE) from error
    for name in rows:
        if not NAME.fullmatch(name) or name in reserved:
            what = "is a framework of bench" if name in reserved else "has more than a-z 0-9 . _ - in it"
            raise BenchError(f"the name {name!r} {what}", where=str(path), hint="give it another name")
    return {name: _program(name, row, path) for name, row in rows.items()}


def existing_files(program: Program) -> tuple[Path, ...]:
    """Its files; raises `BenchError` for one that is not there, and for two of the same name."""
    for number, one in enumerate(program.files):
        if not one.is_file():
            raise BenchError("there is no such file", where=f"[{program.name}] files: {one}", hint=EXAMPLE)
        if one.name in {other.name for other in program.files[:number]}:
            raise BenchError(
                f"two files are called {one.name!r}: they lie beside one another when it runs",
                where=f"[{program.name}] files",
            )
    return program.files


def _program(name: str, row: Any, path: Path) -> Program:
    where = f"{path}: [{name}]"
    if not isinstance(row, dict):
        raise BenchError("is not a table", where=where, hint=EXAMPLE)
    _check_keys(row, where)
    if row["from"] not in CONVERTERS:
        hint = f"one of {', '.join(CONVERTERS)}"
        raise BenchError(f"no converter makes {row['from']!r}", where=f"{where} from", hint=hint)
    made = Program(
        name=name,
        title=row.get("title", f"{name}, a program of one's own"),
        made_from=row["from"],
        files=tuple(path.absolute().parent / Path(one).expanduser() for one in row["files"]),
        command=tuple(row["command"]),
        times=None if row.get("speaks") == LINES else _pattern(row["times"], f"{where} times"),
        version=tuple(row.get("version", ())),
        environment=dict(row.get("environment", {})),
        precisions=tuple(row.get("precisions", ("fp32",))),
        notes=tuple(row.get("notes", ())),
    )
    _check_placeholders(made, where)
    return made


KEYS: Mapping[str, type] = {
    "from": str,
    "files": list,
    "command": list,
    "times": str,
    "speaks": str,
    "title": str,
    "version": list,
    "environment": dict,
    "precisions": list,
    "notes": list,
}
REQUIRED = ("from", "files", "command")


def _check_keys(row: Mapping[str, Any], where: str) -> None:
    for key in REQUIRED:
        if not row.get(key):
            raise BenchError(f"`{key}` is missing or empty", where=where, hint=EXAMPLE)
    if row.get("speaks", LINES) != LINES or ("speaks" in row) == ("times" in row):
        raise BenchError(
            f'either `times` says how long it took, or `speaks = "{LINES}"`', where=where, hint=EXAMPLE
        )
    for key, value in row.items():
        if key not in KEYS:
            hint = nearest(key, KEYS, otherwise=f"one of {', '.join(KEYS)}")
            raise BenchError(f"there is no key `{key}`", where=where, hint=hint)
        if not isinstance(value, KEYS[key]) or not all(isinstance(one, str) for one in _texts(value)):
            wanted = {"str": "a text", "list": "a list of texts", "dict": "a table of texts"}
            raise BenchError(f"`{key}` is not {wanted[KEYS[key].__name__]}", where=where, hint=EXAMPLE)
        if any("\0" in one for one in _texts(value)):
            raise BenchError(f"`{key}` has a NUL in it", where=where)


def _texts(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value.values() if isinstance(value, dict) else value)


def _pattern(text: str, where: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text, re.MULTILINE)
    except re.error as error:
        raise BenchError(f"is not a regular expression: {error}", where=where) from error
    if len(pattern.groupindex) != 1 or next(iter(pattern.groupindex)) not in TIMES:
        raise BenchError(
            "needs exactly one named group, which says what it is and its unit",
            where=where,
            hint=f"(?P<NAME>[0-9.]+) with a NAME of {', '.join(TIMES)}",
        )
    return pattern


def _check_placeholders(program: Program, where: str) -> None:
    stays = program.times is None
    for key, words, allowed in (
        ("command", program.command, (*FIXED, "input") if stays else PLAIN),
        ("version", program.version, FIXED),
        ("environment", tuple(program.environment.values()), FIXED),
    ):
        for word in words:
            _check_word(word, allowed, f"{where} {key}: {word!r}")
    used = program.placeholders()
    if "model" not in used or ("runs" not in used and not stays):
        missing = "model" if "model" not in used else "runs"
        raise BenchError(f"has no {{{missing}}}", where=f"{where} command", hint=EXAMPLE)
    if "output" in used and "input" not in used:
        raise BenchError(
            "has {output} and no {input}: outputs are compared for inputs that bench draws",
            where=f"{where} command",
        )


def _check_word(word: str, allowed: tuple[str, ...], where: str) -> None:
    found = placeholders_in(word)
    for one in found:
        numbered = NUMBERED.fullmatch(one)
        if (numbered[1] if numbered else one) not in allowed:
            raise BenchError(
                f"there is no placeholder {{{one}}} here",
                where=where,
                hint=nearest(one, allowed, otherwise=f"one of {', '.join(allowed)}, or input:0, output:0 …"),
            )
    repeated = [one for one in ("input", "output") if one in found]
    if len(repeated) > 1:
        raise BenchError("a word is repeated for every {input} or for every {output}, not both", where=where)
