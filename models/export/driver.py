"""Make a pinned network again from its module here, or check that it would come out the same."""

import importlib
import inspect
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from onnx import ModelProto

from models.errors import ModelError
from models.export.assemble import assemble, write_complete
from models.export.pin import Pinned, differences, pin, write
from models.model import ZooRow
from models.suggest import nearest
from models.zoo import zoo_row, zoo_rows

if TYPE_CHECKING:
    from torch import nn

    from models.export.traced import Traced

SEED = 18
INSTALL_HINT = "make the environment with PyTorch and the model libraries: `make export-env`"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export made, or a check found; `differences` is empty when the pinned files still match."""

    name: str
    node_count: int
    weight_byte_count: int
    pinned_byte_count: int
    seconds: float
    differences: tuple[str, ...] = ()


def export(name: str, graphs_folder: Path, *, check: bool) -> ExportReport:
    """Export the network `name` to `graphs_folder/<name>/`, or with `check` only compare with what is there.

    Raises `ModelError` for an unknown name and where the export extra is missing.
    """
    started = time.perf_counter()
    row = _row(name)
    pinned = _pin(row)
    folder = graphs_folder / name
    found = differences(pinned, folder) if check else ()
    if not check:
        write(pinned, folder)
    return ExportReport(
        name=name,
        node_count=len(ModelProto.FromString(pinned.graph).graph.node),
        weight_byte_count=pinned.recipe.byte_count,
        pinned_byte_count=sum(path.stat().st_size for path in folder.iterdir()) if folder.is_dir() else 0,
        seconds=time.perf_counter() - started,
        differences=found,
    )


def export_pretrained(name: str, path: Path) -> None:
    """Write the network with its trained weights from the hub to `path`, and the weights to `<path>.data`.

    Raises `ModelError` where the network has no such weights, or they cannot be had.
    """
    row = _row(name)
    module = _module(name)
    if "pretrained" not in inspect.signature(module.build).parameters:
        raise ModelError(
            "has no trained weights: its module is ours, written from the paper",
            where=name,
            hint=f"export it with drawn weights: `bench models export {name}`",
        )
    graph, constants = assemble(_trace(row, module, _pretrained(name, module)), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_complete(graph, constants, path)


def _row(name: str) -> ZooRow:
    names = [row.name for row in zoo_rows()]
    if name not in names:
        raise ModelError(
            f"no network of the zoo is called {name!r}",
            hint=nearest(name, names, otherwise="`bench models list` shows them all"),
        )
    return zoo_row(name)


def _module(name: str) -> ModuleType:
    try:
        importlib.import_module("torch")
        return importlib.import_module(f"models.export.{name.replace('-', '_')}")
    except ModuleNotFoundError as error:
        raise ModelError(
            f"exporting needs the package {error.name}, which is not installed", where=name, hint=INSTALL_HINT
        ) from error


def _pin(row: ZooRow) -> Pinned:
    module = _module(row.name)  # first: it says what to do when there is no PyTorch
    import torch

    from models.export.spread import spread_equal_weights

    # The order of sums, and with it their last bits, depends on the number of threads.
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    network = module.build()
    spread_equal_weights(network)
    return pin(_trace(row, module, network), row.name, SEED)


def _pretrained(name: str, module: ModuleType) -> "nn.Module":
    try:
        return module.build(pretrained=True)
    except Exception as error:  # the hub's clients raise whatever their transport raises
        raise ModelError(
            f"the trained weights could not be had: {type(error).__name__}: {error}",
            where=name,
            hint="connect to huggingface.co, or point HF_HOME at a cache that holds them",
        ) from error


def _trace(row: ZooRow, module: ModuleType, network: "nn.Module") -> "Traced":
    from models.export.trace import trace

    return trace(network.eval(), row.inputs, module.OUTPUTS)
