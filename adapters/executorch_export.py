"""From an ONNX file to an ExecuTorch program: import, `torch.export`, delegation to XNNPACK."""

import json
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower

from adapters.executorch_names import Instruction, Part, write_names
from adapters.onnx_to_torch import Network, Rewrite, import_network
from adapters.onnx_to_torch_depthwise import with_small_depthwise_kernels
from adapters.onnx_to_torch_linear import with_linears
from adapters.onnx_to_torch_norms import with_norms_as_products
from adapters.onnx_to_torch_operation import Operation
from adapters.onnx_to_torch_sums import with_sums_as_products

CALL_DELEGATE = "executorch_call_delegate"
INFINITY = re.compile(r"(?<=: )-?inf\b")
LAYOUT_OPERATORS = frozenset(
    {"Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Expand", "Flatten", "Concat"}
    | {"DepthToSpace", "SpaceToDepth", "Gather", "Pad", "Tile"}
)
STRUCTURE = ("getitem",)
"""Calls in the graph that are no instructions of the program."""


def export(source: Path, target: Path, options: Mapping[str, str]) -> dict[str, str]:
    """Convert the ONNX file `source` to the program `target`; returns facts of the program, and writes the
    names of the ONNX nodes beside it.

    Raises `Unsupported` for what the importer does not take, and whatever PyTorch and ExecuTorch raise.
    """
    network = import_network(source, _rewrites(options)).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        exported = torch.export.export(network, network.example_inputs())
        edge = to_edge_transform_and_lower(
            exported,
            partitioner=_partitioners(options),
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
        origins = dict(_handles(edge.exported_program().graph_module, network))
        program = edge.to_executorch(ExecutorchBackendConfig())
    with target.open("wb") as file:
        program.write_to_file(file)
    instructions = list(_instructions(program.exported_program().graph_module, origins, network))
    write_names(target.parent, instructions)
    return _facts(instructions)


def _handles(graph_module: Any, network: Network) -> Iterator[tuple[int, Operation]]:
    """The operation behind every debug handle, those inside delegates included."""
    for module in (graph_module, *_delegates(graph_module).values()):
        for node in getattr(module, "original_module", module).graph.nodes:
            handle, operation = node.meta.get("debug_handle"), _operation(node, network)
            if handle is not None and operation is not None:
                yield handle, operation


def _operation(node: Any, network: Network) -> Operation | None:
    """The operation of the importer's module in which a node of PyTorch's graph came about."""
    stack = node.meta.get("nn_module_stack") or {}
    return network.operation_of(list(stack.values())[-1][0]) if stack else None


def _delegates(graph_module: Any) -> dict[str, Any]:
    """The lowered modules of a graph, by the name that it calls them by."""
    names = [node.target for node in graph_module.graph.nodes if node.op == "get_attr"]
    found = {name: getattr(graph_module, name) for name in names}
    return {name: module for name, module in found.items() if hasattr(module, "processed_bytes")}


def _instructions(
    graph_module: Any, origins: Mapping[int, Operation], network: Network
) -> Iterator[Instruction]:
    """The program's instructions in order; a node's handle is now its instruction's number."""
    delegates = _delegates(graph_module)
    for node in graph_module.graph.nodes:
        operator = getattr(node.target, "__name__", "")
        handle = node.meta.get("debug_handle")
        if node.op != "call_function" or handle is None or operator in STRUCTURE:
            continue
        if operator == CALL_DELEGATE:
            parts = tuple(_parts(delegates[node.args[0].target], origins))
            nodes = tuple(dict.fromkeys(name for part in parts for name in part.nodes))
            yield Instruction(handle, operator, nodes, parts)
            continue
        origin = _operation(node, network)
        yield Instruction(handle, operator.partition(".")[0], *_named(origin))


def _named(origin: Operation | None) -> tuple[Any, ...]:
    """Nodes, no parts, and whether they are layout transformations: the rest of an `Instruction`."""
    return (origin.names, (), origin.operator in LAYOUT_OPERATORS) if origin else ((),)


def _parts(delegate: Any, origins: Mapping[int, Operation]) -> Iterator[Part]:
    """Operators of the XNNPACK graph that was written for a delegate, in order."""
    for row in _xnnpack_graph(delegate.processed_bytes)["xnodes"]:
        nodes, _, *moves = (
            _named(origins[row["debug_handle"]]) if row["debug_handle"] in origins else ((), ())
        )
        yield Part(row["xnode_union_type"], nodes, *moves)


def _xnnpack_graph(binary: bytes) -> dict[str, Any]:
    """A delegate's graph, read back from the file format with ExecuTorch's own tool."""
    from executorch.backends.xnnpack.serialization import xnnpack_graph_serialize as serialize
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = serialize.XNNHeader.from_bytes(binary[: serialize.XNNHeader.EXPECTED_LENGTH])
    start = header.flatbuffer_offset
    with tempfile.TemporaryDirectory(prefix="xnnpack-graph-") as name:
        folder = Path(name)
        (folder / "schema.fbs").write_bytes(serialize._get_schema_bytes())
        (folder / "graph.bin").write_bytes(binary[start : start + header.flatbuffer_size])
        extra = ["--raw-binary"]
        _flatc_decompile(name, str(folder / "schema.fbs"), str(folder / "graph.bin"), extra)
        text = (folder / "graph.json").read_text(encoding="utf-8")
    graph: dict[str, Any] = json.loads(INFINITY.sub("null", text))
    return graph


REWRITES: tuple[tuple[str, str, Rewrite], ...] = (
    ("depthwise", "split", with_small_depthwise_kernels),
    ("sums", "products", with_sums_as_products),
    ("layer_norm", "products", with_norms_as_products),
)
"""Spellings of the network: the option, its value, and what is done then."""


def _rewrites(options: Mapping[str, str]) -> tuple[Rewrite, ...]:
    """Linear layers as every PyTorch program has them, and the spellings that the options ask for."""
    return (with_linears, *(rewrite for option, value, rewrite in REWRITES if options[option] == value))


def _partitioners(options: Mapping[str, str]) -> list[Any]:
    if options["delegate"] == "none":
        return []
    return [XnnpackPartitioner(per_op_mode=options["partition"] == "per-op")]


def _facts(instructions: list[Instruction]) -> dict[str, str]:
    left = Counter(row.operator for row in instructions if not row.parts)
    delegates = sum(bool(row.parts) for row in instructions)
    listed = ", ".join(f"{name} × {count}" for name, count in left.most_common()) or "nothing"
    return {"delegates": str(delegates), "left to ExecuTorch's kernels": listed}
