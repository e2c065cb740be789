"""ONNX to ncnn with pnnx; runs in the environment `pnnx`, which has ncnn too: only it can tell a good file.

pnnx ends with exit code 0 and a file whatever it made of the network. What it could not translate stays in
the file under PyTorch's name, which ncnn does not have.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from adapters.interface import Interface, Port, onnx_interface
from adapters.ncnn_rewrites import rewrite
from adapters.protocol import Converted, Unsupported

if TYPE_CHECKING:
    from onnx import ModelProto

PROGRAM_NAME = "program.py"
BATCH_AXIS = re.compile(r"\b(?P<key>(?:in|out)\d+)\.numpy\((?:\), )?batch_index=(?P<axis>\d+)")
"""In the example program that pnnx writes: which axis of a tensor is the batch, to ncnn something apart."""
PARAM_NAME, BIN_NAME = "model.ncnn.param", "model.ncnn.bin"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
COMPLAINT = re.compile(r"not supported|unsupported|unhandled|FATAL", re.I)
UNKNOWN_LAYER = re.compile(r"layer (?P<type>\S+) not exists or registered")
ONNX_LIMIT_BYTES = 2**31
NATIVE_DTYPES = {"float32": "float32", "int32": "int32", "int64": "int32"}
HEADER_LINES = 2
"""Of a .param file: the magic number, and how many layers and blobs there are."""


def convert_onnx(source: Path, folder: Path, options: Mapping[str, str]) -> Converted:
    """Convert the ONNX file `source` into `folder`: the .param and .bin files and `interface.json`.

    The options that go to `load` are the batch axes. Raises `Unsupported` for a layer that ncnn does not
    have, with what pnnx says about it; for dtypes without a place at ncnn's border, and for weights beyond
    2 GB.
    """
    from models.count import infer_shapes
    from models.onnx_file import load_graph

    native_interface(onnx_interface(source)).write(folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        network = Path(scratch) / "network.onnx"
        proto = with_weights_inside(source)
        if options["rewrites"] == "1":
            rewrite(proto, infer_shapes(load_graph(source)))
        network.write_bytes(proto.SerializeToString())
        log = _run_pnnx(network, folder, options)
        axes = _batch_axes(Path(scratch) / PROGRAM_NAME)
    if not (folder / PARAM_NAME).exists() or not (folder / BIN_NAME).exists():
        raise RuntimeError(f"pnnx left no file; its last words: {_last(log)}")
    _check_layers(folder, log)
    return Converted(PARAM_NAME, axes)


def native_interface(interface: Interface) -> Interface:
    """The inputs and outputs as pnnx names them, `in0` … and `out0` …."""
    inputs = [_native(port, f"in{index}") for index, port in enumerate(interface.inputs)]
    outputs = [_native(port, f"out{index}") for index, port in enumerate(interface.outputs)]
    return Interface(tuple(inputs), tuple(outputs))


def _native(port: Port, key: str) -> Port:
    if any(size < 1 for size in port.shape):
        raise Unsupported(f"{port.name!r} has a dimension without a size: {list(port.shape)}")
    if port.dtype not in NATIVE_DTYPES:
        raise Unsupported(f"ncnn has no tensor of {port.dtype} at its border: {port.name!r}")
    return replace(port, key=key, native_dtype=NATIVE_DTYPES[port.dtype])


def with_weights_inside(source: Path) -> "ModelProto":
    """The network in one piece: pnnx does not find every tensor that lies in a file beside it."""
    from models.onnx_external import EXTERNAL, all_tensors
    from models.onnx_file import load_graph

    network = load_graph(source)
    tensors = [tensor for tensor in all_tensors(network) if tensor.data_location == EXTERNAL]
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in tensors]
    total = sum(int(place["length"]) for place in places) + network.ByteSize()
    if total >= ONNX_LIMIT_BYTES:
        size = f"{total / 1e9:.1f} GB"
        raise Unsupported(f"pnnx needs the weights inside the ONNX file, which ends at 2 GB: this has {size}")
    for tensor, place in zip(tensors, places, strict=True):
        with (source.parent / place["location"]).open("rb") as file:
            file.seek(int(place.get("offset", 0)))
            tensor.raw_data = file.read(int(place["length"]))
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return network


def _run_pnnx(network: Path, folder: Path, options: Mapping[str, str]) -> str:
    """Call pnnx's program and return what it printed; what it writes besides the two files stays in the
    scratch folder.
    """
    import sysconfig

    program = Path(sysconfig.get_path("purelib")) / "pnnx" / "pnnx"
    arguments = [str(program), str(network), "fp16=0", f"optlevel={options['optimisation_level']}"]
    arguments += [f"ncnnparam={folder / PARAM_NAME}", f"ncnnbin={folder / BIN_NAME}"]
    arguments.append(f"ncnnpy={network.parent / PROGRAM_NAME}")
    done = subprocess.run(
        arguments,
        cwd=network.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    text = COLOURS.sub("", done.stdout.decode(errors="replace"))
    print(text, file=sys.stderr)
    if done.returncode:
        raise RuntimeError(f"pnnx ended with code {done.returncode}; its last words: {_last(text)}")
    return text


def _batch_axes(program: Path) -> dict[str, str]:
    """For every input and output by pnnx's name, the axis that pnnx took for the batch."""
    text = program.read_text(encoding="utf-8") if program.exists() else ""
    return {found["key"]: found["axis"] for found in BATCH_AXIS.finditer(text)}


def _last(log: str) -> str:
    return next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "none")


def _check_layers(folder: Path, log: str) -> None:
    """Let ncnn itself read the file: it names the first layer that it does not have."""
    import ncnn

    with tempfile.TemporaryFile() as said:
        with _captured(said):
            code = ncnn.Net().load_param(str(folder / PARAM_NAME))
        said.seek(0)
        text = said.read().decode(errors="replace")
    if code == 0:
        return
    unknown = UNKNOWN_LAYER.search(text)
    if unknown is None:
        raise RuntimeError(f"ncnn cannot read what pnnx made: {_last(text)}")
    layer = unknown["type"]
    name, count = first_layer(folder / PARAM_NAME, layer)
    complaints = sorted({line.strip(" !") for line in log.splitlines() if COMPLAINT.search(line)})
    why = f"; pnnx says: {', '.join(complaints)}" if complaints else ""
    raise Unsupported(f"operator {layer} (layer {name!r}, {count} in all): ncnn does not have it{why}")


def first_layer(param: Path, layer: str) -> tuple[str, int]:
    """The name of the first layer of a type in a .param file, and how many of that type there are."""
    rows = (line.split() for line in param.read_text(encoding="utf-8").splitlines()[HEADER_LINES:])
    names = [row[1] for row in rows if row and row[0] == layer]
    return (names[0] if names else "?"), len(names)


@contextmanager
def _captured(log: IO[bytes]) -> Iterator[None]:
    """Standard error of this process into a file; it is C++ that prints."""
    kept = os.dup(2)
    try:
        os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
