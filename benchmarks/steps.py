"""How many steps of the depth a tile takes in one turn of its loop: one product, compiled with each number of
them, measured by turns.

python -m benchmarks.steps [--rows 197 --depth 768 --columns 3072] [--steps 1,2,4,8] [--rounds 200]

The least time says what a core can do that is alone, the median what it does beside whoever else is there.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import onnx
from numpy.random import Generator, default_rng
from onnx import TensorProto, helper, numpy_helper

from ourcompiler.codegen import gemm_steps
from ourcompiler.compile import compile
from ourcompiler.runtime.session import Session


def main() -> None:
    """Print GFLOP/s at best and in the middle for each number of steps, and the ratio to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, usual in (("rows", 197), ("depth", 768), ("columns", 3072), ("rounds", 200), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--steps", default="1,2,4,8")
    asked = parser.parse_args()
    operations = 2 * asked.rows * asked.depth * asked.columns
    with TemporaryDirectory() as folder:
        network = Path(folder) / "product.onnx"
        onnx.save(product(asked.rows, asked.depth, asked.columns, default_rng(0)), network)
        counts = [int(one) for one in asked.steps.split(",")]
        sessions = [compiled(network, count, asked.threads) for count in counts]
        times = np.array([[timed(one) for one in sessions] for _ in range(asked.rounds)])
    middle = np.median(times, axis=0)
    for number, count in enumerate(counts):
        best, usual = operations / times[:, number].min() / 1e9, operations / middle[number] / 1e9
        ratio = np.median(times[:, 0] / times[:, number])
        print(f"{count} steps: best {best:6.1f}, median {usual:6.1f} GFLOP/s, {ratio:.3f} of the first")


def product(rows: int, depth: int, columns: int, random: Generator) -> onnx.ModelProto:
    """A product with a constant right side."""
    weights = numpy_helper.from_array(random.standard_normal((depth, columns), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, depth])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, columns])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def compiled(network: Path, steps: int, threads: int) -> Session:
    """The network with so many steps in a turn, its input drawn."""
    gemm_steps.STEPS_IN_TURN = steps
    session = compile(network, threads=threads, folder=network.with_name(f"steps-{steps}"))
    draw = default_rng(1).standard_normal
    session.set_inputs({name: draw(one.shape, np.float32) for name, one in session.package.inputs})
    session.execute()
    return session


def timed(session: Session) -> float:
    """Seconds of one execution."""
    start = perf_counter()
    session.execute()
    return perf_counter() - start


if __name__ == "__main__":
    main()
