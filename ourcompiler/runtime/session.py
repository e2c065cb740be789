"""A loaded network: inputs are checked and copied in, outputs are views of the session's memory."""

import _ctypes
import ctypes
import mmap
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ourcompiler.errors import CompileError
from ourcompiler.ir.graph import Array
from ourcompiler.ir.types import TensorType
from ourcompiler.stored import LIBRARY, WEIGHTS, Package
from ourcompiler.targets import runnable_here


class Session:
    """Runs a package with a number of threads. Not for several threads at once.

    Raises `CompileError` for a package of another kind of machine, or memory that cannot be had.
    """

    def __init__(self, package: Package, *, threads: int = 1) -> None:
        if package.target not in runnable_here():
            raise CompileError(
                f"a package for {package.target} does not run here",
                where=str(package.folder),
                hint=f"compile it for one of {', '.join(runnable_here())}",
            )
        self.package = package
        self._library = _library(package.folder / LIBRARY)
        self._weights = _Mapped(package.folder / WEIGHTS)
        address = ctypes.c_void_p(self._weights.address)
        self._session = self._library.ours_open(address, self._weights.byte_count, threads)
        if not self._session:
            raise CompileError(
                "the session cannot be opened: memory, threads or the weights are short",
                where=str(package.folder),
                hint=f"asked for {threads} threads",
            )
        self._inputs = self._arrays("ours_input", package.inputs)
        self._outputs = self._arrays("ours_output", package.outputs)

    def _arrays(self, function: str, rows: tuple[tuple[str, TensorType], ...]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for number, (name, one) in enumerate(rows):
            place = getattr(self._library, function)(self._session, number)
            data = (ctypes.c_uint8 * one.byte_count).from_address(place)
            found[name] = np.ctypeslib.as_array(data).view(one.dtype.numpy).reshape(one.shape)
        return found

    def set_inputs(self, inputs: Mapping[str, Array]) -> None:
        """Copy the inputs in; raises `CompileError` for one that is missing, unknown, or of another type."""
        unknown = sorted(set(inputs) - set(self._inputs))
        if unknown:
            raise CompileError(f"there is no input {unknown[0]!r}", hint=f"inputs: {', '.join(self._inputs)}")
        for name, one in self.package.inputs:
            if name not in inputs:
                raise CompileError(f"input {name!r} is missing", hint=f"give one of {one}")
            value = np.asarray(inputs[name])
            if value.dtype != one.dtype.numpy or value.shape != one.shape:
                raise CompileError(f"input {name!r} is {value.dtype}{list(value.shape)}, not {one}")
            np.copyto(self._inputs[name], value)

    def execute(self) -> None:
        """Run once; raises `CompileError` when an index in the data lies outside what it chooses from."""
        self._check(self._library.ours_run(self._session))

    def _check(self, step: int) -> None:
        if step < 0:
            return
        kernel, origin = self.package.steps[step]
        raise CompileError(
            "an index in the data lies outside what it chooses from",
            where=f"node {origin[0]!r}" if origin else f"kernel {kernel}",
            hint="check the inputs: indices of n elements are -n to n - 1",
        )

    def outputs(self) -> dict[str, Array]:
        """The results, in memory that the next run overwrites."""
        return dict(self._outputs)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs in, run, copies of the results out."""
        self.set_inputs(inputs)
        self.execute()
        return {name: value.copy() for name, value in self._outputs.items()}

    def profile(self, runs: int = 1) -> list[float]:
        """Nanoseconds of each kernel call, the mean of some runs."""
        total = (ctypes.c_int64 * max(len(self.package.steps), 1))()
        for _ in range(runs):
            self._check(self._library.ours_profile(self._session, total))
        return [one / runs for one in total[: len(self.package.steps)]]

    def close(self) -> None:
        """End the threads and give the memory back; arrays of `outputs` must not be used any more."""
        if self._session:
            self._inputs, self._outputs = {}, {}
            self._library.ours_close(self._session)
            self._session = None
            self._weights.close()
            # Else a library that is compiled again at the same place may be taken for this one.
            _ctypes.dlclose(self._library._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Mapped:
    """A file in memory, read only when it is touched, shared with every process that has it."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = np.frombuffer(self._map, np.uint8)
        self.address = int(self._view.ctypes.data)
        self.byte_count = len(self._map)

    def close(self) -> None:
        del self._view
        self._map.close()


def _library(path: Path) -> Any:
    """The loader takes two libraries of one name for the same, even when the file is another one by now: so
    every session has a name of its own for it.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="ours-") as folder:
            link = Path(folder) / path.name
            os.symlink(path.resolve(), link)
            library = ctypes.CDLL(str(link))
    except OSError as error:
        raise CompileError(f"the library cannot be loaded: {error}", where=str(path)) from error
    pointer, number, size = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    for name, result, arguments in (
        ("ours_open", pointer, (pointer, size, number)),
        ("ours_input", pointer, (pointer, number)),
        ("ours_output", pointer, (pointer, number)),
        ("ours_run", number, (pointer,)),
        ("ours_profile", number, (pointer, ctypes.POINTER(ctypes.c_int64))),
        ("ours_close", None, (pointer,)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
