"""`python -m ourcompiler.selftest.tour > docs/tour.md`: what the compiler makes of a small network.

Everything that is shown is printed by the compiler when the tour is written.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ourcompiler.build import Builder
from ourcompiler.codegen.c import print_kernel
from ourcompiler.explain import Explanation, explain
from ourcompiler.ir.graph import Graph
from ourcompiler.ir.text import show
from ourcompiler.ir.types import DType, TensorType
from ourcompiler.kernel.ir import Kernel
from ourcompiler.kernel.text import show as show_kernel
from ourcompiler.passes.judge import Judge
from ourcompiler.passes.layout import choose, storages
from ourcompiler.pipeline import State, states
from ourcompiler.program import Program, make_program
from ourcompiler.targets import memory, target

TARGET = "avx2"
"""Named, so that every machine writes the same tour."""
COMMAND = "python -m ourcompiler.selftest.tour > docs/tour.md"
TOLD = {
    "import": """The network as it was read: one row a node, in an order in which every value is made before
it is read. Behind `// from` stand the ONNX nodes.""",
    "rewrite": """Rules were applied until none fitted. What was written out by an exporter is one operator
again; what is known is computed.""",
    "views": """Nothing that only moves elements is left as an operator: it is a map from places of the result
to places of what is read, on the edge, and maps one after another are one map.""",
    "sink": """Maps went down past what is computed element by element, where that makes them meet a reader
that takes them for nothing.""",
    "fuse": """One row for each kernel. Its body is what it computes; views in it cost an address, no
memory.""",
}
KERNEL = """The shortest of the {} kernels, as loops (the grammar is in [kernels.md](kernels.md)), and then as
C. Tasks of a phase are shared out among the threads."""


def network() -> Graph:
    """A normalised sequence through attention of two heads, a product and GELU as exporters write it."""
    builder, numbers = Builder("tour"), np.random.default_rng(0)

    def emit(op: str, *operands: str, origin: str, **facts: object) -> str:
        return builder.add(op, operands, hints=[origin], origin=(origin,), **facts)[0]  # type: ignore[arg-type]

    def weight(*shape: int) -> str:
        return builder.constant(numbers.standard_normal(shape).astype(np.float32), "weight")

    def number(value: float) -> str:
        return builder.constant(np.float32(value), "number")

    x = builder.input("x", TensorType(DType.F32, (1, 16, 32)))
    product = emit("MatMul", x, weight(32, 96), origin="qkv")
    split = emit("Reshape", product, shape=(1, 16, 3, 2, 16), origin="heads")
    turned = emit("Transpose", split, perm=(2, 0, 3, 1, 4), origin="turn")
    parts = builder.add("Split", (turned,), axis=0, sizes=(1, 1, 1), hints=["q", "k", "v"], origin=("split",))
    query, key, value = (
        emit("Reshape", one, shape=(1, 2, 16, 16), origin=f"squeeze_{name}")
        for one, name in zip(parts, "qkv", strict=True)
    )
    scores = emit(
        "MatMul", query, emit("Transpose", key, perm=(0, 1, 3, 2), origin="turn_k"), origin="scores"
    )
    scaled = emit("Div", scores, number(4.0), origin="scale")
    mixed = emit("MatMul", emit("Softmax", scaled, axis=-1, origin="softmax"), value, origin="mix")
    joined = emit(
        "Reshape",
        emit("Transpose", mixed, perm=(0, 2, 1, 3), origin="back"),
        shape=(1, 16, 32),
        origin="join",
    )
    summed = emit("Add", x, joined, origin="residual")
    up = emit("Add", emit("MatMul", summed, weight(32, 48), origin="up"), weight(48), origin="bias")
    bent = emit("Erf", emit("Div", up, number(2**0.5), origin="gelu_div"), origin="gelu_erf")
    gate = emit("Add", bent, number(1.0), origin="gelu_add")
    twice = emit("Mul", up, gate, origin="gelu_mul")
    return builder.graph([("y", emit("Mul", twice, number(0.5), origin="gelu_half"))])


def tour() -> str:
    """The text of the tour."""
    applied: list[str] = []
    judge = Judge(target=target(TARGET))
    done = list(states(network(), trace=applied.append, judge=judge))
    choices = choose(done[-1].graph)
    program = make_program(done[-1].graph, target(TARGET), storages(choices))
    found = explain("tour", done, program, choices, judge, memory("texture"))
    return "\n".join(_text(done, applied, program, found)) + "\n"


def _text(
    done: Sequence[State], applied: Sequence[str], program: Program, found: Explanation
) -> Iterator[str]:
    yield "# A tour of the compiler"
    yield ""
    yield f"One small network, for the target `{TARGET}`, after each step. This file is written by"
    yield f"`{COMMAND}`; a test says whether it is still true. The same for any"
    yield "network: `bench compile NET --dump-ir FOLDER --explain --trace-rules`."
    for state in done:
        yield from _section(f"After `{state.step}`", TOLD[state.step], show(state.graph), "text")
        if state.step == "rewrite":
            told = "Which rules, on which ONNX nodes (`--trace-rules`):"
            yield from _block(told, "\n".join(applied), "text")
    kernel = _shortest(program)
    yield from _section("A kernel", KERNEL.format(found.distinct_kernels), show_kernel(kernel), "text")
    yield from _block("", print_kernel(kernel), "c")
    yield from _explanation(found)


def _section(title: str, told: str, shown: str, kind: str) -> Iterator[str]:
    yield from ("", f"## {title}")
    yield from _block(told, shown, kind)


def _block(told: str, shown: str, kind: str) -> Iterator[str]:
    yield from ("", told) if told else ()
    yield from ("", f"```{kind}", shown.rstrip("\n"), "```")


def _shortest(program: Program) -> Kernel:
    return min(program.kernels.values(), key=lambda one: (len(show_kernel(one)), one.name))


def _explanation(found: Explanation) -> Iterator[str]:
    yield from ("", "## The explanation", "", "| step | operators | of them moving | intermediate bytes |")
    yield "|---|---:|---:|---:|"
    for step in found.steps:
        yield f"| {step.step} | {step.operators} | {step.moving} | {step.intermediate_bytes} |"
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.kernels.items())
    yield from ("", f"{found.kernels_left} kernels: {kinds}; {found.copies} of them only copy.")
    yield f"Maps on edges: {found.views}."
    yield f"Arena {found.arena_bytes} bytes, weights {found.weights_bytes} bytes."
    ground = found.combinations
    yield ""
    yield f"Pairs are looked up in `{ground.table}` ([fusion.md](fusion.md)); yellow ones are decided by the"
    yield f"cost model for {ground.model}."
    yield from ("", "| value | operator | joins its reader | why | pair | colour | decided by |")
    yield "|---|---|---|---|---|---|---|"
    for name, op, joined, reason, *ruling in found.fusion:
        yield f"| {' | '.join([name, op, 'yes' if joined else 'no', reason, *ruling])} |"
    yield from ("", "| value | place of an element | why |", "|---|---|---|")
    for name, place, reason in found.layouts:
        yield f"| {name} | `{place}` | {reason} |"
    yield from (
        "",
        "The same values in a texture (`--memory texture`): texels of four, two dimensions to walk along.",
    )
    yield from ("", "| value | place of an element | texels | serves | copies |", "|---|---|---|---|---:|")
    for one in found.memory_layouts:
        size, readers = f"{one.width} x {one.height}", "; ".join(one.readers) or one.reason
        yield f"| {one.value} | `{one.place}` | {size} | {readers} | {len(one.copies)} |"


if __name__ == "__main__":
    print(tour(), end="")
