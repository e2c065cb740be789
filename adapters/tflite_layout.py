"""Which layout onnx2tf gave an input or output whose shape does not tell (C = H = W): found by running both.

onnx2tf's own labels are guesses from the same shape, so the only sound answer is to compare with ONNX
Runtime; a network without such an input or output is not run.
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.interface import Interface, Port
from adapters.protocol import Unsupported

TOLERANCE = 1e-3
"""Relative L2 error; a wrong layout is off by about 1.4."""
SEED = 0

Array = NDArray[Any]
Candidates = Sequence[tuple[Port, ...]]


def find_layouts(inputs: Candidates, outputs: Candidates, source: Path, converted: Path) -> Interface:
    """The interface among the candidates of each port; raises `Unsupported` when none computes the same.

    `source` is the ONNX file, `converted` the .tflite file.
    """
    if all(len(ports) == 1 for ports in (*inputs, *outputs)):
        return Interface(tuple(port for (port,) in inputs), tuple(port for (port,) in outputs))
    values = _draw([ports[0] for ports in inputs])
    expected = _run_onnx(source, values)
    for choice in product(*inputs):
        results = _run_tflite(converted, choice, values)
        found = [_matching(ports, results, expected) for ports in outputs]
        if all(port is not None for port in found):
            return Interface(choice, tuple(port for port in found if port is not None))
    names = [ports[0].name for ports in (*inputs, *outputs) if len(ports) > 1]
    raise Unsupported(f"the layout of {', '.join(names)} cannot be told: no choice computes what ONNX does")


def _draw(ports: Sequence[Port]) -> dict[str, Array]:
    generator = np.random.default_rng(SEED)
    drawn: dict[str, Array] = {}
    for port in ports:
        is_float = np.dtype(port.dtype).kind == "f"
        values = generator.standard_normal(port.shape) if is_float else generator.integers(0, 2, port.shape)
        drawn[port.name] = np.asarray(values).astype(port.dtype)
    return drawn


def _run_onnx(source: Path, values: dict[str, Array]) -> dict[str, Array]:
    import onnxruntime as ort

    ort.disable_telemetry_events()
    session = ort.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, values), strict=True))


def _run_tflite(converted: Path, inputs: Sequence[Port], values: dict[str, Array]) -> dict[str, Array]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(converted))
    interpreter.allocate_tensors()
    places = {one["name"]: one["index"] for one in interpreter.get_input_details()}
    for port in inputs:
        interpreter.set_tensor(places[port.key], port.to_native(values[port.name]))
    interpreter.invoke()
    details = interpreter.get_output_details()
    return {one["name"]: interpreter.get_tensor(one["index"]) for one in details}


def _matching(ports: Sequence[Port], results: dict[str, Array], expected: dict[str, Array]) -> Port | None:
    for port in ports:
        right = expected[port.name].astype(np.float64)
        wrong = np.linalg.norm(port.to_onnx(results[port.key]).astype(np.float64) - right)
        if wrong <= TOLERANCE * np.linalg.norm(right):
            return port
    return None
