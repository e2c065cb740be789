"""The recipe for a pinned network's weights: `weights.toml`, parsed and written."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

from models.dtypes import ELEMENT_TYPES
from models.errors import ModelError

SCHEMA = 1
ALIGNMENT_BYTES = 64
DAMAGED = "the file is damaged: reinstall bench, or restore it with `git checkout`"

KIND_FIELDS: Mapping[str, tuple[str, ...]] = {
    "normal": ("mean", "std", "stream"),
    "uniform": ("mean", "std", "stream"),
    "constant": ("value",),
    "exact": (),  # the bytes are in constants.npz, under the tensor's name
}
COMMON_FIELDS = ("shape", "dtype", "offset")


@dataclass(frozen=True, slots=True)
class TensorRecipe:
    """How one weight is made and where in `weights.bin` it lies; fields that its kind does not use are 0."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    mean: float = 0.0
    std: float = 0.0
    stream: int = 0
    value: int | float = 0

    @property
    def element_count(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def byte_count(self) -> int:
        """Size in `weights.bin`, without padding."""
        return self.element_count * ELEMENT_TYPES[self.dtype].byte_count

    @property
    def end(self) -> int:
        """Offset of the first byte after this tensor."""
        return self.offset + self.byte_count

    def to_toml(self) -> str:
        """One inline table."""
        names = ("name", "kind", *KIND_FIELDS[self.kind], *COMMON_FIELDS)
        return "{" + ", ".join(f"{name} = {_toml(getattr(self, name))}" for name in names) + "}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """All weights of a network: drawn from `seed`, they fill `byte_count` bytes whose hash is `sha256`."""

    seed: int
    byte_count: int
    sha256: str
    tensors: tuple[TensorRecipe, ...]

    def to_toml(self) -> str:
        """The text of `weights.toml`; `parse_recipe` gives this recipe back exactly."""
        head: dict[str, int | str] = {
            "schema": SCHEMA,
            "seed": self.seed,
            "byte_count": self.byte_count,
            "sha256": self.sha256,
        }
        lines = [f"{name} = {_toml(value)}" for name, value in head.items()]
        lines += ["tensors = [", *(f"  {tensor.to_toml()}," for tensor in self.tensors), "]"]
        return "\n".join(lines) + "\n"


def read_recipe(path: Path) -> Recipe:
    """Read `weights.toml`; raises `ModelError` when it is missing or damaged."""
    return parse_recipe(_read_text(path), str(path))


def read_byte_count(path: Path) -> int:
    """Read only the size of `weights.bin`: the head of the file, so that listing all networks is quick."""
    head = _read_text(path).partition("\ntensors")[0]
    return _checked_integer(_parse_toml(head, str(path)), "byte_count", str(path))


def parse_recipe(text: str, where: str = "weights.toml") -> Recipe:
    """Parse and check the text of a recipe; `where` names it in errors (`ModelError`)."""
    table = _parse_toml(text, where)
    if table.get("schema") != SCHEMA:
        raise ModelError(
            f"schema {table.get('schema')!r} of the weight recipe is not {SCHEMA}", where=where, hint=DAMAGED
        )
    sha256 = table.get("sha256")
    if not isinstance(sha256, str) or len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ModelError("sha256 is not 64 hexadecimal digits", where=where, hint=DAMAGED)
    rows = table.get("tensors")
    if not isinstance(rows, list):
        raise ModelError("the list of tensors is missing", where=where, hint=DAMAGED)
    recipe = Recipe(
        seed=_checked_integer(table, "seed", where),
        byte_count=_checked_integer(table, "byte_count", where),
        sha256=sha256,
        tensors=tuple(_parse_tensor(row, f"{where}: tensor {index}") for index, row in enumerate(rows)),
    )
    _check_places(recipe, where)
    return recipe


def _parse_tensor(row: object, where: str) -> TensorRecipe:
    if not isinstance(row, dict) or row.get("kind") not in KIND_FIELDS:
        raise ModelError(f"not a tensor of kind {', '.join(KIND_FIELDS)}", where=where, hint=DAMAGED)
    names = {"name", "kind", *KIND_FIELDS[row["kind"]], *COMMON_FIELDS}
    if set(row) != names:
        odd = ", ".join(sorted(names ^ set(row)))
        raise ModelError(f"missing or unexpected fields: {odd}", where=where, hint=DAMAGED)
    place = f"{where} {row['name']!r}"
    shape, dtype = row["shape"], row["dtype"]
    if dtype not in ELEMENT_TYPES or (row["kind"] in ("normal", "uniform") and dtype != "float32"):
        raise ModelError(f"a {row['kind']} tensor cannot have dtype {dtype!r}", where=place, hint=DAMAGED)
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise ModelError(f"{shape!r} is not a shape", where=place, hint=DAMAGED)
    return TensorRecipe(
        name=_checked_name(row["name"], where),
        kind=row["kind"],
        shape=tuple(shape),
        dtype=dtype,
        offset=_checked_integer(row, "offset", place),
        mean=float(_checked_number(row, "mean", place)),
        std=float(_checked_number(row, "std", place)),
        stream=_checked_integer({"stream": 0, **row}, "stream", place),
        value=_checked_number(row, "value", place),
    )


def _check_places(recipe: Recipe, where: str) -> None:
    """Tensors are aligned, do not overlap, have names of their own, and end inside the file."""
    if len({tensor.name for tensor in recipe.tensors}) < len(recipe.tensors):
        raise ModelError("two tensors have the same name", where=where, hint=DAMAGED)
    free_from = 0
    for tensor in sorted(recipe.tensors, key=lambda tensor: (tensor.offset, tensor.end)):
        if tensor.offset < free_from or tensor.offset % ALIGNMENT_BYTES or tensor.end > recipe.byte_count:
            what = f"tensor {tensor.name!r} at {tensor.offset} overlaps, is unaligned or ends after the file"
            raise ModelError(what, where=where, hint=DAMAGED)
        free_from = tensor.end


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelError("the weight recipe is missing", where=str(path), hint=DAMAGED) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"the weight recipe cannot be read: {error}", where=str(path), hint=DAMAGED
        ) from error


def _parse_toml(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"the weight recipe is not TOML: {error}", where=where, hint=DAMAGED) from error


def _checked_name(name: object, where: str) -> str:
    if not isinstance(name, str) or not name:
        raise ModelError(f"{name!r} is not a tensor's name", where=where, hint=DAMAGED)
    return name


def _checked_integer(table: Mapping[str, Any], name: str, where: str) -> int:
    value = table.get(name)
    if type(value) is not int or not 0 <= value < 2**63:
        raise ModelError(f"{name} = {value!r} is not a whole number from 0", where=where, hint=DAMAGED)
    return value


def _checked_number(table: Mapping[str, Any], name: str, where: str) -> int | float:
    value = table.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ModelError(f"{name} = {value!r} is not a finite number", where=where, hint=DAMAGED)
    return value


def _toml(value: str | int | float | tuple[int, ...]) -> str:
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(list(value)) if isinstance(value, tuple) else repr(value)
