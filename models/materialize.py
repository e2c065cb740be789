"""Make a network ready to run, once, in the cache: draw a pinned one's weights, bind a user's dimensions."""

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from models.cache import is_complete, publish
from models.errors import ModelError
from models.model import Model
from models.recipe import read_recipe

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""

SYNC_BYTES = 256 * 2**20


def materialize(model: Model, cache_dir: Path, progress: Progress | None = None) -> Path:
    """Return the path of an ONNX file to run, with its weights beside it.

    For a pinned network that is `cache_dir/models/<name>-<digest>/model.onnx`, made at the first call:
    weights are drawn in pieces, so that memory stays small whatever the network's size. A user's file is used
    where it lies, unless dimensions were bound or nodes have no names of their own. Raises `ModelError` when
    the cache cannot be used (full, read-only, not a folder), when files of the zoo are damaged, or when the
    drawn weights are not the pinned ones.
    """
    if not model.is_pinned and not model.dims and model.has_own_names:
        return model.graph
    folder = cache_dir / "models" / f"{model.name}-{model.digest}"
    if not is_complete(folder):
        fill = _fill_pinned if model.is_pinned else _fill_bound
        needed = model.weight_byte_count if model.is_pinned else 0  # a user's weights are linked, if possible
        publish(folder, needed, lambda partial: fill(model, partial, progress or _silent))
    return folder / "model.onnx"


def _silent(done: int, total: int) -> None:
    """Report progress to nobody."""


def _fill_bound(model: Model, folder: Path, progress: Progress) -> None:
    """Copy a user's file with its dimensions bound and its nodes named; ONNX Runtime wants its weights files
    below its folder.
    """
    from models.onnx_file import external_files, write_bound

    for location in external_files(model.graph):
        target = folder / location
        target.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy((model.graph.parent / location).resolve(), target)
    write_bound(model.graph, dict(model.dims), folder / "model.onnx")
    progress(model.weight_byte_count, model.weight_byte_count)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _fill_pinned(model: Model, folder: Path, progress: Progress) -> None:
    """Draw all weights to `weights.bin` and check their hash, then copy the graph."""
    from models.weights import draw_weights, read_constants

    recipe = read_recipe(model.graph.parent / "weights.toml")
    constants = read_constants(model.graph.parent, recipe)
    digest, done = hashlib.sha256(), 0
    with (folder / "weights.bin").open("wb", buffering=0) as file, _Flusher(file.fileno()) as flusher:
        for data in draw_weights(recipe, constants):
            digest.update(data)
            _write_all(file.fileno(), data)
            done += data.nbytes
            flusher.written(data.nbytes)
            progress(done, recipe.byte_count)
    if digest.hexdigest() != recipe.sha256:
        raise ModelError(
            f"the drawn weights are not the pinned ones: sha256 {digest.hexdigest()[:16]}…, "
            f"expected {recipe.sha256[:16]}…",
            where=model.name,
            hint="reinstall bench and numpy; if that does not help, please report this machine",
        )
    shutil.copyfile(model.graph, folder / "model.onnx")


def _write_all(descriptor: int, data: memoryview) -> None:
    """Write every byte: a single `write` may stop early, at 2 GiB or when the disk is nearly full."""
    while data.nbytes:
        data = data[os.write(descriptor, data) :]


class _Flusher:
    """Sends written data to the disk while more is drawn, instead of waiting for all of it at the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._flush: Future[None] | None = None
        self._unflushed_bytes = 0

    def written(self, byte_count: int) -> None:
        """Start a flush when enough has gathered; an error of the previous one is raised here."""
        self._unflushed_bytes += byte_count
        if self._unflushed_bytes < SYNC_BYTES:
            return
        if self._flush is not None:
            self._flush.result()
        self._flush = self._pool.submit(os.fdatasync, self._descriptor)
        self._unflushed_bytes = 0

    def __enter__(self) -> "_Flusher":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=True)
        if self._flush is not None and kind is None:
            self._flush.result()  # a write error is reported to one flush only: it must not get lost
