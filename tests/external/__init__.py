"""A small C program that stands for a user's own build, and the file that makes frameworks of it."""

import json
import subprocess
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from benchsuite.device.build import FLAGS, TARGETS
from models.tiny_graphs import write_graph
from ourcompiler.toolchain import compiler

SOURCE = Path(__file__).parent / "relu.c"
WORDS = ("{model}", "{threads}", "{runs}", "{warmup}", "{input:0}", "{output:0}")
EACH = r"^run took (?P<run_us>[0-9.]+) us$"
AVERAGE = r"avg\): (?P<average_us>[0-9.]+)"
HOSTILE = "re'lu $(touch executed); \"é日本.bin"
"""A name that a shell must never read as anything but a name."""
QUICK = ("least_blocks=2", "most_blocks=2", "block_seconds=0.0001", "probe_seconds=0", "settle_seconds=0")


def build_relu(machine: str, place: Path) -> Path:
    """Build it for a machine as `uname -m` names it."""
    triple, cpu = TARGETS[machine]
    command = [*compiler(), "-target", triple, f"-mcpu={cpu}", *FLAGS, str(SOURCE), "-o", str(place)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return place


def row(
    name: str, file: Path, mode: str, *, made_from: str = "onnx", times: str = EACH, **more: object
) -> str:
    """A row of `runners.toml`; JSON's texts and lists are TOML's."""
    values = {
        "from": made_from,
        "files": [str(file)],
        "command": [f"{{files}}/{file.name}", mode, *WORDS],
        "times": times,
        "version": [f"{{files}}/{file.name}", "--version"],
        **more,
    }
    lines = [f"{key} = {toml(value)}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def staying_row(name: str, file: Path, *more: str) -> str:
    """A row of the program that stays and answers lines."""
    command = [f"{{files}}/{file.name}", "serve", "{model}", "{input:0}", *more]
    values = {"from": "onnx", "files": [str(file)], "command": command, "speaks": "lines"}
    return "\n".join([f"[{name}]", *(f"{key} = {toml(value)}" for key, value in values.items()), ""])


def toml(value: object) -> str:
    """A text, a list of texts or a table of texts."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def write_relu(path: Path) -> Path:
    """A network of two rectifiers, which are one."""
    ends = [(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "y")]
    nodes = [
        helper.make_node("Relu", ["x"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["y"], name="second"),
    ]
    return write_graph(path, nodes, ends[:1], ends[1:], {})


def rectified(values: np.ndarray) -> np.ndarray:
    """What it computes."""
    return np.maximum(values, 0)
