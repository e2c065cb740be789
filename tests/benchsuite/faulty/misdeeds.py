"""Frameworks that do everything a framework should not, in a real worker: `python -m misdeeds`."""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np

from adapters import catalogue, worker
from adapters.ort import OrtAdapter
from adapters.protocol import Conversion, Converted, Inputs, Prepared, Session, Setting, Unsupported

MEMORY_LIMIT_BYTES = 3 * 2**30
GREED_BYTES = 8 * 2**30


def segfault() -> None:
    ctypes.string_at(0)


def hang() -> None:
    time.sleep(3600)


def be_greedy() -> None:
    np.ones(GREED_BYTES, dtype=np.uint8)


def die_of_bad_alloc() -> None:
    """What the C++ library says and does when nobody catches its exception."""
    print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
    os.abort()


def leave() -> None:
    print("licence expired", file=sys.stderr, flush=True)
    os._exit(3)


def leave_politely() -> None:
    sys.exit(0)


def complain() -> None:
    print("a line of the framework's own log", file=sys.stderr, flush=True)
    raise RuntimeError("no kernel for operator 'Conv'")


def chatter() -> None:
    """Through Python's print and through C's stdout, both without a newline at times."""
    print('{"ok": true, "run_ns": [1]}')
    print("progress 50 %", end="", flush=True)
    library = ctypes.CDLL(None)
    library.puts(b"{}")
    library.printf(b"hello from C")
    library.fflush(None)
    os.write(1, b"straight to the descriptor\n")


def forge_a_reply() -> None:
    """Find the pipe that replies go through and write to it."""
    for descriptor in range(3, 20):
        try:
            is_pipe = os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:")
        except OSError:
            continue
        if is_pipe:
            os.write(descriptor, b"\xff\xfe Segmentation fault\n")


def leave_a_child() -> None:
    """A helper process in the worker's own group that would run for ever."""
    if os.fork() == 0:
        os.close(0)
        time.sleep(3600)
        os._exit(0)


def nothing() -> None:
    """Behave."""


Outputs = Mapping[str, Any]


def as_nan(outputs: Outputs) -> Outputs:
    return {name: np.full_like(value, np.nan) for name, value in outputs.items()}


def flat(outputs: Outputs) -> Outputs:
    return {name: value.ravel() for name, value in outputs.items()}


def renamed(outputs: Outputs) -> Outputs:
    return {f"{name}_0": value for name, value in outputs.items()}


def slightly_off(outputs: Outputs) -> Outputs:
    return {name: value * 1.01 for name, value in outputs.items()}


def as_objects(outputs: Outputs) -> Outputs:
    return {name: np.array([{}]) for name in outputs}


def as_text(outputs: Outputs) -> Outputs:
    return {name: value.astype(str) for name, value in outputs.items()}


def refuse() -> None:
    raise Unsupported("operator Frobnicate (node 'head/warp') is not supported")


def succeed() -> None:
    print("converted", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Misdeed:
    """What a framework does when it converts (None: it reads ONNX), loads and runs, and to its outputs."""

    convert: Callable[[], None] | None = None
    load: Callable[[], None] = nothing
    run: Callable[[], None] = nothing
    outputs: Callable[[Outputs], Outputs] = dict


MISDEEDS = {
    "good": Misdeed(),
    "segfault": Misdeed(run=segfault),
    "segfault-in-load": Misdeed(load=segfault),
    "hang": Misdeed(run=hang),
    "greedy": Misdeed(load=be_greedy),
    "greedy-run": Misdeed(run=be_greedy),
    "bad-alloc": Misdeed(run=die_of_bad_alloc),
    "exit": Misdeed(run=leave),
    "polite-exit": Misdeed(run=leave_politely),
    "raises": Misdeed(run=complain),
    "chatty": Misdeed(load=chatter, run=chatter),
    "forger": Misdeed(run=forge_a_reply),
    "parent": Misdeed(load=leave_a_child),
    "nan": Misdeed(outputs=as_nan),
    "flat": Misdeed(outputs=flat),
    "renamed": Misdeed(outputs=renamed),
    "slightly-off": Misdeed(outputs=slightly_off),
    "objects": Misdeed(outputs=as_objects),
    "text": Misdeed(outputs=as_text),
    "converter-segfault": Misdeed(convert=segfault),
    "converter-hang": Misdeed(convert=hang),
    "converter-greedy": Misdeed(convert=be_greedy),
    "converter-raises": Misdeed(convert=complain),
    "converter-refuses": Misdeed(convert=refuse),
    "converter-leaves-nothing": Misdeed(convert=nothing),
    "converter-good": Misdeed(convert=succeed),
    "refuses": Misdeed(load=refuse),
    "half-precision": Misdeed(),
}


class FaultySession:
    """ONNX Runtime, until the misdeed."""

    def __init__(self, session: Session, misdeed: Misdeed) -> None:
        self._session, self._misdeed = session, misdeed

    def feed(self, inputs: Inputs) -> None:
        self._session.feed(inputs)

    def run(self) -> None:
        self._misdeed.run()
        self._session.run()

    def outputs(self) -> Outputs:
        return self._misdeed.outputs(self._session.outputs())

    def describe(self) -> Mapping[str, str]:
        halved = {"precision": "fp16"} if self._misdeed is MISDEEDS["half-precision"] else {}
        return {**self._session.describe(), **halved}


class FaultyAdapter(OrtAdapter):
    """ONNX Runtime with a misdeed, by name."""

    def conversion(self, setting: Setting) -> Conversion | None:
        return Conversion("a faulty converter", ("onnx",)) if MISDEEDS[self.name].convert else None

    def convert(self, source: Path, folder: Path, setting: Setting) -> Converted:
        misdeed = MISDEEDS[self.name].convert
        assert misdeed is not None
        misdeed()
        if misdeed is succeed:
            copy(source, folder / "net.converted")
        return Converted("net.converted", {"converted_for": setting.precision})

    def load(self, prepared: Prepared, setting: Setting) -> Session:
        misdeed = MISDEEDS[self.name]
        misdeed.load()
        return FaultySession(super().load(prepared, setting), misdeed)


OPTIONS = {"graph_optimization_level": "disable_all"}
ADAPTERS = {
    name: FaultyAdapter(name=name, title=name, distribution="onnxruntime", options=OPTIONS)
    for name in MISDEEDS
}


def main() -> None:
    """A worker that knows these frameworks too."""
    known = catalogue.adapter
    worker.adapter = lambda name: ADAPTERS[name] if name in ADAPTERS else known(name)
    worker.main()


if __name__ == "__main__":
    main()
