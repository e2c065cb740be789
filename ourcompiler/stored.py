"""A compiled network on disk, to be read: all that running one needs, nothing of the compiler."""

import json
from dataclasses import dataclass
from pathlib import Path

from ourcompiler.errors import CompileError
from ourcompiler.ir.types import DType, TensorType

VERSION = 1
MANIFEST, LIBRARY, PROGRAM, WEIGHTS = "manifest.json", "model.so", "model", "weights.bin"


@dataclass(frozen=True)
class Package:
    """A folder that can be loaded: `inputs` and `outputs` are public names and types, in order."""

    folder: Path
    name: str
    target: str
    inputs: tuple[tuple[str, TensorType], ...]
    outputs: tuple[tuple[str, TensorType], ...]
    steps: tuple[tuple[str, tuple[str, ...]], ...]
    """The kernel of each call, and the ONNX nodes that it covers."""


def key_of(folder: Path) -> str:
    """The key that a complete package was written with; empty for none."""
    try:
        key = json.loads((folder / MANIFEST).read_text(encoding="utf-8")).get("key", "")
    except (OSError, ValueError, AttributeError):
        return ""
    has_code = (folder / LIBRARY).is_file() or (folder / PROGRAM).is_file()
    whole = has_code and (folder / WEIGHTS).is_file()
    return str(key) if whole else ""


def read(folder: Path) -> Package:
    """The package in a folder; raises `CompileError` for one that is incomplete or of another version."""
    try:
        facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if facts["version"] != VERSION:
            raise CompileError(
                f"a package of version {facts['version']}", where=str(folder), hint="compile it again"
            )
        return Package(
            folder,
            facts["name"],
            facts["target"],
            tuple((name, TensorType(DType(dtype), tuple(shape))) for name, dtype, shape in facts["inputs"]),
            tuple((name, TensorType(DType(dtype), tuple(shape))) for name, dtype, shape in facts["outputs"]),
            tuple((kernel, tuple(origin)) for kernel, origin in facts["steps"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CompileError(
            f"this is no package: {error}", where=str(folder), hint="compile it again"
        ) from error
