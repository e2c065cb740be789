"""Samples as one program that reads inputs and writes outputs: under an emulator, or with checks built in."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ourcompiler.ir.graph import Array, Graph
from ourcompiler.program import Program
from ourcompiler.selftest.samples import CASES, graph_of, inputs_of
from ourcompiler.selftest.together import joined


def all_samples() -> tuple[Graph, dict[str, Array]]:
    """Every sample of every operator side by side, and its operands."""
    graph = joined({str(case): graph_of(case) for case in CASES})
    inputs = {
        f"{case}/{name}": np.asarray(value) for case in CASES for name, value in inputs_of(case).items()
    }
    return graph, inputs


def run_program(
    command: Sequence[str],
    program: Program,
    folder: Path,
    inputs: Mapping[str, Array],
    *,
    threads: int = 1,
    runs: int = 1,
) -> dict[str, Array]:
    """The outputs of the last run of the program started by `command`; its files are put into the folder.

    Raises `subprocess.CalledProcessError` when it ends by a signal or says that something failed.
    """
    weights, given, made = (folder / name for name in ("weights.bin", "inputs.bin", "outputs.bin"))
    program.write_weights(weights)
    given.write_bytes(b"".join(np.asarray(inputs[name]).tobytes() for name, _ in program.inputs))
    words = [*command, str(weights), str(given), str(made), str(threads), str(runs)]
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=600)
    data, found, place = made.read_bytes(), {}, 0
    for name, one in program.outputs:
        part = data[place : place + one.byte_count]
        found[name] = np.frombuffer(part, one.dtype.numpy).reshape(one.shape)
        place += one.byte_count
    return found
