"""All weights of a pinned network as the bytes of `weights.bin`, drawn in parallel, given in file order."""

import hashlib
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from models.draw import Array, draw_piece
from models.errors import ModelError
from models.recipe import DAMAGED, Recipe, TensorRecipe

THREAD_COUNT = 2
PIECE_VALUES = 4 * 2**20  # 16 MiB of float32: a few pieces in flight stay far below 200 MB
PIECES_IN_FLIGHT = 4


def read_constants(folder: Path, recipe: Recipe) -> dict[str, Array]:
    """The `exact` tensors, from `constants.npz` in the folder of the graph, checked against the recipe."""
    exact = [tensor for tensor in recipe.tensors if tensor.kind == "exact"]
    path = folder / "constants.npz"
    if not exact:
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            constants = {tensor.name: archive[tensor.name] for tensor in exact}
    except FileNotFoundError:
        raise ModelError("the exact constants are missing", where=str(path), hint=DAMAGED) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"the exact constants cannot be read: {error}", where=str(path), hint=DAMAGED
        ) from error
    for tensor in exact:
        found = constants[tensor.name]
        if found.shape != tensor.shape or found.dtype != np.dtype(tensor.dtype):
            what = (
                f"constant {tensor.name!r} is {found.dtype} {found.shape}, not {tensor.dtype} {tensor.shape}"
            )
            raise ModelError(what, where=str(path), hint=DAMAGED)
    return constants


def draw_weights(
    recipe: Recipe,
    constants: Mapping[str, Array],
    *,
    thread_count: int = THREAD_COUNT,
    piece_values: int = PIECE_VALUES,
) -> Iterator[memoryview]:
    """The content of `weights.bin`, in order; the bytes depend on neither `thread_count` nor `piece_values`.

    `piece_values` (a multiple of 16) bounds the memory: at most a handful of pieces exist at a time.
    """
    with ThreadPoolExecutor(thread_count, thread_name_prefix="draw") as pool:
        waiting: deque[tuple[int, Future[memoryview]]] = deque()
        position = 0
        pieces = _pieces(recipe, constants, piece_values)
        while True:
            for offset, make in islice(pieces, PIECES_IN_FLIGHT - len(waiting)):
                waiting.append((offset, pool.submit(make)))
            if not waiting:
                break
            offset, drawn = waiting.popleft()
            if offset > position:
                yield _padding(offset - position)
            data = drawn.result()
            yield data
            position = offset + data.nbytes
    if recipe.byte_count > position:
        yield _padding(recipe.byte_count - position)


def weights_sha256(recipe: Recipe, constants: Mapping[str, Array]) -> str:
    """Hash of the drawn `weights.bin`: what an exporter writes into `Recipe.sha256`."""
    digest = hashlib.sha256()
    for data in draw_weights(recipe, constants):
        digest.update(data)
    return digest.hexdigest()


def _pieces(
    recipe: Recipe, constants: Mapping[str, Array], piece_values: int
) -> Iterator[tuple[int, Callable[[], memoryview]]]:
    """Offset and maker of every piece, in file order."""
    for tensor in sorted(recipe.tensors, key=lambda tensor: tensor.offset):
        if tensor.kind == "exact":
            yield tensor.offset, partial(_file_bytes, constants[tensor.name])
            continue
        item_bytes = tensor.byte_count // max(tensor.element_count, 1)
        for start in range(0, tensor.element_count, piece_values):
            count = min(piece_values, tensor.element_count - start)
            yield tensor.offset + start * item_bytes, partial(_drawn_bytes, tensor, recipe.seed, start, count)


def _padding(byte_count: int) -> memoryview:
    return memoryview(bytes(byte_count))


def _drawn_bytes(tensor: TensorRecipe, seed: int, start: int, count: int) -> memoryview:
    return _file_bytes(draw_piece(tensor, seed, start, count))


def _file_bytes(values: Array) -> memoryview:
    """Row-major, little-endian."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False).view(np.uint8).data
