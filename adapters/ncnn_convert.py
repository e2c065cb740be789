"""ONNX to ncnn with pnnx, which exits with 0 whatever it leaves behind."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.interface import Interface, Port, onnx_interface
from adapters.protocol import Converted, Unsupported

if TYPE_CHECKING:
    from onnx import ModelProto

PARAM_NAME = "net.ncnn.param"
WEIGHTS_NAME = "net.ncnn.bin"
ONE_FILE_BYTES = 2**31
PNNX_DTYPES = {"float32": "f32", "int64": "i64", "int32": "i32"}
NATIVE_DTYPES = {"float32": "float32", "int64": "int32", "int32": "int32"}


def convert_onnx(source: Path, folder: Path) -> Converted:
    """Convert `source` into `folder`: ncnn's layers and weights, and `interface.json`.

    Raises `Unsupported` for a network beyond 2 GB (pnnx reads ONNX files of one piece only) and for dtypes of
    inputs that ncnn has not; `RuntimeError` when pnnx leaves no network.
    """
    import onnx

    interface = onnx_interface(source)
    size = sum(path.stat().st_size for path in source.parent.iterdir() if path.is_file())
    if size >= ONE_FILE_BYTES:
        raise Unsupported(
            f"pnnx reads ONNX files of one piece only, which end at 2 GB: this one is {size / 1e9:.1f} GB"
        )
    _check_inputs(interface)
    network = onnx.load(source)
    _save_whole(network, folder / "net.onnx")
    shapes = (f"{list(port.shape)}{PNNX_DTYPES[port.dtype]}".replace(" ", "") for port in interface.inputs)
    command = [str(_program()), "net.onnx", f"inputshape={','.join(shapes)}", "fp16=0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    sys.stderr.write(done.stdout[-2000:] + done.stderr[-2000:])
    if done.returncode or not all((folder / name).is_file() for name in (PARAM_NAME, WEIGHTS_NAME)):
        raise RuntimeError(f"pnnx left no network (exit code {done.returncode}): see its last lines")
    _named(interface).write(folder)
    for path in folder.iterdir():
        if path.name not in (PARAM_NAME, WEIGHTS_NAME, "interface.json"):
            path.unlink()
    return Converted(PARAM_NAME)


def _check_inputs(interface: Interface) -> None:
    wrong = next((port for port in interface.inputs if port.dtype not in PNNX_DTYPES), None)
    if wrong is not None:
        raise Unsupported(f"input {wrong.name!r} is of {wrong.dtype}: ncnn takes {', '.join(PNNX_DTYPES)}")


def _save_whole(network: "ModelProto", path: Path) -> None:
    """Write the network with its weights inside: pnnx does not look for files beside it."""
    path.write_bytes(network.SerializeToString())


def _named(interface: Interface) -> Interface:
    """Inputs and outputs are numbered in the order of ONNX."""
    return Interface(
        tuple(_port(port, f"in{index}") for index, port in enumerate(interface.inputs)),
        tuple(_port(port, f"out{index}") for index, port in enumerate(interface.outputs)),
    )


def _port(port: Port, key: str) -> Port:
    return replace(port, key=key, native_dtype=NATIVE_DTYPES.get(port.dtype, "float32"))


def _program() -> Path:
    """The converter's binary inside its wheel; the Python module around it would import PyTorch."""
    spec = find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise RuntimeError("pnnx is not installed: `bench frameworks install ncnn`")
    return Path(spec.origin).parent / "pnnx"
