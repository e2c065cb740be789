"""Which ONNX nodes each instruction of an ExecuTorch program covers, and each operator inside a delegate:
written at conversion, read for a profile.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NAMES_FILE = "nodes.json"


@dataclass(frozen=True, slots=True)
class Part:
    """An operator of a delegate's graph, in XNNPACK's words, and names of the ONNX nodes that it computes;
    `moves` when those are layout transformations of the network.
    """

    operator: str
    nodes: tuple[str, ...]
    moves: bool = False


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of the program by its number; `parts` is empty for one of ExecuTorch's own kernels."""

    number: int
    operator: str
    nodes: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    moves: bool = False


def write_names(folder: Path, instructions: Iterable[Instruction]) -> None:
    """Write the file into the folder."""
    text = json.dumps([asdict(instruction) for instruction in instructions], indent=0)
    (folder / NAMES_FILE).write_text(text + "\n", encoding="utf-8")


def read_names(folder: Path) -> Mapping[int, Instruction]:
    """Instructions by number."""
    rows = json.loads((folder / NAMES_FILE).read_text(encoding="utf-8"))
    return {row["number"]: _instruction(row) for row in rows}


def _instruction(row: Mapping[str, Any]) -> Instruction:
    parts = tuple(Part(**{**part, "nodes": tuple(part["nodes"])}) for part in row["parts"])
    return Instruction(**{**row, "nodes": tuple(row["nodes"]), "parts": parts})
