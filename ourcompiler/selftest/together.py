"""Many small graphs in one package, because each C file costs a compiler's start."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ourcompiler import package
from ourcompiler.compile import program_of
from ourcompiler.ir.graph import Array, Graph, Node
from ourcompiler.ir.types import TensorType
from ourcompiler.passes.judge import Judge
from ourcompiler.pipeline import optimize
from ourcompiler.runtime.session import Session
from ourcompiler.targets import target

Arrays = Mapping[str, Array]


def joined(graphs: Mapping[str, Graph]) -> Graph:
    """Graphs side by side; every name begins with that of its graph."""
    inputs: list[str] = []
    outputs: list[tuple[str, str]] = []
    nodes: list[Node] = []
    types: dict[str, TensorType] = {}
    constants: dict[str, Array] = {}
    for prefix, graph in graphs.items():

        def own(name: str, prefix: str = prefix) -> str:
            return f"{prefix}/{name}" if name else name

        inputs += map(own, graph.inputs)
        outputs += [(own(public), own(value)) for public, value in graph.outputs]
        nodes += [
            replace(node, inputs=tuple(map(own, node.inputs)), outputs=tuple(map(own, node.outputs)))
            for node in graph.nodes
        ]
        types.update({own(name): one for name, one in graph.types.items()})
        constants.update({own(name): one for name, one in graph.constants.items()})
    return Graph(tuple(inputs), tuple(outputs), tuple(nodes), types, constants, "joined")


def run_all(
    graphs: Mapping[str, Graph],
    inputs: Mapping[str, Arrays],
    folder: Path,
    *,
    target_name: str = "host",
    threads: int = 1,
    without: Sequence[str] = (),
    judge: Judge | None = None,
) -> dict[str, dict[str, Array]]:
    """The results of every graph, from one package."""
    whole = optimize(joined(graphs), without, judge)
    built = package.write(program_of(whole, target(target_name), without), folder)
    given = {f"{prefix}/{name}": value for prefix, one in inputs.items() for name, value in one.items()}
    with Session(built, threads=threads) as session:
        found = session.run(given)
    return {
        prefix: {public: found[f"{prefix}/{public}"] for public, _ in graph.outputs}
        for prefix, graph in graphs.items()
    }
