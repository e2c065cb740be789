"""Phones by name: rows of `devices.toml` and of the user's own file, matched by properties."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from platformdirs import user_config_path

from benchsuite.device.adb.network import host_and_port
from benchsuite.device.link import NETWORK
from models.errors import BenchError

TABLE = Path(__file__).parent.parent / "devices.toml"
FILE_VARIABLE = "BENCH_DEVICES"
EXAMPLE = (
    'such as [mine]  title = "My phone"  match = { "ro.product.device" = ["o1s"] }, or, on the network,'
    ' address = "tcp:192.168.0.7:5555"'
)


@dataclass(frozen=True, slots=True)
class Profile:
    """A row: the name that the user types, a title, and for each property the patterns of which one must
    fit; or, for one phone on the network, its address as `tcp:HOST:PORT`.
    """

    name: str
    title: str
    match: Mapping[str, tuple[str, ...]]
    address: str = ""

    def fits(self, properties: Mapping[str, str]) -> bool:
        """Whether a phone of the adb server with these properties is meant."""
        return not self.address and all(
            any(fnmatchcase(properties.get(name, ""), pattern) for pattern in patterns)
            for name, patterns in self.match.items()
        )


def profiles() -> dict[str, Profile]:
    """All rows; the user's own win. Raises `BenchError` for a file that cannot be understood."""
    named = os.environ.get(FILE_VARIABLE)
    own = Path(named) if named else user_config_path("bench") / "devices.toml"
    if named and not own.is_file():
        raise BenchError("there is no such file", where=str(own), hint=f"{FILE_VARIABLE} names it")
    return {**read_profiles(TABLE), **(read_profiles(own) if own.is_file() else {})}


def read_profiles(path: Path) -> dict[str, Profile]:
    """The rows of one file; raises `BenchError` with the row that is wrong."""
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(
            f"the table of phones cannot be read: {error}", where=str(path), hint=EXAMPLE
        ) from error
    return {name: _profile(name, row, path) for name, row in rows.items()}


def _profile(name: str, row: Any, path: Path) -> Profile:
    where = f"{path}: [{name}]"
    kinds = ({"title", "match"}, {"title", "address"})
    if not isinstance(row, dict) or set(row) not in kinds or not isinstance(row["title"], str):
        raise BenchError(
            "a row has `title`, and `match` or `address`, and nothing else", where=where, hint=EXAMPLE
        )
    if "address" in row:
        return Profile(name, row["title"], {}, _address(row["address"], where))
    match = row["match"]
    lists = isinstance(match, dict) and match and all(isinstance(one, list) and one for one in match.values())
    if not lists or not all(isinstance(text, str) for one in match.values() for text in one):
        raise BenchError("`match` is a table of lists of texts, not empty", where=where, hint=EXAMPLE)
    return Profile(name, row["title"], {key: tuple(values) for key, values in match.items()})


def _address(text: Any, where: str) -> str:
    try:
        if isinstance(text, str) and text.startswith(NETWORK):
            host_and_port(text)
            return text
    except BenchError:
        pass  # said with the row
    raise BenchError("`address` is tcp:HOST:PORT", where=where, hint=EXAMPLE)
