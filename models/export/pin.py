"""The files of a pinned network: its graph, the recipe for its weights, its exact constants."""

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from models.errors import ModelError
from models.export.assemble import Constant, add_constants, assemble, external
from models.export.classify import distribution, is_constant
from models.export.traced import Traced
from models.recipe import Recipe, TensorRecipe, read_recipe
from models.weights import read_constants, weights_sha256

Array = NDArray[np.generic]

LOCATION = "weights.bin"


@dataclass(frozen=True, slots=True)
class Pinned:
    """`graph` is the content of `model.onnx`; `constants` holds the exact tensors by name."""

    graph: bytes
    recipe: Recipe
    constants: Mapping[str, Array]


def pin(traced: Traced, name: str, seed: int) -> Pinned:
    """What to keep of a traced network: everything but the weights, which are drawn anew from `seed`."""
    graph, constants = assemble(traced, name)
    tensors: list[TensorRecipe] = []
    stream = 0
    for constant in external(constants):
        tensors.append(_recipe(constant, stream))
        stream += tensors[-1].kind in ("normal", "uniform")
    by_name = {constant.name: constant.values for constant in constants}
    exact = {tensor.name: by_name[tensor.name] for tensor in tensors if tensor.kind == "exact"}
    recipe = Recipe(seed, tensors[-1].end if tensors else 0, "", tuple(tensors))
    return Pinned(
        graph=add_constants(graph, constants, LOCATION),
        recipe=replace(recipe, sha256=weights_sha256(recipe, exact)),
        constants=exact,
    )


def write(pinned: Pinned, folder: Path) -> None:
    """Write the files of `folder`, each at once, so that a killed process leaves none half written."""
    files = {"model.onnx": pinned.graph, "weights.toml": pinned.recipe.to_toml().encode()}
    if pinned.constants:
        files["constants.npz"] = _archive(pinned.constants)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "constants.npz").unlink(missing_ok=True)
    for name, content in files.items():
        partial = folder / f".{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, folder / name)


def differences(pinned: Pinned, folder: Path) -> tuple[str, ...]:
    """The first difference of each file in `folder` from `pinned`; none when they are equal.

    Constants are compared by content: how well they were compressed is no difference.
    """
    try:
        graph = (folder / "model.onnx").read_bytes()
        recipe = read_recipe(folder / "weights.toml")
        constants = read_constants(folder, recipe)
    except FileNotFoundError:
        return ("model.onnx: missing",)
    except ModelError as error:
        return (str(error),)
    found = (
        _graph_difference(graph, pinned.graph),
        _recipe_difference(recipe, pinned.recipe),
        _constant_difference(constants, pinned.constants),
    )
    return tuple(text for text in found if text)


def _archive(constants: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: constants[name] for name in sorted(constants)}
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _recipe(constant: Constant, stream: int) -> TensorRecipe:
    values = constant.values
    tensor = TensorRecipe(
        constant.name, "exact", tuple(values.shape), values.dtype.name, constant.offset, stream=stream
    )
    if is_constant(values) and values.dtype.kind in "fiu" and np.isfinite(values.flat[0]):
        # The shortest decimal that is exactly this float32.
        value = float(str(values.flat[0])) if values.dtype.kind == "f" else int(values.flat[0])
        return replace(tensor, kind="constant", value=value)
    if not constant.is_weight or values.dtype != np.float32:
        return tensor
    drawn = distribution(values)
    return replace(tensor, kind=drawn.kind, mean=drawn.mean, std=drawn.std)


def _graph_difference(old: bytes, new: bytes) -> str:
    if old == new:
        return ""
    lines = zip(_graph_lines(old), _graph_lines(new), strict=False)
    changed = (f"model.onnx: {was} became {now}" for was, now in lines if was != now)
    return next(changed, "model.onnx: another number of parts")


def _graph_lines(content: bytes) -> Iterator[str]:
    """One line for every part of a graph, nodes first."""
    graph = ModelProto.FromString(content).graph
    for part in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        for item in part:
            yield " ".join(str(item).split())


def _recipe_difference(old: Recipe, new: Recipe) -> str:
    lines = zip(old.to_toml().splitlines(), new.to_toml().splitlines(), strict=False)
    changed = [(was.strip(), now.strip()) for was, now in lines if was != now]
    # The hash in the head changes with any tensor: a tensor says more.
    changed.sort(key=lambda pair: pair[0].startswith("sha256"))
    if not changed and len(old.tensors) == len(new.tensors):
        return ""
    return "weights.toml: " + (
        f"{changed[0][0]} became {changed[0][1]}" if changed else "another number of tensors"
    )


def _constant_difference(old: Mapping[str, Array], new: Mapping[str, Array]) -> str:
    for name in sorted(old.keys() ^ new.keys()):
        return f"constants.npz: {name} is only in the {'pinned' if name in old else 'exported'} one"
    for name, values in new.items():
        if values.tobytes() != old[name].tobytes():
            where = int(np.argmax(values.reshape(-1) != old[name].reshape(-1)))
            was, now = old[name].reshape(-1)[where], values.reshape(-1)[where]
            return f"constants.npz: element {where} of {name} was {was}, became {now}"
    return ""
