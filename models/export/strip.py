"""Reduce an exported graph to what is run, with names that say which module a node comes from."""

import ast
from collections.abc import Collection, Iterable, Mapping

from onnx import ModelProto, NodeProto

NOISE = ("producer_name", "producer_version", "domain", "doc_string", "metadata_props", "model_version")
SCOPES_KEY = "pkg.torch.onnx.name_scopes"


def strip(
    exported: ModelProto, name: str, new_names: Mapping[str, str], weights: Collection[str]
) -> ModelProto:
    """The graph, called `name`, its constants renamed by `new_names` and its nodes by their module.

    A node's module is the owner of the first of the `weights` (new names) that it reads, else the one whose
    forward made it: a convolution that took in a batch norm was made by the norm.

    Removed are doc strings, metadata (the exporter's stack traces), the producer, and value infos of anything
    but the nodes' outputs, whose shapes are kept: counting multiply-accumulates needs them.
    """
    model = ModelProto()
    model.CopyFrom(exported)
    graph = model.graph
    for field in NOISE:
        model.ClearField(field)
    graph.name = name
    for node in graph.node:
        node.input[:] = [new_names.get(value, value) for value in node.input]
    _name_nodes(graph.node, weights)
    _strip_all(graph.node)
    _strip_all((graph,))
    position = {value: index for index, value in enumerate(v for node in graph.node for v in node.output)}
    results = {value.name for value in graph.output}
    kept = [info for info in graph.value_info if info.name in position and info.name not in results]
    kept.sort(key=lambda info: position[info.name])
    del graph.value_info[:]
    graph.value_info.extend(kept)
    _strip_all((*graph.value_info, *graph.input, *graph.output))
    return model


def first_uses(model: ModelProto) -> list[str]:
    """Names of everything the nodes read, each once, in the order of first use."""
    return list(dict.fromkeys(value for node in model.graph.node for value in node.input if value))


def _name_nodes(nodes: Iterable[NodeProto], weights: Collection[str]) -> None:
    """`layers.0.attn.qkv/MatMul`, with `_1` and so on where a module holds the operator more than once."""
    taken: set[str] = set()
    for node in nodes:
        owners = [value.rpartition(".")[0] for value in node.input if value in weights]
        scope = owners[0] if owners else _scope(node)
        node.name = unique(f"{scope}/{node.op_type}" if scope else node.op_type, taken)


def unique(name: str, taken: set[str]) -> str:
    """`name`, with the first free number where it is taken; the result is added to `taken`."""
    free, number = name, 0
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def _scope(node: NodeProto) -> str:
    """Path of the module whose forward made the node: the exporter lists modules inwards, then the node."""
    for entry in node.metadata_props:
        if entry.key == SCOPES_KEY:
            scopes = ast.literal_eval(entry.value)
            return str(scopes[-2]) if len(scopes) > 1 else ""
    return ""


def _strip_all(items: Iterable[object]) -> None:
    for item in items:
        for field in ("doc_string", "metadata_props"):
            item.ClearField(field)  # type: ignore[attr-defined]
