"""The networks of `zoo.toml`, and the pinned graphs that belong to them."""

import hashlib
import tomllib
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_args

from models.dtypes import ELEMENT_TYPES
from models.errors import ModelError
from models.model import Draw, InputSpec, Model, ZooRow
from models.recipe import read_byte_count

ZOO_FILE = Path(__file__).parent / "zoo.toml"
GRAPHS = Path(__file__).parent / "graphs"
PINNED_FILES = ("model.onnx", "weights.toml", "constants.npz")
OPTIONAL_FILES = ("constants.npz",)
DIGEST_DIGITS = 16
INPUT_FIELDS = {field.name for field in fields(InputSpec)}


@cache
def zoo_rows(path: Path = ZOO_FILE) -> tuple[ZooRow, ...]:
    """All rows in the order of the file; raises `ModelError` when a row is wrong."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    rows = tuple(_parse_row(row, str(path)) for row in table["model"])
    names = [row.name for row in rows]
    taken = set(names) & {name for row in rows for name in row.sets}
    if len(set(names)) < len(names) or taken:
        raise ModelError(f"two rows, or a row and a set, share a name: {taken or names}", where=str(path))
    return rows


def zoo_row(name: str) -> ZooRow:
    """The row of the network `name`, which must exist."""
    return next(row for row in zoo_rows() if row.name == name)


def pinned_model(row: ZooRow, graphs: Path = GRAPHS) -> Model:
    """The network of a row, with its pinned graph in `graphs`; raises `ModelError` when files are missing.

    Reads only the small files of the graph and the head of the recipe: weights are neither there nor needed.
    """
    folder = graphs / row.name
    digest = hashlib.sha256()
    for name in PINNED_FILES:
        path = folder / name
        if name in OPTIONAL_FILES and not path.exists():
            continue
        try:
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise ModelError(
                f"the pinned graph cannot be read: {error.strerror}",
                where=str(path),
                hint=f"reinstall bench, or make it again with `bench models export {row.name}`",
            ) from error
    return Model(
        name=row.name,
        title=row.title,
        inputs=row.inputs,
        graph=folder / "model.onnx",
        digest=digest.hexdigest()[:DIGEST_DIGITS],
        weight_byte_count=read_byte_count(folder / "weights.toml"),
        row=row,
    )


def _parse_row(table: dict[str, Any], where: str) -> ZooRow:
    place = f"{where}: model {table.get('name')!r}"
    expected = {field.name for field in fields(ZooRow)} - {"inputs"} | {"input"}
    if set(table) != expected:
        raise ModelError(
            f"missing or unexpected fields: {', '.join(sorted(expected ^ set(table)))}", where=place
        )
    inputs = tuple(_parse_input(spec, place) for spec in table.pop("input"))
    return ZooRow(**{**table, "sets": tuple(table["sets"]), "inputs": inputs})


def _parse_input(table: dict[str, Any], where: str) -> InputSpec:
    odd = set(table) - INPUT_FIELDS or {"name", "shape", "dtype", "draw"} - set(table)
    if odd:
        raise ModelError(f"missing or unexpected fields of an input: {', '.join(sorted(odd))}", where=where)
    spec = InputSpec(**{**table, "shape": tuple(table["shape"])})
    if spec.dtype not in ELEMENT_TYPES or spec.draw not in get_args(Draw):
        raise ModelError(
            f"input {spec.name!r}: unknown dtype {spec.dtype!r} or draw {spec.draw!r}", where=where
        )
    if spec.draw == "integers" and spec.low >= spec.high:
        raise ModelError(f"input {spec.name!r}: no integer from {spec.low} below {spec.high}", where=where)
    return spec
