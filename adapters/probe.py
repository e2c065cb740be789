"""What this machine could do at most: multiply-adds of a large matrix product, bytes of large copies and
reads.

Measured, not looked up: by ONNX Runtime's matrix product, the fastest one that every installation of bench
has, and by NumPy's copy and maximum, one piece of memory a thread. The best of all repetitions counts,
because a neighbour can only take away. So it is what good code reached here at that time, which may be a
little less than what the silicon can do; a network that beats it says more than 100 %, and the reports let
it.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SOURCE = "a matrix product in ONNX Runtime, copies and reads in NumPy"
"""What the figures are of, as reports say it."""
SIDE = 768
"""Rows, columns and depth of the product: its 7 MB are read from the caches, not from memory."""
PIECE_BYTES = 64 * 2**20
"""Memory that each thread copies: more than a share of the last cache."""
LEAST_REPETITIONS = 3


def probe(threads: int, seconds: float) -> dict[str, Any]:
    """Floating-point operations and bytes a second with `threads` threads, about `seconds` for each; `source`
    says of what.
    """
    return {
        "flops_per_second": _flops_per_second(threads, seconds),
        "bytes_per_second": _bytes_per_second(threads, seconds),
        "source": SOURCE,
    }


def _flops_per_second(threads: int, seconds: float) -> float:
    session, feed = _product(threads)
    best = _shortest(lambda: session.run(None, feed), seconds)
    return 2.0 * SIDE**3 / best


def _product(threads: int) -> tuple[Any, dict[str, Any]]:
    """A session that multiplies its input by a constant square matrix, and the input."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    square = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, square.shape) for name in ("x", "y")]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], [numpy_helper.from_array(square, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return session, {"x": square}


def _bytes_per_second(threads: int, seconds: float) -> float:
    """The better of copying (bytes read and written) and reading."""
    import numpy as np

    pieces = [np.ones(PIECE_BYTES // 4, np.float32) for _ in range(threads)]
    copies = [np.zeros_like(piece) for piece in pieces]
    with ThreadPoolExecutor(threads) as pool:
        copying = _shortest(lambda: list(pool.map(np.copyto, copies, pieces)), seconds / 2)
        reading = _shortest(lambda: list(pool.map(np.max, pieces)), seconds / 2)
    total = float(threads * PIECE_BYTES)
    return max(2 * total / copying, total / reading)


def _shortest(action: Callable[[], object], seconds: float) -> float:
    """Seconds of the quickest repetition, after one that does not count."""
    action()
    best, spent, count = float("inf"), 0.0, 0
    while count < LEAST_REPETITIONS or spent < seconds:
        start = time.perf_counter()
        action()
        elapsed = time.perf_counter() - start
        best, spent, count = min(best, elapsed), spent + elapsed, count + 1
    return best
