"""From what the user types after `--models` to networks."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from models.errors import ModelError
from models.model import Model
from models.suggest import nearest
from models.tiny_set import TINY, TINY_NETWORKS, tiny_model
from models.zoo import GRAPHS, pinned_model, zoo_rows

ALL = "all"
SUFFIX = ".onnx"
LIST_THEM = "`bench models list` shows the names"


def sets() -> Mapping[str, tuple[str, ...]]:
    """Every named set of the zoo and the names of its networks, in the zoo's order; `tiny` is not of it."""
    names = dict.fromkeys(name for row in zoo_rows() for name in row.sets)
    return {name: tuple(row.name for row in zoo_rows() if name in row.sets) for name in names}


def has_name(model: Model) -> bool:
    """Whether its name alone stands for the network: one of the zoo or of `tiny`, no file of the user's."""
    return model.is_pinned or model.name in TINY_NETWORKS


def all_models(graphs: Path = GRAPHS) -> tuple[Model, ...]:
    """Every network of the zoo; raises `ModelError` when a pinned graph is missing."""
    return tuple(pinned_model(row, graphs) for row in zoo_rows())


def resolve(
    selection: str, dims: Mapping[str, int] | None = None, graphs: Path = GRAPHS
) -> tuple[Model, ...]:
    """The networks of a selection: `all` (of the zoo), a set, a name, the path of an .onnx file, or several.

    Order is kept, what is named twice is run once, and no two networks have the same name. `dims` binds
    symbolic dimensions of the user's files. Raises `ModelError` for names and dimensions that do not exist.
    """
    names, files = [], []
    for part in _parts(selection):
        if part.lower().endswith(SUFFIX):
            names.append(part)
            files.append(part)
        else:
            names.extend(_zoo_names(part))
    own = _user_models(list(dict.fromkeys(files)), dims or {})
    rows = {row.name: row for row in zoo_rows()}
    chosen = [
        own[name] if name in own else pinned_model(rows[name], graphs) if name in rows else tiny_model(name)
        for name in dict.fromkeys(names)
    ]
    unique: dict[tuple[str, str], Model] = {}
    for model in chosen:
        unique.setdefault((model.name, model.digest), model)
    return tuple(unique.values())


def _parts(selection: str) -> list[str]:
    if os.path.isfile(selection):  # a path may have a comma in it; unlike Path, this takes any length
        return [selection]
    parts = [part.strip() for part in selection.split(",")]
    if not any(parts):
        raise ModelError("no network was named", hint=f"`all`, or a name: {LIST_THEM}")
    return [part for part in parts if part]


def _zoo_names(part: str) -> tuple[str, ...]:
    """The names behind `all`, a set or a name, in any case."""
    single: dict[str, tuple[str, ...]] = {row.name: (row.name,) for row in zoo_rows()}
    tiny = {name: (name,) for name in TINY_NETWORKS} | {TINY: tuple(TINY_NETWORKS)}
    known = single | dict(sets()) | {ALL: tuple(single)} | tiny
    names = known.get(part.lower())
    if names is not None:
        return names
    if os.path.exists(part):
        raise ModelError("not the name of a network", where=part, hint="a file's name must end in .onnx")
    raise ModelError(f"no network or set is called {part!r}", hint=nearest(part, known, otherwise=LIST_THEM))


def _user_models(files: list[str], dims: Mapping[str, int]) -> dict[str, Model]:
    """The user's files by their path as typed, each under a name that nothing else has."""
    models = {}
    if files:
        from models.onnx_file import read_user_model  # onnx takes long to import

        models = {file: read_user_model(Path(file), dims) for file in files}
    _check_dims(models, dims)
    taken = {row.name for row in zoo_rows()} | set(TINY_NETWORKS)
    alike = Counter(name for name, _ in {(model.name, model.digest) for model in models.values()})
    for file, model in models.items():
        if alike[model.name] > 1:
            models[file] = replace(model, name=f"{model.name}-{model.digest[:6]}")
        elif model.name in taken:
            models[file] = replace(model, name=f"{model.name}{SUFFIX}")
    return models


def _check_dims(models: Mapping[str, Model], dims: Mapping[str, int]) -> None:
    known = dict.fromkeys(name for model in models.values() for name, _ in model.dims)
    unknown = [name for name in dims if name not in known]
    if not unknown:
        return
    free = ", ".join(known)
    raise ModelError(
        f"no dimension is called {unknown[0]!r}",
        where=f"--dim {unknown[0]}={dims[unknown[0]]}",
        hint=nearest(unknown[0], known, otherwise=f"the dimensions without a size are: {free}")
        if known
        else "leave --dim out: only ONNX files with symbolic dimensions take it, and here is none",
    )
