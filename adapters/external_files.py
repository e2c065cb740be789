"""Inputs and outputs of a user's own program as files of plain bytes, in the layout of its model's file."""

from pathlib import Path
from typing import Any

import numpy as np

from adapters.interface import Interface, onnx_interface, read_interface
from adapters.protocol import Unsupported
from adapters.runners import NUMBERED, Program, placeholders_in
from models.errors import BenchError


def interface_of(program: Program, model: Path) -> Interface:
    """The network's inputs and outputs as the program's file has them; raises `Unsupported` when its command
    names inputs or outputs that the network does not have, or only some of the outputs.
    """
    found = onnx_interface(model) if program.made_from == "onnx" else read_interface(model.parent)
    named: dict[str, set[int]] = {"input": set(), "output": set()}
    every = set[str]()
    for word in program.command:
        for one in placeholders_in(word):
            numbered = NUMBERED.fullmatch(one)
            if numbered:
                named[numbered[1]].add(int(numbered[2]))
            elif one in named:
                every.add(one)
    for kind, ports in (("input", found.inputs), ("output", found.outputs)):
        if named[kind] and max(named[kind]) >= len(ports):
            last = f"{{{kind}:{max(named[kind])}}}"
            raise Unsupported(f"its command names {last}, the network has {len(ports)} {kind}s")
        if named[kind] and kind not in every and len(named[kind]) < len(ports):
            raise Unsupported(f"its command names {len(named[kind])} of the network's {len(ports)} {kind}s")
    return found


def write_inputs(interface: Interface, archive: Path, folder: Path) -> tuple[Path, ...]:
    """The network's inputs (npz) as plain bytes, a file each, as the program's file has them."""
    with np.load(archive, allow_pickle=False) as arrays:
        paths = tuple(folder / f"input-{number}" for number in range(len(interface.inputs)))
        for path, port in zip(paths, interface.inputs, strict=True):
            path.write_bytes(port.to_native(arrays[port.name]).tobytes())
    return paths


def read_outputs(interface: Interface, raw: bytes) -> dict[str, Any]:
    """Arrays by ONNX's names from the bytes of all outputs, one after another; raises `BenchError` when they
    are too many or too few.
    """
    found, start = {}, 0
    for port in interface.outputs:
        dtype = np.dtype(port.native_dtype)
        end = start + int(np.prod(port.shape, dtype=np.int64)) * dtype.itemsize
        if end > len(raw):
            break
        found[port.name] = port.to_onnx(np.frombuffer(raw[start:end], dtype))
        start = end
    if len(found) < len(interface.outputs) or start != len(raw):
        wanted = ", ".join(
            f"{port.name}: {list(port.shape)} {port.native_dtype}" for port in interface.outputs
        )
        raise BenchError(f"the program wrote {len(raw)} bytes of outputs, which do not fit {wanted}")
    return found
